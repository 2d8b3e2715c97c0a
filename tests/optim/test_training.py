# SPDX-License-Identifier: Apache-2.0
"""What is trained: how it is registered, matched with gradients, saved and moved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import brainopt as bo

AdamW, SAM, Lookahead = bo.optim.AdamW, bo.optim.SAM, bo.optim.Lookahead


def _net():
    net = bo.Node()
    net.a, net.inner = bo.TrainVar(jnp.ones(2)), bo.Node()
    net.inner.b = bo.TrainVar(jnp.ones(3))
    net.state = bo.Variable(jnp.ones(4))
    return net


SOURCES = {
    "node": (lambda n: n, ["a", "inner.b"]),
    "collector": (lambda n: n.train_vars(), ["a", "inner.b"]),
    "absolute collector": (lambda n: n.train_vars("absolute"), ["a", "inner.b"]),
    "dict": (lambda n: {"x": n.a, "y": n.inner.b}, ["x", "y"]),
    "list": (lambda n: [n.a, n.inner.b], ["0", "1"]),
    "single": (lambda n: n.a, ["param"]),
    "nested": (
        lambda n: {"p": {"q": n}, "r": [n.state]},
        ["p.q.a", "p.q.inner.b", "r.0"],
    ),
    "plain variable": (lambda n: {"s": n.state}, ["s"]),
}


def test_a_variable_of_nothing_is_no_variable_to_train():
    net = bo.Node()
    net.w, net.nothing = bo.TrainVar(jnp.ones(2)), bo.TrainVar({})
    opt = bo.optim.SGD(0.25, net)

    opt.update(bo.grad(lambda: (net.w**2).sum(), net)())

    assert list(opt.vars_to_train) == ["w"]
    assert net.w.value.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("kind", SOURCES)
def test_anything_that_offers_variables_can_be_registered(kind):
    make, paths = SOURCES[kind]
    source = make(_net())
    opt = AdamW(0.1, source)

    opt.register_train_vars(source)
    opt.register_vars(source)

    assert list(opt.vars_to_train) == paths
    assert [k for k in opt.state_dict() if k.endswith(".m")] == [
        f"slots.{path}.m" for path in paths
    ]


def test_every_method_that_brainpy_lists_works(tmp_path):
    net, file = _net(), str(tmp_path / "states.npz")
    opt = AdamW(0.1, net.train_vars(), 0.9, 0.999, 1e-8, 1e-2, False, "mine")
    grads = {"a": jnp.ones(2), "inner.b": jnp.ones(3)}

    opt.check_grads(grads)
    opt.update(grads)
    opt.save_states(file, ["step"])
    opt.save_states(file)
    opt.update(grads)
    opt.load_states(file, verbose=False)
    assert int(opt.step) == 1
    opt.load_state_dict(opt.state_dict(), warn=True, compatible="v2")

    extra, part = bo.Variable(1.0), bo.Node()
    opt.register_implicit_vars({"extra": extra}, var_cls=bo.Variable)
    opt.register_implicit_nodes({"part": part}, node_cls=bo.Node)
    assert opt.vars()["extra"] is extra
    assert part in opt.nodes("relative", -1, False).values()
    assert not opt.train_vars("absolute", level=0)

    leaves, aux = opt.tree_flatten()
    assert int(AdamW.tree_unflatten(aux, leaves).step) == 1
    assert opt.name == "mine" and opt.unique_name("other") == "other"
    assert opt.cpu() is opt.to(jax.devices()[0]) is opt
    for absent in (opt.cuda, opt.tpu):
        with pytest.raises(bo.errors.DeviceError, match="is not there"):
            absent()


def test_registering_again_keeps_the_moments():
    net = _net()
    opt = AdamW(0.1, {"a": net.a})
    opt.update({"a": jnp.ones(2)})
    held = opt.slots["a"]["m"].value

    opt.register_train_vars({"a": net.a, "b": net.inner.b})

    assert opt.slots["a"]["m"].value is held
    assert int(opt.slots["b"]["missed_steps"]) == 1


def test_a_late_variable_starts_its_own_bias_correction():
    a, b, twin = (bo.TrainVar(jnp.ones(2)) for _ in range(3))
    opt, other = AdamW(0.1, {"a": a}), AdamW(0.1, twin)
    for _ in range(3):
        opt.update({"a": jnp.ones(2)})
    opt.register_train_vars({"b": b})

    for g in (1.0, -3.0):
        opt.update({"a": jnp.ones(2), "b": jnp.full(2, g)})
        other.update(jnp.full(2, g))

    np.testing.assert_allclose(b.value, twin.value, rtol=1e-6)


@pytest.mark.more
@pytest.mark.parametrize("late", ["a", "b", "c"])
def test_a_late_variable_leaves_the_bias_correction_of_the_others(late):
    variables = {name: bo.TrainVar(jnp.ones(2)) for name in "abc"}
    twins = {name: bo.TrainVar(jnp.ones(2)) for name in "abc"}
    opt, others = AdamW(0.1, variables), {k: AdamW(0.1, v) for k, v in twins.items()}

    for t in range(4):
        grads: dict = {name: jnp.full(2, 1.0 + t) for name in "abc"}
        if t < 3:
            grads[late] = None
        opt.update(grads)
        for name, twin in others.items():
            twin.update(grads[name])

    for name, twin in twins.items():
        np.testing.assert_allclose(variables[name].value, twin.value, rtol=1e-6)


def test_two_variables_under_one_path_are_refused():
    with pytest.raises(bo.errors.PathError, match="W"):
        opt = AdamW(0.1, {"W": bo.TrainVar((2,))})
        opt.register_train_vars({"W": bo.TrainVar((2,))})


def test_integers_cannot_be_trained():
    with pytest.raises(bo.errors.VariableError, match="count: int32"):
        AdamW(0.1, {"count": bo.Variable(jnp.ones(2, jnp.int32))})


def test_nothing_to_train_is_an_error_of_type():
    with pytest.raises(TypeError, match="no Variables"):
        AdamW(0.1, {"W": np.ones(3)})


def test_gradients_may_be_named_in_any_way_they_were_registered():
    net = _net()
    opt = AdamW(0.1, net.train_vars("absolute"))
    absolute = list(net.train_vars("absolute"))

    opt.check_grads(dict(zip(absolute, (jnp.ones(2), jnp.ones(3)), strict=True)))
    opt.check_grads({"a": jnp.ones(2), "inner.b": jnp.ones(3)})
    opt.check_grads({"a": jnp.ones(2), "inner": {"b": jnp.ones(3)}})


def test_check_grads_names_everything_at_once():
    with pytest.raises(bo.errors.GradientError) as caught:
        AdamW(0.1, _net()).check_grads({"inner.b": jnp.ones((3, 1)), "c": jnp.ones(1)})

    assert str(caught.value) == (
        "The gradients do not fit the variables of this AdamW:\n"
        "  unexpected: c\n"
        "  missing: a\n"
        "  inner.b: gradient of shape (3, 1) for a variable of shape (3,)\n"
        "help: pass the same `train_vars` to the optimizer and to `bo.grad`. Those of "
        "new variables need `opt.register_train_vars(node)` first."
    )


def _leak():
    leaked = []
    jax.jit(lambda x: leaked.append(x) or x)(jnp.ones(2))
    return leaked[0]


STRANGE = {
    "tracer": (_leak, "tracer"),
    "sparse": (lambda: sparse.BCOO.fromdense(jnp.ones(2)), "sparse"),
    "rows": (lambda: bo.optim.Rows(jnp.asarray([0]), jnp.ones(1)), "sparse"),
    "list": (lambda: [1.0, 1.0], "structure"),
    "variable": (lambda: "x", "str is no gradient"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_gradients_are_refused_unchanged(kind):
    make, says = STRANGE[kind]
    w = bo.TrainVar(jnp.ones(2))
    opt = AdamW(0.1, w)

    with pytest.raises(bo.errors.GradientError, match=says):
        opt.update({"param": make()})

    assert (int(opt.step), w.value.tolist()) == (0, [1.0, 1.0])


def test_a_plain_jax_transform_cannot_swallow_a_step():
    w = bo.TrainVar(jnp.ones(2))
    opt = AdamW(0.1, w)

    with pytest.raises(bo.errors.TraceContextError):
        jax.jit(opt.update)(jnp.ones(2))

    assert (int(opt.step), w.value.tolist()) == (0, [1.0, 1.0])


def test_an_error_while_tracing_changes_nothing():
    w = bo.TrainVar(jnp.ones(2))
    opt = AdamW(0.1, w, groups=[{"match": "*", "constraint": lambda x: 1 / 0}])
    before = opt.state_dict()

    for call in (opt.update, bo.jit(opt.update)):
        with pytest.raises(ZeroDivisionError):
            call(jnp.ones(2))

    assert w.value.tolist() == [1.0, 1.0]
    for key, value in opt.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_a_variable_may_hold_a_tree():
    cell = bo.TrainVar({"W": jnp.ones((2, 2)), "b": jnp.ones(2)})
    opt = AdamW(0.1, {"cell": cell}, weight_decay=1.0, mask="*.W")

    opt.update({"cell": {"W": jnp.zeros((2, 2)), "b": jnp.zeros(2)}})

    assert float(cell.value["W"][0, 0]) == pytest.approx(0.9)
    assert float(cell.value["b"][0]) == 1.0
    assert "slots.cell.W.m" in opt.state_dict()


@pytest.mark.parametrize("kind", [dict, tuple])
def test_a_tree_in_one_variable_takes_the_gradient_that_bo_grad_returns(kind):
    parts = {"u": jnp.ones(2), "v": jnp.ones(3)}
    tree = bo.TrainVar(parts if kind is dict else kind(parts.values()))
    opt = bo.optim.SGD(0.1, tree)
    grads = bo.grad(lambda: sum(x.sum() for x in jax.tree.leaves(tree.value)), tree)()

    opt.update(grads)
    opt.update({"param": grads})

    for leaf in jax.tree.leaves(tree.value):
        np.testing.assert_allclose(leaf, 0.8, rtol=1e-6)


def test_a_second_model_in_the_same_process_loads():
    first, second = AdamW(0.1, _net()), AdamW(0.1, _net())
    first.update({"a": jnp.ones(2), "inner.b": jnp.ones(3)})

    result = second.load_state_dict(first.state_dict())

    assert not result
    assert int(second.step) == 1


def test_skipped_steps_are_loaded_too():
    first, second = AdamW(0.1, _net()), AdamW(0.1, _net())
    first.update({"a": None, "inner.b": jnp.ones(3)})

    second.load_state_dict(first.state_dict())

    assert int(second.slots["a"]["missed_steps"]) == 1


@pytest.mark.parametrize("around", ["node", "Lookahead"])
@pytest.mark.parametrize("skips", [(True, False), (False, True)])
def test_skipped_steps_are_loaded_with_what_holds_the_optimizer(skips, around):
    def trained(skip):
        net = _net()
        opt = AdamW(0.1, net)
        holder = bo.Node()
        holder.opt = opt if around == "node" else bo.optim.Lookahead(opt)
        opt.update({"a": None if skip else jnp.ones(2), "inner.b": jnp.ones(3)})
        return opt, holder

    (opt, holder), (other, into) = map(trained, skips)
    into.load_state_dict(holder.state_dict())

    late = [
        o.slots["a"]["missed_steps"]
        for o in (opt, other)
        if "missed_steps" in o.slots["a"]
    ]
    assert late and all(int(count) == int(skips[0]) for count in late)


def test_a_count_alone_leaves_the_ages_as_they_were():
    net = _net()
    opt = AdamW(0.1, net)
    opt.update({"a": None, "inner.b": jnp.ones(3)})

    opt.load_state_dict({"step": jnp.array(4, jnp.int32)}, warn=False, strict=False)

    assert [int(s["missed_steps"]) for s in opt.slots.values()] == [4, 3]


def test_a_state_that_does_not_fit_changes_nothing():
    opt = AdamW(0.1, _net())
    state = dict(opt.state_dict(), extra=jnp.ones(1))
    state["slots.a.m"] = jnp.ones(3)

    with pytest.raises(bo.errors.StateDictError, match=r"slots\.a\.m"):
        opt.load_state_dict(state)

    np.testing.assert_array_equal(opt.slots["a"]["m"].value, 0)


AROUND = [lambda opt: opt, SAM, Lookahead, lambda opt: SAM(Lookahead(opt))]


@pytest.mark.parametrize("around", AROUND)
def test_moving_takes_the_trained_variables_along_or_leaves_them(around):
    net, there = _net(), jax.devices()[1]
    opt = around(AdamW(0.1, net))

    opt.to("cpu:1", params=False)
    assert net.a.value.devices() == {jax.devices()[0]}
    opt.to("cpu:1")

    everything = [*opt.vars().values(), *net.train_vars().values()]
    assert all(v.value.devices() == {there} for v in everything)


def test_slots_are_made_where_the_variable_lives():
    net, there = _net(), jax.devices()[1]
    net.to("cpu:1")

    opt = AdamW(0.1, net)
    bo.jit(opt.update)(
        jax.device_put({"a": jnp.ones(2), "inner.b": jnp.ones(3)}, there)
    )

    assert all(v.value.devices() == {there} for v in opt.vars().unique().values())


def test_a_list_of_variables_takes_a_list_of_gradients():
    a, b = bo.TrainVar(jnp.ones(2)), bo.TrainVar(jnp.ones(3))
    opt = bo.optim.SGD(0.1, [a, b])

    opt.update(bo.grad(lambda: a.sum() + 2 * b.sum(), [a, b])())

    np.testing.assert_allclose([a[0], b[0]], [0.9, 0.8], rtol=1e-6)


def test_rows_step_only_what_they_touch():
    dense, rows = bo.TrainVar(jnp.ones((5, 2))), bo.TrainVar(jnp.ones((5, 2)))
    first, second = bo.optim.SparseAdam(0.1, dense), bo.optim.SparseAdam(0.1, rows)
    step = bo.jit(second.update)

    for index in ([0, 3, 3], [3, 1, 0]):
        at, values = jnp.asarray(index), jnp.asarray([[1.0, 2.0]] * 3)
        first.update(jnp.zeros((5, 2)).at[at].add(values))
        step(bo.optim.Rows(at, values))

    np.testing.assert_allclose(rows.value, dense.value, rtol=1e-6)
    np.testing.assert_array_equal(rows.value[2], 1.0)


@pytest.mark.parametrize("clip", [{"clip_norm": 1.0}, {"clip_value": 1.5}])
def test_rows_are_clipped_as_the_gradient_they_stand_for(clip):
    dense, rows = bo.TrainVar(jnp.ones((4, 2))), bo.TrainVar(jnp.ones((4, 2)))
    first = bo.optim.SparseAdam(0.1, dense, **clip)
    second = bo.optim.SparseAdam(0.1, rows, **clip)
    at = jnp.asarray([2, -1, 2, 3])

    first.update(jnp.zeros((4, 2)).at[at].add(1.0))
    second.update(bo.optim.Rows(at, jnp.ones((4, 2))))

    m = first.slots["param"]["m"].value
    np.testing.assert_allclose(second.slots["param"]["m"].value, m, rtol=1e-6)
    np.testing.assert_allclose(rows.value, dense.value, rtol=1e-6)


def test_a_sparse_array_is_rows():
    table = bo.TrainVar(jnp.ones((4, 2)))
    g = sparse.BCOO((jnp.ones((1, 2)), jnp.asarray([[2]])), shape=(4, 2))

    bo.optim.SparseAdam(0.1, table).update(g)

    np.testing.assert_allclose(table.value[:, 0], [1, 1, 0.9, 1], rtol=1e-5)


def test_a_state_from_before_a_skip_loads_after_it():
    opt = AdamW(0.1, _net())
    saved = opt.state_dict()
    opt.freeze("a")
    opt.update({"inner.b": jnp.ones(3)})

    opt.load_state_dict(saved)

    assert (int(opt.slots["a"]["missed_steps"]), int(opt.step)) == (0, 0)
