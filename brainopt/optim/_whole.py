# SPDX-License-Identifier: Apache-2.0
"""Optimizers whose rule must see all parameters at once."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp

from ..core import Variable
from ._numbers import View
from ._optimizer import Optimizer
from ._precision import narrow, wide, widen
from ._pure import named, zeros

_ALL = ""


class Whole(Optimizer):
    """Abstract: gives `init_all` and `rule_all` in the place of the rule of one.

    What it keeps stands in ``opt.slots[""]``. A variable without a gradient stays as
    it is; for what is kept its gradient counts as zero.
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
        hyper: View,
        step: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters and what is kept after one step; a pure function."""

    def init_slots(self, param: Any, hyper: View) -> dict[str, Any]:
        """Return nothing: what is kept is kept for all together."""
        return {}

    def rule(self, grad, param, slots, hyper, step):
        """Not used; see `rule_all`."""
        raise NotImplementedError

    def init(self, params: Any) -> dict[str, Any]:
        """Return the first state for a pytree of parameters; a pure function."""
        state = super().init(params)
        state["slots"][_ALL] = self.init_all(dict(named(params)))
        return state

    def _register(self, train_vars: Any, index: int | None = None) -> None:
        super()._register(train_vars, index)
        held = self.slots.get(_ALL, {})
        self.slots[_ALL] = {}
        for name, value in self.init_all(dict(self._leaves())).items():
            old = held.get(name)
            if old is None or old.value.shape != value.shape:
                old = Variable(value, name=name)
            self.slots[_ALL][name] = old

    def _step_all(self, params, slots, grads, views, step) -> tuple[dict, dict]:
        full = {p: zeros(params[p]) if g is None else g for p, g in grads.items()}
        wide_params = {p: widen(param, slots[p]) for p, param in params.items()}
        if not params:
            return {}, slots
        first = max(params, key=lambda p: jnp.finfo(wide(params[p].dtype)).bits)
        _, hyper = views(first, params[first])
        moved, held = self.rule_all(full, wide_params, slots[_ALL], hyper, step)
        new, new_slots = {}, {**slots, _ALL: held}
        for path, param in params.items():
            if grads[path] is None:
                new[path] = param
                new_slots[path] = {**slots[path], "late": slots[path]["late"] + 1}
                continue
            group, view = views(path, param)
            value = group.constrain(moved[path], view)
            new[path], extra = narrow(value, param.dtype, slots[path], None)
            new_slots[path] = {**slots[path], **extra}
        kept = {k: v.astype(slots[_ALL][k].dtype) for k, v in held.items()}
        return new, {**new_slots, _ALL: kept}


def flatten(tree: Any) -> dict[str, Any]:
    """Return the arrays of a tree by path; the first name of a lone leaf is ``all``."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(keys, simple=True, separator=".") or "all": jnp.asarray(x)
        for keys, x in flat
    }
