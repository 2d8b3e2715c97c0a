# SPDX-License-Identifier: Apache-2.0
"""Draw the floors and the roads into docs/_static: ``python -m docs.drawing``."""

from pathlib import Path

from . import floors, house, roads

OUT = Path(__file__).parents[1] / "_static"


def main() -> None:
    """Write both pictures, and print the table of the roads."""
    plan = floors.read()
    names = [name for name in plan.wings if name != floors.GROUND]
    level = floors.levels(names, plan.between_wings)
    order = [*sorted(names, key=level.__getitem__, reverse=True), floors.GROUND]
    passed = roads.measure()
    (OUT / "floors.svg").write_text(house.draw(plan), "utf-8")
    (OUT / "roads.svg").write_text(roads.draw(passed, order), "utf-8")
    print(roads.table(passed))


if __name__ == "__main__":
    main()
