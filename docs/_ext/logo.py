# SPDX-License-Identifier: Apache-2.0
"""Draw the logo: a membrane that charges to its threshold, and the step downhill.

The left curve is v' = (1 - v) / tau from rest to the spike, the right one a parabola
with the points of gradient descent on it.
"""

import math
from pathlib import Path

SIZE, BLUE, GOLD = 64, "#3f7cac", "#e0a526"


def _points(pairs):
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def draw(path: Path) -> Path:
    """Write the logo as SVG; return the path."""
    charge = [(4 + t, 52 - 26 * (1 - math.exp(-t / 9))) for t in range(23)]
    spike = [*charge, (28, 6), (29.5, 58), (32, 52)]
    bowl = [(46 + u, 58 - 34 * (1 - (u / 16) ** 2)) for u in range(-14, 17)]
    bowl = [(x, 82 - y) for x, y in bowl]
    steps = [(46 + 16 * f, 24 + 34 * (1 - f**2)) for f in (0.92, 0.52, 0.28, 0.1)]
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="{GOLD}"/>' for x, y in steps
    )
    line = f'fill="none" stroke="{BLUE}" stroke-width="3.4" stroke-linejoin="round"'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" '
        f'width="{SIZE}" height="{SIZE}" role="img" aria-label="brainopt">'
        f'<polyline points="{_points(spike)}" {line} stroke-linecap="round"/>'
        f'<polyline points="{_points(bowl)}" {line} stroke-linecap="round" '
        f'opacity="0.65"/>{dots}</svg>\n',
        "utf-8",
    )
    return path
