# SPDX-License-Identifier: Apache-2.0
"""L-BFGS: a quasi-Newton method with a line search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import runtime
from ..._typing import Array, Arrays, PyTree
from ...core import join
from ...errors import GradientError, HyperparameterError, VariableError, message
from ...runtime import depend_on
from .._closure import Loss
from .._frozen import frozen_among
from .._hooks import end_step
from .._joint import ALL, JointOptimizer
from .._stepping import counters, owned, results, slot_values
from .._updating import begin_step
from ..engine._dependencies import run_reading
from ..engine._missed import next_step
from ..engine._precision import narrow, widen
from ..engine._squares import shrunk
from ..engine._stages import Guard, Monitor, State
from ..engine._step import Hypers, Move, rounding_key
from ..engine._tree import named
from ..hyperparameters._fields import Number, Rate, argument, count, flag, number, rate
from ..hyperparameters._hyper import Hyper
from ..settings._shared import stages
from ._lbfgs_history import empty, flat, joined, of_others, parted, unflat

_LENGTH = "the first length that the line search tries, or the length without one"
_HISTORY = "how many pairs (change of weights, change of gradient) it keeps"
# c₁ and c₂ of the Wolfe conditions, the usual values for quasi-Newton directions
# (Nocedal & Wright 2006, section 3.1).
_SUFFICIENT, _CURVATURE = 1e-4, 0.9
_REFUSED = {
    "groups": (),
    "clip_norm": None,
    "clip_value": None,
    "accumulate": 1,
    "loss_scale": None,
}


class LBFGS(JointOptimizer):
    r"""Limited-memory BFGS, for whole batches.

    ``opt.step(closure)`` does up to ``max_iter`` iterations, each with a line search
    that runs the closure as often as it needs. ``opt.update(grads)`` does one, without
    a line search, of length ``lr``. Both start the curvature anew when variables are
    frozen, unfrozen or added.

    It needs the gradient of every variable that is not frozen: None is refused. So are
    ``groups`` (one step has one length), and ``clip_norm``, ``clip_value``,
    ``accumulate`` and ``loss_scale``, since curvature comes from whole gradients.
    ``nonfinite`` checks the loss and the gradients at the start of a step; a line
    search goes back from a loss that is not finite.

    Raises:
        HyperparameterError: a number is out of its range, or an option is refused.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([3.0, -1.0])
        >>> opt = bo.optim.LBFGS(train_vars=w)
        >>> _ = opt.step(lambda: ((w - 1) ** 2 * jnp.array([1.0, 100.0])).sum())
        >>> w.value.round(3).tolist()
        [1.0, 1.0]

    Source: Nocedal & Wright 2006, Numerical Optimization, algorithms 7.4 and 7.5; the
    line search by bisection for the weak Wolfe conditions is that of Lewis & Overton
    2013, algorithm 2.6.
    Differs: torch interpolates cubically and asks for the strong Wolfe conditions.
    """

    lr: Rate = rate(default=1.0, doc=_LENGTH)
    max_iter: int = count(20, "iterations to a step")
    history_size: int = count(10, _HISTORY)
    tolerance_grad: Number = number(
        1e-7, doc="stop where no element of the gradient is larger"
    )
    tolerance_change: Number = number(1e-9, doc="stop where no weight changes more")
    line_search: bool = flag(True, "False takes ``lr`` as it is")
    max_search: int = count(25, "evaluations to a line search")
    _squares = 0
    display_name: str | None = argument(alias="name", default=None)

    def _check_arguments(self, given: Mapping[str, Any]) -> None:
        _refuse(given)

    def _check_group(self, settings: Mapping[str, Any]) -> None:
        if set(settings) - {"name"}:
            _refuse({"groups": settings})

    def init_all(self, params: Arrays) -> dict[str, Any]:
        """Return an empty history, and no point before."""
        if any(jnp.iscomplexobj(leaf) for leaf in params.values()):
            raise VariableError(message("L-BFGS takes real variables only."))
        trained = self._moving(params)
        return empty(trained, self.history_size)

    def rule_all(
        self,
        grads: Arrays,
        params: Arrays,
        held: Arrays,
        hypers: dict[str, Hyper],
        step: Array,
    ):
        """Return the parameters and the history after a step of length ``lr``."""
        trained = self._moving(params)
        if not trained:
            return params, held
        x, slope = flat(trained), flat({path: grads[path] for path in trained})
        held = _with_pair(joined(held, trained), x, slope)
        along = _direction(held, slope)
        lr = next(iter(hypers.values())).lr
        new = unflat(x + lr.astype(x.dtype) * along, trained)
        return {**params, **new}, parted(held, trained)

    def _parameters_changed(self) -> None:
        # Old pairs describe the curvature of another set of variables.
        super()._parameters_changed()
        for name, variable in self.slots[ALL].items():
            empty = jnp.zeros_like(variable.value)
            variable.value = empty - 1 if name == "count" else empty

    def _moving(self, params: Arrays) -> dict[str, Any]:
        frozen = frozen_among(self, params)
        return {path: leaf for path, leaf in params.items() if path not in frozen}

    def _prepare_load(
        self, state: dict[str, Any], path: str, context: Mapping, staged: Any
    ) -> None:
        super()._prepare_load(state, path, context, staged)
        section = join(path, "slots")
        own = [join(section, name) for name in self.slots.get(ALL, {})]
        if join(section, "count") in state:
            staged.mismatched += [
                f"{key}: the curvature couples all variables, and here train others"
                for key in of_others(state, own, section)
            ]

    def _match(self, grads: Any) -> dict[str, Any]:
        grads = super()._match(grads)
        self._refuse_none(grads)
        return grads

    def _move(self) -> Move:
        move = super()._move()

        def checked(
            params: PyTree,
            slots: PyTree,
            grads: dict,
            hypers: Hypers,
            step: Array,
            present: PyTree,
        ):
            self._refuse_none(grads)
            return move(params, slots, grads, hypers, step, present)

        return checked

    def _refuse_none(self, grads: Any) -> None:
        none = [
            path
            for path, grad in named(grads, none=True)
            if grad is None and path not in self.frozen
        ]
        if none:
            raise GradientError(
                message(
                    "L-BFGS needs all gradients at once; these are None:",
                    none,
                    "freeze them with opt.freeze(path).",
                )
            )

    def _step_by(self, closure: Callable[[], Any]) -> Any:
        depend_on(self._revision)
        self._trained.require("LBFGS")
        if self._hooks["before"]:
            raise HyperparameterError(
                message(
                    "A hook before the update is given gradients, but the line search "
                    "takes its own.",
                    help="take it out, or call opt.update(grads).",
                )
            )
        begin_step(self)
        # All of it: the search has no use for a point that another thread has left.
        with runtime.exclusive():
            out = self._search_by(closure)
        end_step(self)
        return out

    def _search_by(self, closure: Callable[[], Any]) -> Any:
        loss, params = Loss(closure, self._trained), self._trained.values()
        own = owned(self)
        values = {path: variable.value for path, variable in own.items()}
        state = {path: values[path] for path in counters(own)} | slot_values(self)
        out, new, after = run_reading(
            self, own, values, lambda: self._step_from(loss, params, state)
        )
        # The search ran the closure at points that it gave up, and nothing of that was
        # kept. What the closure writes is that of one run at the result.
        _, (_, written) = loss(new)
        runtime.commit(*results(self, own, new, after))
        loss.keep(written)
        return out

    def _step_from(
        self, loss: Loss, params: dict[str, Any], state: State
    ) -> tuple[Any, dict, State]:
        """Return the result of the closure, the new parameters and the state."""
        slots, count = dict(state["slots"]), state["step"]
        leaves, tree = dict(named(params)), jax.tree.structure(params)
        trained = self._moving(leaves)

        # From the vector to a tree of parameters in their own dtypes: the search sees
        # the rounding of narrow weights.
        def put(x: Array):
            parts = {**leaves, **unflat(x, trained)}
            cast = [parts[p].astype(leaf.dtype) for p, leaf in leaves.items()]
            return jax.tree.unflatten(tree, cast)

        def value(x: Array):
            found, (out, _) = loss(put(x))
            return (-found if self.maximize else found), out

        x = flat({path: widen(leaf, slots[path]) for path, leaf in trained.items()})
        (first, out), slope = jax.value_and_grad(value, has_aux=True)(x)
        fine = jnp.ones((), bool)
        kinds = {type(stage) for stage in stages(self)}
        if Guard in kinds:
            state, fine = Guard().admit(state, [first, slope])
        search = jax.value_and_grad(lambda x: value(x)[0])
        # The loop runs no iteration where the start was not finite, but the history is
        # moved to the start, and so has to be put back.
        held = joined(slots[ALL], trained)
        held, end = self._iterate(search, x, first, slope, held, fine)
        held = parted(held, trained)
        slots[ALL] = jax.tree.map(lambda a, b: jnp.where(fine, a, b), held, slots[ALL])
        new = {**leaves, **unflat(end, trained)}
        for path, leaf in trained.items():
            key = rounding_key(self.precision, self.seed, count, path)
            new[path], more = narrow(new[path], leaf.dtype, slots[path], key)
            slots[path] = {**slots[path], **more}
        count = jnp.where(fine, next_step(count), count)
        state = {**state, "slots": slots, "step": count}
        if Monitor in kinds:
            change = {path: new[path] - leaf for path, leaf in leaves.items()}
            slopes = jax.tree.map(jnp.zeros_like, leaves) | unflat(slope, trained)
            state = Monitor().note(
                state, grad_norm=slopes, param_norm=leaves, update_norm=change
            )
        return out, jax.tree.unflatten(tree, list(new.values())), state

    def _iterate(
        self, value_and_grad, x: Array, loss, slope, held, fine
    ) -> tuple[dict, Any]:
        lr = jnp.asarray(self.current_lr).astype(x.dtype)
        least_slope = jnp.asarray(self.tolerance_grad, x.dtype)
        least_move = jnp.asarray(self.tolerance_change, x.dtype)

        def going(state: tuple):
            i, _, _, slope, _, moved = state
            steep = jnp.abs(slope).max(initial=0) > least_slope
            return fine & (i < self.max_iter) & steep & (moved > least_move)

        def iterate(state: tuple):
            i, x, loss, slope, held, _ = state
            along = _direction(held, slope)
            # The first direction has no scale yet.
            tame = jnp.minimum(1, 1 / jnp.maximum(jnp.abs(slope).sum(), 1e-30))
            length = lr * jnp.where(held["count"] <= 0, tame, 1)
            new, new_loss, new_slope = self._search(
                value_and_grad, x, loss, slope, along, length
            )
            known = jnp.maximum(held["count"], 0)
            held = {**held, "x": x, "grad": slope, "count": known}
            held = _with_pair(held, new, new_slope)
            # A search that found nothing better stays where it was; then the loop ends.
            moved = jnp.abs(new - x).max(initial=0)
            return i + 1, new, new_loss, new_slope, held, moved

        start = (0, x, loss, slope, held, jnp.full((), jnp.inf, x.dtype))
        _, x, _, slope, held, _ = jax.lax.while_loop(going, iterate, start)
        known = jnp.maximum(held["count"], 0)
        return {**held, "x": x, "grad": slope, "count": known}, x

    def _search(self, value_and_grad, x: Array, loss, slope, along, length):
        # Lewis & Overton 2013, algorithm 2.6. [low, high] holds a point that fits, with
        # high infinite at first. A length whose loss falls too little is a new upper
        # end, one that is still steep a new lower end; then bisect, or double while
        # high is infinite.
        fall = slope @ along

        class Bracket(NamedTuple):
            i: Any
            low: Any
            high: Any
            t: Any
            loss: Any
            slope: Any

        def verdict(b: Bracket):
            # A loss of NaN compares as False, so it is tested for: the length is too
            # far.
            short_of = b.loss > loss + _SUFFICIENT * b.t * fall
            return short_of | ~jnp.isfinite(b.loss), b.slope @ along < _CURVATURE * fall

        def going(b: Bracket):
            far, near = verdict(b)
            return (b.i < self.max_search) & (far | near)

        def narrow(b: Bracket):
            far, _ = verdict(b)
            low, high = jnp.where(far, b.low, b.t), jnp.where(far, b.t, b.high)
            t = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * low)
            return Bracket(b.i + 1, low, high, t, *value_and_grad(x + t * along))

        zero, far = jnp.zeros_like(length), jnp.full_like(length, jnp.inf)
        found = Bracket(1, zero, far, length, *value_and_grad(x + length * along))
        if not self.line_search:
            return x + length * along, found.loss, found.slope
        found = jax.lax.while_loop(going, narrow, found)
        # After ``max_search`` evaluations the point may be no better, or NaN: then
        # stay.
        worse = ~(found.loss <= loss)
        stay = x, loss, slope
        move = x + found.t * along, found.loss, found.slope
        return tuple(jnp.where(worse, a, b) for a, b in zip(stay, move, strict=True))


def _direction(held: dict[str, Any], slope: Any) -> Any:
    """Return -H g by the two loops of algorithm 7.4; newest pair last."""
    # Pairs of zeros have ρ = 0, so they change nothing in either loop.
    # Of slopes that are times `by` the inverse Hessian is times 1 / by.
    s, ((slope, y), by) = held["s_history"], shrunk((slope, held["y_history"]))
    curvature = (s * y).sum(axis=1)
    used = curvature > 0
    rho = jnp.where(used, 1 / jnp.where(used, curvature, 1), 0)
    q, alphas = slope, []
    for i in reversed(range(len(s))):
        alpha = rho[i] * (s[i] @ q)
        q = q - alpha * y[i]
        alphas.append(alpha)
    # Equation 7.20: the size of the inverse Hessian along the newest pair.
    square = y[-1] @ y[-1]
    scale = curvature[-1] / jnp.where(square > 0, square, 1)
    r = jnp.where(used[-1], scale, 1 / by) * q
    for i, alpha in zip(range(len(s)), reversed(alphas), strict=True):
        r = r + s[i] * (alpha - rho[i] * (y[i] @ r))
    return -r


def _with_pair(held: dict[str, Any], x: Array, slope: Any) -> dict[str, Any]:
    """Return the history with one more pair, if its curvature is positive.

    A count below 0 means that there is no previous point.
    """
    # sᵀy > 0 keeps the inverse Hessian positive definite, and thereby each direction
    # one of descent. Below the rounding of the product its sign means nothing.
    s_new, y_new = x - held["x"], slope - held["grad"]
    known = held["count"] >= 0
    (s, _), (y, _) = shrunk(s_new), shrunk(y_new)
    norms = jnp.linalg.norm(s) * jnp.linalg.norm(y)
    fine = known & (s @ y > jnp.finfo(x.dtype).eps * norms)
    s = jnp.concatenate([held["s_history"][1:], s_new[None]])
    y = jnp.concatenate([held["y_history"][1:], y_new[None]])
    return {
        **held,
        "s_history": jnp.where(fine, s, held["s_history"]),
        "y_history": jnp.where(fine, y, held["y_history"]),
        "count": jnp.maximum(held["count"], 0) + fine.astype(jnp.int32),
        "x": x,
        "grad": slope,
    }


def _refuse(common: Any) -> None:
    given = [
        name
        for name, off in _REFUSED.items()
        if common.get(name, off) != off and common[name] != []
    ]
    if given:
        raise HyperparameterError(
            message(
                "L-BFGS learns curvature from whole gradients, in steps of one length; "
                "it does not take:",
                given,
            )
        )
