# SPDX-License-Identifier: Apache-2.0
"""The report of a run that goes on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .tree._paths import under
from .tree._protocol import Staged


class Resumed(NamedTuple):
    """Result of `Manager.resume`.

    Attributes:
        step: its number.
        values: the plain values of the file, as `brainopt.checkpoint.restore` gives.
        skipped: by number, why each newer step was passed over.
        numbers: the settings of optimizers and schedules that differed, by path: the
            number of the program, and that of the step, which holds now.
    """

    step: int
    values: Any
    skipped: dict[int, str]
    numbers: dict[str, tuple[Any, Any]]


def replaced(staged: Mapping[str, Staged]) -> dict[str, tuple[Any, Any]]:
    """Return the numbers that each restored node had before, and has now."""
    return {
        under(name, path): pair
        for name, stage in staged.items()
        for path, pair in getattr(stage, "numbers", {}).items()
    }
