# SPDX-License-Identifier: Apache-2.0
"""Optimizers whose rule must see all parameters at once."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..core import Variable
from ._core import skipped
from ._hyperparameters import Hyper
from ._optimizer import Optimizer
from .engine._precision import key_for, narrow, wide, widen
from .engine._tree import named, zeros

ALL = ""
"""Key in ``opt.slots`` of the state shared by all parameters."""


class JointOptimizer(Optimizer):
    """Abstract: an optimizer whose update needs all parameters at once.

    What it keeps stands in ``opt.slots[""]``. A variable without a gradient stays as
    it is, and so does what is kept for it alone; for what is kept for several, its
    gradient counts as zero.
    """

    @abc.abstractmethod
    def init_all(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the arrays to keep for all parameters together, by name."""

    @abc.abstractmethod
    def rule_all(
        self,
        grads: dict[str, Any],
        params: dict[str, Any],
        held: dict[str, Any],
        hypers: dict[str, Hyper],
        step: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters and what is kept after one step; a pure function.

        Args:
            grads: the gradients in the dtype of computation.
            params: the parameters in the same dtypes.
            held: what is kept.
            hypers: the settings of each parameter.
            step: the number of this step, from 1.
        """

    def owners(self, params: dict[str, Any]) -> Mapping[str, str]:
        """Return the parameter that a kept array belongs to, if it is one alone."""
        return {}

    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return nothing: what is kept is kept for all together."""
        return {}

    def rule(self, grad, param, slots, hyper, step):
        """Not used; see `rule_all`."""
        raise NotImplementedError

    def _first_state(self, params: Any) -> dict[str, Any]:
        state = super()._first_state(params)
        state["slots"][ALL] = self.init_all(_widened(named(params)))
        return state

    def _take_in(self, train_vars: Any, index: int | None = None) -> None:
        super()._take_in(train_vars, index)
        held = self.slots.get(ALL, {})
        self.slots[ALL] = {}
        for name, value in self.init_all(_widened(self._leaves())).items():
            old = held.get(name)
            if old is None or old.value.shape != value.shape:
                old = Variable(value, name=name)
            self.slots[ALL][name] = old

    def _step_all(self, params, slots, grads, views, step) -> tuple[dict, dict]:
        if not params:
            return {}, slots
        full = filled(grads, params)
        wide_params = {p: widen(param, slots[p]) for p, param in params.items()}
        hypers = {p: views(p, param)[1] for p, param in params.items()}
        old = slots[ALL]
        moved, held = self.rule_all(full, wide_params, old, hypers, step)
        owners = self.owners(wide_params)
        kept = {
            name: old[name]
            if grads.get(owners.get(name, ""), 0) is None
            else value.astype(old[name].dtype)
            for name, value in held.items()
        }
        new, new_slots = {}, {**slots, ALL: kept}
        for path, param in params.items():
            if grads[path] is None:
                new[path], new_slots[path] = param, skipped(slots[path])
                continue
            group, view = views(path, param)
            value = group.constrain(moved[path], view)
            new[path], extra = self._narrowed(
                path, value, param, slots[path], views.count
            )
            new_slots[path] = {**slots[path], **extra}
        return new, new_slots

    def _narrowed(self, path, value, param, slots, count) -> tuple[Any, dict]:
        key = None
        if self.precision == "stochastic":
            key = key_for(self.seed, count, path)
        return narrow(value, param.dtype, slots, key)


def _widened(params: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return parameters as `rule_all` sees them, so that what is kept is wide too."""
    return {path: leaf.astype(wide(leaf.dtype)) for path, leaf in params}


def filled(grads: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Return gradients with zeros for those that are None."""
    return {p: zeros(params[p]) if g is None else g for p, g in grads.items()}


def flatten(tree: Any) -> dict[str, Any]:
    """Return the arrays of a tree by path; the first name of a lone leaf is ``all``."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name_of(keys): jnp.asarray(leaf) for keys, leaf in flat}


def name_of(keys: Any) -> str:
    """Return the name of a leaf that stands under ``keys``."""
    return jax.tree_util.keystr(keys, simple=True, separator=".") or "all"
