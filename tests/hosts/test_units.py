# SPDX-License-Identifier: Apache-2.0
"""One rule for units: those of one dimension are converted, others refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts
u = pytest.importorskip("brainunit")


def _node(value=None):
    node = bo.Node()
    node.tau = bo.TrainVar(jnp.array([20.0, 30.0]) * u.ms if value is None else value)
    return node


def _set(node, q):
    node.tau.value = q


def _set_attribute(node, q):
    node.tau = q


def _set_part(node, q):
    node.tau[0] = q[0]
    node.tau[1] = q[1]


def _fill(node, q):
    node.tau.fill_(q[0])
    node.tau[1] = q[1]


def _in_jit(node, q):
    bo.jit(node.tau.update)(q)


def _in_cond(node, q):
    bo.cond(True, lambda: node.tau.update(q), lambda: None)


DOORS = [_set, _set_attribute, _set_part, _fill, _in_jit, _in_cond]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("unit", [u.ms, u.second])
def test_a_quantity_of_the_same_dimension_is_converted(door, unit):
    node = _node()

    door(node, (jnp.array([12.0, 6.0]) * u.ms).in_unit(unit))

    assert node.tau.value.unit == u.ms
    assert jnp.allclose(node.tau.value.mantissa, jnp.array([12.0, 6.0]))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("new", "said"),
    [(jnp.ones(2) * u.mV, "mV for ms"), (jnp.ones(2), "without a unit for ms")],
    ids=["mV", "plain"],
)
def test_any_other_is_refused_by_name(door, new, said):
    node = _node()

    with pytest.raises(bo.errors.VariableError, match=said):
        door(node, new)

    assert node.tau.value.mantissa.tolist() == [20, 30]


def test_a_plain_variable_takes_no_quantity():
    with pytest.raises(bo.errors.VariableError, match="ms for a number without a unit"):
        bo.Variable([1.0]).value = jnp.ones(1) * u.ms


def test_tables_and_state_dicts_name_the_unit():
    node = _node()

    assert list(node.state_dict()) == ["tau.ms"]
    assert "ms: shape=(2,)" in repr(node.tau) and "TrainVar ms: (2,)" in repr(node)
    assert "tau.ms" in str(bo.summary(node))


@pytest.mark.parametrize("door", ["state dict", "bopt", "npz", "safetensors"])
@pytest.mark.parametrize("unit", [u.ms, u.second, u.mV])
def test_every_file_brings_numbers_in_the_unit_of_the_variable(door, unit, tmp_path):
    node, other = _node(), _node(jnp.ones(2) * unit)
    file = tmp_path / f"run.{door}"
    if door != "state dict":
        node.save_states(file)

    def load():
        if door == "state dict":
            other.load_state_dict(node.state_dict())
        else:
            other.load_states(file)

    if unit != u.mV:
        load()
        assert other.tau.value.unit == unit
        np.testing.assert_allclose(other.tau.value.to_decimal(u.ms), [20, 30])
    else:
        with pytest.raises(ValueError, match=rf"(?s)tau\.{unit}.*tau\.ms"):
            load()
        assert other.tau.value.mantissa.tolist() == [1, 1]


DOORS_OF_STATE = ["state dict", "bopt", "npz", "safetensors"]


def _trainer(unit, attached):
    tau = jnp.array([20.0, 30.0]) * unit
    net = bo.attach({"tau": tau}) if attached else _node(tau)
    opt = bo.optim.Adam(0.1, net)
    opt.update(jax.tree.map(jnp.ones_like, net.train_vars().dict()))
    return net, opt


@pytest.mark.parametrize("door", DOORS_OF_STATE)
@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("unit", [u.second, u.mV])
def test_moments_in_another_unit_are_refused_and_nothing_changes(
    unit, attached, door, tmp_path
):
    _, new = _trainer(unit, attached)
    before = new.state_dict()
    _, opt = _trainer(u.ms, attached)

    with pytest.raises(ValueError, match=r"(?s)tau.*\.m\b.*slots\.tau\.ms\.m"):
        _load(new, opt, door, tmp_path)

    for path, value in new.state_dict().items():
        np.testing.assert_array_equal(value, before[path])


def _load(new, old, door, tmp_path, **options):
    if door == "state dict":
        return new.load_state_dict(old.state_dict(), **options)
    old.save_states(tmp_path / f"run.{door}")
    return new.load_states(tmp_path / f"run.{door}", **options)


@pytest.mark.parametrize("door", DOORS_OF_STATE)
def test_a_load_that_is_not_strict_leaves_them_and_says_so(door, tmp_path):
    _, opt = _trainer(u.ms, attached=False)
    _, new = _trainer(u.second, attached=False)

    result = _load(new, opt, door, tmp_path, strict=False)

    assert "slots.tau.s.m" in str(result) and "slots.tau.ms.m" in str(result)


def test_a_pytree_of_quantities_refuses_numbers_in_another_unit():
    net, _ = _trainer(u.ms, attached=True)
    other, _ = _trainer(u.second, attached=True)

    assert list(net.state_dict()) == ["tau.ms"]
    with pytest.raises(ValueError, match=r"(?s)missing: tau\.s.*unexpected: tau\.ms"):
        other.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("number", "unit"), [(2.0, u.ms), (2e-3, u.second), (2.0, u.kHz), (2e3, u.Hz)]
)
def test_a_gradient_in_the_unit_or_its_inverse_is_taken(number, unit):
    node = _node()

    bo.optim.SGD(0.5, node).update({"tau": jnp.full(2, number) * unit})

    assert jnp.allclose(node.tau.value.mantissa, jnp.array([19.0, 29.0]))


def test_that_of_a_loss_with_a_unit_is_not():
    opt = bo.optim.SGD(0.5, _node())

    with pytest.raises(bo.errors.GradientError, match="in mV for a variable in ms"):
        opt.update({"tau": jnp.ones(2) * u.mV})
    with pytest.raises(bo.errors.GradientError, match="gradient without a unit"):
        opt.update({"tau": jnp.ones(2)})


def _clipped(bounds, unit):
    node = _node((jnp.array([20.0, 30.0]) * u.ms).in_unit(unit))
    opt = bo.optim.SGD(1.0, node, groups=[{"match": "tau", "bounds": bounds}])
    opt.update({"tau": (jnp.array([1000.0, -1000.0]) * u.ms).in_unit(unit)})
    return node.tau.value


def _clipped_by_apply(bounds, unit):
    params = {"tau": (jnp.array([20.0, 30.0]) * u.ms).in_unit(unit)}
    opt = bo.optim.SGD(1.0, groups=[{"match": "tau", "bounds": bounds}])
    grads = {"tau": (jnp.array([1000.0, -1000.0]) * u.ms).in_unit(unit)}
    return opt.apply(params, opt.init(params), grads)[0]["tau"]


def _clipped_by_optax(bounds, unit):
    optax = pytest.importorskip("optax")
    params = {"tau": (jnp.array([20.0, 30.0]) * u.ms).in_unit(unit)}
    opt = bo.optim.SGD(1.0, groups=[{"match": "tau", "bounds": bounds}]).as_optax()
    grads = {"tau": (jnp.array([1000.0, -1000.0]) * u.ms).in_unit(unit)}
    updates, _ = opt.update(grads, opt.init(params), params)
    return optax.apply_updates(params, updates)["tau"]


def _clipped_later(bounds, unit):
    node, other = _node((jnp.array([20.0, 30.0]) * u.ms).in_unit(unit)), _node()
    wide = (None if bounds[0] is None else 0.0 * u.ms, 1e6 * u.ms)
    opt = bo.optim.SGD(1.0, node, groups=[{"match": "tau", "bounds": wide}])
    for name, limit in zip(("lower", "upper"), bounds, strict=True):
        if limit is not None:
            setattr(opt.groups["tau"], name, limit)
    opt.update({"tau": (jnp.array([1000.0, -1000.0]) * u.ms).in_unit(unit)})
    assert other.tau.value.unit == u.ms
    return node.tau.value


CLIPS = [_clipped, _clipped_by_apply, _clipped_by_optax, _clipped_later]
BOUNDS = {
    "ms": ((5 * u.ms, 40 * u.ms), [5, 40]),
    "s": ((5e-3 * u.second, 0.04 * u.second), [5, 40]),
    "both": ((5 * u.ms, 0.04 * u.second), [5, 40]),
    "high": ((None, 40 * u.ms), [-980, 40]),
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("given", BOUNDS)
@pytest.mark.parametrize("unit", [u.ms, u.second])
def test_bounds_are_converted_to_the_unit_of_the_variable(clip, given, unit):
    bounds, right = BOUNDS[given]

    found = clip(bounds, unit)

    assert found.unit == unit
    assert jnp.allclose(found.in_unit(u.ms).mantissa, jnp.array(right), rtol=1e-5)


@pytest.mark.parametrize("clip", CLIPS[:3])
@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((5 * u.mV, 30 * u.mV), "mV for ms"),
        ((5 * u.ms, 30 * u.mV), "mV for ms"),
        ((5, 30 * u.ms), "a number without a unit for ms"),
        ((50 * u.ms, 0.03 * u.second), "low <= high"),
    ],
    ids=["mV", "two units", "plain", "order"],
)
def test_other_bounds_are_refused_by_name(clip, bounds, said):
    with pytest.raises(bo.errors.HyperparameterError, match=said):
        clip(bounds, u.ms)


def test_bounds_of_variables_in_two_units_need_two_rules():
    node = bo.Node()
    node.a, node.b = (
        bo.TrainVar(jnp.ones(2) * u.ms),
        bo.TrainVar(jnp.ones(2) * u.second),
    )
    rule = {"match": ["a", "b"], "bounds": (1 * u.ms, None)}

    with pytest.raises(bo.errors.HyperparameterError, match=r"in ms, and b is in s\."):
        bo.optim.SGD(0.5, node, groups=[rule])

    with pytest.raises(bo.errors.HyperparameterError, match="ms for a number without"):
        bo.optim.SGD(
            0.5, {"w": bo.TrainVar(jnp.ones(2))}, groups=[rule | {"match": "w"}]
        )


def test_apply_takes_gradients_in_the_inverse_unit_and_refuses_others():
    params, opt = {"tau": jnp.array([20.0, 30.0]) * u.ms}, bo.optim.SGD(0.5)
    state = opt.init(params)

    new, _ = opt.apply(params, state, {"tau": jnp.full(2, 2000.0) * u.Hz})

    assert jnp.allclose(new["tau"].mantissa, jnp.array([19.0, 29.0]))
    with pytest.raises(bo.errors.GradientError, match="tau: gradient in mV for a vari"):
        opt.apply(params, state, {"tau": jnp.ones(2) * u.mV})


def _of_variable(transform, f, x):
    v = bo.TrainVar(x)
    return transform(lambda: f(v.value), {"v": v})()["v"]


def _of_argument(transform, f, x):
    return transform(f)(x)


def _of_both(transform, f, x):
    v = bo.TrainVar(x)
    by_v, by_x = transform(lambda x: f(v.value) + f(x), v, 0)(x)
    assert by_v.unit == by_x.unit
    return by_x


JACOBIANS = {
    "square": (lambda x: x**2, [[4, 0], [0, 6]], u.ms),
    "number": (lambda x: x.mantissa**2, [[4, 0], [0, 6]], u.kHz),
    "to mV": (lambda x: x.mantissa**2 * u.mV, [[4, 0], [0, 6]], u.mV / u.ms),
}


@pytest.mark.parametrize("way", [_of_variable, _of_argument, _of_both])
@pytest.mark.parametrize("transform", [bo.jacrev, bo.jacfwd])
@pytest.mark.parametrize("case", JACOBIANS)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_jacobian_has_the_unit_of_the_quotient(way, transform, case, compiled):
    function, right, unit = JACOBIANS[case]
    x = jnp.array([2.0, 3.0]) * u.ms

    def run():
        return way(transform, function, x)

    found = bo.jit(run)() if compiled else run()

    assert found.unit == unit
    assert found.mantissa.tolist() == right


def test_ratios_of_one_dimension_are_plain_numbers():
    x = jnp.array([2.0, 3.0]) * u.ms

    found = bo.jacrev(lambda x: (2 * x).in_unit(u.second))(x)

    assert jnp.allclose(found, jnp.eye(2) * 2)


def test_second_derivatives_have_the_unit_of_their_quotient():
    x = jnp.array([2.0, 3.0]) * u.ms

    found = bo.hessian(lambda x: (x**3).sum())(x)

    assert found.unit == u.ms and found.mantissa.tolist() == [[12, 0], [0, 18]]


def test_mixed_second_derivatives_go_by_their_own_units():
    tau, gain = bo.TrainVar(jnp.array([2.0, 3.0]) * u.ms), bo.TrainVar(jnp.array(2.0))

    def loss():
        return (tau.value.mantissa**3).sum() * gain.value

    found = bo.hessian(loss, {"tau": tau, "gain": gain})()

    assert found["tau"]["tau"].mantissa.tolist() == [[24, 0], [0, 36]]
    assert found["tau"]["tau"].unit == u.kHz / u.ms
    assert found["gain"]["tau"].unit == found["tau"]["gain"].unit == u.kHz
    assert found["gain"]["tau"].mantissa.tolist() == [12, 27]
    assert found["gain"]["gain"].tolist() == 0


def test_a_loss_with_a_unit_is_refused_with_help():
    node = _node()

    with pytest.raises(TypeError) as caught:
        bo.grad(lambda: (node.tau.value**2).sum(), node)()

    assert any("a loss has no unit" in note for note in caught.value.__notes__)
