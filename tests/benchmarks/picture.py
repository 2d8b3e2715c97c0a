# SPDX-License-Identifier: Apache-2.0
"""The picture of the cost of a step against the number of its Variables."""

import math
from typing import Any

from docs.drawing.svg import FAINT, INK, PALETTE, Sheet

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 420, 70, 50, 150, 50
LINES = [INK, *(line for _, line in PALETTE.values())]


def series(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return ``{name: [(Variables, seconds)]}`` of the rows that have a ``count``."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row["count"]):
        ours = {row["series"]: row["ours"], "hand-written jax": row["reference"]}
        peers = {k: v * row["reference"] for k, v in row["peers"].items()}
        for name, seconds in {**ours, **peers}.items():
            points = found.setdefault(name, [])
            if not points or points[-1][0] != row["count"]:
                points.append((row["count"], seconds))
    return found


def picture(rows: list[dict[str, Any]]) -> str:
    """Return an SVG with both axes in powers of ten, and one line a library."""
    lines = series(rows)
    counts, times = zip(*(p for points in lines.values() for p in points), strict=True)
    sheet = Sheet(WIDTH, HEIGHT, "The time of a step against the number of Variables")
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    first, last = math.log10(min(counts)), math.log10(max(counts))

    def place(count: int, seconds: float) -> tuple[float, float]:
        x = (math.log10(count) - first) / (last - first or 1)
        y = (math.log10(seconds) - low) / (high - low or 1)
        return (
            LEFT + x * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM),
        )

    sheet.text(LEFT, 26, "µs for a step of AdamW over n Variables of 64 numbers", 15)
    for power in range(low, high + 1):
        y = place(min(counts), 10.0**power)[1]
        sheet.line([(LEFT, y), (WIDTH - RIGHT, y)], "#dde3e8")
        sheet.text(LEFT - 8, y + 4, f"{10.0 ** (power + 6):,.0f}", 12, FAINT, "end")
    for count in sorted(set(counts)):
        x, y = place(count, 10.0**low)
        sheet.text(x, y + 20, f"{count:,}", 12, FAINT, "middle")
    ends = sorted(lines, key=lambda name: lines[name][-1][1])
    below = HEIGHT
    for name in ends:
        ink = LINES[list(lines).index(name) % len(LINES)]
        sheet.line([place(*point) for point in lines[name]], ink, 2)
        x, y = place(*lines[name][-1])
        below = min(y + 4, below - 15)  # names do not lie on each other
        sheet.text(WIDTH - RIGHT + 8, below, name, 12, ink)
    return str(sheet)
