# SPDX-License-Identifier: Apache-2.0
"""Names and files of brainpy models, whatever else the process has made."""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import CheckpointMismatchError, HostError
from tests.hosts.brainpy_nets import junk, make, stepper

pytestmark = pytest.mark.hosts("brainpy")

PATHS = ["l1.W", "l1.b", "l2.W", "l2.b"]


def noisy(net, loss):
    """Return a loss that draws from brainpy's shared random state."""
    import brainpy.math as bm

    def drawn():
        return loss() + 0.1 * (net.l1.W.value * bm.random.randn(3, 8)).sum()

    return drawn


def test_names_are_attribute_paths_however_many_layers_came_before():
    kept = junk(5)
    net, _ = make()

    assert list(bo.attach(net)) == ["l1.W", "l1.b", "l2.W", "l2.b", "random"]
    assert kept


def test_lists_of_nodes_and_implicit_variables_have_paths_too():
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            dense = bp.dnn.Dense(2, 2, mode=bm.training_mode)
            self.layers = bm.NodeList([dense])
            self.gains = bm.VarList([bm.TrainVar(jnp.ones(2))])
            self.register_implicit_vars(bm.TrainVar(jnp.ones(3)))

    junk()
    found = list(bo.attach(Net()).train_vars())

    assert sorted(found) == ["gains.0", "layers.0.W", "layers.0.b", "var0"]


def model(net):
    return net


def collector(net):
    return net.train_vars().unique()


SOURCES = [model, collector]


def named(source):
    """Return the names that an optimizer gives."""
    return list(bo.optim.SGD(0.1, source).vars_to_train)


def test_a_collector_without_its_model_has_the_paths_of_the_model():
    import brainpy as bp
    import brainpy.math as bm

    kept = [junk(9), make()]  # the layers below are number 11 and 12
    net, loss = make()
    assert named(collector(net)) == PATHS

    bm.clear_name_cache()
    kept.append(make())  # its layers have the names of the first
    trainer = bp.BPTT(net, loss, bp.optim.Adam(1e-3), progress_bar=False)
    assert named(collector(net)) == PATHS
    assert kept and trainer


def test_a_collector_of_a_part_has_paths_in_the_part():
    net, _ = make()

    assert named(collector(net.l2)) == ["W", "b"]
    assert named(net.l1.vars() + net.l2.vars()) == PATHS


def test_layers_that_refer_to_their_model_do_not_hide_it():
    net, _ = make()
    net.l1.model = net

    assert named(collector(net)) == PATHS


def test_of_two_models_that_share_their_layers_the_first_names_them():
    import brainpy as bp

    net, _ = make()
    other = bp.DynamicalSystem()
    other.one, other.two = net.l1, net.l2

    assert named(collector(other)) == PATHS


def test_layers_that_no_model_holds_are_counted_within_the_collector():
    kept = junk(2)
    one, two = junk(2)
    loose = one.vars() + two.vars()

    names = named(loose)

    assert names == ["Dense0.W", "Dense0.b", "Dense1.W", "Dense1.b"]
    assert kept


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_a_model_resumes_bit_for_bit_after_junk_and_a_second_model(source, tmp_path):
    path = tmp_path / "run.bopt"

    def begin(seed):
        net, loss = make(seed)
        opt = bo.optim.AdamW(1e-2, source(net))
        step = stepper(noisy(net, loss), opt, source(net))
        return {"net": bo.attach(net), "opt": opt}, step

    run, step = begin(seed=1)
    for _ in range(4):
        step()
    checkpoint.save(path, run)
    going_on = [float(step()) for _ in range(20)]

    kept = [junk(9), make(seed=5), run]
    run, step = begin(seed=9)
    step()
    checkpoint.restore(path, run)

    assert [float(step()) for _ in range(20)] == going_on
    assert int(run["opt"].step) == 24 and kept


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_moments_find_their_layer_when_the_layers_are_made_in_another_order(
    source, tmp_path
):
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self, order):
            super().__init__()
            for name in order:
                setattr(self, name, bp.dnn.Dense(3, 3, mode=bm.training_mode))

    first = Net(["one", "two"])
    opt = bo.optim.AdamW(1e-2, source(first))
    names = {id(v): key for key, v in first.train_vars().items()}
    opt.update(
        {
            names[id(first.one.W)]: jnp.ones((3, 3)),
            names[id(first.one.b)]: jnp.ones(3),
            names[id(first.two.W)]: jnp.zeros((3, 3)),
            names[id(first.two.b)]: jnp.zeros(3),
        }
    )
    checkpoint.save(tmp_path / "a.bopt", {"opt": opt})

    second = Net(["two", "one"])
    opt = bo.optim.AdamW(1e-2, source(second))
    checkpoint.restore(tmp_path / "a.bopt", {"opt": opt})

    slots = opt.state_dict()
    np.testing.assert_allclose(slots["slots.one.W.m"], np.full((3, 3), 0.1), rtol=1e-6)
    np.testing.assert_array_equal(slots["slots.two.W.m"], np.zeros((3, 3)))


def test_a_file_of_the_model_fits_an_optimizer_of_its_collector(tmp_path):
    net, _ = make()
    checkpoint.save(tmp_path / "a.bopt", {"opt": bo.optim.AdamW(1e-2, net)})

    checkpoint.restore(
        tmp_path / "a.bopt", {"opt": bo.optim.AdamW(1e-2, collector(net))}
    )


def test_a_file_of_layers_that_no_model_held_is_refused_by_path(tmp_path):
    net, _ = make()
    loose = junk(2)
    opt = bo.optim.AdamW(1e-2, loose[0].vars() + loose[1].vars())
    checkpoint.save(tmp_path / "a.bopt", {"opt": opt})

    with pytest.raises(CheckpointMismatchError, match=r"slots\.l1\.W\.m"):
        checkpoint.restore(tmp_path / "a.bopt", {"opt": bo.optim.AdamW(1e-2, net)})


def sequential():
    import brainpy as bp
    import brainpy.math as bm

    def layer(i, o):
        return bp.dnn.Dense(i, o, mode=bm.training_mode)

    return bp.Sequential(layer(3, 4), layer(4, 1))


def projection():
    import brainpy as bp
    import brainpy.math as bm

    bm.random.seed(0)  # a fixed array of other numbers, here tau, is refused

    class Net(bp.DynSysGroup):
        def __init__(self):
            super().__init__()
            self.cells = bp.dyn.Lif(2)
            self.slow = bp.dyn.HalfProjAlignPostMg(
                comm=bp.dnn.Dense(2, 2, mode=bm.training_mode),
                syn=bp.dyn.Expon.desc(2, tau=bp.init.Uniform(5.0, 9.0)),
                out=bp.dyn.CUBA.desc(),
                post=self.cells,
            )
            self.own = bp.dyn.FullProjAlignPreSD(
                pre=self.cells,
                delay=0.3,
                comm=bp.dnn.Dense(2, 2, mode=bm.training_mode),
                syn=bp.dyn.Expon(2),
                out=bp.dyn.CUBA(),
                post=self.cells,
            )

    return Net()


@pytest.mark.parametrize("make", [sequential, projection])
def test_keys_that_brainpy_counts_or_describes_are_no_names(make, tmp_path):
    first = bo.attach(make())
    checkpoint.save(tmp_path / "run.bopt", {"net": first})
    second = bo.attach(make())
    checkpoint.restore(tmp_path / "run.bopt", {"net": second})

    assert list(second) == list(first)
    assert {
        sequential: "children.Dense1.W",
        projection: "cells._before_updates.Expon_CUBA0.syn.g",
    }[make] in second


def test_the_names_of_a_sequential_outlive_the_names_of_brainpy(monkeypatch):
    import brainpy.math.object_transform.naming as naming

    net = sequential()
    named = list(bo.attach(net))
    monkeypatch.setattr(naming, "_name2id", {})  # bm.clear_name_cache() empties it

    assert list(bo.attach(net)) == named
    assert named[0] == "children.Dense0.W"


def test_a_collector_is_attached_and_saved_by_paths(tmp_path):
    (first, _), (second, _) = make(), make(seed=2)
    report = bo.attach(first.vars().unique())
    checkpoint.save(tmp_path / "a.bopt", {"net": report})

    checkpoint.restore(tmp_path / "a.bopt", {"net": bo.attach(second.vars().unique())})

    assert list(report)[:2] == ["l1.W", "l1.b"]
    for path, variable in bo.attach(second).train_vars().items():
        np.testing.assert_array_equal(variable.value, report[path].value)


def test_a_model_without_layers_is_not_attached():
    import brainpy as bp

    with pytest.raises(HostError, match="build its layers first"):
        bo.attach(bp.DynamicalSystem())


def test_names_that_mean_two_layers_are_refused():
    import brainpy as bp
    import brainpy.math as bm

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.left = bp.dnn.Dense(2, 2, mode=bm.training_mode, name="right")
            self.right = bp.dnn.Dense(2, 2, mode=bm.training_mode, name="left")

    net = Net()
    before = net.left.W.value
    grads = {k: jnp.ones(v.shape) for k, v in net.train_vars().unique().items()}
    grads["right.W"] *= 3  # by the name that brainpy has for net.left

    with pytest.raises(bo.errors.GradientError, match=r"left\.W: left\.W or right\.W"):
        bo.optim.SGD(1.0, net).update(grads)
    bo.optim.SGD(1.0, {"a": net.left, "b": net.right}).update(grads)

    np.testing.assert_allclose(net.left.W.value, before - 3, rtol=1e-6)


def test_names_counted_anew_are_not_taken_for_those_of_the_next_layer():
    import brainpy.math as bm

    bm.clear_name_cache()
    _, a, b = junk()  # Dense1 and Dense2 are the paths Dense0 and Dense1
    collector = a.train_vars().unique() + b.train_vars().unique()
    assert list(collector) == ["Dense1.W", "Dense1.b", "Dense2.W", "Dense2.b"]
    before = a.W.value, b.W.value
    one = jnp.ones((1, 1))
    grads = bm.grad(lambda: (a(one) + 10 * b(one)).sum(), collector)()

    bo.optim.SGD(1.0, collector).update(grads)

    np.testing.assert_allclose(a.W.value, before[0] - 1, rtol=1e-6)
    np.testing.assert_allclose(b.W.value, before[1] - 10, rtol=1e-6)
