# SPDX-License-Identifier: Apache-2.0
"""Fair ratios on a noisy machine: both sides in turn, in one process."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def interleaved(
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    repeats: int = 15,
    calls: int = 1,
    warmup: int = 2,
) -> tuple[float, float, float]:
    """Time two functions in turn.

    Args:
        ours: one unit of work; must block until it is done.
        reference: the same work done otherwise.
        repeats: pairs of measurements.
        calls: calls in one measurement.
        warmup: calls before the first measurement.

    Returns:
        Median seconds of a call of each, and the median of the ratios of the pairs.
    """

    def measure(function):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls

    for _ in range(warmup):
        ours()
        reference()
    pairs = []
    for i in range(repeats):
        # The order alternates, so a drift of the machine's speed favours neither.
        if i % 2:
            b, a = measure(reference), measure(ours)
        else:
            a, b = measure(ours), measure(reference)
        pairs.append((a, b))
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def beside(
    reference: Callable[[], Any],
    peers: dict[str, Callable[[], Any]],
    repeats: int = 9,
) -> dict[str, float]:
    """Return the time of each peer as a ratio to that of ``reference``."""
    return {
        name: interleaved(peer, reference, repeats)[2] for name, peer in peers.items()
    }


def row(
    name: str,
    ours: float,
    reference: float,
    ratio: float,
    required: float,
    peers: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Return one line of the table; it passes where ``ratio <= required``.

    Args:
        name: what is measured, and against what.
        ours: our figure.
        reference: that of the reference.
        ratio: the median of ours / reference.
        required: the bar.
        peers: the ratio of each peer to the same reference, where there are peers.
    """
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "required": required,
        "pass": ratio <= required,
        "peers": peers or {},
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows where one benchmark is run alone."""
    for line in rows:
        mark = "ok" if line["pass"] else "MISSED"
        print(
            f"{line['name']:64} {line['ours']:12.4g} {line['reference']:12.4g} "
            f"{line['ratio']:7.3f} <= {line['required']:.3f} {mark}"
        )
