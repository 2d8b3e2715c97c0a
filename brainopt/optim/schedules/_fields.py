# SPDX-License-Identifier: Apache-2.0
"""Fields of schedules besides numbers: counters, the clock, series of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
import numpy as np

from ..._typing import Scalar
from ...core import Variable
from ...errors import HyperparameterError, message
from ..hyperparameters._fields import Kept, kept, one_of
from ..hyperparameters._numbers import SettingVariable, check, scalar

Clock = Literal["step", "epoch"]
Counter: TypeAlias = Kept[int, Variable]
Series: TypeAlias = Kept[Sequence[Scalar], Variable]

_CLOCKS = {
    "epoch": "``'epoch'`` counts the calls of `step_epoch`, ``'step'`` the updates",
    "step": "``'step'`` counts updates, ``'epoch'`` the calls of `step_epoch`",
}


def epochs_over() -> Any:
    """Declare ``last_epoch``, a counter that a user may start with."""
    return kept(_counter, default=-1, doc="the epochs that are over, minus one")


def updates_over() -> Any:
    """Declare ``last_call``, a counter that a user may start with."""
    return kept(_counter, default=-1, doc="the updates that are over, minus one")


def counted_by(clock: Clock, doc: str = "") -> Any:
    """Declare ``clock``, the unit of the count of a schedule, and its default.

    Args:
        clock: ``"step"`` for updates, ``"epoch"`` for the calls of `step_epoch`.
        doc: more for the documentation.
    """
    return one_of(clock, ("step", "epoch"), _CLOCKS[clock] + doc)


def series(doc: str, range: str = "(-inf, inf)", is_increasing: bool = False) -> Any:
    """Declare several numbers, which are kept in one Variable."""

    def convert(values: Any, name: str) -> Variable:
        if np.ndim(values) != 1:
            raise HyperparameterError(
                message(f"{name}={values!r}.", help="give a list of numbers.")
            )
        numbers = [scalar(value, f"{name}[{i}]") for i, value in enumerate(values)]
        for i, number in enumerate(numbers):
            check({f"{name}[{i}]": number}, (), {f"{name}[{i}]": range}, "a schedule")
        if is_increasing and numbers != sorted(numbers):
            raise HyperparameterError(message(f"{name}={numbers} do not increase."))
        # A Variable, so that a load may bring other counts without compiling.
        return SettingVariable(jnp.asarray(numbers, float), name=name)

    return kept(convert, doc=doc)


def _counter(value: int, name: str) -> Variable:
    return Variable(jnp.asarray(value, jnp.int32), name=name)
