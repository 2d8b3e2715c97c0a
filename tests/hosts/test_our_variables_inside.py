# SPDX-License-Identifier: Apache-2.0
"""Variables and Nodes of ours inside models of brainpy and brainstate, and around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import HostError, TraceContextError

pytestmark = pytest.mark.hosts("brainpy", "brainstate")

STEPS = 20
PATHS = ["layer.weight", "gain", "part.bias"]


class Part(bo.Node):
    def __init__(self):
        self.bias = bo.TrainVar([0.5, -0.5])


def model(base, state):
    """Return a model with a state of its framework, a Variable and a Node of ours."""

    class Layer(base):
        def __init__(self):
            super().__init__()
            self.weight = state(jnp.array([1.0, 2.0]))

    class Net(base):
        def __init__(self):
            super().__init__()
            self.layer = Layer()
            self.gain = bo.TrainVar([3.0, 4.0])
            self.part = Part()
            self.calls = bo.Variable(jnp.zeros((), jnp.int32))

        def __call__(self):
            self.calls.value = self.calls.value + 1
            out = self.layer.weight.value * self.gain.value + self.part.bias.value
            return (out**2).mean()

    return Net()


def of_brainpy():
    import brainpy as bp
    import brainpy.math as bm

    return model(bp.BrainPyObject, bm.TrainVar)


def of_brainstate():
    import brainstate

    return model(brainstate.nn.Module, brainstate.ParamState)


MAKERS = [of_brainpy, of_brainstate]


def by_their_jit(step):
    import brainstate

    step = brainstate.transform.jit(step)
    return [step() for _ in range(STEPS)]


def by_bm_jit(step):
    import brainpy.math as bm

    step = bm.jit(step)
    return [step() for _ in range(STEPS)]


def by_their_for_loop(step):
    import brainstate

    return brainstate.transform.for_loop(lambda _: step(), jnp.arange(STEPS))


def by_our_jit(step):
    step = bo.jit(step)
    return [step() for _ in range(STEPS)]


def by_our_for_loop(step):
    return bo.for_loop(lambda _: step(), jnp.arange(STEPS))


WAYS = [by_their_jit, by_bm_jit, by_their_for_loop, by_our_jit, by_our_for_loop]


def by_hand():
    """Return the losses of gradient descent with the rate 0.01."""
    w, g, b = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0.5, -0.5])
    for _ in range(STEPS):
        out = w * g + b
        yield (out**2).mean()
        slope = 2 * out / out.size
        w, g, b = w - 0.01 * slope * g, g - 0.01 * slope * w, b - 0.01 * slope


@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_they_train_with_the_model(make, way):
    net = make()
    opt = bo.optim.SGD(0.01, net)
    gradient = bo.grad(net, net, return_value=True)

    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    losses = way(step)

    np.testing.assert_allclose(np.asarray(losses), list(by_hand()), rtol=1e-5)
    assert int(net.calls.value) == int(opt.step) == STEPS
    values = [v.value for v in bo.attach(net).values()]
    assert not any(isinstance(value, jax.core.Tracer) for value in values)


@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
def test_they_are_found_named_and_saved(make, tmp_path):
    net, other = make(), make()
    net.gain.value = [7.0, 8.0]
    net.part.bias.value = [9.0, 9.0]

    assert list(bo.attach(net).train_vars()) == PATHS
    assert list(bo.attach(net)) == [*PATHS, "calls", "random"]
    checkpoint.save(tmp_path / "a.bopt", {"net": bo.attach(net)})
    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(other)})

    assert other.gain.value.tolist() == [7.0, 8.0]
    assert other.part.bias.value.tolist() == [9.0, 9.0]


@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
def test_a_gradient_of_theirs_by_a_variable_of_ours_is_refused(make):
    import brainstate

    net = make()

    with pytest.raises(TypeError, match="State"):
        brainstate.transform.grad(net, {"gain": net.gain})()

    assert net.gain.value.tolist() == [3.0, 4.0] and int(net.calls.value) == 0


def test_a_node_and_a_model_that_hold_each_other_are_walked_once():
    net, node = of_brainpy(), bo.Node()
    node.net, node.scale, net.owner = net, bo.TrainVar([1.0]), node

    assert list(bo.attach(net).train_vars()) == [*PATHS, "owner.scale"]
    names = list(bo.optim.SGD(0.1, node).vars_to_train)
    assert names[:3] == [f"net.{path}" for path in PATHS] and len(names) == 4


USES = {
    "leaves": jax.tree.leaves,
    "map": lambda node: jax.tree.map(jnp.zeros_like, node),
    "jax.jit": jax.jit(lambda node: node.scale.value),
    "bo.vmap": bo.vmap(lambda node: node.scale.value),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
def test_a_node_with_a_model_inside_is_no_pytree_and_says_so(make, use):
    node = bo.Node()
    node.nets, node.scale = [make()], bo.TrainVar([1.0])

    with pytest.raises(HostError, match=r"nets\.0: Net[\s\S]*help: let the function"):
        use(node)


@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
def test_a_function_of_ours_sees_the_model_in_a_node_change(make):
    node = bo.Node()
    node.net, node.scale = make(), bo.TrainVar([1.0])

    def total(node):
        return (node.net.layer.weight.value * node.scale.value).sum()

    around, given = bo.jit(lambda: total(node)), bo.jit(total)
    assert float(around()) == float(given(node)) == 3.0

    node.net.layer.weight.value = jnp.array([5.0, 5.0])

    assert float(around()) == float(given(node)) == 10.0


def test_what_ended_with_a_function_of_theirs_has_no_state_dict():
    from brainstate.transform import jit

    made = []

    @jit
    def build():
        made.append(bo.optim.AdamW(0.1, {"w": bo.TrainVar(jnp.ones(2))}))
        return made[0].step.value

    build()

    with pytest.raises(TraceContextError, match="used after that function ended"):
        made[0].state_dict()


def test_a_loop_around_what_was_made_in_a_function_of_theirs_says_so():
    from brainstate.transform import jit

    @jit
    def train():
        total = bo.Variable(jnp.zeros(()))

        def add(x):
            total.value += x

        bo.for_loop(add, jnp.ones(3))
        return total.value

    with pytest.raises(TraceContextError, match="or by a transform inside it"):
        train()


def test_nothing_moves_inside_a_function_of_theirs():
    from brainstate.transform import jit

    opt = bo.optim.SGD(0.1, {"w": bo.TrainVar(jnp.ones(2))})

    with pytest.raises(TraceContextError, match="cannot be moved inside"):
        jit(lambda: opt.to("cpu:0") and None)()
