# SPDX-License-Identifier: Apache-2.0
"""Numbers of steps and their metrics, as users give them."""

import operator
from collections.abc import Mapping
from typing import Any, SupportsFloat

import msgpack
import numpy as np

from ..errors import CheckpointError, message
from ._index import Index, best_of

_MAX_METRICS_BYTES = 8192


def chosen_step(index: Index, best: tuple[str, str] | None, step: Any) -> int:
    """Return the number of a step, given by its number or by a word.

    Args:
        index: the steps that there are.
        best: a metric and ``"max"`` or ``"min"``.
        step: a number, ``"latest"`` or None, or ``"best"``.

    Raises:
        CheckpointError: there is no such step.
    """
    steps = index.steps()
    if step in (None, "latest"):
        found = max(steps, default=None)
    elif step == "best":
        found = best and best_of(index.metrics(), *best)
        if found is None:
            raise CheckpointError(_no_best(index, best, steps))
    else:
        found = operator.index(step) if is_number(step) else None
    if found is None or found not in steps:
        raise CheckpointError(
            message(
                f"{index.folder.name} has no step {step}: it has"
                if steps
                else f"{index.folder.name} has no steps.",
                [str(other) for other in steps],
                "" if steps else "`Manager.resume` returns None where there is none.",
            )
        )
    return found


def _no_best(index: Index, best: tuple[str, str] | None, steps: list[int]) -> str:
    fact = f"{index.folder.name} has no best step:"
    if best is None:
        mend = "construct the Manager with `best=(metric, 'max' or 'min')`."
        return message(fact, ["this Manager compares no metric"], mend)
    items = [f"no step was saved with the metric {best[0]!r}; there are:"]
    metrics = index.metrics()
    items += [f"{step}: {', '.join(metrics.get(step, ())) or '-'}" for step in steps]
    return message(fact, items)


def is_number(step: object) -> bool:
    """Whether a step is an integer of any library; a bool is none."""
    return hasattr(step, "__index__") and not isinstance(step, bool | np.bool_)


def step_number(step: Any) -> int:
    """Return the number of a step, in [0, 2⁶³)."""
    try:
        number = operator.index(step) if is_number(step) else -1
    except TypeError:  # an array of floats, or of several numbers
        number = -1
    if not 0 <= number < 1 << 63:
        raise ValueError(f"step must be an int from 0, not {step!r}")
    return number


def checked_metrics(metrics: Mapping[str, SupportsFloat]) -> dict[str, float]:
    """Return metrics as they are stored.

    Raises:
        CheckpointError: listing values that are no numbers, and repeated names.
    """
    if not isinstance(metrics, Mapping):
        fact = f"The metrics are a {type(metrics).__name__}."
        raise CheckpointError(message(fact, help="give a dict of names and numbers."))
    wrong, checked = [], {}
    for name, value in metrics.items():
        try:
            if str(name) in checked:
                wrong.append(f"{name}: two metrics have this name")
            str(name).encode()
            checked[str(name)] = float(value)
        except UnicodeEncodeError:
            wrong.append(f"{name!r}: a name with half a surrogate pair")
        except (TypeError, ValueError, OverflowError):
            wrong.append(f"{name}: {type(value).__name__} is no number")
    # They are part of the metadata map of the file, whose size a reader limits.
    if not wrong and len(msgpack.packb(checked) or b"") > _MAX_METRICS_BYTES:
        wrong.append("more than 8 KiB in all")
    if wrong:
        raise CheckpointError(message("These metrics cannot be stored:", wrong))
    return checked
