# SPDX-License-Identifier: Apache-2.0
"""A compiled function follows what the user changes on Nodes: each change, each way."""

import dataclasses
import types

import jax.numpy as jnp
import pytest

import brainopt as bo


@dataclasses.dataclass
class Config:
    gain: float = 1.0


class Layer(bo.Node):
    def __init__(self, w):
        self.w = bo.TrainVar(jnp.full(3, w))
        self.bias = 0.0
        self.on = True

    def __call__(self, x):
        return self.w.value * x + self.bias if self.on else x


class Net(bo.Node):
    scale = 1.0  # a default of the class

    def __init__(self):
        self.layers = [Layer(1.0), Layer(2.0)]
        self.training = True
        self.mode = "sum"
        self.options = {"gain": 1.0}
        self.config = Config()
        self.space = types.SimpleNamespace(shift=0.0)
        self.mask = jnp.array([1.0, 1.0, 0.0])
        self.nested = {"a": [1.0, (2.0, [3.0])]}

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        x = x * self.mask * self.options["gain"] * self.config.gain * self.scale
        x = x + self.space.shift + self.nested["a"][1][1][0]
        x = x.sum() if self.mode == "sum" else x.max()
        return x * (2.0 if self.training else 1.0)


def _set(name, value):
    return lambda net: setattr(net, name, value)


def _swap(net):
    net.layers.reverse()
    net.layers[0].bias = 1.0


def _another_variable(net):
    del net.layers[0].w
    net.layers[0].w = bo.TrainVar(jnp.full(3, 9.0))


CHANGES = {
    "flag": _set("training", False),
    "string": _set("mode", "max"),
    "default of the class": _set("scale", 3.0),
    "flag of a child": lambda net: setattr(net.layers[0], "on", False),
    "number of a child": lambda net: setattr(net.layers[1], "bias", 1.5),
    "appended part": lambda net: net.layers.append(Layer(3.0)),
    "removed part": lambda net: net.layers.pop(),
    "replaced part": lambda net: net.layers.__setitem__(0, Layer(5.0)),
    "replaced list": lambda net: setattr(net, "layers", [Layer(7.0)]),
    "order": _swap,
    "dict in place": lambda net: net.options.update(gain=2.0),
    "replaced dict": _set("options", {"gain": 4.0}),
    "dataclass in place": lambda net: setattr(net.config, "gain", 2.0),
    "replaced dataclass": _set("config", Config(3.0)),
    "namespace": lambda net: setattr(net.space, "shift", 1.0),
    "replaced array": _set("mask", jnp.array([0.0, 1.0, 1.0])),
    "list in a tuple in a list": lambda net: (
        net.nested["a"][1][1].append(0) or net.nested["a"][1][1].__setitem__(0, 9.0)
    ),
    "another Variable": _another_variable,
}


def _closed_over(net):
    step = bo.jit(lambda x: net(x))
    return step, step


def _argument(net):
    step = bo.jit(lambda node, x: node(x))
    return step, lambda x: step(net, x)


def _argument_in_a_dict(net):
    step = bo.jit(lambda held, x: held["net"](x))
    return step, lambda x: step({"net": net}, x)


def _below_another(net):
    class Root(bo.Node):
        def __init__(self):
            self.child = net

        @bo.jit
        def run(self, x):
            return self.child(x)

    root = Root()
    return root.run, lambda x: root.run(x)


def _in_a_loop(net):
    step = bo.jit(lambda x: bo.for_loop(net, x[None])[0])
    return step, step


def _in_a_branch(net):
    step = bo.jit(lambda x: bo.cond(x > 0, net, lambda x: 0.0, x))
    return step, step


def _in_jit(net):
    inner = bo.jit(net)
    step = bo.jit(lambda x: inner(x))
    return step, step


def _in_a_gradient(net):
    step = bo.jit(lambda x: bo.grad(net, argnums=0)(x))
    return step, step


def _in_vmap(net):
    step = bo.jit(lambda x: bo.vmap(net)(x[None])[0])
    return step, step


def _without_donation(net):
    step = bo.jit(net, safe=True)
    return step, step


WAYS = (
    _closed_over,
    _argument,
    _argument_in_a_dict,
    _below_another,
    _in_a_loop,
    _in_a_branch,
    _in_jit,
    _in_a_gradient,
    _in_vmap,
    _without_donation,
)
X = jnp.asarray(1.5)


def expected(net, way):
    return bo.grad(net, argnums=0)(X) if way is _in_a_gradient else net(X)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[1:])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_next_call_sees_a_change(change, way):
    net = Net()
    _, call = way(net)
    call(X)
    change(net)

    assert float(call(X)) == pytest.approx(float(expected(net, way)))


def test_going_back_and_forth_compiles_nothing():
    net = Net()
    step, call = _closed_over(net)
    call(X)
    net.training = False
    call(X)

    for training in (True, False, True):
        net.training = training
        assert float(call(X)) == float(net(X))
    assert step.compiles == 2


EQUAL = {
    "number": _set("scale", 1.0),
    "list": lambda net: setattr(net, "layers", list(net.layers)),
    "dict": _set("options", {"gain": 1.0}),
    "array": _set("mask", jnp.array([1.0, 1.0, 0.0])),
    "dataclass": _set("config", Config()),
    "item": lambda net: net.nested["a"].__setitem__(0, 1.0),
    "the same Variable": lambda net: setattr(net.layers[0], "w", jnp.ones(3)),
    "unrelated Node": lambda net: setattr(Layer(1.0), "on", False),
    "attribute that is not read": lambda net: setattr(net, "comment", "new"),
}


@pytest.mark.parametrize("way", [_closed_over, _argument], ids=["closed over", "given"])
@pytest.mark.parametrize("change", EQUAL.values(), ids=EQUAL)
def test_equal_values_compile_nothing(change, way):
    net = Net()
    net.scale = 1.0
    step, call = way(net)
    call(X)
    before = step.compiles
    change(net)
    call(X)

    assert step.compiles == before


@pytest.mark.parametrize("other", [1, True, jnp.asarray(1.0)], ids=repr)
def test_equal_values_of_another_type_are_another_program(other):
    net = Net()
    net.options["gain"] = 1.0
    step, call = _closed_over(net)
    call(X)
    net.options["gain"] = other
    call(X)

    assert step.compiles == 2


def test_a_variable_of_equal_value_is_another_variable():
    class Holder(bo.Node):
        def __init__(self):
            self.parts = [bo.Variable(1.0)]

    node = Holder()
    step = bo.jit(lambda: node.parts[0].value + 0)
    step()
    node.parts[0] = bo.Variable(1.0)
    step()
    node.parts[0].value = 5.0

    assert float(step()) == 5.0


def test_an_item_that_moves_to_another_list_is_seen():
    class Holder(bo.Node):
        def __init__(self):
            self.added, self.taken = [1.0, 2.0], [4.0]

    node = Holder()
    step = bo.jit(lambda: jnp.zeros(()) + sum(node.added) - sum(node.taken))
    before = step()
    node.taken.insert(0, node.added.pop())

    assert (float(before), float(step())) == (-1.0, -5.0)


IN_A_PLAIN_NODE = {
    "appended": lambda net: net.layers.append(Layer(5.0)),
    "replaced": lambda net: net.layers.__setitem__(0, Layer(5.0)),
    "of Variables": lambda net: net.scales.append(bo.TrainVar(jnp.full(3, 5.0))),
    "in a dict": lambda net: net.options.update(gain=5.0),
}


@pytest.mark.parametrize("change", IN_A_PLAIN_NODE)
def test_lists_of_a_node_without_a_class_of_its_own_are_followed(change):
    net = bo.Node()
    net.layers, net.scales, net.options = [Layer(3.0)], [], {"gain": 1.0}

    def run(x):
        for layer in net.layers:
            x = layer(x)
        for scale in net.scales:
            x = x * scale.value
        return x * net.options["gain"]

    compiled = bo.jit(run)
    before = compiled(jnp.ones(3))
    IN_A_PLAIN_NODE[change](net)

    assert compiled(jnp.ones(3)).tolist() == run(jnp.ones(3)).tolist()
    assert run(jnp.ones(3)).tolist() != before.tolist()


def test_an_appended_layer_is_trained():
    net = Net()

    @bo.jit
    def gradients():
        return bo.grad(lambda: net(X), net.train_vars())()

    gradients()
    net.layers.append(Layer(3.0))

    assert "layers.2.w" in gradients()


def test_a_deleted_attribute_is_seen():
    net = Net()
    step = bo.jit(lambda: getattr(net, "extra", 0.0) + 0.0)
    net.extra = 1.0
    first = step()
    del net.extra

    assert (float(first), float(step())) == (1.0, 0.0)


def test_reads_are_recorded_while_a_function_is_traced_only():
    net = Net()
    _, call = _closed_over(net)
    call(X)

    assert "__getattribute__" not in vars(bo.Node.__mro__[-2])


@pytest.mark.more
def test_programs_of_many_values_do_not_pile_up():
    net = Net()
    step, call = _closed_over(net)
    for i in range(40):
        net.scale = float(i)
        call(X)
    (earlier,) = step._earlier.values()

    assert len(earlier) <= 16
