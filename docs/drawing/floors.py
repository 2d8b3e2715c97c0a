# SPDX-License-Identifier: Apache-2.0
"""The wings and rooms of the package, and who imports whom, read from the sources.

A wing is a folder of the package, and a room is a folder in a wing. A file that
stands in a wing beside its rooms is a room of its own; a wing without folders is one
room. What stands beside the wings is the ground.
"""

import ast
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "brainopt"
GROUND = "ground"
Arrows = Counter[tuple[str, str]]


@dataclasses.dataclass
class Room:
    """Some files of one folder."""

    name: str
    files: list[Path]

    @property
    def lines(self) -> int:
        return sum(len(file.read_text("utf-8").splitlines()) for file in self.files)

    @property
    def about(self) -> str:
        """The first line of the docstring of the folder, or of the one file."""
        faces = [file for file in self.files if file.name == "__init__.py"]
        return about((faces or self.files)[0])


@dataclasses.dataclass
class House:
    """Rooms by wing, and how many imports lead from one wing or room to another."""

    wings: dict[str, dict[str, Room]]
    between_wings: Arrows
    between_rooms: dict[str, Arrows]


def read() -> House:
    """Read the package; the faces (``__init__``) of the package itself are left out."""
    wings: dict[str, dict[str, Room]] = {}
    between_wings: Arrows = Counter()
    between_rooms: dict[str, Arrows] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        wing, room = place(file)
        if room in ("__init__", "__main__"):
            continue
        rooms = wings.setdefault(wing, {})
        if not _is_face(room):
            rooms.setdefault(room, Room(room, [])).files.append(file)
        for target in _imported(file):
            other_wing, other_room = place(target)
            if other_wing != wing:
                between_wings[wing, other_wing] += 1
            elif room != other_room and not _is_face(room) | _is_face(other_room):
                between_rooms.setdefault(wing, Counter())[room, other_room] += 1
    return House(wings, between_wings, between_rooms)


def place(file: Path) -> tuple[str, str]:
    """Return the wing and the room of a file."""
    parts = file.relative_to(PACKAGE).parts
    if len(parts) == 1:
        return GROUND, file.stem
    has_rooms = any((PACKAGE / parts[0]).glob("*/__init__.py"))
    return parts[0], parts[1] if has_rooms else parts[0]


def _is_face(room: str) -> bool:
    return room == "__init__.py"


def about(file: Path) -> str:
    """Return the first line of the docstring of a file."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return text.split("\n")[0]


def _imported(file: Path) -> Iterator[Path]:
    """Yield the files of the package that the relative imports of a file name."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1]
            for part in (node.module or "").split("."):
                base = base / part
            for alias in node.names:
                yield _file(base / alias.name) or _file(base) or file


def _file(path: Path) -> Path | None:
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


def levels(names: Iterable[str], arrows: Arrows) -> dict[str, int]:
    """Return the length of the longest chain of arrows below each name.

    Of two names that import each other, the arrow with fewer imports counts as upward
    and is left out; `upward` finds it again.
    """
    below = {name: set() for name in names}
    for (source, target), _ in arrows.most_common():
        if source in below and target in below and not _reaches(below, target, source):
            below[source].add(target)
    level: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():
        level[name] = 1 + max((level[other] for other in below[name]), default=-1)
    return level


def upward(arrows: Arrows, level: dict[str, int]) -> set[tuple[str, str]]:
    """Return the arrows that do not lead down."""
    known = {pair for pair in arrows if pair[0] in level and pair[1] in level}
    return {(a, b) for a, b in known if level[a] <= level[b]}


def direct(arrows: Arrows, level: dict[str, int]) -> set[tuple[str, str]]:
    """Return the downward arrows that no longer chain of arrows implies."""
    known = {pair for pair in arrows if pair[0] in level and pair[1] in level}
    down = known - upward(arrows, level)
    below = {name: {b for a, b in down if a == name} for name in level}
    return {
        (a, b)
        for a, b in down
        if not any(_reaches(below, other, b) for other in below[a] - {b})
    }


def _reaches(below: dict[str, set[str]], start: str, end: str) -> bool:
    return start == end or any(_reaches(below, n, end) for n in below[start])


def table(house: House) -> str:
    """Lay out the figures as a table of Markdown."""
    heads = "wing", "files", "lines", "imports", "upward inside"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for wing, rooms in house.wings.items():
        files = sum(len(room.files) for room in rooms.values())
        length = sum(room.lines for room in rooms.values())
        lower = [f"{b} {n}" for (a, b), n in house.between_wings.items() if a == wing]
        arrows = house.between_rooms.get(wing, Counter())
        wrong = sorted(upward(arrows, levels(rooms, arrows)))
        up = ", ".join(f"{a} → {b}" for a, b in wrong)
        lines.append(f"| {wing} | {files} | {length} | {', '.join(lower)} | {up} |")
    return "\n".join(lines)
