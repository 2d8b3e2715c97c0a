# SPDX-License-Identifier: Apache-2.0
"""An optimizer as a pair of pure functions, as in optax.

**How it works.** The state is that of ``opt.init``, with the slots turned round: one
tree like the parameters for each slot, as optax has them, so that
`optax.tree_map_params` and the sharding of flax find what belongs to a parameter.

Most rules add a change to the parameter, and use its value for the decay alone. They
run at parameters of 0 while `Hyper.decay` sees the true ones: what comes out is the
change itself, without the rounding of θ' - θ. Without a decay they need no parameters.
All other rules, and those whose result is constrained, give the difference.

**What must never happen.** A rule that runs at 0 and reads its parameter elsewhere than
in the decay: its class must not be marked as additive.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ..._compat import is_key_array
from ..._typing import PyTree
from ...errors import message
from .._stepping import hypers_of, owned, slots_of
from ..engine._tree import NUMBERS, named
from ..hyperparameters._numbers import SettingVariable


class GradientTransformation(NamedTuple):
    """Two pure functions, as optax has them."""

    init: Callable
    update: Callable


def as_optax(optimizer: Any) -> Any:
    """Return an optimizer as an optax ``GradientTransformation``.

    Its updates are what `optax.apply_updates` adds. Like every transformation of optax
    it takes complex gradients as the direction uphill, the conjugate of what `jax.grad`
    returns, leaves alone what is no array, and ignores arguments that it does not know.

    The numbers are those in the state. A transformation that made no state brings its
    own: `optax.inject_hyperparams` makes a new one at each step, with new numbers.
    """
    made_state = False

    def init(params: PyTree):
        nonlocal made_state
        made_state = True
        params = _arrays(params)
        return _turned(optimizer, params, optimizer.init(params))

    def update(grads: PyTree, state: PyTree, params: PyTree = None, **_: Any):
        reasons = _needs(optimizer)
        if params is None and reasons:
            raise ValueError(
                message(
                    f"The update of this {type(optimizer).__name__} needs the "
                    "parameters, for:",
                    reasons,
                    "tx.update(grads, state, params).",
                )
            )
        # Without `init` the state was made by another instance, as inject_hyperparams
        # does. Then the numbers are those of this one, which carries the new ones.
        if not made_state:
            state = {**state, **_numbers_of(optimizer)}
        grads = jax.tree.map(jnp.conj, _arrays(grads))
        held = None if params is None else _arrays(params)
        at = jax.tree.map(jnp.zeros_like, grads if held is None else held)
        state = _turned_back(at, state)
        if reasons or not optimizer._is_additive:
            new, state = optimizer._apply(optimizer, held, state, grads, None)
            updates = jax.tree.map(lambda n, p: n - p, new, held)
        else:
            known = {} if held is None else dict(named(held))
            updates, state = optimizer._apply(optimizer, at, state, grads, None, known)
        return updates, _turned(optimizer, at, state)

    optax = sys.modules.get("optax")
    kind = GradientTransformation if optax is None else optax.GradientTransformation
    return kind(init, update)


def _needs(optimizer: Any) -> list[str]:
    """Return for what an update has to know the parameters."""
    found = []
    for group in optimizer.groups.values():
        names = group.numbers.names
        if "weight_decay" in names and _may_decay(group):
            found.append("weight_decay")
        found += [name for name in ("lower", "upper") if name in names]
        found += [n for n in ("sign", "constraint") if getattr(group, n) is not None]
    found += [f"precision={optimizer.precision!r}"] * (optimizer.precision != "plain")
    found += ["monitor"] * bool(optimizer.monitor)
    found += [] if optimizer._is_additive else ["the rule itself"]
    return list(dict.fromkeys(found))


def _may_decay(group: Any) -> bool:
    number = group.numbers.number("weight_decay")
    # Of a traced number nothing is known here; `Hyper.decay` gives NaN if it is not 0.
    is_zero = isinstance(number, Tracer) or float(number) == 0
    return not is_zero or "weight_decay" in group.schedules


def _arrays(tree: PyTree) -> Any:
    """Return a tree with holes for what is no array, as a function of equinox."""

    def kept(leaf: Any) -> Any:
        return leaf if isinstance(leaf, NUMBERS) and not is_key_array(leaf) else None

    return jax.tree.map(kept, tree)


def _turned(optimizer: Any, params: PyTree, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with a tree like the parameters for each slot."""
    slots = dict(state["slots"])
    # Only an optimizer that sees all parameters at once keeps slots under "".
    shared = slots.pop("", {}) if hasattr(optimizer, "rule_all") else {}
    paths, tree = [path for path, _ in named(params)], jax.tree.structure(params)
    names = dict.fromkeys([*_usual(optimizer), *(n for s in slots.values() for n in s)])
    turned = {
        name: jax.tree.unflatten(tree, [slots.get(p, {}).get(name) for p in paths])
        for name in names
    }
    return {**state, "slots": turned, "shared": shared}


def _turned_back(params: PyTree, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with the slots by the path of their parameter."""
    paths, tree = [path for path, _ in named(params)], jax.tree.structure(params)
    columns = {n: tree.flatten_up_to(held) for n, held in state["slots"].items()}
    slots: dict[str, Any] = {
        path: {n: column[i] for n, column in columns.items() if column[i] is not None}
        for i, path in enumerate(paths)
    }
    slots |= {"": state["shared"]} if state["shared"] else {}
    return {**{k: v for k, v in state.items() if k != "shared"}, "slots": slots}


def _usual(optimizer: Any) -> list[str]:
    """Return the names of slots; they must not depend on there being a parameter.

    optax compares the state of a placeholder, which has no leaves, with a true one.
    """
    hypers = hypers_of(optimizer)
    found: dict[str, None] = {}
    for group in range(len(optimizer.groups)):
        for shape in ((), (4,), (256, 256)):
            like = jax.ShapeDtypeStruct(shape, jnp.float32)
            slots = jax.eval_shape(
                lambda p, i=group: slots_of(
                    optimizer, "", p, lambda _, x: (None, hypers.of_group(i, x))
                ),
                like,
            )
            found |= dict.fromkeys(slots)
    return list(found)


def _numbers_of(optimizer: Any) -> dict[str, Any]:
    return {
        path: jnp.copy(variable.value)  # a state may be donated
        for path, variable in owned(optimizer).items()
        if isinstance(variable, SettingVariable)
    }
