# SPDX-License-Identifier: Apache-2.0
"""One rule for units: those of one dimension are converted, others refused by name."""

import jax.numpy as jnp
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
def test_no_file_brings_numbers_in_another_unit(door, unit, tmp_path):
    node, other = _node(), _node(jnp.ones(2) * unit)
    file = tmp_path / f"run.{door}"
    if door != "state dict":
        node.save_states(file)

    def load():
        if door == "state dict":
            other.load_state_dict(node.state_dict())
        else:
            other.load_states(file)

    if unit == u.ms:
        load()
        assert other.tau.value.mantissa.tolist() == [20, 30]
    else:
        with pytest.raises(ValueError, match=rf"(?s)tau\.{unit}.*tau\.ms"):
            load()
        assert other.tau.value.mantissa.tolist() == [1, 1]


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


def test_bounds_are_numbers_in_the_unit_of_the_parameter():
    with pytest.raises(bo.errors.HyperparameterError, match="unit of the parameter"):
        bo.optim.SGD(
            0.5, _node(), groups=[{"match": "tau", "bounds": (5 * u.ms, None)}]
        )
