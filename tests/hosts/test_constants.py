# SPDX-License-Identifier: Apache-2.0
"""Fixed weights of models of other frameworks are listed, and told apart in files."""

import jax
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint

pytestmark = pytest.mark.hosts


def _brainpy(seed):
    bp = pytest.importorskip("brainpy")

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.readout = bp.dnn.Dense(2, 1, mode=bp.math.training_mode)
            self.fixed = bp.math.asarray(np.random.RandomState(seed).rand(2, 2))

    return Net()


def _brainstate(seed):
    brainstate = pytest.importorskip("brainstate")

    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.readout = brainstate.nn.Linear(2, 1)
            self.fixed = np.random.RandomState(seed).rand(2, 2)

    return Net()


def _nnx(seed):
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self):
            self.readout = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
            self.fixed = jax.random.normal(jax.random.key(seed), (2, 2))

    return Net()


@pytest.mark.parametrize("make", [_brainpy, _brainstate, _nnx])
@pytest.mark.parametrize("inside", [False, True])
def test_constants_of_another_seed_are_refused(make, inside, tmp_path):
    def model(seed):
        if not inside:
            return bo.attach(make(seed))
        node = bo.Node()
        node.net = make(seed)
        return node

    checkpoint.save(tmp_path / "run.bopt", model(0))
    checkpoint.restore(tmp_path / "run.bopt", model(0))

    path = "net.fixed" if inside else "fixed"
    assert f"{path}: constant" in repr(model(0)) or inside
    with pytest.raises(
        bo.errors.CheckpointMismatchError, match=f"{path}: the constant"
    ):
        checkpoint.restore(tmp_path / "run.bopt", model(1))
