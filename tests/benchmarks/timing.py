# SPDX-License-Identifier: Apache-2.0
"""Fair ratios on a noisy machine: both sides in turn, in one process."""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

MIN_PAIRS = 9


class Ratio(float):
    """The median of the ratios of some pairs, and where the middle half of them lies.

    Attributes:
        low: the lower quartile.
        high: the upper quartile.
        pairs: how many.
    """

    low: float
    high: float
    pairs: int

    def __new__(cls, ratios: list[float]):
        new = super().__new__(cls, statistics.median(ratios))
        new.low, _, new.high = statistics.quantiles(ratios, n=4)
        new.pairs = len(ratios)
        return new


def verdict(ratio: float, required: float) -> str:
    """Return ``met``, ``within noise`` or ``not met``; empty where nothing is required.

    Within noise is a bar that the median misses, and at least a quarter of the pairs
    meets.
    """
    if math.isinf(required):
        return ""
    if ratio <= required:
        return "met"
    return "within noise" if getattr(ratio, "low", ratio) <= required else "not met"


def readable(value: float, unit: str = "s") -> str:
    """Return a quantity with a prefix: ``31.1 µs``, ``256 MB``."""
    steps = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"))
    if unit == "s":
        steps = steps[3:]
    size, prefix = next((s for s in steps if abs(value) >= s[0]), steps[-1])
    # A space that does not break: the unit stays beside its number in a narrow table.
    return f"{value / size:.3g}\N{NO-BREAK SPACE}{prefix}{unit}"


def interleaved(
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    repeats: int = 15,
    calls: int = 1,
    warmup: int = 2,
) -> tuple[float, float, Ratio]:
    """Time two functions in turn.

    Args:
        ours: one unit of work; must block until it is done.
        reference: the same work done otherwise.
        repeats: pairs of measurements, 9 at least.
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
    for i in range(max(repeats, MIN_PAIRS)):
        # The order alternates, so a drift of the machine's speed favours neither.
        if i % 2:
            b, a = measure(reference), measure(ours)
        else:
            a, b = measure(ours), measure(reference)
        pairs.append((a, b))
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        Ratio([a / b for a, b in pairs]),
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
    unit: str = "s",
) -> dict[str, Any]:
    """Return one line of the table.

    Args:
        name: what is measured, and against what.
        ours: our figure.
        reference: that of the reference.
        ratio: the median of ours / reference.
        required: the bar.
        peers: the ratio of each peer to the same reference, where there are peers.
        unit: of the two figures.
    """
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "low": getattr(ratio, "low", None),
        "high": getattr(ratio, "high", None),
        "required": required,
        "verdict": verdict(ratio, required),
        "unit": unit,
        "peers": peers or {},
    }


_MEMORY = """
import ctypes, sys
def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(lines[name].split()[0])
path = sys.argv[1]
{setup}
ctypes.CDLL(None).malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
{act}
print(status("VmHWM") - before)
"""


def extra_bytes(path: str, setup: str, act: str, **options: Any) -> int:
    """Return what some code adds to the memory of a process of its own, at its peak.

    Args:
        path: a file for the code, which calls it ``path``.
        setup: code that runs before.
        act: the code that is measured.
        options: of `subprocess.run`.
    """
    code = _MEMORY.format(setup=setup, act=act)
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, capture_output=True, check=True, **options)
    return int(done.stdout)


def memory_row(
    name: str, path: str, setup: str, act: str, allowed: int
) -> dict[str, Any]:
    """Return the row of what some code adds to the memory of a process, at its peak.

    Args:
        name: what is measured.
        path: a file for the code, which calls it ``path``.
        setup: code that runs before.
        act: the code that is measured, in a process of its own.
        allowed: bytes.
    """
    extra = extra_bytes(path, setup, act)
    return row(name, extra, allowed, extra / allowed, 1.0, unit="B")


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows where one benchmark is run alone."""
    for line in rows:
        print(*filter(None, cells(line)), sep="  ")


def cells(line: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one line: figures that a person can read."""
    ours, reference = (readable(line[k], line["unit"]) for k in ("ours", "reference"))
    ratio, required = f"{line['ratio']:.3g}", ""
    if line["low"] is not None:
        ratio += f" ({line['low']:.3g} to {line['high']:.3g})"
    if not math.isinf(line["required"]):
        required = f"{line['required']:.3g}"
    peers = ", ".join(f"{k} {v:.3g}" for k, v in line["peers"].items())
    return line["name"], ours, reference, ratio, required, line["verdict"], peers
