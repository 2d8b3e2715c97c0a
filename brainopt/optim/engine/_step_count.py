# SPDX-License-Identifier: Apache-2.0
"""``opt.step``: the count of updates, which is also called to take one."""

from __future__ import annotations

from typing import Any

from ...core import Variable
from ...errors import GradientError, message


class Step(Variable):
    """The updates done, an int32 that stops at 2³¹-1; ``opt.step(closure)`` takes one.

    BrainPy reads ``opt.step`` as a number and torch calls it; here both work.
    """

    __slots__ = ("_optimizer",)

    def __call__(self, closure: Any = None) -> Any:
        """Compute the gradients of ``closure``, take one step, return its result.

        Args:
            closure: takes no argument, reads the trained variables, returns the loss
                (a real 0-d array) or a tuple that starts with it; or a dict of
                gradients, as braintools has it.

        Raises:
            GradientError: there is no closure, or it returns no loss.
        """
        if isinstance(closure, dict):
            return self._optimizer.update(closure)
        if not callable(closure):
            raise GradientError(
                message(
                    "opt.step() takes a function that returns the loss.",
                    help="gradients are values here: opt.update(grads), or "
                    "opt.step(lambda: loss).",
                )
            )
        return self._optimizer._step_by(closure)


class Stepped:
    """Mixin: the attribute ``step``."""

    __dict__: dict[str, Any]

    @property
    def step(self) -> Step:
        """The updates done; ``opt.step(closure)`` takes one more."""
        step = self.__dict__["step"]
        step._optimizer = self
        return step

    @step.setter
    def step(self, value: Any) -> None:
        if isinstance(value, Variable):
            vars(self)["step"] = value
        else:
            self.__dict__["step"].value = value
