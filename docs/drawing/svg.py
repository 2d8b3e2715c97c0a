# SPDX-License-Identifier: Apache-2.0
"""A sheet of boxes, texts and arrows, written as SVG."""

from html import escape

FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
INK, FAINT, WRONG = "#1f2933", "#66727f", "#c62828"
PALETTE = {
    "hosts": ("#fdf0e3", "#b8641b"),
    "optim": ("#e8f3e8", "#2f7d3b"),
    "transforms": ("#e6f0fa", "#2464a6"),
    "core": ("#f3ebf9", "#7a3fa8"),
    "runtime": ("#e5f5f5", "#15797b"),
    "sharding": ("#fceaf0", "#ad2f63"),
    "checkpoint": ("#fbf5dc", "#8a6d0b"),
}
OTHER = ("#eef1f4", "#52606d")


def colours(wing: str) -> tuple[str, str]:
    """Return the fill and the line of a wing."""
    return PALETTE.get(wing, OTHER)


def width_of(text: str, size: float = 13) -> float:
    """Estimate the width of a text in pixels."""
    return 0.56 * size * len(text)


def shortened(text: str, width: float, size: float = 13) -> str:
    """Cut a text at a word so that it fits a width."""
    if width_of(text, size) <= width:
        return text
    words = text.split()
    while words and width_of(" ".join(words) + " …", size) > width:
        words.pop()
    return " ".join(words) + " …"


class Sheet:
    """An SVG under construction; what is added later lies on top."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._title, self._size = title, (round(width), round(height))
        self._parts: list[str] = []

    def box(self, x, y, width, height, fill="#ffffff", line=INK, radius=6) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{radius}" fill="{fill}" stroke="{line}"/>'
        )

    def text(
        self, x, y, text, size=13, ink=INK, anchor="start", weight="normal"
    ) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{ink}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
        )

    def line(self, points, ink=FAINT, width=1.0) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{ink}" '
            f'stroke-width="{width}"/>'
        )

    def arrow(self, start, end, ink=FAINT, width=1.3) -> None:
        (x1, y1), (x2, y2) = start, end
        bend = (y2 - y1) / 2
        self._parts.append(
            f'<path d="M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} '
            f'{y2 - bend:.1f} {x2:.1f} {y2:.1f}" fill="none" stroke="{ink}" '
            f'stroke-width="{width}" marker-end="url(#head-{ink[1:]})"/>'
        )

    def side_arrow(self, start, end, ink=FAINT, width=1.3) -> None:
        """Draw an arrow that goes round on the right."""
        (x1, y1), (x2, y2) = start, end
        out = max(x1, x2) + 12 + abs(y2 - y1) / 8
        self._parts.append(
            f'<path d="M{x1:.1f} {y1:.1f} C{out:.1f} {y1:.1f} {out:.1f} {y2:.1f} '
            f'{x2:.1f} {y2:.1f}" fill="none" stroke="{ink}" stroke-width="{width}" '
            f'marker-end="url(#head-{ink[1:]})"/>'
        )

    def __str__(self) -> str:
        width, height = self._size
        heads = "".join(
            f'<marker id="head-{ink[1:]}" viewBox="0 0 8 8" refX="7" refY="4" '
            f'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" '
            f'fill="{ink}"/></marker>'
            for ink in (INK, FAINT, WRONG)
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
                f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
                f'font-family="{escape(FONT)}">',
                f"<title>{escape(self._title)}</title><defs>{heads}</defs>",
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
                *self._parts,
                "</svg>\n",
            ]
        )
