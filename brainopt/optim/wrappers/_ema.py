# SPDX-License-Identifier: Apache-2.0
"""Exponential moving averages of variables."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ... import runtime
from ...core import Variable
from ...runtime import depend_on
from .._averages import Averaged
from .._fields import decay_rate
from .._hyperparameters import HasHyperparams, HyperparamVector
from .._parameters import TrainedVariables
from ..engine._precision import wide
from ..engine._tree import named


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

    Source: Polyak & Juditsky 1992, for averaging; the warm-up is TensorFlow's.
    """

    decay = decay_rate()
    _borrowed = frozenset({"_trained"})

    def __init__(
        self,
        train_vars: Any,
        decay: Any = 0.999,
        warmup: bool = True,
        name: str | None = None,
    ):
        self.numbers = HyperparamVector({"decay": float(decay)}, ("decay",), "EMA")
        super().__init__(name)
        self.warmup = bool(warmup)
        self.count = Variable(jnp.zeros((), jnp.int32))
        self.shadow: dict[str, Variable] = {}
        self._trained = TrainedVariables()
        self.register_train_vars(train_vars)

    def register_train_vars(self, train_vars: Any) -> None:
        """Average more variables, starting from their values now."""
        for path in self._trained.add(train_vars):
            value = self._trained.variables[path].value
            for name, leaf in named({path: value}):
                copy = jnp.array(leaf, wide(leaf.dtype))
                self.shadow[name] = Variable(copy, name=f"{name} averaged")
        self._revision.changed()

    def update(self) -> None:
        """Take the present values in; to be called after each step."""
        self._trained.require("EMA")
        depend_on(self._revision)
        count = self.count.value
        decay, rest = self.numbers.value[0], self.numbers.value[1]
        if self.warmup:
            t = count.astype(decay.dtype)
            early = (1 + t) / (10 + t)
            rest = jnp.where(early < decay, 1 - early, rest)
            decay = jnp.minimum(decay, early)
        new = [
            decay.astype(old.value.dtype) * old.value
            + rest.astype(old.value.dtype) * leaf.astype(old.value.dtype)
            for old, leaf in self._pairs()
        ]
        variables = [old for old, _ in self._pairs()]
        runtime.commit([*variables, self.count], [*new, count + 1])

    def _pairs(self) -> list[tuple[Variable, Any]]:
        return [(self.shadow[k], leaf) for k, leaf in named(self._trained.values())]

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``."""
        return {path: variable.value for path, variable in self.shadow.items()}
