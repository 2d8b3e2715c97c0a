# SPDX-License-Identifier: Apache-2.0
"""The floors as a picture: wings above what they import, rooms inside."""

import dataclasses

from . import floors
from .floors import GROUND, PACKAGE, House, Room
from .svg import FAINT, INK, WRONG, Sheet, colours, shortened

MARGIN, GAP, FLOOR_GAP = 24, 14, 62
ROOM_HEIGHT, ROW_GAP, HEAD, PAD = 54, 28, 56, 18
ROOM_WIDTH = 236
TOP, GROUND_HEIGHT = 96, 62


@dataclasses.dataclass
class Wing:
    """A wing with its rooms in rows, the highest first."""

    name: str
    rows: list[list[Room]]
    arrows: set[tuple[str, str]]
    wrong: set[tuple[str, str]]
    x: float = 0
    y: float = 0

    @property
    def about(self) -> str:
        return floors.about(PACKAGE / self.name / "__init__.py")

    @property
    def size(self) -> str:
        rooms = [room for row in self.rows for room in row]
        files = sum(len(room.files) for room in rooms)
        return f"{files} files, {sum(room.lines for room in rooms):,} lines"

    @property
    def is_one_room(self) -> bool:
        return [room.name for row in self.rows for room in row] == [self.name]

    @property
    def width(self) -> float:
        rows = map(_row_width, self.rows)
        return max(370, *rows) + 2 * PAD

    @property
    def height(self) -> float:
        if self.is_one_room:
            return HEAD
        return HEAD + len(self.rows) * (ROOM_HEIGHT + ROW_GAP) - ROW_GAP + PAD


def draw(house: House) -> str:
    """Return the picture as SVG."""
    wings = [_wing(name, house) for name in house.wings if name != GROUND]
    names = [wing.name for wing in wings]
    level = floors.levels(names, house.between_wings)
    width, height = _place(wings, level)
    wrong = floors.upward(house.between_wings, level)
    sheet = Sheet(width, height, "The floors of brainopt")
    _heading(sheet, bool(wrong) or any(wing.wrong for wing in wings))
    by_name = {wing.name: wing for wing in wings}
    for pair in sorted(floors.direct(house.between_wings, level) | wrong):
        _between(sheet, *(by_name[n] for n in pair), pair in wrong)
    for wing in wings:
        _draw_wing(sheet, wing)
    _draw_ground(sheet, list(house.wings[GROUND].values()), width, height)
    return str(sheet)


def _wing(name: str, house: House) -> Wing:
    rooms, arrows = house.wings[name], house.between_rooms.get(name, floors.Counter())
    level = floors.levels(rooms, arrows)
    rows = [
        [rooms[room] for room in sorted(rooms) if level[room] == floor]
        for floor in sorted(set(level.values()), reverse=True)
    ]
    shown = floors.direct(arrows, level)
    return Wing(name, rows, shown, floors.upward(arrows, level))


def _place(wings: list[Wing], level: dict[str, int]) -> tuple[float, float]:
    """Give each wing its corner, and return the size of the sheet."""
    bands = [
        [wing for wing in wings if level[wing.name] == floor]
        for floor in sorted(set(level.values()), reverse=True)
    ]
    widths = [sum(w.width for w in band) + 2 * GAP * (len(band) - 1) for band in bands]
    sheet, y = max(*widths, 900) + 2 * MARGIN, float(TOP)
    for band, width in zip(bands, widths, strict=True):
        x, height = (sheet - width) / 2, max(wing.height for wing in band)
        for wing in band:
            wing.x, wing.y = x, y + height - wing.height
            x += wing.width + 2 * GAP
        y += height + FLOOR_GAP
    return sheet, y + GROUND_HEIGHT + MARGIN


def _heading(sheet: Sheet, some_are_wrong: bool) -> None:
    sheet.text(MARGIN, 36, "The floors of brainopt", 22, weight="bold")
    wrong = "; red ones lead up, and are to be turned round" if some_are_wrong else ""
    lines = (
        "Large boxes are the folders of the package, small ones the folders and "
        "files in them. Each floor stands on what it imports.",
        "An arrow leads from the code that imports to the code that is imported; "
        f"where a chain of arrows leads there already, none is drawn{wrong}.",
    )
    for place, line in enumerate(lines):
        sheet.text(MARGIN, 58 + 17 * place, line, 12, FAINT)


def _between(sheet: Sheet, upper: Wing, lower: Wing, wrong: bool) -> None:
    # Arrows to one wing end side by side, in the order in which they come.
    share = (upper.x + upper.width / 2 - lower.x) / lower.width
    x = lower.x + lower.width * min(0.92, max(0.08, share))
    start = (upper.x + upper.width / 2, upper.y + upper.height)
    sheet.arrow(start, (x, lower.y - 2), WRONG if wrong else INK, 2)


def _draw_wing(sheet: Sheet, wing: Wing) -> None:
    fill, line = colours(wing.name)
    sheet.box(wing.x, wing.y, wing.width, wing.height, fill, line, 10)
    sheet.text(wing.x + PAD, wing.y + 24, f"{wing.name}/", 17, line, weight="bold")
    right = wing.x + wing.width - PAD
    sheet.text(right, wing.y + 23, wing.size, 12, FAINT, "end")
    about = shortened(wing.about, wing.width - 2 * PAD, 11.5)
    sheet.text(wing.x + PAD, wing.y + 42, about, 12)
    if not wing.is_one_room:
        _draw_rooms(sheet, wing, line)


def _draw_rooms(sheet: Sheet, wing: Wing, line: str) -> None:
    places: dict[str, tuple[float, float]] = {}
    y = wing.y + HEAD
    for row in wing.rows:
        width = _row_width(row)
        x = wing.x + (wing.width - width) / 2
        for room in row:
            places[room.name] = (x, y)
            x += ROOM_WIDTH + GAP
        y += ROOM_HEIGHT + ROW_GAP
    for above, below in sorted(wing.arrows):
        (x1, y1), (x2, y2) = places[above], places[below]
        half = ROOM_WIDTH / 2
        sheet.arrow((x1 + half, y1 + ROOM_HEIGHT), (x2 + half, y2 - 1))
    for room in (room for row in wing.rows for room in row):
        _draw_room(sheet, room, *places[room.name], ROOM_WIDTH, line)
    for below, above in sorted(wing.wrong):
        (x1, y1), (x2, y2) = places[below], places[above]
        side, middle = ROOM_WIDTH, ROOM_HEIGHT / 2
        sheet.side_arrow((x1 + side, y1 + middle), (x2 + side + 1, y2 + middle), WRONG)


def _row_width(row: list[Room]) -> float:
    return len(row) * (ROOM_WIDTH + GAP) - GAP


def _draw_room(
    sheet: Sheet, room: Room, x: float, y: float, width: float, line: str
) -> None:
    sheet.box(x, y, width, ROOM_HEIGHT, "#ffffff", line)
    middle = x + width / 2
    is_file = room.name.endswith(".py")
    label = room.name if is_file else f"{room.name}/"
    sheet.text(middle, y + 17, label, 13, INK, "middle", "bold")
    about = shortened(room.about.rstrip("."), width - 10, 11)
    sheet.text(middle, y + 32, about, 11, INK, "middle")
    files = "" if is_file else f"{len(room.files)} files, "
    note = f"{files}{room.lines:,} lines"
    sheet.text(middle, y + 46, note, 11, FAINT, "middle")


def _draw_ground(sheet: Sheet, rooms: list[Room], width: float, height: float) -> None:
    y = height - GROUND_HEIGHT - MARGIN
    sheet.box(MARGIN, y, width - 2 * MARGIN, GROUND_HEIGHT, "#eceff1", "#52606d", 10)
    names = ", ".join(f"{room.name}.py" for room in rooms)
    sheet.text(width / 2, y + 26, names, 14, INK, "middle", "bold")
    note = "the ground: every floor may import it, and it imports none of them"
    sheet.text(width / 2, y + 45, note, 12, FAINT, "middle")
