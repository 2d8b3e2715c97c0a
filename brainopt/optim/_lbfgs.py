# SPDX-License-Identifier: Apache-2.0
"""L-BFGS: a quasi-Newton method with a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from ..core import _trace
from ..errors import VariableError, message
from ._closure import Loss
from ._numbers import View
from ._options import Common
from ._precision import wide
from ._pure import Views, named
from ._whole import Whole

_SUFFICIENT, _CURVATURE = 1e-4, 0.9


class LBFGS(Whole):
    r"""Limited-memory BFGS, for whole batches.

    ``opt.step(closure)`` does up to ``max_iter`` iterations, each with a line search
    that runs the closure as often as it needs. ``opt.update(grads)`` does one, without
    a line search, of length ``lr``. Options of the base that act on gradients
    (clipping, accumulation, guards) hold for ``update`` only.

    Args:
        lr: the first length that the line search tries, or the length without one.
        train_vars: what to train; see `Optimizer`. Real variables only.
        max_iter: iterations to a step.
        history_size: how many pairs (change of weights, change of gradient) it keeps.
        tolerance_grad: stop where no element of the gradient is larger.
        tolerance_change: stop where no weight changes more.
        line_search: False takes ``lr`` as it is.
        max_search: evaluations to a line search.
        name: a display name.
        common: see `Common`.

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

    def __init__(
        self,
        lr: Any = 1.0,
        train_vars: Any = None,
        max_iter: int = 20,
        history_size: int = 10,
        tolerance_grad: Any = 1e-7,
        tolerance_change: Any = 1e-9,
        line_search: bool = True,
        max_search: int = 25,
        name: str | None = None,
        **common: Unpack[Common],
    ):
        self.max_iter, self.history_size = int(max_iter), int(history_size)
        self.line_search, self.max_search = bool(line_search), int(max_search)
        numbers = {"tolerance_grad": tolerance_grad}
        numbers["tolerance_change"] = tolerance_change
        super().__init__(lr, train_vars, name, numbers, **common)

    def init_all(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return an empty history, and no point before."""
        x = _flat(params)
        if jnp.iscomplexobj(x):
            raise VariableError(message("L-BFGS takes real variables only."))
        shapes = dict.fromkeys(("moves", "turns"), (self.history_size, x.size))
        shapes |= dict.fromkeys(("x", "slope"), x.shape)
        held = {name: jnp.zeros(shape, x.dtype) for name, shape in shapes.items()}
        return held | {"pairs": jnp.zeros((), jnp.int32)}

    def rule_all(self, grads, params, held, hyper: View, step):
        """Return the parameters and the history after a step of length ``lr``."""
        x, slope = _flat(params), _flat(grads)
        learned = _learn(held, x, slope)
        held = jax.tree.map(lambda a, b: jnp.where(step > 1, a, b), learned, held)
        along = _direction(held, slope)
        held |= {"x": x, "slope": slope}
        return _unflat(x + hyper.lr.astype(x.dtype) * along, params), held

    def _step_by(self, closure: Callable[[], Any]) -> Any:
        loss = Loss(closure, self._trained)
        params = self._trained.values()
        leaves = dict(named(params))

        def put(x):
            moved = _unflat(x, leaves)
            kept = [
                leaf if path in self.frozen else moved[path].astype(leaf.dtype)
                for path, leaf in leaves.items()
            ]
            return jax.tree.unflatten(jax.tree.structure(params), kept)

        out = loss(params)[1][0]
        held = {name: v.value for name, v in self.slots[""].items()}
        search = jax.value_and_grad(lambda x: loss(put(x))[0])
        held, x = self._iterate(search, _flat(leaves), held)
        final = put(x)
        _, (_, written) = loss(final)
        targets = [self._trained.variables[path] for path in final]
        targets += [*(self.slots[""][name] for name in held), self.step]
        step = jnp.minimum(self.step.value, jnp.iinfo(jnp.int32).max - 1) + 1
        _trace.commit(targets, [*final.values(), *held.values(), step])
        loss.keep(written)
        return out

    def _iterate(self, value_and_grad, x, held) -> tuple[dict, Any]:
        lr = jnp.asarray(Views(self, self.step.value).rate(0)).astype(x.dtype)
        least_slope = jnp.asarray(self.tolerance_grad, x.dtype)
        least_move = jnp.asarray(self.tolerance_change, x.dtype)

        def going(state):
            i, _, _, slope, _, moved = state
            steep = jnp.abs(slope).max() > least_slope
            return (i < self.max_iter) & steep & (moved > least_move)

        def iterate(state):
            i, x, loss, slope, held, _ = state
            along = _direction(held, slope)
            # The first direction has no scale yet.
            tame = jnp.minimum(1, 1 / jnp.maximum(jnp.abs(slope).sum(), 1e-30))
            length = lr * jnp.where(held["pairs"] == 0, tame, 1)
            new, new_loss, new_slope = self._search(
                value_and_grad, x, loss, slope, along, length
            )
            held = {**held, "x": x, "slope": slope}
            held = _learn(held, new, new_slope)
            moved = jnp.abs(new - x).max()
            return i + 1, new, new_loss, new_slope, held, moved

        loss, slope = value_and_grad(x)
        start = (0, x, loss, slope, held, jnp.full((), jnp.inf, x.dtype))
        _, x, _, slope, held, _ = jax.lax.while_loop(going, iterate, start)
        return {**held, "x": x, "slope": slope}, x

    def _search(self, value_and_grad, x, loss, slope, along, length):
        fall = slope @ along

        class Bracket(NamedTuple):
            i: Any
            low: Any
            high: Any
            t: Any
            loss: Any
            slope: Any

        def verdict(b):
            short_of = b.loss > loss + _SUFFICIENT * b.t * fall
            return short_of | ~jnp.isfinite(b.loss), b.slope @ along < _CURVATURE * fall

        def going(b):
            far, near = verdict(b)
            return (b.i < self.max_search) & (far | near)

        def narrow(b):
            far, _ = verdict(b)
            low, high = jnp.where(far, b.low, b.t), jnp.where(far, b.t, b.high)
            t = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * low)
            return Bracket(b.i + 1, low, high, t, *value_and_grad(x + t * along))

        zero, far = jnp.zeros_like(length), jnp.full_like(length, jnp.inf)
        found = Bracket(1, zero, far, length, *value_and_grad(x + length * along))
        if not self.line_search:
            return x + length * along, found.loss, found.slope
        found = jax.lax.while_loop(going, narrow, found)
        worse = ~(found.loss <= loss)
        stay = x, loss, slope
        move = x + found.t * along, found.loss, found.slope
        return tuple(jnp.where(worse, a, b) for a, b in zip(stay, move, strict=True))


def _direction(held: dict[str, Any], slope: Any) -> Any:
    """Return -H g by the two loops of algorithm 7.4; newest pair last."""
    moves, turns = held["moves"], held["turns"]
    bends = (moves * turns).sum(axis=1)
    used = bends > 0
    rho = jnp.where(used, 1 / jnp.where(used, bends, 1), 0)
    q, alphas = slope, []
    for i in reversed(range(len(moves))):
        alpha = rho[i] * (moves[i] @ q)
        q = q - alpha * turns[i]
        alphas.append(alpha)
    square = turns[-1] @ turns[-1]
    scale = jnp.where(used[-1], bends[-1] / jnp.where(square > 0, square, 1), 1)
    r = scale * q
    for i, alpha in zip(range(len(moves)), reversed(alphas), strict=True):
        r = r + moves[i] * (alpha - rho[i] * (turns[i] @ r))
    return -r


def _learn(held: dict[str, Any], x: Any, slope: Any) -> dict[str, Any]:
    """Return the history with one more pair, if its curvature is positive."""
    move, turn = x - held["x"], slope - held["slope"]
    fine = move @ turn > jnp.finfo(x.dtype).eps * (turn @ turn)
    moves = jnp.concatenate([held["moves"][1:], move[None]])
    turns = jnp.concatenate([held["turns"][1:], turn[None]])
    return {
        **held,
        "moves": jnp.where(fine, moves, held["moves"]),
        "turns": jnp.where(fine, turns, held["turns"]),
        "pairs": held["pairs"] + fine.astype(jnp.int32),
    }


def _flat(tree: dict[str, Any]) -> Any:
    leaves = [leaf.astype(wide(leaf.dtype)).reshape(-1) for leaf in tree.values()]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def _unflat(x: Any, like: dict[str, Any]) -> dict[str, Any]:
    parts, start = {}, 0
    for path, leaf in like.items():
        part = x[start : start + leaf.size].reshape(leaf.shape)
        parts[path] = part.astype(wide(leaf.dtype))
        start += leaf.size
    return parts
