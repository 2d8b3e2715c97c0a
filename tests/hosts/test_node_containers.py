# SPDX-License-Identifier: Apache-2.0
"""Lists and dicts of Nodes take the layers of BrainPy and brainstate too."""

import jax.numpy as jnp
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts
brainstate = pytest.importorskip("brainstate")
bp = pytest.importorskip("brainpy")


def _brainpy():
    return bp.dnn.Dense(2, 2, mode=bp.math.training_mode)


def _brainstate():
    return brainstate.nn.Linear(2, 2)


HOLDERS = {
    "list": lambda layer: bo.NodeList([layer]),
    "append": lambda layer: bo.NodeList().append(layer),
    "dict": lambda layer: bo.NodeDict({"0": layer}),
    "set": lambda layer: bo.NodeDict().update({"0": layer}),
}


@pytest.mark.parametrize("make", [_brainpy, _brainstate])
@pytest.mark.parametrize("holder", HOLDERS)
def test_layers_in_node_containers_are_found_and_trained(make, holder):
    net, layer = bo.Node(), make()
    net.layers = HOLDERS[holder](layer)
    opt = bo.optim.SGD(0.1, net)
    step = bo.jit(lambda: opt.step(lambda: (layer(jnp.ones((1, 2))) ** 2).sum()))

    first, second = step(), step()

    assert all(path.startswith("layers.0.") for path in net.vars()) and net.vars()
    assert second < first


@pytest.mark.parametrize("item", [3, "a", object()])
def test_anything_else_is_refused(item):
    with pytest.raises(TypeError, match=r"(?s)is no Node.*bo\.attach"):
        bo.NodeList([item])
    with pytest.raises(TypeError, match="is no Node"):
        bo.NodeDict(a=item)
