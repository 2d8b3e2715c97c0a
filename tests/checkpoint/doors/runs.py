# SPDX-License-Identifier: Apache-2.0
"""The runs and doors of the table of doors: how a state leaves, and how it comes in."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo
from brainopt import checkpoint

optim = bo.optim
_draw = np.random.default_rng(0)
NAMES = ("a", "b", "new")
FIRST = {name: _draw.normal(size=(3, 3)) for name in NAMES}
GRADS = [{name: _draw.normal(size=(3, 3)) for name in NAMES} for _ in range(3)]
SUFFIXES = (".bopt", ".npz", ".safetensors")


def _loaded(node, state, **how):
    return node.load_state_dict(state, warn=False, **how)


DOORS: dict[str, Callable] = {
    "load_state_dict": lambda saved, node, net, **how: [
        _loaded(net, saved.memory[0], **how),
        _loaded(node, saved.memory[1], **how),
    ],
    **{
        f"load_states{suffix}": lambda saved, node, net, at=suffix, **how: (
            _weights(saved, net, **how),
            node.load_states(saved.folder / f"state{at}", **how),
        )
        for suffix in SUFFIXES
    },
    **{
        f"restore{suffix}": lambda saved, node, net, at=suffix, **how: (
            checkpoint.restore(saved.folder / f"both{at}", _both(net, node), **how)
        )
        for suffix in SUFFIXES
    },
    "Manager.restore": lambda saved, node, net, **how: checkpoint.Manager(
        saved.folder / "run"
    ).restore({"net": net, "opt": node}, **how),
    "Manager.resume": lambda saved, node, net, **how: checkpoint.Manager(
        saved.folder / "run"
    ).resume({"net": net, "opt": node}, **how),
}
CORE = "functional core"


def _weights(saved, net, **how):
    checkpoint.restore(saved.folder / "net.bopt", net, **how)


def _both(net, node):
    whole = bo.Node()
    whole.net, whole.opt = net, node
    return whole


@dataclasses.dataclass
class Saved:
    """A trained run in all its forms, and what its next step gives.

    Attributes:
        memory: the state dicts of the model and of the optimizer.
        core: parameters, state and result of a run of the functional core.
        folder: of its files; a format that cannot hold it has none.
        after: all values after one more step, by path.
        rate: the learning rate of that step.
        numbers: the names of the numbers of its first group.
        judged: the verdicts of states that came in, equal ones by equal bits.
    """

    memory: tuple[dict, dict]
    core: tuple | None
    folder: Path
    after: dict[str, np.ndarray]
    rate: float | None
    numbers: tuple
    judged: dict[Any, str] = dataclasses.field(default_factory=dict)


def net_of(names, dtype):
    """Return a model with weights of these names; ``"t=a"`` ties two of them."""
    net = bo.Node()
    for name in names.split():
        new, _, first = name.partition("=")
        start = FIRST.get(new, FIRST["a"])
        weight = bo.TrainVar(jnp.asarray(start, dtype))
        setattr(net, new, getattr(net, first) if first else weight)
    return net


def gradients(names, i, dtype):
    """Return the gradients of a step; another name of a tied weight has those of it."""
    return {k: jnp.asarray(GRADS[i].get(k, GRADS[i]["a"]), dtype) for k in names}


def inside(node):
    """Return the optimizer inside a wrapper, None where there is none."""
    while hasattr(node, "optimizer"):
        node = node.optimizer
    return node if isinstance(node, optim.Optimizer) else None


def made(thing, names, rules, frozen, dtype=None):
    """Return a model and what is made for it."""
    net = net_of(names, dtype or thing.dtype)
    node = thing.make(net, **({"groups": list(rules)} if rules else {}))
    if frozen:
        inside(node).freeze(frozen)
    return net, node


def step(thing, net, node, i, here=NAMES):
    """Take step ``i``; the gradients of names that are not ``here`` are zeros."""
    names = list(net.train_vars().unique())
    held = next(iter(net.train_vars().values())).value
    grads = jax.device_put(gradients(names, i, held.dtype), held.device)
    grads |= {k: 0 * g for k, g in grads.items() if k in NAMES and k not in here}
    with jax.disable_jit():  # each step by its operations: one compilation for all
        thing.step(node, net, grads)


def values(net, node):
    """Return everything there is to compare, by path."""
    held = {f"net.{path}": value for path, value in net.state_dict().items()}
    held |= {f"opt.{path}": value for path, value in node.state_dict().items()}
    if hasattr(node, "averages"):
        held |= {f"average.{path}": value for path, value in node.averages().items()}
    return {path: np.asarray(value) for path, value in held.items()}


def _precision(change):
    return jax.enable_x64(True) if change.is_x64 else contextlib.nullcontext()


def saved_run(thing, change, folder: Path, doors: Iterable[str]) -> Saved:
    """Train a run for two steps, save it for some doors, and take one more step."""
    with _precision(change):
        dtype = np.float64 if change.is_x64 and thing.dtype == np.float32 else None
        net, node = made(thing, change.saved, change.rules, change.frozen, dtype)
        for i in range(2):
            step(thing, net, node, i)
        _save(net, node, folder, doors)
        memory = net.state_dict(), node.state_dict()
        opt = inside(node)
        change.go_on(opt)
        rate = None if opt is None else float(opt.current_lr)
        step(thing, net, node, 2, change.here)
        needs_all = isinstance(node, optim.LBFGS) and change.is_frozen
        has_core = CORE in doors and opt is node and not needs_all
        core = _core_run(thing, change, dtype) if has_core else None
        numbers = () if opt is None else opt.groups[0].numbers.names
        return Saved(memory, core, folder, values(net, node), rate, numbers)


def _save(net, node, folder, doors):
    for suffix in SUFFIXES:
        if any(door.endswith(suffix) for door in doors):
            with contextlib.suppress(bo.errors.CheckpointError):  # of bfloat16
                checkpoint.save(folder / f"both{suffix}", _both(net, node))
                checkpoint.save(folder / f"state{suffix}", node)
    checkpoint.save(folder / "net.bopt", net)
    if any(door.startswith("Manager") for door in doors):
        manager = checkpoint.Manager(folder / "run", async_=False)
        manager.save(7, {"net": net, "opt": node})


def _core_run(thing, change, dtype):
    """Return parameters and state after two steps of the core, and its third step."""
    opt = core_of(thing, change.rules)
    params = dict(net_of(change.saved, dtype or thing.dtype).state_dict())
    state, found = opt.init(params), []
    with jax.disable_jit():
        for i in range(3):
            if i == 2:
                if not change.is_frozen:
                    change.go_on(opt)
                found = [params, state]
                own = opt.init(params)
                state = {**state, **{k: own[k] for k in own if "groups" in k}}
            grads = gradients(params, i, next(iter(params.values())).dtype)
            still = change.frozen_here if i == 2 else change.frozen
            params, state = opt.apply(params, state, grads | dict.fromkeys(still))
    return *found, params


def core_of(thing, rules):
    """Return an optimizer without variables."""
    return thing.make(**({"groups": list(rules)} if rules else {}))
