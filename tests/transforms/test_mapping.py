# SPDX-License-Identifier: Apache-2.0
"""vmap and shard_map: rules for Variables, random numbers, ensembles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import StateDictError, VariableError

P = jax.sharding.PartitionSpec


def test_a_variable_without_a_rule_is_seen_whole():
    w = bo.Variable([1.0, 2.0, 3.0])

    out = bo.vmap(lambda x: (w * x).sum())(jnp.arange(4.0))

    assert out.tolist() == [0.0, 6.0, 12.0, 18.0]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_variable_is_split_along_its_axis(axis):
    value = jnp.arange(6.0).reshape(2, 3)
    v = bo.Variable(value)

    def lane(x):
        assert v.value.shape == ((3,) if axis == 0 else (2,))
        v.value = v.value + x
        return v.value.sum()

    n = value.shape[axis]
    sums = bo.vmap(lane, axes={v: axis})(jnp.arange(float(n)))

    add = np.arange(float(n))
    expected = value + (add[:, None] if axis == 0 else add[None, :])
    np.testing.assert_array_equal(v.value, expected)
    np.testing.assert_array_equal(sums, expected.sum(1 if axis == 0 else 0))


def test_a_write_that_differs_between_lanes_is_named():
    v = bo.Variable(jnp.array(1.0), name="shared")
    w = bo.Variable(jnp.array(1.0), name="fine")

    def lane(x):
        w.value += 1
        v.value = v.value + x

    with pytest.raises(VariableError, match=r"lane of vmap[\s\S]*'shared'") as caught:
        bo.vmap(lane)(jnp.arange(3.0))

    assert "'fine'" not in str(caught.value)
    assert (float(v), float(w)) == (1.0, 1.0)


def test_a_write_that_is_equal_in_all_lanes_is_kept():
    v = bo.Variable(jnp.array(1.0))

    def lane(x):
        v.value += jax.lax.psum(x, "lanes")

    bo.vmap(lane, axis_name="lanes")(jnp.arange(3.0))

    assert float(v) == 4.0


def test_rules_come_from_nodes_collectors_kinds_and_lists():
    class Net(bo.Node):
        def __init__(self):
            self.w = bo.TrainVar([1.0, 2.0])
            self.b = bo.Variable([1.0, 2.0])
            self.shared = bo.Variable(jnp.array(5.0))

    net = Net()

    def lane():
        net.w.value += net.b.value * net.shared.value

    for axes in (
        {net.w: 0, net.b: 0},
        [([net.w, net.b], 0)],
        [(net.vars(), 0), (net.shared, None)],
        {net: 0, net.shared: None},
        {bo.TrainVar: 0, net.b: 0},
        {bo.Variable: 0, net.shared: None},
    ):
        bo.vmap(lane, axis_size=2, axes=axes)()

    assert net.w.value.tolist() == [31.0, 62.0]


def test_rules_that_do_not_fit_are_named():
    v, w = bo.Variable(jnp.zeros((2, 3)), name="v"), bo.Variable((), name="w")

    def lane(x):
        return v.value.sum() + w.value

    with pytest.raises(VariableError, match=r"'v': 3 along axis 1[\s\S]*'w': axis 0"):
        bo.vmap(lane, axes=[(v, 1), (w, 0)])(jnp.zeros(2))
    with pytest.raises(TypeError, match="str has no rule"):
        bo.vmap(lane, axes={"v": 0})(jnp.zeros(2))
    with pytest.raises(ValueError, match="axis_size"):
        bo.vmap(lambda: 1.0)()


def test_in_axes_and_keywords_are_jaxs():
    f = bo.vmap(lambda x, y, *, z: x["a"] * y + z, in_axes=({"a": 1}, None))
    x = {"a": jnp.arange(6.0).reshape(2, 3)}

    out = f(x, 2.0, z=jnp.arange(3.0))

    np.testing.assert_array_equal(out, (x["a"] * 2).T + jnp.arange(3.0)[:, None])


@pytest.mark.more
def test_each_lane_draws_its_own_numbers():
    rng = bo.RandomState(0)
    before = jax.random.key_data(rng.value)

    draw = bo.vmap(lambda x: rng.uniform() + 0 * x)
    first, second = draw(jnp.zeros(100)), bo.jit(draw)(jnp.zeros(100))

    assert len({*first.tolist(), *second.tolist()}) == 200
    assert not (before == jax.random.key_data(rng.value)).all()
    assert rng.value.shape == ()


def test_a_random_state_may_be_shared_or_mapped():
    rng = bo.RandomState(0)
    shared = bo.vmap(lambda x: rng.uniform() + 0 * x, axes={rng: None})(jnp.zeros(3))
    rng.__init__(0)
    again = float(rng.uniform())
    keys = bo.Variable(jax.random.split(jax.random.key(1), 3))
    own = bo.vmap(lambda: jax.random.uniform(keys.value), axes={keys: 0})()

    assert shared.tolist() == [again] * 3
    expected = [float(jax.random.uniform(k)) for k in keys.value]
    np.testing.assert_allclose(own, expected)


class Trainer(bo.Node):
    """A model and its optimizer, as one would write it for a single model."""

    def __init__(self, key):
        self.w = bo.TrainVar(jax.random.normal(key, (3,)))
        self.opt = bo.optim.AdamW(1e-2, {"w": self.w})
        self.rng = bo.RandomState(7)

    def step(self, x, y):
        grads, loss = bo.grad(
            lambda: jnp.mean((x @ self.w.value - y) ** 2),
            {"w": self.w},
            None,
            False,
            True,
        )()
        self.opt.update(grads)
        return loss


@pytest.mark.more
def test_an_ensemble_trains_as_its_members_do():
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(jax.random.key(1), (16, 3))
    y = x @ jnp.array([1.0, -2.0, 0.5])
    ensemble = bo.vmap(Trainer)(keys)
    members = [Trainer(key) for key in keys]

    step = bo.jit(bo.vmap(ensemble.step, in_axes=None, axis_size=4, axes={ensemble: 0}))
    for _ in range(5):
        losses = step(x, y)
        single = [bo.jit(m.step)(x, y) for m in members]

    np.testing.assert_allclose(losses, single, rtol=1e-5)
    np.testing.assert_allclose(
        ensemble.w.value, jnp.stack([m.w.value for m in members]), rtol=1e-5
    )
    assert ensemble.opt.step.value.tolist() == [5] * 4


def _bits(node):
    """Return the bytes of every Variable, by path."""
    values = {path: v.value for path, v in node.vars().items()}
    return {
        path: np.asarray(
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ).tobytes()
        for path, x in values.items()
    }


def test_an_ensemble_takes_its_own_state_back():
    ensemble = bo.vmap(Trainer)(jax.random.split(jax.random.key(0), 4))
    before, state = _bits(ensemble), ensemble.state_dict()
    ensemble.opt.lr = 0.5

    ensemble.load_state_dict(state)

    assert _bits(ensemble) == before


def test_a_member_taken_from_an_ensemble_has_the_numbers_of_one_made_alone():
    keys = jax.random.split(jax.random.key(0), 4)
    state = bo.vmap(Trainer)(keys).state_dict()
    alone, taken = Trainer(keys[2]), Trainer(keys[0])

    taken.load_state_dict({path: value[2] for path, value in state.items()})

    assert _bits(taken) == _bits(alone)  # 1 - β and log β rounded once, from float64


def test_the_state_of_an_ensemble_is_refused_by_one_of_another_size():
    first, second = (
        bo.vmap(Trainer)(jax.random.split(jax.random.key(0), n)) for n in (4, 3)
    )

    with pytest.raises(StateDictError, match=r"stored \(4,\) float64, numbers of"):
        second.load_state_dict(first.state_dict())


def test_a_stacked_model_trains_with_one_step_counter():
    w = bo.TrainVar(jnp.ones((4, 3)))
    opt = bo.optim.AdamW(1e-2, {"w": w})
    slots = [v for kinds in opt.slots.values() for v in kinds.values()]

    def step(target):
        grads = bo.grad(lambda: ((w - target) ** 2).sum(), {"w": w})()
        opt.update(grads)

    bo.jit(bo.vmap(step, axes=[(w, 0), (slots, 0)]))(jnp.arange(4.0))

    assert int(opt.step) == 1
    assert jnp.sign(w.value - 1)[:, 0].tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_vmap_nests_in_loops_gradients_and_itself():
    w = bo.TrainVar([1.0, 2.0])
    v = bo.Variable(jnp.zeros((2, 3)))

    def inner(x):
        v.value += w.value * x
        return v.value

    outer = bo.vmap(
        lambda x: bo.vmap(inner, in_axes=None, axis_size=3, axes={v: 0})(x),
        axes={v: 0, w: 0},
    )

    def loss():
        return bo.for_loop(lambda: outer(jnp.array([1.0, 10.0])), length=2)[-1].sum()

    grads = bo.jit(bo.grad(loss, w))()

    assert v.value.tolist() == [[2.0] * 3, [40.0] * 3]
    assert grads.tolist() == [6.0, 60.0]


def test_a_variable_of_a_mapped_kind_may_be_made_in_a_lane():
    def lane(x):
        local = bo.TrainVar(x * jnp.ones(2))
        local.value += 1
        return local.value.sum()

    out = bo.vmap(lane, axes={bo.TrainVar: 0})(jnp.arange(2.0))

    assert out.tolist() == [2.0, 4.0]


@pytest.fixture
def mesh():
    return jax.sharding.Mesh(jax.devices()[:2], ("d",))


@pytest.mark.more
def test_shard_map_splits_arguments_and_chosen_variables(mesh):
    v, w = bo.Variable(jnp.zeros(4)), bo.Variable([1.0, 2.0])
    total = bo.Variable(jnp.array(0.0))

    def part(x):
        assert (v.value.shape, w.value.shape) == ((2,), (2,))
        v.value = v.value + x * w.value
        total.value += jax.lax.psum(x.sum(), "d")
        return x * 2

    f = bo.shard_map(
        part, mesh=mesh, in_specs=P("d"), out_specs=P("d"), specs={v: P("d")}
    )
    out = f(jnp.arange(4.0))
    bo.jit(f)(jnp.arange(4.0))

    assert out.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert v.value.tolist() == [0.0, 4.0, 4.0, 12.0]
    assert float(total) == 12.0


def test_shard_map_names_what_differs_between_devices(mesh):
    v = bo.Variable(jnp.array(0.0), name="shared")

    def part(x):
        v.value += x.sum()

    f = bo.shard_map(part, mesh=mesh, in_specs=P("d"), out_specs=P())

    with pytest.raises(VariableError, match=r"device of the mesh[\s\S]*'shared'"):
        f(jnp.arange(4.0))
    assert float(v) == 0.0


@pytest.mark.more
def test_each_device_draws_its_own_numbers(mesh):
    rng = bo.RandomState(0)
    f = bo.shard_map(
        lambda x: x + rng.uniform(x.shape), mesh=mesh, in_specs=P("d"), out_specs=P("d")
    )

    draws = [*f(jnp.zeros(4)).tolist(), *f(jnp.zeros(4)).tolist()]

    assert len(set(draws)) == 8
