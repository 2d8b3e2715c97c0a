# SPDX-License-Identifier: Apache-2.0
"""An optimizer whose model was changed says what it trains that is gone."""

import copy
import gc
import pickle
import warnings
import weakref

import jax.numpy as jnp
import pytest

import brainopt as bo


class Layer(bo.Node):
    def __init__(self):
        self.W = bo.TrainVar(jnp.ones(2))

    def __call__(self, x):
        return x * self.W.value


class Net(bo.Node):
    def __init__(self):
        self.layers, self.out, self.parts = [Layer(), Layer()], Layer(), {"a": Layer()}
        self.training = True

    def __call__(self, x):
        for layer in [*self.layers, *self.parts.values(), self.out]:
            x = layer(x)
        return x.sum()


def _replace(net):
    net.out = Layer()


def _delete_and_set(net):
    del net.out
    net.out = Layer()


def _replace_below(net):
    del net.out.W
    net.out.W = bo.TrainVar(jnp.ones(2))


def _replace_in_list(net):
    net.layers[1] = Layer()


def _replace_in_dict(net):
    net.parts["a"] = Layer()


def _append(net):
    net.layers.append(Layer())


def _add(net):
    net.more = Layer()


def _remove(net):
    net.layers.pop()


CHANGES = {
    _replace: ["out.W: trained, and no", "out.W: there, and not"],
    _delete_and_set: ["out.W: trained, and no", "out.W: there, and not"],
    _replace_below: ["out.W: trained, and no", "out.W: there, and not"],
    _replace_in_list: ["layers.1.W: trained, and no", "layers.1.W: there, and not"],
    _replace_in_dict: ["parts.a.W: trained, and no", "parts.a.W: there, and not"],
    _append: ["layers.2.W: there, and not"],
    _add: ["more.W: there, and not"],
    _remove: ["layers.1.W: trained, and no"],
}


def _by_update(net, opt):
    def step():
        opt.update(bo.grad(lambda: net(1.0), opt.vars_to_train, allow_unused=True)())

    return step


def _by_step(net, opt):
    return lambda: opt.step(lambda: net(1.0))


def _in_jit(net, opt):
    return bo.jit(_by_update(net, opt))


def _in_a_loop(net, opt):
    step = _by_update(net, opt)
    return bo.jit(lambda: bo.for_loop(lambda _: step(), jnp.arange(2)))


STEPS = [_by_update, _by_step, _in_jit, _in_a_loop]
SOURCES = {
    "node": lambda net: (net, ""),
    "dict": lambda net: ({"net": net}, "net."),
    "list": lambda net: ([net], "0."),
    "groups": lambda net: ([{"params": net}], ""),
}


def _warned(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in caught if "has changed since" in str(w.message)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", STEPS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_change_is_told_once_by_path(change, way, source):
    net = Net()
    given, prefix = SOURCES[source](net)
    opt = bo.optim.SGD(0.1, given)
    step = way(net, opt)
    assert _warned(step) == []

    change(net)
    # A layer that the step does not use changes no program; it is told in eager steps.
    told = _warned(step) or _warned(lambda: _by_update(net, opt)())

    assert len(told) == 1
    for line in CHANGES[change]:
        assert f"  {prefix}{line}" in told[0]
    assert _warned(step) == []


@pytest.mark.parametrize("way", STEPS)
def test_flags_copies_and_what_is_registered_are_no_change(way):
    net = Net()
    opt = bo.optim.SGD(0.1, net)
    way(net, opt)()

    net.training, net.count = False, jnp.ones(3)
    net.layers = list(net.layers)
    net.layers.append(Layer())
    opt.register_train_vars({"more": net.layers[-1]})
    other, its = copy.deepcopy((net, opt))
    third, thirds = pickle.loads(pickle.dumps((net, opt)))

    assert _warned(way(net, opt)) == []
    assert _warned(way(other, its)) == _warned(way(third, thirds)) == []


def test_a_model_is_held_by_nobody_for_it():
    net = Net()
    opt, seen = bo.optim.SGD(0.1, net), weakref.ref(net)
    layer = weakref.ref(net.out)

    del net
    gc.collect()

    assert seen() is None and layer() is None
    opt.update({path: jnp.ones(2) for path in opt.vars_to_train})


@pytest.mark.hosts
@pytest.mark.parametrize("way", [_in_jit, _in_a_loop])
def test_a_layer_of_brainpy_that_was_replaced_is_told(way):
    bp = pytest.importorskip("brainpy")
    bm = bp.math

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.out = bp.dnn.Dense(2, 1, mode=bm.training_mode)

        def __call__(self, x):
            return self.out(jnp.ones((1, 2)) * x).sum()

    net = Net()
    opt = bo.optim.SGD(0.1, net)
    step = way(net, opt)
    assert _warned(step) == []

    net.out = bp.dnn.Dense(2, 1, mode=bm.training_mode)
    told = _warned(lambda: [step() for _ in range(20)])

    assert len(told) == 1
    assert "  out.W: trained, and no longer there" in told[0]
    assert "  out.W: there, and not trained" in told[0]
