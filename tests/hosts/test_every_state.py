# SPDX-License-Identifier: Apache-2.0
"""The state of an attached model goes through every way out and in, with its optimizer.

Models times ways times formats; a second model, made like the first, goes on with the
same bits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import CheckpointError

GRADS = [np.random.default_rng(i).normal(size=(3, 2)).astype("f4") for i in range(3)]
SUFFIXES = ["", ".npz", ".safetensors"]


def brainpy():
    import brainpy as bp
    import brainpy.math as bm

    bm.random.seed(0)
    return bp.dnn.Dense(3, 2, b_initializer=None, mode=bm.training_mode)


def brainstate():
    import brainstate

    brainstate.random.seed(0)
    layer = brainstate.nn.Module()
    layer.W = brainstate.ParamState(jnp.ones((3, 2)))
    return layer


def nnx():
    from flax import nnx

    class Layer(nnx.Module):
        def __init__(self):
            self.W = nnx.Param(jnp.ones((3, 2)))

    return Layer()


def tree():
    return {"W": jnp.ones((3, 2))}


MODELS = [
    pytest.param(make, marks=pytest.mark.hosts(package), id=package)
    for make, package in [
        (brainpy, "brainpy"),
        (brainstate, "brainstate"),
        (nnx, "flax"),
        (tree, "jax"),
    ]
]


class Run:
    """A model of a framework, attached, with an optimizer and its average."""

    def __init__(self, make):
        self.net = bo.attach(make())
        self.opt = bo.optim.AdamW(0.1, self.net.train_vars(), amsgrad=True)
        self.ema = bo.optim.EMA(self.net.train_vars(), 0.9)

    def step(self, i):
        (path,) = self.opt.vars_to_train
        self.opt.update({path: jnp.asarray(GRADS[i])})
        self.ema.update()

    def parts(self):
        return {"net": self.net, "opt": self.opt, "ema": self.ema}

    def numbers(self):
        return {
            f"{name}.{path}": (value.dtype, np.asarray(value).tobytes())
            for name, part in self.parts().items()
            for path, value in part.state_dict().items()
            if not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        }


def by_restore(folder, old, new, suffix):
    checkpoint.save(folder / f"all{suffix}", old.parts())
    return lambda: checkpoint.restore(folder / f"all{suffix}", new.parts())


def by_states(folder, old, new, suffix):
    for name, part in old.parts().items():
        part.save_states(folder / f"{name}{suffix}")

    def load():
        for name, part in new.parts().items():
            part.load_states(folder / f"{name}{suffix}")

    return load


def by_memory(folder, old, new, suffix):
    held = {name: part.state_dict() for name, part in old.parts().items()}

    def load():
        for name, part in new.parts().items():
            part.load_state_dict(held[name])

    return load


def by_manager(folder, old, new, suffix):
    with checkpoint.Manager(folder) as manager:
        manager.save(1, old.parts())
    return lambda: checkpoint.Manager(folder).restore(new.parts())


WAYS = [
    pytest.param(way, suffix, id=f"{way.__name__}{suffix}")
    for way, suffixes in [
        (by_restore, SUFFIXES),
        (by_states, SUFFIXES),
        (by_memory, [""]),
        (by_manager, [""]),
    ]
    for suffix in suffixes
]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(("way", "suffix"), WAYS)
def test_a_second_model_goes_on_with_the_same_bits(make, way, suffix, tmp_path):
    first, second = Run(make), Run(make)
    first.step(0)
    first.step(1)
    if make in (brainpy, brainstate) and suffix in (".npz", ".safetensors"):
        with pytest.raises(CheckpointError, match="random: a key"):
            way(tmp_path, first, second, suffix)
        return
    load = way(tmp_path, first, second, suffix)
    now = first.numbers()
    first.step(2)

    load()

    assert second.numbers() == now
    second.step(2)
    assert second.numbers() == first.numbers() != now
