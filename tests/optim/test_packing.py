# SPDX-License-Identifier: Apache-2.0
"""``pack=True`` changes the program of a step, and no number that anybody sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.runtime import storage
from tests.optim.members import MEMBERS

ELEMENTWISE = [m for m in MEMBERS if m.cls._elementwise]
WHOLE = {m.cls: m for m in MEMBERS if not m.cls._elementwise}
QUICK = ("AdamW",)
# Multiples of 16: the last elements of other arrays are compiled apart from the first
# ones, and XLA may round the sum of two products in either order.
SHAPES = {"W": (8, 4), "b": (16,), "V": (3, 16)}
ODD = {"W": (4, 3), "b": (3,), "gain": ()}


class Net(bo.Node):
    """The owner of the weights."""

    def __init__(self, weights):
        self.weights = weights


def _slow(value):
    return pytest.param(value, marks=pytest.mark.long)


class Training:
    """Variables, their optimizer, and a compiled step."""

    def __init__(self, make, shapes=SHAPES, **more):
        self.shapes = shapes
        rng = np.random.default_rng(0)
        self.rng = np.random.default_rng(1)
        self.weights = {
            k: bo.TrainVar(rng.normal(size=s).astype(np.float32))
            for k, s in shapes.items()
        }
        self.opt = make(train_vars=self.weights, **more)
        self.step = bo.jit(self.opt.update)

    def grads(self):
        """Return gradients that are new in each call."""
        draw = self.rng.normal
        shapes = self.shapes.items()
        return {k: jnp.asarray(draw(size=s), jnp.float32) for k, s in shapes}

    def run(self, steps=3):
        """Take some steps."""
        for _ in range(steps):
            self.step(self.grads())
        return self

    def state(self):
        """Return all that is kept."""
        weights = {f"net.{k}": v.value for k, v in self.weights.items()}
        return {**weights, **self.opt.state_dict()}

    def inputs(self):
        """Return the number of arrays that the program takes."""
        return len(jax.tree.leaves(self.step.lower(self.grads()).in_avals))


def sgd(**more):
    """Return an optimizer that compiles fast."""
    return bo.optim.SGD(0.1, momentum=0.9, **more)


def both(make, act=lambda training: training.run(), **more):
    """Return what is kept after the same actions, without and with packs."""
    pair = [Training(make, pack=pack, **more) for pack in (False, True)]
    for training in pair:
        act(training)
    return pair


def assert_equal(plain, packed, rtol=0.0):
    """Compare all bits, or nearly all, under all names."""
    one, other = plain.state(), packed.state()
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_allclose(other[key], value, rtol=rtol, atol=0, err_msg=key)


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(m, id=m.name, marks=[pytest.mark.long] * (m.name not in QUICK))
        for m in ELEMENTWISE
    ],
)
def test_packed_equals_unpacked_to_the_bit(member):
    plain, packed = both(member.make)
    # Its root of a difference is fused otherwise, which moves a last bit.
    assert_equal(plain, packed, rtol=1e-5 * member.settings.get("centered", False))
    slots = len(packed.opt.slots["W"])
    assert plain.inputs() - packed.inputs() == (1 + slots) * (len(SHAPES) - 1)


def test_arrays_of_odd_sizes_agree_up_to_the_last_bits():
    assert_equal(*both(sgd, shapes=ODD), rtol=1e-6)


@pytest.mark.parametrize("member", WHOLE.values(), ids=lambda m: m.name)
def test_other_rules_refuse_to_pack_and_say_why(member):
    with pytest.raises(
        bo.errors.HyperparameterError, match=r"(?s)not elementwise.*needs"
    ):
        member.make({"w": bo.TrainVar(jnp.ones(2))}, pack=True)


def _settings_change(training):
    training.run(2)
    training.opt.freeze("b")
    training.run(2)
    training.opt.unfreeze()
    training.opt.lr = 0.02
    training.run(2)


def _written(training):
    training.run(2)
    training.weights["W"].value = jnp.full((8, 4), 0.5)
    training.opt.slots["b"]["b"].value = training.opt.slots["b"]["b"].value * 2
    training.run(2)


def _loaded(training):
    training.run(2)
    state = training.opt.state_dict()
    training.run(1)
    training.opt.load_state_dict(state)
    training.run(1)


def _by_turns(training):
    read = bo.jit(lambda: sum(v.value.sum() for v in training.weights.values()))
    for _ in range(3):
        training.run(1)
        float(read())
        training.opt.update(training.grads())


def _without_a_gradient(training):
    training.run(1)
    training.step({**training.grads(), "b": None})
    training.run(1)


def _in_a_loop(training):
    many = [training.grads() for _ in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *many)
    training.run(1)
    bo.jit(lambda g: bo.for_loop(training.opt.update, g))(stacked)
    training.run(1)


def _changed_after_the_step(training):
    weights = training.weights

    @bo.jit
    def step(grads):
        training.opt.update(grads)
        weights["W"].value = jnp.abs(weights["W"].value)

    step(training.grads())
    step(training.grads())


@pytest.mark.parametrize(
    "act",
    [
        _by_turns,
        _written,
        *map(
            _slow,
            (
                _settings_change,
                _loaded,
                _without_a_gradient,
                _in_a_loop,
                _changed_after_the_step,
            ),
        ),
    ],
)
def test_whatever_happens_between_steps_the_bits_agree(act):
    assert_equal(*both(sgd, act))


SETTINGS = {
    "mask and groups": {
        "weight_decay": 0.1,
        "mask": "matrices",
        "groups": [{"match": "V", "lr": 0.3}, {"match": "b", "bounds": (-0.1, 0.1)}],
    },
    "signs and a constraint": {
        "groups": [
            {"match": "W", "sign": jnp.ones((8, 1))},
            {"match": "V", "constraint": jnp.abs},
        ],
    },
    "clipping and norms": {"clip_value": 0.5, "monitor": "variables"},
    "micro-batches": {"accumulate": 2},
    "finite steps alone": {"nonfinite": "skip"},
}


@pytest.mark.long
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_settings_mean_the_same(settings):
    assert_equal(*both(sgd, **settings))


@pytest.mark.parametrize("precision", ["master", *map(_slow, ("kahan", "stochastic"))])
def test_narrow_variables_keep_their_precision(precision):
    found = []
    for pack in (False, True):
        weights = {k: bo.TrainVar(jnp.ones(2, jnp.bfloat16)) for k in "ab"}
        opt = bo.optim.SGD(0.1, weights, precision=precision, pack=pack)
        step = bo.jit(opt.update)
        for _ in range(2):
            step({k: jnp.full(2, 1e-3, jnp.bfloat16) for k in weights})
        found.append([v.value.tolist() for v in weights.values()])
    assert found[0] == found[1]


@pytest.mark.parametrize("first", [False, True])
def test_a_file_goes_on_with_and_without_packs(first, tmp_path):
    one, other = Training(sgd, pack=first).run(2), Training(sgd, pack=not first)
    for training, door in ((one, bo.checkpoint.save), (other, bo.checkpoint.restore)):
        door(tmp_path / "state", {"net": Net(training.weights), "opt": training.opt})
    other.rng = np.random.default_rng(1)
    for _ in range(2):  # one and the other go on with the same gradients
        other.grads()
    assert_equal(one.run(2), other.run(2))


def test_a_value_that_somebody_holds_survives_the_next_steps():
    packed = Training(sgd, pack=True).run(2)
    held = packed.weights["W"].value
    before = np.array(held)
    packed.run(2)
    np.testing.assert_array_equal(held, before)
    assert not np.array_equal(packed.weights["W"].value, before)


def test_two_variables_may_share_an_array():
    packed = Training(sgd, pack=True).run(1)
    other = bo.Variable(packed.weights["W"].value)
    before = np.array(other.value)
    packed.run(2)
    np.testing.assert_array_equal(other.value, before)


def test_a_large_variable_stays_by_itself():
    shapes = {"a": 3, "b": 4, "large": 2**12 + 1}
    weights = {k: bo.TrainVar(jnp.ones(n)) for k, n in shapes.items()}
    opt = bo.optim.SGD(0.1, weights, pack=True)
    grads = {k: jnp.ones(n) for k, n in shapes.items()}
    step = bo.jit(opt.update)
    step(grads)
    donated = jax.tree.leaves(step.lower(grads).in_avals[0][0])
    assert sorted(x.shape for x in donated) == [(), (7,), (2**12 + 1,)]


def test_values_that_a_failed_step_took_can_be_given_anew():
    packed = Training(sgd, pack=True).run(2)
    for array in storage.resident.box[0]:
        array.delete()  # as a donating step that fails while it runs
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(packed.weights["W"].value)
    packed.weights["W"].value = jnp.ones((8, 4))
    np.testing.assert_array_equal(packed.weights["W"].value, 1.0)


def test_reading_another_variable_leaves_the_packs_whole():
    packed = Training(sgd, pack=True).run(2)
    held = packed.opt.step.value
    arrays = storage.resident.box[0]
    assert int(held) == 2
    packed.opt.step.value = jnp.asarray(5, jnp.int32)
    packed.run(1)
    assert int(held) == 2 and int(packed.opt.step) == 6
    assert [x.is_deleted() for x in arrays] == [True, True, False]
    assert storage.resident.written_back is None


def _layers(pack, count=20, width=16):
    rng = np.random.default_rng(0)
    shapes = [s for _ in range(count) for s in ((width, width), (width,))]
    weights = [bo.TrainVar(rng.normal(size=s).astype(np.float32) / 4) for s in shapes]
    return weights, bo.optim.AdamW(1e-2, weights, pack=pack)


def _training_of(weights, opt, x):
    def loss():
        h = x[:4]
        for w, b in zip(weights[::2], weights[1::2], strict=True):
            h = jnp.tanh(h @ w.value + b.value[None])
        return ((h - 1) ** 2).mean()

    @bo.jit
    def step():
        grads, value = bo.grad(loss, weights, return_value=True)()
        opt.update(grads)
        return value

    return step


@pytest.mark.parametrize("rows", [4, 2000], ids=["alone", "beside a large constant"])
def test_a_net_of_many_layers_learns_the_same(rows):
    x = np.ones((rows, 16), np.float32)  # 2,000 rows are an input of the program
    losses, found = {}, {}
    for pack in (True, False):
        weights, opt = _layers(pack)
        step = _training_of(weights, opt, x)
        losses[pack] = [float(step()) for _ in range(3)]
        weights[3].value = weights[3].value * 2  # takes the arrays apart
        losses[pack] += [float(step()) for _ in range(3)]
        found[pack] = [w.value for w in weights], opt.state_dict()
        assert step.compiles == 1
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        *found.values(),
    )


def test_offsets_are_inputs_where_a_trace_uses_many_slices():
    weights, opt = _layers(pack=True)
    whole = _training_of(weights, opt, np.ones((4, 16), np.float32))
    whole()
    assert whole.lower().as_text().count("stablehlo.dynamic_slice") == 40
    weights, opt = _layers(pack=True)
    update, grads = bo.jit(opt.update), [jnp.ones(w.shape) for w in weights]
    update(grads)
    text = update.lower(grads).as_text()
    assert "dynamic_slice" not in text
    assert len(jax.tree.leaves(update.lower(grads).in_avals)) < 50


def test_a_run_that_began_outside_a_mesh_goes_on_in_it():
    found = {}
    for pack in (True, False):
        weights, opt = _layers(pack, count=2)
        step = _training_of(weights, opt, np.ones((4, 16), np.float32))
        step()
        with jax.set_mesh(jax.make_mesh((2,), ("x",))):
            found[pack] = [float(step()) for _ in range(3)]
        found[pack].append(float(step()))
    np.testing.assert_allclose(found[True], found[False], rtol=1e-6)
