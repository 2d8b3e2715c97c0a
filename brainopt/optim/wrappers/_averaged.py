# SPDX-License-Identifier: Apache-2.0
"""Weights to evaluate with that are not the weights being trained."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp

from ...core import Variable, _trace
from ...errors import GradientError, message
from .._hyperparameters import Numbered, Numbers
from .._parameters import Trained
from .._rollback import Snapshot
from ..engine._precision import wide
from ..engine._tree import named
from ._wrapper import Around


class Swapped:
    """A block in which some Variables hold other values.

    At its end they hold what they held before, whatever was written in between.
    """

    def __init__(self, values: dict[Variable, Any]):
        self._values = values

    def __enter__(self) -> None:
        self._snapshot = Snapshot(self._values)
        _trace.commit(list(self._values), list(self._values.values()))

    def __exit__(self, *_) -> None:
        self._snapshot.restore()


class Averaged(abc.ABC):
    """Mixin of what keeps averages of the variables it trains."""

    _trained: Trained

    @abc.abstractmethod
    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}`` of each leaf, in the dtype of computation."""

    def swapped(self) -> Swapped:
        """Return a context in which the variables hold their averages.

        Example:
            >>> import brainopt as bo
            >>> w = bo.TrainVar([1.0])
            >>> ema = bo.optim.EMA(w, decay=0.9, warmup=False)
            >>> w.value = jnp.zeros(1)
            >>> ema.update()
            >>> with ema.swapped():
            ...     print(w.value.round(3).tolist())
            [0.9...]
            >>> w.value.tolist()
            [0.0]
        """
        averages = self.averages()
        values = {}
        for path, variable in self._trained.variables.items():
            held = variable.value
            leaves = [
                averages[name].astype(leaf.dtype) for name, leaf in named({path: held})
            ]
            values[variable] = jax.tree.unflatten(jax.tree.structure(held), leaves)
        return Swapped(values)


class EMA(Averaged, Numbered):
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

    _borrowed = frozenset({"_trained"})

    def __init__(
        self,
        train_vars: Any,
        decay: Any = 0.999,
        warmup: bool = True,
        name: str | None = None,
    ):
        self.numbers = Numbers({"decay": float(decay)}, ("decay",), "EMA")
        super().__init__(name)
        self.warmup = bool(warmup)
        self.count = Variable(jnp.zeros((), jnp.int32))
        self.shadow: dict[str, Variable] = {}
        self._trained = Trained()
        self.register_train_vars(train_vars)

    def register_train_vars(self, train_vars: Any) -> None:
        """Average more variables, starting from their values now."""
        for path in self._trained.add(train_vars):
            value = self._trained.variables[path].value
            for name, leaf in named({path: value}):
                copy = jnp.array(leaf, wide(leaf.dtype))
                self.shadow[name] = Variable(copy, name=f"{name} averaged")
        self.revision.changed()

    def update(self) -> None:
        """Take the present values in; to be called after each step."""
        self._trained.require("EMA")
        self.revision.seen()
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
        _trace.commit([*variables, self.count], [*new, count + 1])

    def _pairs(self) -> list[tuple[Variable, Any]]:
        return [(self.shadow[k], leaf) for k, leaf in named(self._trained.values())]

    def averages(self) -> dict[str, Any]:
        """Return ``{path: average}``."""
        return {path: variable.value for path, variable in self.shadow.items()}


class Lookahead(Averaged, Around):
    r"""An optimizer whose weights return, every k steps, towards slow ones.

    .. math:: \phi \leftarrow \phi + \alpha (\theta - \phi), \qquad
              \theta \leftarrow \phi \qquad \text{every } k \text{ steps}

    Args:
        optimizer: takes the fast steps, in place; its settings are set on it.
        sync_period: k, in [1, inf).
        alpha: :math:`\alpha` in [0, 1].
        name: a display name.

    Source: Zhang et al. 2019, Lookahead Optimizer, algorithm 1.
    """

    def __init__(
        self,
        optimizer: Any,
        sync_period: int = 5,
        alpha: Any = 0.5,
        name: str | None = None,
    ):
        ranges = {"sync_period": "[1, inf)", "alpha": "[0, 1]"}
        numbers = {"sync_period": float(sync_period), "alpha": float(alpha)}
        self.numbers = Numbers(numbers, (), "Lookahead", ranges)
        super().__init__(optimizer, name)
        self.count = Variable(jnp.zeros((), jnp.int32))
        self.slow: dict[str, Variable] = {}
        self._follow()

    def _follow(self) -> None:
        for path, variable in self._trained.variables.items():
            for name, leaf in named({path: variable.value}):
                if name not in self.slow:
                    copy = jnp.array(leaf, wide(leaf.dtype))
                    self.slow[name] = Variable(copy, name=f"{name} slow")

    def register_train_vars(self, train_vars: Any) -> None:
        """Train more variables; see `Optimizer.register_train_vars`."""
        super().register_train_vars(train_vars)
        self._follow()

    def update(self, grads: Any, **options: Any) -> None:
        """Take one fast step, and every k steps the slow one."""
        before = self._before()
        self.optimizer.update(grads, **options)
        self._sync(before)

    def step(self, closure: Any) -> Any:
        """Take one step on the loss that ``closure`` returns; return it."""
        before = self._before()
        out = self.optimizer.step(closure)
        self._sync(before)
        return out

    def _before(self) -> Any:
        self.revision.seen()
        unknown = [p for p, _ in named(self._trained.values()) if p not in self.slow]
        if unknown:
            raise GradientError(
                message(
                    "This Lookahead has no slow weights for:",
                    unknown,
                    "register variables with lookahead.register_train_vars(...), not "
                    "with the optimizer inside.",
                )
            )
        return self._taken()

    def _sync(self, before: Any) -> None:
        # A micro-batch or a step that was skipped is no fast step.
        moved = self._taken() != before
        count = self.count.value + moved
        due = moved & (count % self.sync_period.astype(jnp.int32) == 0)
        alpha = self.alpha
        variables, values = [self.count], [count]
        for path, variable in self._trained.variables.items():
            held, leaves = variable.value, []
            for name, leaf in named({path: held}):
                if name in self.frozen:
                    leaves.append(leaf)
                    continue
                slow = self.slow[name].value
                back = slow + alpha.astype(slow.dtype) * (
                    leaf.astype(slow.dtype) - slow
                )
                variables.append(self.slow[name])
                values.append(jnp.where(due, back, slow))
                leaves.append(jnp.where(due, back.astype(leaf.dtype), leaf))
            variables.append(variable)
            values.append(jax.tree.unflatten(jax.tree.structure(held), leaves))
        _trace.commit(variables, values)

    def averages(self) -> dict[str, Any]:
        """Return ``{path: slow weight}``."""
        return {path: variable.value for path, variable in self.slow.items()}
