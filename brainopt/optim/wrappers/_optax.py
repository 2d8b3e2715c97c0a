# SPDX-License-Identifier: Apache-2.0
"""Optimizers made of optax transformations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ..._typing import Array, Arrays, Model, PyTree, ScalarOrSchedule
from ...errors import HyperparameterError, first_line, message
from .._closure import Loss, loss_of
from .._joint import JointOptimizer, filled, flatten, name_of
from ..engine._tree import named
from ..hyperparameters._hyper import Hyper


class Optax(JointOptimizer):
    """An optimizer made of an optax transformation.

    A variable whose gradient is None, or that is frozen, stays as it is, with the
    leaves of the state that are its own (``mu``, ``nu``, a trace). Leaves that all
    share go on: a count counts the step, and a norm over all gradients sees zeros.

    ``opt.step(closure)`` gives the transformation what it may ask for besides the
    gradients: ``value``, ``grad`` and ``value_fn``, as ``optax.lbfgs`` does; with
    ``maximize`` those of the negative loss, and zeros for what is frozen.

    Args:
        tx: anything with optax's ``init(params)`` and ``update(grads, state, params)``.
            It sees float32 or wider, and complex gradients as optax takes them, the
            conjugate of what `jax.grad` returns.
        train_vars: what to train; see `Optimizer`.
        name: a display name.
        lr: a factor of the updates, which may be a schedule, and differ by group.
        shared: what every optimizer takes, see `Optimizer`.

    Raises:
        HyperparameterError: ``tx`` is no transformation.

    Example:
        >>> import brainopt as bo, optax
        >>> w = bo.TrainVar([1.0])
        >>> opt = bo.optim.Optax(optax.sgd(0.1, momentum=0.9), w)
        >>> opt.update(jnp.ones(1))
        >>> w.value.tolist(), list(opt.slots[""])
        ([0.8...], ['0.trace.param'])
    """

    # Its numbers are those of optax, also where a square overflows there.
    _squares = 0

    def __init__(
        self,
        tx: Any,
        train_vars: Model = None,
        name: str | None = None,
        *,
        lr: ScalarOrSchedule = 1.0,
        **shared: Any,
    ):
        if not all(callable(getattr(tx, name, 0)) for name in ("init", "update")):
            raise HyperparameterError(
                message(
                    f"A {type(tx).__name__} is no optax transformation.",
                    help="the order is Optax(tx, train_vars), as "
                    "Optax(optax.adam(1e-3), net).",
                )
            )
        self.tx = tx
        super().__init__(lr, train_vars, **{"name": name, **shared})

    def init_all(self, params: Arrays) -> dict[str, Any]:
        """Return the leaves of the optax state, by path."""
        try:
            return flatten(self.tx.init(params))
        except (TypeError, ValueError) as error:
            raise HyperparameterError(
                message(
                    f"The transformation cannot begin: {first_line(error)}",
                    help="it sees a dict {path: array}; its masks and labels are dicts "
                    f"of the keys {list(params)}, or functions of that dict.",
                )
            ) from error

    def owners(self, params: Arrays) -> Mapping[str, str]:
        """Return the parameter of each leaf whose last key is that of a parameter."""
        return {
            name: keys[-1].key
            for name, keys in self._places(params)[0].items()
            if keys and getattr(keys[-1], "key", None) in params
        }

    def rule_all(
        self,
        grads: Arrays,
        params: Arrays,
        held: Arrays,
        hypers: dict[str, Hyper],
        step: Array,
    ):
        """Return the parameters and the leaves of the state after one step."""
        places, tree = self._places(params)
        # By name: inside a compiled step `held` comes sorted.
        state = jax.tree.unflatten(tree, [held[name] for name in places])
        extra = vars(self).get("_extra", {})
        updates, state = self.tx.update(grads, state, params, **extra)
        new = {
            path: param + hypers[path].lr.astype(param.dtype) * updates[path]
            for path, param in params.items()
        }
        return new, dict(zip(places, jax.tree.leaves(state), strict=True))

    def _places(self, params: Arrays) -> tuple[dict[str, Any], Any]:
        """Return the keys of each leaf of the state by its name, and the structure."""
        # From shapes alone: tx.init is run without computing anything.
        state = jax.eval_shape(self.tx.init, params)
        flat, tree = jax.tree_util.tree_flatten_with_path(state)
        return {name_of(keys): keys for keys, _ in flat}, tree

    def _step_by(self, closure: Callable[[], Any]) -> Any:
        asked = inspect.signature(self.tx.update).parameters.values()
        names = {p.name for p in asked} & {"value", "grad", "value_fn"}
        if any(p.kind is p.VAR_KEYWORD for p in asked):
            names = {"value", "grad", "value_fn"}
        if not names:
            return super()._step_by(closure)
        if self.loss_scale is not None:
            raise HyperparameterError(
                message(
                    "This transformation asks for the loss itself, which a loss scale "
                    "would change.",
                    help="opt.update(grads), or no loss_scale.",
                )
            )
        self._trained.require(type(self).__name__)
        params, loss = self._trained.values(), Loss(closure, self._trained)
        out, grads = loss.gradients()

        sign = -1 if self.maximize else 1
        engine = self._engine(dict(named(params)))
        # As the transformation sees gradients in `update`: wide, uphill or negated,
        # None where frozen.
        slopes = {path: engine.incoming(path, g, g) for path, g in named(grads)}

        def value_fn(new: PyTree):
            leaves = [
                leaf if slopes[path] is None else new[path].astype(leaf.dtype)
                for path, leaf in named(params)
            ]
            tree = jax.tree.unflatten(jax.tree.structure(params), leaves)
            return sign * loss(tree)[0]

        extra = {
            "value": sign * loss_of(out),
            "grad": filled(slopes, dict(named(params))),
            "value_fn": value_fn,
        }
        # An attribute, since `rule_all` takes no further arguments. It bypasses the
        # revision: the step is not compiled by itself while there is one.
        vars(self)["_extra"] = {name: extra[name] for name in names}
        try:
            self.update(grads)
        finally:
            del vars(self)["_extra"]
        return out

    def _may_compile(self) -> bool:
        # A function such as value_fn is no input of a compiled one.
        return "_extra" not in vars(self)
