# SPDX-License-Identifier: Apache-2.0
"""The things of the table of doors: everything that has a state."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import brainopt as bo
from tests.optim.members import ALL
from tests.optim.test_schedules import SCHEDULES

optim = bo.optim


@dataclasses.dataclass
class Thing:
    """One kind of state.

    Args:
        make: builds it for a model; further settings are those of an optimizer.
        step: takes a step with gradients by path.
        dtype: of the weights.
        has_groups: whether it has rules for groups of variables.
        loose: the difference that is none, of all values.
    """

    make: Callable[..., Any]
    step: Callable[[Any, Any, dict], None] = lambda node, net, g: node.update(g)
    dtype: Any = np.float32
    has_groups: bool = True
    loose: float = 0.0


def _by_loss(node, net, grads):
    values = net.train_vars().unique()
    node.step(lambda: sum((values[k].value * g).sum() for k, g in grads.items()))


def _average(node, net, grads):
    for path, variable in net.train_vars().unique().items():
        variable.value = variable.value - 0.1 * grads[path]
    node.update()


def _least_squares(node, net, grads):
    node.update(jnp.linspace(0.1, 1.0, 3), {path: g[0] for path, g in grads.items()})


def _scheduled(schedule):
    return lambda net=None, **more: optim.SGD(
        jax.tree.map(jnp.array, schedule), net, **more
    )


def _adamw(**settings):
    return lambda net=None, **more: optim.AdamW(0.1, net, **settings, **more)


def _around(wrap, make):
    return lambda net, **more: wrap(make(net, **more))


def _slow(opt):
    return optim.Lookahead(opt, 3)


def _ema(net):
    return optim.EMA(net, 0.9)


def _chain(net=None, **more):
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    return optim.Optax(tx, net, **more)


THINGS = {
    **{m.name: Thing(m.make, has_groups=m.cls is not optim.LBFGS) for m in ALL},
    **{f"SGD {type(s).__name__}": Thing(_scheduled(s)) for s in SCHEDULES},
    "Optax chain": Thing(_chain),
    "AdamW stages": Thing(
        _adamw(clip_norm=99.0, accumulate=2, nonfinite="skip", monitor=True)
    ),
    **{
        f"AdamW {kind}": Thing(_adamw(precision=kind), dtype=jnp.bfloat16)
        for kind in ("master", "kahan")
    },
    # By another path a weight draws other numbers to be rounded by.
    "AdamW stochastic": Thing(
        _adamw(precision="stochastic"), dtype=jnp.bfloat16, loose=2**-7
    ),
    "Lookahead": Thing(_around(_slow, _adamw())),
    "SAM": Thing(_around(optim.SAM, _adamw()), _by_loss),
    "SAM Lookahead": Thing(
        _around(lambda opt: optim.SAM(_slow(opt)), _adamw()), _by_loss
    ),
    "EMA": Thing(_ema, _average, has_groups=False),
    "RLS": Thing(optim.RLS, _least_squares, has_groups=False),
}
NEVER_FROZEN = (_ema, optim.RLS)
QUICK = ["AdamW", "Optax", "SGD StepLR", "Lookahead", "EMA"]
