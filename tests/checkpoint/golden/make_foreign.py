# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that other libraries wrote in the middle of a training run.

Each function trains for a few steps with a real library, saves with it, goes on with
it, and tells where it came out. The tests read the files and go on with brainopt.

Run with: ``python -m tests.checkpoint.golden.make_foreign FOLDER``, with flax, optax,
torch, safetensors, brainpy and braintools installed; its output is committed as
``foreign/``, so that the reading is tested where none of them is installed.
"""

import json
import sys
from pathlib import Path

import numpy as np

BEFORE, AFTER = 100, 20
SHAPES = {"l1.W": (3, 4), "l1.b": (4,), "l2.W": (4, 2)}
LR, SLOW = 0.01, 0.001


def params():
    """The parameters at the start: none near zero, so that relative errors tell."""
    rng = np.random.default_rng(1)
    return {k: rng.uniform(1, 2, s).astype("f4") for k, s in SHAPES.items()}


def grads():
    """The gradients of all steps."""
    rng = np.random.default_rng(2)
    return [
        {k: rng.normal(size=s).astype("f4") for k, s in SHAPES.items()}
        for _ in range(BEFORE + AFTER)
    ]


def _optax(make):
    """Train with a rule of optax; return the run after each phase."""
    import jax
    import jax.numpy as jnp
    import optax

    rule = make(optax)
    now = jax.tree.map(jnp.asarray, params())
    state = rule.init(now)

    @jax.jit
    def step(now, state, grad):
        updates, state = rule.update(grad, state, now)
        return optax.apply_updates(now, updates), state

    def run(now, state, some):
        for grad in some:
            now, state = step(now, state, grad)
        return now, state

    middle = run(now, state, grads()[:BEFORE])
    return middle, run(*middle, grads()[BEFORE:])[0]


OPTAX = {
    "adam": lambda o: o.adam(LR),
    "adamw": lambda o: o.adamw(LR, weight_decay=0.1),
    "adam_schedule": lambda o: o.adam(o.exponential_decay(LR, 50, 0.8)),
    "sgd": lambda o: o.sgd(SLOW, momentum=0.9),
}


def flax(kind, folder):
    """``flax.serialization.to_bytes`` of parameters and the state of optax."""
    from flax import serialization

    (now, state), end = _optax(OPTAX[kind])
    tree = {"params": now, "opt_state": state}
    (folder / f"flax_{kind}.msgpack").write_bytes(serialization.to_bytes(tree))
    return now, end


def orbax(kind, folder):
    """A folder of Orbax with the same."""
    from orbax import checkpoint

    (now, state), end = _optax(OPTAX[kind])
    tree = {"params": now, "opt_state": state}
    checkpoint.PyTreeCheckpointer().save(folder.resolve() / f"orbax_{kind}", tree)
    return now, end


TORCH = {
    "adam": lambda t, p: t.optim.Adam(p, LR),
    "adamw": lambda t, p: t.optim.AdamW(p, LR, weight_decay=0.1),
    "adamw_amsgrad": lambda t, p: t.optim.AdamW(p, LR, amsgrad=True),
    "sgd": lambda t, p: t.optim.SGD(p, SLOW, momentum=0.9),
}


def torch(kind, folder, suffix):
    """The state dict of torch by parameter name, through safetensors or NumPy."""
    import torch

    named = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in params().items()}
    opt = TORCH[kind](torch, list(named.values()))

    def run(some):
        for grad in some:
            for name, parameter in named.items():
                parameter.grad = torch.tensor(grad[name])
            opt.step()
        return {k: v.detach().numpy().copy() for k, v in named.items()}

    now = run(grads()[:BEFORE])
    flat = {f"model.{name}": torch.tensor(value) for name, value in now.items()}
    for name, state in zip(named, opt.state_dict()["state"].values(), strict=True):
        flat |= {f"optim.state.{name}.{key}": value for key, value in state.items()}
    path = str(folder / f"torch_{kind}{suffix}")
    if suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in flat.items()})
    else:
        from safetensors.torch import save_file

        save_file(flat, path)
    return now, run(grads()[BEFORE:])


def _brainpy_net(bp):
    import brainpy.math as bm

    class Layer(bp.DynamicalSystem):
        def __init__(self, **arrays):
            super().__init__()
            for name, value in arrays.items():
                setattr(self, name, bm.TrainVar(value))

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            start = params()
            self.l1 = Layer(W=start["l1.W"], b=start["l1.b"])
            self.l2 = Layer(W=start["l2.W"])

    net = Net()
    theirs = {f"{node.name}.{leaf}": f"{attribute}.{leaf}"
              for attribute, node, leaves in (("l1", net.l1, "Wb"), ("l2", net.l2, "W"))
              for leaf in leaves}  # fmt: skip
    return net, theirs


BRAINPY = {
    "adamw": lambda o, v: o.AdamW(LR, v, weight_decay=0.1),
    "adamw_amsgrad": lambda o, v: o.AdamW(LR, v, amsgrad=True),
    "adam_schedule": lambda o, v: o.Adam(o.ExponentialDecayLR(LR, 50, 0.8), v),
    "adamw_epochs": lambda o, v: o.AdamW(o.StepLR(LR, 4, 0.5), v),
    "momentum": lambda o, v: o.Momentum(SLOW, v, momentum=0.9),
}


def brainpy(kind, folder, version):
    """``save_pytree`` of a model and its optimizer, in one of the two layouts."""
    import brainpy as bp

    net, theirs = _brainpy_net(bp)
    opt = BRAINPY[kind](bp.optim, net.train_vars().unique())

    def run(some):
        for number, grad in enumerate(some):
            opt.update({their: grad[ours] for their, ours in theirs.items()})
            if kind == "adamw_epochs" and number % 15 == 14:
                opt.lr.step_epoch()
        found = net.train_vars().unique()
        return {ours: np.asarray(found[their]) for their, ours in theirs.items()}

    now = run(grads()[:BEFORE])
    if version == "v2":
        tree = {"net": net.state_dict(), "opt": opt.state_dict()}
    else:
        tree = {"net": dict(net.vars().unique()), "opt": dict(opt.vars().unique())}
    path = str(folder / f"brainpy_{kind}_{version}.bp")
    bp.checkpoints.save_pytree(path, tree, verbose=False)
    return now, run(grads()[BEFORE:])


def braintools(kind, folder):
    """``msgpack_save`` of the states of a brainstate module and its optimizer."""
    import brainstate
    import braintools as bt
    import jax.numpy as jnp

    class Layer(brainstate.nn.Module):
        def __init__(self, **arrays):
            super().__init__()
            for name, value in arrays.items():
                setattr(self, name, brainstate.ParamState(jnp.asarray(value)))

    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            start = params()
            self.l1 = Layer(W=start["l1.W"], b=start["l1.b"])
            self.l2 = Layer(W=start["l2.W"])

    states = Net().states(brainstate.ParamState)
    rule = {"adamw": bt.optim.AdamW(LR, weight_decay=0.1), "adam": bt.optim.Adam(LR)}
    opt = rule[kind]
    opt.register_trainable_weights(states)

    def run(some):
        for grad in some:
            opt.update({path: grad[".".join(path)] for path in states})
        return {".".join(p): np.asarray(s.value) for p, s in states.items()}

    now = run(grads()[:BEFORE])
    net = {".".join(path): state for path, state in states.items()}
    tree = {"net": net, "opt": opt.state_dict()}
    bt.file.msgpack_save(str(folder / f"braintools_{kind}.msgpack"), tree)
    return now, run(grads()[BEFORE:])


CASES = {
    **{f"flax_{kind}.msgpack": (flax, kind) for kind in OPTAX},
    **{
        f"torch_{kind}{suffix}": (torch, kind, suffix)
        for kind in TORCH
        for suffix in (".safetensors", ".npz")
    },
    **{
        f"brainpy_{kind}_{version}.bp": (brainpy, kind, version)
        for kind in BRAINPY
        for version in ("v1", "v2")
    },
    **{f"braintools_{k}.msgpack": (braintools, k) for k in ("adam", "adamw")},
}
"""What writes each file; each function returns the parameters in it and at the end."""

LIVE = {f"orbax_{kind}": (orbax, kind) for kind in OPTAX}
"""What is read by its own library alone, and so has no golden file."""


def as_lists(arrays):
    """Turn arrays into JSON; nine digits hold every float32."""
    return {name: np.asarray(value).tolist() for name, value in arrays.items()}


def main(folder):
    """Write all files, and ``ends.json`` with the parameters at the end of each."""
    folder.mkdir(exist_ok=True)
    ends = {}
    for name, (make, *args) in CASES.items():
        now, end = make(*args[:1], folder, *args[1:])
        ends[name] = {"now": as_lists(now), "end": as_lists(end)}
    (folder / "ends.json").write_text(json.dumps(ends) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
