# SPDX-License-Identifier: Apache-2.0
"""A brainpy model by path: what is found, saved, moved and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import HostError, TraceContextError
from tests.hosts.brainpy_nets import X, make, stepper

pytestmark = pytest.mark.hosts("brainpy")


def test_attach_reports_kinds_and_what_is_trained():
    net, _ = make()

    report = bo.attach(net)

    assert report.kinds["l1.W"] == "TrainVar"
    assert report.kinds["random"] == "RandomState"
    assert list(report.train_vars()) == ["l1.W", "l1.b", "l2.W", "l2.b"]
    assert "5 Variables, 4 of them to train" in repr(report)


def test_layers_in_a_plain_list_are_reported_and_warned_of():
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.first = bp.dnn.Dense(2, 2, mode=bm.training_mode)
            self.layers = [bp.dnn.Dense(2, 2, mode=bm.training_mode)]

    with pytest.warns(UserWarning, match=r"layers\.0\.W"):
        report = bo.attach(Net())

    assert list(report.unseen) == ["layers.0.W", "layers.0.b"]
    assert list(report.train_vars()) == ["first.W", "first.b"]


def test_states_that_brainpy_does_not_collect_are_saved(tmp_path):
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.dense = bp.dnn.Dense(2, 2, mode=bm.training_mode)
            self.shared = bm.random.DEFAULT
            self.own = bm.random.RandomState(3)
            self.populations = [bp.dyn.Lif(2)]

        def update(self):
            return self.populations[0](self.dense(self.own.rand(2)))

    net, path = Net(), tmp_path / "run.bopt"
    run = bm.jit(lambda: (net(), net.populations[0].V.value)[1])
    assert "populations.0.V" in bo.attach(net)
    assert bo.attach(net).kinds["random"] == "RandomState"
    run()
    checkpoint.save(path, {"net": bo.attach(net)})
    went_on = [run().tolist() for _ in range(3)]
    checkpoint.restore(path, {"net": bo.attach(net)})

    assert [run().tolist() for _ in range(3)] == went_on


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    path = tmp_path / "run.bopt"
    net, _ = make()
    checkpoint.save(path, {"net": bo.attach({"w": net.l1.W.value})})
    before = np.asarray(net.l1.W.value)

    with pytest.raises(ValueError, match=r"net\.l1\.W"):
        checkpoint.restore(path, {"net": bo.attach(net)})

    np.testing.assert_array_equal(net.l1.W.value, before)


def test_a_checkpoint_says_that_a_model_is_to_be_attached(tmp_path):
    path, (net, _) = tmp_path / "run.bopt", make()
    with pytest.raises(ValueError, match=r"net: a [\s\S]*`bo\.attach\(model\)`"):
        checkpoint.save(path, {"net": net})
    checkpoint.save(path, {"net": bo.attach(net)})
    with pytest.raises(ValueError, match=r"net\.l1\.W[\s\S]*`bo\.attach\(model\)`"):
        checkpoint.restore(path, {"net": net})


def test_moving_the_optimizer_moves_the_model():
    def losses(place):
        net, loss = make()
        opt = bo.optim.AdamW(1e-2, net)
        step = stepper(loss, opt, net)
        first = [float(step()) for _ in range(3)]
        if place:
            opt.to(place)
        return first + [float(step()) for _ in range(3)], net

    still, _ = losses(None)
    moved, net = losses("cpu:1")

    assert moved == still
    assert net.l1.W.value.devices() == {jax.devices("cpu")[1]}


def test_a_recurrent_model_moves_forth_and_back():
    import brainpy as bp
    import brainpy.math as bm

    def losses(*places):
        bm.random.seed(1)
        net = bp.dyn.RNNCell(3, 4, mode=bm.training_mode)
        opt = bo.optim.AdamW(1e-2, net)

        def loss():
            return ((net(X) + bm.random.randn(len(X), 4)) ** 2).mean()

        net.reset_state(len(X))
        step, values = stepper(loss, opt, net), []
        for place in places:
            bo.attach(net).to(place)
            opt.to(place)
            values += [float(step()) for _ in range(2)]
        return values

    still = losses("cpu:0", "cpu:0", "cpu:0")
    assert losses("cpu:0", "cpu:1", "cpu:0") == still


def test_a_model_inside_a_node_is_walked():
    net, _ = make()
    node = bo.Node()
    node.net = net
    node.gain = bo.TrainVar([1.0])

    paths = ["net.l1.W", "net.l1.b", "net.l2.W", "net.l2.b", "gain"]
    assert list(node.train_vars()) == paths
    assert list(bo.optim.SGD(0.1, node).vars_to_train) == paths


def test_our_variable_inside_a_brainpy_model_is_seen_by_bm_jit():
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.gain = bo.Variable([1.0])

        def update(self):
            self.gain.value = self.gain.value * 2
            return self.gain.value

    net = Net()
    step = bm.jit(net.update)

    assert [float(step()[0]) for _ in range(3)] == [2.0, 4.0, 8.0]
    net.gain.value = [3.0]
    assert float(step()[0]) == 6.0
    assert net.gain.value.tolist() == [6.0]


def test_our_random_state_advances_in_bm_jit():
    import brainpy.math as bm

    rng, same = bo.RandomState(3), bo.RandomState(3)
    draw = bm.jit(lambda: rng.normal((2,)))

    drawn = [draw().tolist() for _ in range(3)]

    assert drawn == [same.normal((2,)).tolist() for _ in range(3)]


def in_jax_jit(function):
    return jax.jit(function)


def in_jax_scan(function):
    return lambda g: jax.lax.scan(lambda c, _: (c, function(g)), 0, None, 2)


def in_jax_scan_in_bm_jit(function):
    import brainpy.math as bm

    return bm.jit(in_jax_scan(function))


def in_jax_scan_in_bo_jit(function):
    return bo.jit(in_jax_scan(function))


REFUSED = [v for n, v in list(globals().items()) if n.startswith("in_jax")]


@pytest.mark.parametrize("wrap", REFUSED, ids=lambda f: f.__name__)
def test_an_update_that_could_not_leave_its_trace_is_refused(wrap):
    net, _ = make()
    before = np.asarray(net.l1.W.value)
    opt = bo.optim.AdamW(1e-2, net.l1.W)

    with pytest.raises(TraceContextError, match="help: use the transform"):
        wrap(lambda g: opt.update(g) or 0)(jnp.ones((3, 8)))

    np.testing.assert_array_equal(net.l1.W.value, before)
    assert int(opt.step) == 0


def test_an_error_inside_a_step_leaves_the_model_as_it_was():
    net, loss = make()
    opt = bo.optim.AdamW(1e-2, net)
    step = stepper(loss, opt, net)
    step()
    before = np.asarray(net.l1.W.value)

    @bo.jit
    def failing():
        step()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        failing()

    np.testing.assert_array_equal(net.l1.W.value, before)
    assert int(opt.step) == 1


def test_a_value_the_user_holds_survives_a_donating_step():
    net, loss = make()
    opt = bo.optim.AdamW(1e-2, net)
    step = stepper(loss, opt, net)
    step()
    held = net.l1.W.value
    copy = np.asarray(held).copy()

    for _ in range(3):
        step()

    np.testing.assert_array_equal(held, copy)


def test_a_value_held_of_our_variable_survives_after_bm_jit_has_seen_it():
    import brainpy.math as bm

    w = bo.Variable(jnp.ones(4))
    seen = bm.jit(lambda: w.value.sum())
    seen()

    @bo.jit
    def step():
        w.value = w.value + 1

    step()
    step()
    held = w.value
    step()

    assert held.tolist() == [3.0] * 4
    assert float(seen()) == 16.0


def test_a_spiking_network_trains_through_a_loop_over_time():
    import brainpy as bp
    import brainpy.math as bm

    class SNN(bp.DynamicalSystem):
        def __init__(self):
            super().__init__(mode=bm.training_mode)
            self.i2r = bp.dnn.Dense(4, 6, mode=bm.training_mode)
            self.r = bp.dyn.Lif(6, V_th=0.1, V_reset=0.0, V_rest=0.0, mode=self.mode)
            self.r2o = bp.dnn.Dense(6, 2, mode=bm.training_mode)

        def update(self, x):
            return self.r2o(self.r(self.i2r(x)))

    if bp.__version__ < "2.8":
        pytest.skip("AdamW of brainpy 2.7 corrects every step as the first")

    def losses(train):
        bm.random.seed(1)
        net = SNN()
        xs = jnp.asarray(np.random.RandomState(0).rand(10, 4, 4), jnp.float32)

        def loss():
            net.reset(4)
            outs = bm.for_loop(net, xs)
            return ((outs.mean(0) - 0.3) ** 2).mean()

        return train(net, loss)

    def ours(net, loss):
        opt = bo.optim.AdamW(1e-2, net, beta1=0.875, beta2=0.96875, dialect="brainpy")
        step = stepper(loss, opt, net)
        return [float(step()) for _ in range(20)]

    def theirs(net, loss):
        variables = net.train_vars().unique()
        opt = bp.optim.AdamW(1e-2, variables, beta1=0.875, beta2=0.96875)
        gradient = bm.grad(loss, variables, return_value=True)

        @bm.jit
        def step():
            grads, value = gradient()
            opt.update(grads)
            return value

        return [float(step()) for _ in range(20)]

    np.testing.assert_allclose(losses(ours), losses(theirs), rtol=1e-6)


def test_something_that_is_no_model_is_refused():
    with pytest.raises(HostError, match="no array in this object"):
        bo.attach(object())


def test_an_optimizer_of_a_model_is_no_argument_of_a_transform_that_copies_it():
    import brainpy.math as bm

    net, loss = make()
    opt = bo.optim.AdamW(1e-2, net)
    gradient = bo.grad(loss, net)
    before = np.asarray(net.l1.W.value)

    for jit in (bm.jit, jax.jit):
        with pytest.raises(HostError, match=r"Net\.l1\.W[\s\S]*close over it"):
            jit(lambda opt: opt.update(gradient()))(opt)
    np.testing.assert_array_equal(net.l1.W.value, before)

    bo.jit(lambda opt: opt.update(gradient()))(opt)
    assert int(opt.step) == 1


def test_states_given_by_name_are_differentiated_by_as_in_brainpy():
    import brainpy.math as bm

    class Net(bm.BrainPyObject):
        def __init__(self):
            super().__init__()
            self.V, self.w = bm.Variable(jnp.array([3.0])), bm.TrainVar(jnp.ones(1))

    net = Net()
    states = net.vars().subset(bm.Variable).unique()
    only = type(states)({k: v for k, v in states.items() if v is net.V})

    def loss():
        return (net.w.value * net.V.value**2).sum()

    for by in ({"V": net.V, "w": net.w}, {"V": net.V}, only):
        ours, theirs = bo.grad(loss, by)(), bm.grad(loss, by)()
        assert ours.keys() == theirs.keys() == by.keys()
        assert all(ours[key] == theirs[key] for key in by)
    assert list(bo.grad(loss, net)()) == ["w"]
    assert list(bo.optim.SGD(0.1, states).vars_to_train) == ["w"]


def test_a_slice_of_a_population_is_no_state_of_its_own(tmp_path):
    import brainpy as bp

    class Net(bp.DynSysGroup):
        def __init__(self):
            super().__init__()
            self.cells = bp.dyn.Leaky(3)
            self.first = self.cells[:2]

    net, path = Net(), tmp_path / "run.bopt"
    part = net.first.slice_vars["x"]
    assert list(bo.attach(net)) == ["cells.x", "random"]
    checkpoint.save(path, {"net": bo.attach(net)})
    checkpoint.restore(path, {"net": bo.attach(net)})
    net.cells.x.value = jnp.array([1.0, 2.0, 3.0])

    np.testing.assert_array_equal(part.value, [1.0, 2.0])
    with pytest.raises(HostError, match="no value of its own"):
        bo.optim.SGD(0.1, part)


def test_arrays_of_brainpy_are_arrays():
    import brainpy.math as bm

    weight = bo.TrainVar(bm.ones(3), name="w")
    opt = bo.optim.SGD(0.5, {"w": weight})
    opt.update({"w": bm.clip(jnp.array([1.0, 4.0, -8.0]), -2.0, 2.0)})

    assert isinstance(weight.value, jax.Array)
    np.testing.assert_array_equal(weight.value, [0.5, 0.0, 2.0])
