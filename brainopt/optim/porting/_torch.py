# SPDX-License-Identifier: Apache-2.0
"""The spellings of torch: ``opt.step(closure)``, ``opt.param_groups``, …

`Optimizer` takes these functions as its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..._typing import StateDict
from ...core import Variable
from ...errors import GradientError, HyperparameterError, message
from ..engine._tree import named
from ..hyperparameters._fields import Together
from ..settings._groups import Group


class Step(Variable):
    """The updates done, an int32 that stops at 2³¹-1; ``opt.step(closure)`` takes one.

    BrainPy reads ``opt.step`` as a number and torch calls it; here both work.
    """

    # The optimizer is set at each access of ``opt.step``, since one that was copied, or
    # rebuilt from its pytree, must step itself. An update makes that a weak reference:
    # the values of the last step are held for its Variables, this one among them.
    __slots__ = ("_ref", "_strong")

    def lead_to(self, optimizer: Any) -> None:
        """Let a call step an optimizer, and hold it until its next update."""
        self._ref, self._strong = weakref.ref(optimizer), optimizer

    def let_go(self) -> None:
        """Hold the optimizer no longer."""
        self._strong = None

    @property
    def _optimizer(self) -> Any:
        optimizer = self._ref()
        if optimizer is None:
            raise ReferenceError(
                message("The optimizer of this step is gone.", help="keep `opt` too.")
            )
        return optimizer

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


def zero_count() -> jax.Array:
    """Return the count before the first update."""
    return jnp.zeros((), jnp.int32)


class GroupView(MutableMapping):
    """A group as torch shows it: ``opt.param_groups[0]["lr"] = 0.1``.

    Keys are ``params`` (the variables), ``lr``, the numbers, the options, and
    ``betas`` where there are ``beta1`` and ``beta2``.
    """

    def __init__(self, optimizer: Any, index: int):
        self._optimizer = optimizer
        self._index = index
        self._together = optimizer._declared.of(Together)

    @property
    def _group(self) -> Group:
        return self._optimizer.groups[self._index]

    def __getitem__(self, key: str) -> Any:
        group, step = self._group, self._optimizer.step.value
        if key == "params":
            return self._params()
        if key == "lr":
            return _as_number(self._optimizer._settings.rate(self._index))
        if key in self._together:
            return tuple(self[part] for part in self._together[key].parts)
        if key in group.numbers.names:
            return _as_number(group.now(key, step))
        return group.options[key]

    def __setitem__(self, key: str, value: Any) -> None:
        group = self._group
        if key == "lr":
            self._optimizer._settings.set_rate(value, self._index)
        elif key in self._together:
            group.set_together(self._together[key].split(value))
        elif key in group.numbers.names:
            group.set_number(key, value)
        else:
            raise HyperparameterError(
                message(f"{key!r} of a group cannot be changed after construction.")
            )

    def __delitem__(self, key: str) -> None:
        raise TypeError("A setting of a group cannot be deleted.")

    def __iter__(self) -> Iterator[str]:
        yield from ("params", "lr", *self._together)
        yield from self._group.numbers.names
        yield from self._group.options

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr({k: v if k != "params" else len(v) for k, v in self.items()})

    def _params(self) -> list[Any]:
        index = self._optimizer._settings.index
        return [
            variable
            for path, variable in self._optimizer._trained.variables.items()
            if any(
                index(name, leaf) == self._index
                for name, leaf in named({path: variable.value})
            )
        ]


@property
def param_groups(self: Any) -> list[GroupView]:
    """The groups as torch shows them; entries may be read and set.

    As there, each has variables: the settings of all others, ``opt.groups["default"]``,
    stand among them unless each variable is in another group.
    """
    leaves = named(self._trained.values())
    used = sorted({self._settings.index(path, leaf) for path, leaf in leaves})
    return [GroupView(self, i) for i in used or range(len(self.groups))]


def get_last_lr(self: Any) -> list[float]:
    """Return the learning rate of the next update for each of `param_groups`.

    Differs: in torch it is a method of the schedule, which belongs to an optimizer. A
    schedule here may belong to several, and knows no groups.
    """
    return [group["lr"] for group in self.param_groups]


@property
def defaults(self: Any) -> dict[str, Any]:
    """The settings of a group that are not given for it."""
    return {k: v for k, v in GroupView(self, 0).items() if k != "params"}


def add_param_group(self: Any, param_group: StateDict) -> None:
    """Train more variables, with settings of their own.

    Args:
        param_group: ``params`` (as ``train_vars``) and any of ``lr``, the numbers
            and options, ``betas``, ``lr_mult``, ``sign``, ``bounds``, ``constraint``,
            ``name``. What is missing is as in the first group.

    Raises:
        HyperparameterError: a setting is unknown or out of range, or a variable is
            already in another group; nothing has changed.
    """
    settings = {k: v for k, v in param_group.items() if k != "params"}
    if "params" not in param_group:
        raise HyperparameterError(message("A parameter group needs 'params'."))
    self._register_group(param_group["params"], settings)


def zero_grad(self: Any, set_to_none: bool = True) -> None:
    """Do nothing: gradients are values here, so none is left over.

    It is there so that a training loop written for torch keeps running.
    """


def _as_number(value: Any) -> Any:
    # Through its shortest text, so that a rate set to 0.01 reads 0.01 again.
    return value if isinstance(value, Tracer) else float(str(np.asarray(value)[()]))
