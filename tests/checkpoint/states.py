# SPDX-License-Identifier: Apache-2.0
"""Everything with a state: how to build it, and how to take its steps.

`CASES` has one line for each; ``build`` makes an instance anew, always the same.
"""

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
_draw = np.random.default_rng(0)
PARAMS = {path: _draw.normal(size=(3, 3)).astype("f4") for path in "ab"}
GRADS = [
    {path: jnp.asarray(_draw.normal(size=(3, 3)), jnp.float32) for path in "ab"}
    for _ in range(4)
]


@dataclasses.dataclass
class Built:
    """One instance, the Variables that it changes and does not own, and its step."""

    node: Any
    step: Callable[[int], Any]
    others: dict[str, bo.Variable] = dataclasses.field(default_factory=dict)


def optimizer(make, dtype=None, skip=()):
    """Return how to build an optimizer; ``skip`` has the steps without one gradient."""

    def build():
        held = {k: bo.TrainVar(jnp.asarray(v, dtype)) for k, v in PARAMS.items()}
        opt = make(held)

        def step(i):
            grads = {k: g.astype(held[k].dtype) for k, g in GRADS[i].items()}
            opt.update(grads | ({"b": None} if i in skip else {}))

        return Built(opt, step, held)

    return build


def by_loss(make):
    """Return how to build what takes its steps on a loss."""

    def build():
        held = {k: bo.TrainVar(v) for k, v in PARAMS.items()}
        opt = make(held)
        loss = lambda: sum((v.value**2).sum() for v in held.values())  # noqa: E731
        return Built(opt, lambda i: opt.step(loss), held)

    return build


def average():
    held = {k: bo.TrainVar(v) for k, v in PARAMS.items()}
    ema = optim.EMA(held, 0.9)

    def step(i):
        for path, variable in held.items():
            variable.value = variable.value + GRADS[i][path]
        ema.update()

    return Built(ema, step, held)


def least_squares():
    held = {"W": bo.TrainVar(jnp.ones((3, 2)))}
    opt = optim.RLS(held, alpha=0.5)
    inputs = jnp.linspace(0.1, 1.0, 15).reshape(5, 3)
    return Built(opt, lambda i: opt.update(inputs[i % 5], jnp.ones(2)), held)


def schedule(like):
    """Return how to build a schedule that counts epochs."""
    fresh = jax.tree.map(lambda x: x, like)  # a node of its own, with the same numbers

    def build():
        node = jax.tree.map(lambda x: x, fresh)

        def step(i):
            node.step_epoch()
            if hasattr(node, "step_metric"):
                node.step_metric(1.0)

        return Built(node, step)

    return build


def plain():
    node, layer = bo.Node(), bo.Node()
    node.W, node.layers, node.pair = bo.TrainVar(PARAMS["a"]), [layer], bo.VarList()
    layer.n = bo.Variable(jnp.zeros((), jnp.int32))
    layer.half = bo.Variable(jnp.ones((1, 2), jnp.bfloat16), batch_axis=0)
    layer.tree = bo.Variable({"x": jnp.ones(2), "y": (jnp.zeros(()),)})
    layer.tied = node.W
    node.empty, node.flag = bo.Variable(jnp.zeros((0, 2))), bo.Variable(jnp.array(True))
    node.register_implicit_vars({"hidden": bo.Variable(jnp.ones(1, jnp.complex64))})

    def step(i):
        for variable in node.vars().unique().values():
            move = lambda x: x + jnp.asarray(i + 1, x.dtype)  # noqa: E731
            if variable.value is not node.flag.value:
                variable.value = jax.tree.map(move, variable.value)
        node.flag.value = ~node.flag.value

    return Built(node, step)


def random():
    node = bo.Node()
    node.rng, node.x = bo.RandomState(0), bo.Variable(jnp.zeros(2))
    node.old = bo.RandomState(jax.random.key(3, impl="rbg"))
    node.many = bo.Variable(jax.random.split(jax.random.key(1), 2))

    def step(i):
        node.x.value = node.x.value + node.rng.normal((2,)) + node.old.uniform()
        node.many.value = jax.vmap(lambda key: jax.random.fold_in(key, i))(
            node.many.value
        )

    return Built(node, step)


def trainer():
    node = bo.Node()
    node.net, node.rng = bo.Node(), bo.RandomState(0)
    node.net.a, node.net.b = (bo.TrainVar(PARAMS[path]) for path in "ab")
    rate = optim.Warmup(optim.StepLR(0.1, 2), 2)
    node.opt = optim.AdamW(rate, node.net, nonfinite="skip")
    node.ema = optim.EMA(node.net, 0.9)

    def step(i):
        node.opt.update({k: g + node.rng.normal((3, 3)) for k, g in GRADS[i].items()})
        node.ema.update()

    return Built(node, step)


def running_mean():
    mean = bo.Average()
    return Built(mean, lambda i: mean.add(GRADS[i]["a"]))


def frozen(held):
    opt = optim.AdamW(0.1, held)
    opt.freeze("b", drop_slots=True)
    return opt


def late(held):
    opt = optim.AdamW(0.1, {"a": held["a"]})
    opt.update({"a": GRADS[3]["a"]})
    opt.register_train_vars({"b": held["b"]})
    return opt


ADAM = optim.AdamW
CASES: dict[str, Callable[[], Built]] = {
    **{m.name: optimizer(m.make) for m in ALL},
    **{type(s).__name__: schedule(s) for s in [*SCHEDULES, optim.Constant(0.1)]},
    "EMA": average,
    "RLS": least_squares,
    "Average": running_mean,
    "Lookahead": optimizer(lambda held: optim.Lookahead(optim.SGD(0.1, held), 2)),
    "SAM": by_loss(lambda held: optim.SAM(ADAM(0.1, held))),
    "SAM-Lookahead": by_loss(
        lambda held: optim.SAM(optim.Lookahead(optim.SGD(0.1, held), 2))
    ),
    "LBFGS-loss": by_loss(lambda held: optim.LBFGS(0.1, held, history_size=3)),
    "Optax-lbfgs": by_loss(lambda held: optim.Optax(optax.lbfgs(0.1), held)),
    "Optax-chain": optimizer(
        lambda held: optim.Optax(
            optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)), held
        )
    ),
    "AdamW-parts": optimizer(
        lambda held: ADAM(
            0.1,
            held,
            nonfinite="skip",
            clip_norm=1.0,
            clip_value=0.5,
            accumulate=3,
            monitor=True,
            groups=[{"match": "b", "lr": 0.3, "weight_decay": 0.2}],
        )
    ),
    "AdamW-param_groups": optimizer(
        lambda held: ADAM(0.1, [{"params": held, "name": "all", "lr": 0.2}]),
    ),
    **{
        f"AdamW-{precision}": optimizer(
            lambda held, precision=precision: ADAM(0.1, held, precision=precision),
            jnp.bfloat16,
        )
        for precision in ("master", "kahan", "stochastic")
    },
    "AdamW-skipped": optimizer(lambda held: ADAM(0.1, held), skip=(1,)),
    "AdamW-frozen": optimizer(frozen),
    "AdamW-late": optimizer(late),
    "Node": plain,
    "Node-random": random,
    "Node-trainer": trainer,
}

SLOW = {"LBFGS-loss", "Optax-lbfgs", "SAM-Lookahead", "AdamW-stochastic", "AdamW-late"}
