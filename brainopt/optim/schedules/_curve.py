# SPDX-License-Identifier: Apache-2.0
"""The picture of a schedule that a notebook shows."""

from __future__ import annotations

from typing import Any

from ..._display import curve_html

_POINTS = 100
_LENGTHS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)


def curve(schedule: Any) -> str:
    """Return the rate over the count as HTML, up to where it no longer changes."""
    # The shortest length after which the rate stays; that of a cycle never does.
    length = next((n for n in _LENGTHS if _is_level_after(schedule, n)), _LENGTHS[3])
    counts = sorted({round(i * length / _POINTS) for i in range(_POINTS + 1)})
    rates = [float(schedule(count)) for count in counts]
    return curve_html(repr(schedule), rates, f"{length} {schedule.clock}s")


def _is_level_after(schedule: Any, count: int) -> bool:
    first, *later = (float(schedule(count * k)) for k in (1, 1.3, 2, 5, 10))
    span = abs(float(schedule(0))) + abs(first)
    return all(abs(rate - first) <= 1e-3 * span for rate in later)
