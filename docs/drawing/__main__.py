# SPDX-License-Identifier: Apache-2.0
"""Draw the floors and the roads: ``python -m docs.drawing [folder]``.

It writes ``floors.svg`` and ``roads.svg`` into the folder, docs/_static by default, and
prints the figures as tables of Markdown.
"""

import sys
from pathlib import Path

from . import floors, house, roads

OUT = Path(__file__).parents[1] / "_static"


def main(folder: Path) -> None:
    """Write both pictures, and print the tables of the floors and the roads."""
    plan = floors.read()
    names = [name for name in plan.wings if name != floors.GROUND]
    level = floors.levels(names, plan.between_wings)
    order = [*sorted(names, key=level.__getitem__, reverse=True), floors.GROUND]
    passed = roads.measure()
    (folder / "floors.svg").write_text(house.draw(plan), "utf-8")
    (folder / "roads.svg").write_text(roads.draw(passed, order), "utf-8")
    print(floors.table(plan), roads.table(passed), sep="\n\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
