# SPDX-License-Identifier: Apache-2.0
"""Freezing, hooks, snapshots and trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.optim.runs import encoder, ones

optim = bo.optim


# --- freezing


def test_frozen_variables_do_not_move():
    net = encoder()
    opt = optim.AdamW(0.1, net)
    step = bo.jit(opt.update)
    step(ones(opt))
    before = np.asarray(net.enc.W.value), np.asarray(opt.slots["enc.W"]["m"].value)

    assert opt.freeze("enc") == ["enc.W", "enc.b"]
    step(ones(opt))
    step({"out.W": jnp.ones((3, 1))})

    np.testing.assert_array_equal(net.enc.W.value, before[0])
    np.testing.assert_array_equal(opt.slots["enc.W"]["m"].value, before[1])
    assert "frozen" in opt.explain("enc.W") and "frozen" in str(opt.summary())


@pytest.mark.parametrize("drop", [False, True])
def test_thawed_variables_go_on(drop):
    net, alone = encoder(), bo.TrainVar(jnp.ones(3))
    opt, other = optim.AdamW(0.1, net), optim.AdamW(0.1, alone)
    opt.update(ones(opt))
    other.update(jnp.ones(3))

    opt.freeze("enc.b", drop_slots=drop)
    opt.update(ones(opt))
    assert opt.unfreeze("enc.b") == []
    if drop:
        fresh = bo.TrainVar(alone.value)
        other, alone = optim.AdamW(0.1, fresh), fresh
    opt.update(ones(opt))
    other.update(jnp.ones(3))

    np.testing.assert_allclose(net.enc.b.value, alone.value, rtol=1e-6)


def test_a_choice_that_fits_nothing_is_an_error():
    opt = optim.AdamW(0.1, encoder())

    with pytest.raises(bo.errors.PathError, match=r"encoder"):
        opt.freeze("encoder")
    with pytest.raises(bo.errors.PathError, match=r"enc\.W"):
        opt.explain("encoder")


# --- hooks and going back


def test_hooks_see_each_update_and_may_change_gradients():
    w, seen = bo.TrainVar(jnp.ones(2)), []
    opt = optim.SGD(1.0, w)
    halve = opt.before_update(lambda opt, g: jax.tree.map(lambda x: x / 2, g))
    opt.after_update(lambda opt: seen.append(int(opt.step)))

    opt.update(jnp.ones(2))
    halve()
    opt.update(jnp.ones(2))

    np.testing.assert_allclose(w.value, 1 - 0.5 - 1.0)
    assert seen == [1, 2]


def test_a_snapshot_survives_donated_steps():
    w = bo.TrainVar(jnp.ones(1000))
    opt = optim.AdamW(0.1, w)
    step = bo.jit(opt.update)
    step(jnp.ones(1000))
    before = {k: np.asarray(v) for k, v in opt.state_dict().items()}
    kept, value = opt.snapshot(), np.asarray(w.value)

    step(jnp.ones(1000))
    opt.lr = 0.7
    opt.restore(kept)

    np.testing.assert_array_equal(w.value, value)
    for key, array in opt.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_a_trial_is_undone_unless_committed():
    w = bo.TrainVar(jnp.ones(2))
    opt = optim.SGD(0.1, w)

    with opt.trial():
        opt.update(jnp.ones(2))
    assert (int(opt.step), float(w[0])) == (0, 1.0)
    with pytest.raises(ZeroDivisionError), opt.trial() as trial:
        opt.update(jnp.ones(2))
        trial.commit()
        1 / 0
    assert int(opt.step) == 0
    with opt.trial() as trial:
        opt.update(jnp.ones(2))
        trial.commit()

    assert (int(opt.step), float(w[0])) == (1, pytest.approx(0.9))


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("through", [lambda f: f, bo.jit])
def test_a_step_missed_on_trial_is_not_missed(steps, through):
    def run(trial):
        variables = {"a": bo.TrainVar(jnp.ones(2)), "b": bo.TrainVar(jnp.ones(2))}
        opt = optim.Adam(0.1, variables)
        for _ in range(steps):
            opt.update({"a": jnp.ones(2), "b": jnp.ones(2)})
        if trial:
            with opt.trial():
                through(lambda: opt.update({"a": jnp.ones(2), "b": None}))()
        opt.update({"a": jnp.ones(2), "b": jnp.full(2, 0.1)})
        return variables["b"].value

    np.testing.assert_allclose(run(True), run(False), rtol=1e-6)


def test_a_variable_registered_since_a_snapshot_keeps_its_own_steps():
    a, b, twin = (bo.TrainVar(jnp.ones(2)) for _ in range(3))
    opt, other = optim.Adam(0.1, {"a": a}), optim.Adam(0.1, twin)
    before = opt.snapshot()
    opt.update({"a": jnp.ones(2)})
    opt.register_train_vars({"b": b})
    grads = {"a": jnp.ones(2), "b": jnp.ones(2)}
    opt.update(grads)

    opt.restore(before)
    opt.update(grads)

    other.update(jnp.ones(2))
    other.update(jnp.ones(2))
    np.testing.assert_allclose(b.value, twin.value, rtol=1e-6)
