# SPDX-License-Identifier: Apache-2.0
"""Programs for brainstate, with the optimizers of braintools and with ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.hosts.programs.swaps import assert_equal_numbers

pytestmark = pytest.mark.hosts("brainstate", "braintools")
_draw = np.random.RandomState(0)
X = _draw.randn(8, 6).astype("f")
Y = np.sin(X.sum(1, keepdims=True)).astype("f")
SPIKES = (_draw.rand(12, 4, 6) < 0.3).astype("f")
LABELS = _draw.randint(0, 2, 4)


def _train(loss, weights, opt, steps=5, after=lambda: None):
    """Train in a loop compiled by brainstate; ``after`` is called after each step."""
    import brainstate

    opt.register_trainable_weights(weights)
    gradient = brainstate.transform.grad(loss, weights, return_value=True)

    @brainstate.transform.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    losses = []
    for _ in range(steps):
        losses.append(float(step()))
        after()
    return losses


def _rate_net(make):
    """A recurrent net that is registered after its optimizer was made."""
    import brainstate

    rng = np.random.RandomState(1)
    w_in, w_rec, w_out = (
        brainstate.ParamState(jnp.asarray(0.4 * rng.randn(*s), "float32"))
        for s in ((6, 8), (8, 8), (8, 1))
    )

    def loss():
        def move(r, _):
            return jnp.tanh(X @ w_in.value + r @ w_rec.value), None

        r, _ = jax.lax.scan(move, jnp.zeros((8, 8)), None, 5)
        return ((r @ w_out.value - Y) ** 2).mean()

    opt, *after = make()
    return _train(loss, {"w_in": w_in, "w_rec": w_rec, "w_out": w_out}, opt, 5, *after)


@pytest.mark.parametrize(
    ("name", "mend"),
    [("Adam", None), ("Lion", None), ("Adagrad", {"epsilon": 1e-10})],
)
def test_a_net_of_rates(name, mend):
    import braintools

    assert_equal_numbers(
        _rate_net,
        lambda: [getattr(braintools.optim, name)(lr=0.01)],
        lambda **more: [getattr(bo.optim, name)(lr=0.01, **more)],
        mend,
    )


def test_a_net_whose_gradients_are_clipped():
    import braintools

    assert_equal_numbers(
        _rate_net,
        lambda: [braintools.optim.Adam(lr=0.02, grad_clip_norm=0.1)],
        lambda: [bo.optim.Adam(lr=0.02, clip_norm=0.1)],
    )


DECAYS = {
    "ExponentialDecayLR": {"decay_steps": 2, "decay_rate": 0.5},
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "CosineAnnealingLR": {"T_max": 6},
}


def _rates(optim, name, **more):
    return getattr(optim, name)(base_lr=0.02, **DECAYS[name], **more)


@pytest.mark.parametrize("name", DECAYS)
def test_a_net_whose_rate_falls(name):
    """A schedule of braintools moves by its own ``step()``, ours by its clock."""
    import braintools

    def theirs():
        rate = _rates(braintools.optim, name)
        return braintools.optim.Adam(lr=rate), rate.step

    def ours(**more):
        rate = _rates(bo.optim, name, **more)
        after = [rate.step_epoch] if rate.clock == "epoch" else []
        return [bo.optim.Adam(lr=rate), *after]

    counts_updates = name == "ExponentialDecayLR"
    mend = {"clock": "epoch"} if counts_updates else None
    assert_equal_numbers(_rate_net, theirs, ours, mend)


def test_a_net_whose_rate_is_never_advanced():
    """A published program that does not call ``step()`` trains at the first rate."""
    import braintools

    name = "ExponentialDecayLR"
    assert_equal_numbers(
        _rate_net,
        lambda: [braintools.optim.Adam(lr=_rates(braintools.optim, name))],
        lambda **more: [bo.optim.Adam(lr=_rates(bo.optim, name, **more))],
        {"clock": "epoch"},
    )


def _spiking_with_units(make):
    """Leaky neurons in mV and ms; the weights are currents in mA."""
    import brainpy.state
    import brainstate
    import braintools
    import brainunit as u

    rng = np.random.RandomState(4)
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(0)

    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            w_in = jnp.asarray(2 * rng.randn(6, 8), "float32")
            self.w_in = brainstate.ParamState(w_in * u.mA)
            self.neurons = brainpy.state.LIF(
                8,
                R=1.0 * u.ohm,
                tau=20.0 * u.ms,
                V_rest=0.0 * u.mV,
                V_reset=0.0 * u.mV,
                V_th=1.0 * u.mV,
                spk_fun=braintools.surrogate.ReluGrad(),
            )
            w_out = jnp.asarray(rng.randn(8, 2), "float32")
            self.w_out = brainstate.ParamState(w_out)

        def update(self, x):
            return self.neurons(x @ self.w_in.value) @ self.w_out.value

    net = Net()

    def loss():
        brainstate.nn.init_all_states(net, batch_size=4)
        out = brainstate.transform.for_loop(net.update, jnp.asarray(SPIKES)).sum(0)
        return -jax.nn.log_softmax(out)[jnp.arange(4), LABELS].mean()

    brainstate.nn.init_all_states(net, batch_size=4)
    return _train(loss, net.states(brainstate.ParamState), make())


@pytest.mark.hosts("brainpy")
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_spiking_net_with_units(name):
    import braintools

    assert_equal_numbers(
        _spiking_with_units,
        lambda: getattr(braintools.optim, name)(lr=0.02),
        lambda **more: getattr(bo.optim, name)(lr=0.02, **more),
    )
