# SPDX-License-Identifier: Apache-2.0
"""An error calls a Variable by its path, so two populations of one class are apart."""

import copy
import pickle

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo


class Population(bo.Node):
    def __init__(self):
        self.h = bo.Variable(jnp.zeros(2))


class Net(bo.Node):
    def __init__(self):
        self.layers = [Population()]
        self.layers.append(Population())  # which no assignment shows
        self.by_name = {"exc": Population()}


PLACES = {
    "layers.0.h": lambda net: net.layers[0].h,
    "layers.1.h": lambda net: net.layers[1].h,
    "by_name.exc.h": lambda net: net.by_name["exc"].h,
}
ERRORS = {
    "shape": lambda v: v.update(jnp.zeros(3)),
    "item": lambda v: v.__setitem__(0, 1j),
    "jax.jit": lambda v: jax.jit(v.update)(jnp.ones(2)),
    "vmap": lambda v: bo.vmap(lambda x: v.update(x * jnp.ones(2)))(jnp.arange(3.0)),
    "device": lambda v: v.to(jax.sharding.PartitionSpec("x")),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", ERRORS)
def test_every_error_names_the_path(place, error):
    net = Net()

    with pytest.raises(bo.errors.BrainoptError, match=rf"Variable 'Net\.{place}'"):
        ERRORS[error](PLACES[place](net))


def test_a_copy_has_the_paths_too():
    for net in (copy.deepcopy(Net()), pickle.loads(pickle.dumps(Net()))):
        assert net.layers[1].h.label == "Variable 'Net.layers.1.h'"


def test_the_path_begins_at_the_outermost_node():
    net = Net()
    variable = net.layers[1].h
    assert variable.label == "Variable 'Net.layers.1.h'"

    top = bo.Node()
    top.net = net
    bo.optim.SGD(0.1, bo.TrainVar([1.0]))  # looks at Variables of others
    assert variable.label == "Variable 'Node.net.layers.1.h'"

    del top.net
    assert variable.label == "Variable 'Net.layers.1.h'"


def test_a_name_that_was_given_stays():
    net = Net()
    net.v = bo.Variable([1.0], name="membrane")

    assert net.v.label == "Variable 'membrane'"
    assert bo.Variable([1.0]).label == "An unnamed Variable"


def test_nodes_that_refer_to_each_other_have_paths():
    a, b = Population(), Population()
    a.other, b.other = b, a

    assert {a.h.label, b.h.label} == {
        "Variable 'Population.h'",
        "Variable 'Population.other.h'",
    }
