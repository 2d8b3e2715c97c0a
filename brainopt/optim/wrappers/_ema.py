# SPDX-License-Identifier: Apache-2.0
"""Exponential moving averages of variables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

import jax.numpy as jnp

from ... import runtime
from ..._typing import Model
from ...core import Variable, join
from ...runtime import depend_on
from .._ages import Aged, keep_ages
from .._aliases import by_first_names
from .._parameters import TrainedVariables
from .._swapping import Averaged, refuse_load, refuse_state, refuse_step
from ..engine._missed import next_step
from ..engine._precision import wide
from ..engine._tree import named
from ..hyperparameters._fields import decay_rate
from ..hyperparameters._has_hyperparams import HasHyperparams


class EMA(Averaged, HasHyperparams):
    r"""Exponential moving averages of variables.

    .. math:: \bar\theta_t = d_t \bar\theta_{t-1} + (1 - d_t) \theta_t, \qquad
              d_t = \min(d, t / (9 + t)) \text{ with warm-up}

    Args:
        train_vars: what to average; see `Optimizer`.
        decay: :math:`d` in [0, 1); ``ema.decay = 0.99`` changes it without compiling.
        warmup: start with a short memory.
        name: a display name.

    Attributes:
        count: the updates done.
        shadow: ``{path: Variable}``, float32 or wider.
        missed: ``{path: Variable}``, the updates that were done before a variable came;
            none where it was there from the first one.

    Source: Polyak & Juditsky 1992, for averaging; the warm-up is TensorFlow's.
    """

    decay = decay_rate()
    _borrowed = frozenset({"_trained"})

    def __init__(
        self,
        train_vars: Model,
        decay: SupportsFloat = 0.999,
        warmup: bool = True,
        name: str | None = None,
    ):
        self._keep_numbers({"decay": float(decay)})
        super().__init__(name)
        self.warmup = bool(warmup)
        self.count = Variable(jnp.zeros((), jnp.int32))
        self.shadow: dict[str, Variable] = {}
        self.missed: dict[str, Variable] = {}
        self._trained = TrainedVariables()
        self.register_train_vars(train_vars)

    def register_train_vars(self, train_vars: Model) -> None:
        """Average more variables, starting from their values now."""
        is_added_later = bool(self.shadow) and int(self.count.value) > 0
        for path in self._trained.add(train_vars):
            value = self._trained.variables[path].value
            for name, leaf in named({path: value}):
                copy = jnp.array(leaf, wide(leaf.dtype))
                self.shadow[name] = Variable(copy, name=f"{name} averaged")
                if is_added_later:
                    self.missed[name] = Variable(jnp.array(self.count.value))
        self._revision.changed()

    def update(self) -> None:
        """Update the averages by the present values; call it after each step."""
        self._trained.require("EMA")
        refuse_step("EMA", self._trained)
        depend_on(self._revision)
        with runtime.exclusive():
            self._average()

    def _average(self) -> None:
        count = self.count.value
        common = self._weights(count)
        variables, new = [], []
        for name, leaf in named(self._trained.values()):
            old, missed = self.shadow[name], self.missed.get(name)
            decay, rest = common if missed is None else self._weights(count - missed)
            dtype = old.value.dtype
            variables.append(old)
            new.append(
                decay.astype(dtype) * old.value
                + rest.astype(dtype) * leaf.astype(dtype)
            )
        runtime.commit([*variables, self.count], [*new, next_step(count)])

    def _weights(self, count: Any) -> tuple[Any, Any]:
        """Return the weights of an average and of the value after ``count`` updates."""
        # 1 - d is the derived number of the vector, rounded from float64: in float32
        # 1 - 0.9999 is wrong in the fifth digit.
        decay, rest = self.numbers.value[0], self.numbers.value[1]
        if not self.warmup:
            return decay, rest
        # t counts from 0 here, from 1 in the formula.
        t = count.astype(decay.dtype)
        early = (1 + t) / (10 + t)
        rest = jnp.where(early < decay, 1 - early, rest)
        return jnp.minimum(decay, early), rest

    def _prepare_save(self) -> None:
        refuse_state("EMA", self._trained)

    def _context(self) -> list[str]:
        return ["count", *(join("missed", name) for name in self.shadow)]

    def _prepare_load(
        self,
        state: dict[str, Any],
        path: str,
        context: Mapping[str, Any],
        staged: Any,
    ) -> None:
        refuse_load("EMA", self._trained)
        for section in ("shadow", "missed"):
            own = [join(path, section, name) for name in self.shadow]
            place = join(path, section)
            by_first_names(self._trained.aliases, place, own, state)
        variables = [
            Aged(
                [join(path, "shadow", name)],
                join(path, "missed", name),
                self.missed.get(name),
                functools.partial(self._count_missed, name),
            )
            for name in self.shadow
        ]
        count = join(path, "count"), self.count.value
        keep_ages(variables, count, state, context, staged.undo)

    def _count_missed(self, name: str) -> Callable[[], None]:
        self.missed[name] = Variable(jnp.zeros_like(self.count.value))
        self._revision.changed()
        return lambda: self._forget(name)

    def _forget(self, name: str) -> None:
        del self.missed[name]
        self._revision.changed()

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``."""
        return {path: variable.value for path, variable in self.shadow.items()}
