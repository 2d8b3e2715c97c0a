# SPDX-License-Identifier: Apache-2.0
"""Optimizers whose rule must see all parameters at once."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array, Arrays, PyTree, Slots
from ..core import Variable, join
from ._optimizer import Optimizer
from .engine._missed import skipped, unless_missed, unless_skipped
from .engine._precision import narrow, wide, widen
from .engine._squares import bounded
from .engine._step import Move, rounding_key
from .engine._tree import named, zeros
from .hyperparameters._hyper import Hyper

ALL = ""
"""Key in ``opt.slots`` of the state shared by all parameters."""


class JointOptimizer(Optimizer):
    """Abstract: an optimizer whose update needs all parameters at once.

    Its slots are in ``opt.slots[""]``. A variable without a gradient stays as
    it is, and so does what is kept for it alone; for what is kept for several, its
    gradient counts as zero.
    """

    _needs = "all variables at once"

    @abc.abstractmethod
    def init_all(self, params: Arrays) -> dict[str, Any]:
        """Return the arrays to keep for all parameters together, by name."""

    @abc.abstractmethod
    def rule_all(
        self,
        grads: Arrays,
        params: Arrays,
        held: Arrays,
        hypers: dict[str, Hyper],
        step: Array,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters and the shared slots after one step; a pure function.

        Args:
            grads: the gradients in the dtype of computation.
            params: the parameters in the same dtypes.
            held: the shared slots.
            hypers: the settings of each parameter.
            step: the number of this step, from 1.
        """

    def owners(self, params: Arrays) -> Mapping[str, str]:
        """Return the parameter that a kept array belongs to, if it is one alone."""
        return {}

    def init_slots(self, param: Array, hyper: Hyper) -> dict[str, Any]:
        """Return no slots: those of all parameters are shared."""
        return {}

    def rule(self, grad: Array, param: Array, slots: Slots, hyper: Hyper, step: Array):
        """Not used; see `rule_all`."""
        raise NotImplementedError

    def _shared_slots(self, params: Arrays) -> dict[str, dict[str, Any]]:
        return {ALL: self.init_all(_widened(params))}

    def _parameters_changed(self) -> None:
        held, self.slots[ALL] = self.slots.get(ALL, {}), {}
        params = dict(named(self._trained.values()))
        for name, value in self._shared_slots(params)[ALL].items():
            old = held.get(name)
            # Slots that still fit go on, so that a variable added later does not reset
            # the moments of all others.
            if old is None or old.value.shape != value.shape:
                old = Variable(value, name=name)
                self._revision.changed()
            self.slots[ALL][name] = old

    def _prepare_load(
        self, state: dict[str, Any], path: str, context: Mapping, staged: Any
    ) -> None:
        super()._prepare_load(state, path, context, staged)
        params = _widened(dict(named(self._trained.values())))
        keys = {name: join(path, "slots", name) for name in self.slots.get(ALL, {})}
        owners = self.owners(params)
        if any(keys[name] in state for name in keys.keys() - owners.keys()):
            kind = type(self).__name__
            staged.mismatched += [
                f"{keys[name]}: not in the state, and this {kind} counts the steps of "
                "all variables together: give what is new an optimizer of its own"
                for name in owners
                if keys[name] not in state
            ]

    def _move(self) -> Move:
        given = self.rule_all, self.owners, self.precision, self.seed
        return AllAtOnce(*given, self._squares)


@dataclasses.dataclass(frozen=True)
class AllAtOnce:
    """Moves all parameters together.

    Args:
        rule: one step of all of them, see `JointOptimizer.rule_all`.
        owners: returns the parameter that each shared slot belongs to.
        precision: how small changes of narrow parameters survive.
        seed: of stochastic rounding.
        squares: as in `OneByOne`.
    """

    rule: Callable[..., tuple[dict, dict]]
    owners: Callable[[dict[str, Any]], Mapping[str, str]]
    precision: str
    seed: int
    squares: int

    def __call__(
        self,
        params: Arrays,
        slots: dict[str, Slots],
        grads: Arrays,
        hypers,
        step: Array,
        present: Mapping[str, Any],
    ) -> tuple[dict, dict]:
        """Return all parameters and slots after one step."""
        if not params:
            return {}, slots
        wide_params = {p: widen(param, slots[p]) for p, param in params.items()}
        settings = {p: hypers(p, param) for p, param in params.items()}
        views = {p: hyper for p, (_, hyper) in settings.items()}
        old = slots[ALL]
        given = {p: bounded(g, {}, self.squares) for p, g in grads.items()}
        moved, held = self.rule(filled(given, params), wide_params, old, views, step)
        # The rule sees zeros for a gradient of None. What belongs to that parameter
        # alone is put back; ``grads.get(…, 0)`` is not None where nobody owns a slot.
        owners = self.owners(wide_params)
        kept = {
            name: old[name]
            if grads.get(owner := owners.get(name, ""), 0) is None
            else unless_missed(owner, present, value.astype(old[name].dtype), old[name])
            for name, value in held.items()
        }
        new, new_slots = {}, {**slots, ALL: kept}
        for path, param in params.items():
            if grads[path] is None:
                new[path], new_slots[path] = param, skipped(slots[path])
                continue
            group, hyper = settings[path]
            value = group.constrain(moved[path], hyper)
            key = rounding_key(self.precision, self.seed, hypers.count, path)
            value, extra = narrow(value, param.dtype, slots[path], key)
            moved_one = value, {**slots[path], **extra}
            new[path], new_slots[path] = unless_skipped(
                path, present, moved_one, param, slots[path]
            )
        return new, new_slots


def _widened(params: Arrays) -> dict[str, Any]:
    """Return the parameters in the dtype of computation, for wide shared slots."""
    return {path: leaf.astype(wide(leaf.dtype)) for path, leaf in params.items()}


def filled(grads: Arrays, params: Arrays) -> dict[str, Any]:
    """Return gradients with zeros for those that are None."""
    return {p: zeros(params[p]) if g is None else g for p, g in grads.items()}


def flatten(tree: PyTree) -> dict[str, Any]:
    """Return the arrays of a tree by path; the first name of a lone leaf is ``all``."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name_of(keys): jnp.asarray(leaf) for keys, leaf in flat}


def name_of(keys: PyTree) -> str:
    """Return the name of the leaf under ``keys``."""
    return jax.tree_util.keystr(keys, simple=True, separator=".") or "all"
