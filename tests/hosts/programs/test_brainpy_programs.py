# SPDX-License-Identifier: Apache-2.0
"""Programs as those of BrainPy's examples, with their optimizer and with ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.hosts.programs.swaps import assert_equal_numbers

pytestmark = pytest.mark.hosts("brainpy", "braintools")
DIALECT = {"dialect": "brainpy"}
_draw = np.random.RandomState(0)
NOISE = _draw.randn(6, 4, 12, 1).astype("f")
SPIKES = (_draw.rand(10, 4, 6) < 0.3).astype("f")
LABELS = _draw.randint(0, 2, 4)


def _optim():
    import brainpy as bp

    return bp.optim


def _surrogate():
    @jax.custom_jvp
    def spike(v):
        return (v > 0).astype(v.dtype)

    @spike.defjvp
    def _(primals, tangents):
        (v,), (dv,) = primals, tangents
        return spike(v), dv / (1 + 10 * jnp.abs(v)) ** 2

    return spike


def _cross_entropy(logits):
    picked = jax.nn.log_softmax(logits)[jnp.arange(len(LABELS)), LABELS]
    return -picked.mean()


def _loop(loss, weights, opt, steps=5):
    """Train in a loop of its own, compiled by BrainPy; return the losses."""
    import brainpy.math as bm

    gradient = bm.grad(loss, grad_vars=weights, return_value=True)

    @bm.jit
    def step():
        grads, value = gradient()
        opt.update(grads)
        return value

    return [float(step()) for _ in range(steps)]


def _integrator(make):
    """A recurrent net that integrates noise, by `bp.BPTT`."""
    import brainpy as bp
    import brainpy.math as bm

    bm.random.seed(1)
    with bm.training_environment():

        class RNN(bp.DynamicalSystem):
            def __init__(self):
                super().__init__()
                self.rnn = bp.dyn.RNNCell(1, 8, train_state=True)
                self.out = bp.dnn.Dense(8, 1)

            def update(self, x):
                return self.out(self.rnn(x))

        net = RNN()

        def loss(predictions, targets):
            return bp.losses.mean_squared_error(predictions, targets)

        def batches():
            for x in NOISE:
                yield x, np.cumsum(x, axis=1) * 0.1

        trainer = bp.BPTT(net, loss_fun=loss, optimizer=make(), progress_bar=False)
        trainer.fit(batches, num_epoch=2, num_report=1)
    return trainer.get_hist_metric("fit")


def test_an_integrator_with_a_decaying_rate():
    def theirs():
        rate = _optim().ExponentialDecay(0.02, 1, 0.9)
        return _optim().Adam(rate, eps=0.1)

    def ours(**more):
        rate = bo.optim.ExponentialDecay(0.02, 1, 0.9)
        return bo.optim.Adam(rate, eps=0.1, **more)

    assert_equal_numbers(_integrator, theirs, ours, DIALECT)


def _adaptive(make):
    """Adaptive spiking neurons that are read out at the end (Bellec et al. 2020)."""
    import brainpy as bp
    import brainpy.math as bm

    spike = _surrogate()
    rng = np.random.RandomState(2)

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.w_in = bm.TrainVar(bm.asarray(rng.randn(6, 8).astype("f") * 0.5))
            self.w_rec = bm.TrainVar(bm.asarray(rng.randn(8, 8).astype("f") * 0.2))
            self.w_out = bm.TrainVar(bm.asarray(rng.randn(8, 2).astype("f")))
            self.v, self.z, self.a = (bm.Variable(bm.zeros((4, 8))) for _ in "vza")

        def update(self, x):
            drive = x @ self.w_in.value + self.z.value @ self.w_rec.value
            self.a.value = 0.9 * self.a.value + self.z.value
            self.v.value = 0.8 * self.v.value + drive - self.z.value
            self.z.value = spike(self.v.value - 0.5 - 0.1 * self.a.value)
            return self.z.value

    net = Net()

    def loss():
        for state in (net.v, net.z, net.a):
            state.value = bm.zeros((4, 8))
        spikes = bm.for_loop(net.update, bm.asarray(SPIKES))
        rate = bm.as_jax(spikes).mean()
        logits = bm.as_jax(spikes).mean(0) @ net.w_out.value
        return _cross_entropy(bm.as_jax(logits)) + (rate - 0.1) ** 2

    weights = net.train_vars().unique()
    return _loop(loss, weights, make(weights))


def test_adaptive_neurons():
    assert_equal_numbers(
        _adaptive,
        lambda weights: _optim().Adam(0.01, weights),
        lambda weights, **more: bo.optim.Adam(0.01, weights, **more),
        DIALECT,
    )


def _excitatory_inhibitory(make):
    """A rate net with Dale's law and noise of its own random state."""
    import brainpy as bp
    import brainpy.math as bm

    rng = np.random.RandomState(3)
    sign = np.where(np.arange(8) < 6, 1.0, -1.0).astype("f")[:, None]

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.rng = bm.random.RandomState(5)
            self.w_in = bm.TrainVar(bm.asarray(rng.randn(6, 8).astype("f") * 0.3))
            self.w = bm.TrainVar(bm.asarray(rng.rand(8, 8).astype("f") * 0.3))
            self.w_out = bm.TrainVar(bm.asarray(rng.randn(8, 2).astype("f")))
            self.r = bm.Variable(bm.zeros((4, 8)))

        def update(self, x):
            w = jnp.abs(bm.as_jax(self.w.value)) * sign
            noise = 0.1 * bm.as_jax(self.rng.normal(size=(4, 8)))
            drive = x @ self.w_in.value + self.r.value @ w + noise
            self.r.value = 0.8 * self.r.value + 0.2 * jax.nn.relu(bm.as_jax(drive))
            return self.r.value

    net = Net()

    def loss():
        net.r.value = bm.zeros((4, 8))
        rates = bm.as_jax(bm.for_loop(net.update, bm.asarray(SPIKES)))
        return _cross_entropy(bm.as_jax(rates[-1] @ net.w_out.value))

    weights = net.train_vars().unique()
    return _loop(loss, weights, make(weights))


def test_an_excitatory_inhibitory_net_with_momentum():
    assert_equal_numbers(
        _excitatory_inhibitory,
        lambda weights: _optim().Momentum(0.05, weights),
        lambda weights: bo.optim.Momentum(0.05, weights),
    )


def _readout(make):
    """Leaky neurons on Poisson spikes; the rate is stepped at each epoch."""
    import brainpy.math as bm

    spike, rng = _surrogate(), np.random.RandomState(4)
    w = bm.TrainVar(bm.asarray(rng.randn(6, 2).astype("f") * 0.5))
    v = bm.Variable(bm.zeros((4, 2)))
    encoder = bm.random.RandomState(7)
    image = bm.asarray(rng.rand(4, 6).astype("f"))
    opt = make({"w": w})

    def neuron(_):
        spikes = encoder.rand(4, 6) < image
        v.value = 0.8 * v.value + spikes.astype(float) @ w.value
        z = spike(bm.as_jax(v.value) - 1.0)
        v.value = v.value * (1 - z)
        return z

    def loss():
        v.value = bm.zeros((4, 2))
        return _cross_entropy(bm.as_jax(bm.for_loop(neuron, jnp.arange(10))).mean(0))

    losses = []
    for _ in range(3):
        losses += _loop(loss, {"w": w}, opt, 2)
        opt.lr.step_epoch()
    return losses


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR"])
def test_a_readout_whose_rate_falls_by_epochs(name):
    settings = {"StepLR": (1, 0.5), "ExponentialLR": (0.5,)}[name]

    def made(optim, weights, **more):
        return optim.Adam(getattr(optim, name)(0.02, *settings), weights, **more)

    assert_equal_numbers(
        _readout,
        lambda weights: made(_optim(), weights),
        lambda weights, **more: made(bo.optim, weights, **more),
        DIALECT,
    )


def _update_inside_a_loop(make):
    """All steps of an epoch as one `bm.for_loop`."""
    import brainpy.math as bm

    spike, rng = _surrogate(), np.random.RandomState(5)
    w1 = bm.TrainVar(bm.asarray(rng.randn(6, 8).astype("f") * 0.5))
    w2 = bm.TrainVar(bm.asarray(rng.randn(8, 2).astype("f")))
    weights = {"w1": w1, "w2": w2}
    opt = make(weights)

    def loss(x):
        z = spike(bm.as_jax(jnp.asarray(x) @ w1.value) - 0.5)
        return _cross_entropy(bm.as_jax(z @ w2.value))

    gradient = bm.grad(loss, grad_vars=weights, return_value=True)

    def step(x):
        grads, value = gradient(x)
        opt.update(grads)
        return value

    return np.asarray(bm.as_jax(bm.for_loop(step, bm.asarray(SPIKES))))


@pytest.mark.parametrize("name", ["SGD", "RMSProp", "MomentumNesterov"])
def test_an_update_inside_of_a_loop(name):
    assert_equal_numbers(
        _update_inside_a_loop,
        lambda weights: getattr(_optim(), name)(0.02, weights),
        lambda weights: getattr(bo.optim, name)(0.02, weights),
    )


def _lstm(make):
    """A layer with gates, by `bp.BPTT`, whose loss is of the last step."""
    import brainpy as bp
    import brainpy.math as bm

    bm.random.seed(2)
    with bm.training_environment():

        class Net(bp.DynamicalSystem):
            def __init__(self):
                super().__init__()
                self.lstm = bp.dyn.LSTMCell(6, 8)
                self.out = bp.dnn.Dense(8, 2)

            def update(self, x):
                return self.out(self.lstm(x))

        def loss(predictions, targets):
            return _cross_entropy(bm.as_jax(predictions)[:, -1]) + 0.0 * targets.sum()

        def batches():
            for _ in range(4):
                yield SPIKES.swapaxes(0, 1), LABELS

        trainer = bp.BPTT(Net(), loss_fun=loss, optimizer=make(), progress_bar=False)
        trainer.fit(batches, num_epoch=2, num_report=1)
    return trainer.get_hist_metric("fit")


@pytest.mark.parametrize("name", ["Momentum", "SGD"])
def test_gates_by_a_trainer(name):
    assert_equal_numbers(
        _lstm,
        lambda: getattr(_optim(), name)(0.05),
        lambda: getattr(bo.optim, name)(0.05),
    )


def _masked(make):
    """Short-term plasticity whose gradients are masked by key, and clipped."""
    import brainpy.math as bm

    rng = np.random.RandomState(6)
    w_in = bm.TrainVar(bm.asarray(rng.randn(6, 8).astype("f") * 0.3))
    w_rec = bm.TrainVar(bm.asarray(rng.randn(8, 8).astype("f") * 0.3))
    w_out = bm.TrainVar(bm.asarray(rng.randn(8, 2).astype("f")))
    weights = {"w_in": w_in, "w_rec": w_rec, "w_out": w_out}
    mask = {"w_rec": 1 - np.eye(8, dtype="f")}
    opt = make(weights)

    def loss():
        def move(state, x):
            r, u, d = state
            u = u + 0.1 * (0.2 - u) + 0.2 * (1 - u) * r
            d = d + 0.1 * (1 - d) - 0.2 * u * d * r
            drive = x @ bm.as_jax(w_in.value) + (u * d * r) @ bm.as_jax(w_rec.value)
            return (0.8 * r + 0.2 * jax.nn.relu(drive), u, d), None

        start = tuple(jnp.full((4, 8), x) for x in (0.0, 0.2, 1.0))
        (r, _, _), _ = jax.lax.scan(move, start, jnp.asarray(SPIKES))
        return _cross_entropy(r @ bm.as_jax(w_out.value))

    gradient = bm.grad(loss, grad_vars=weights, return_value=True)

    @bm.jit
    def step():
        grads, value = gradient()
        for key in grads:
            grads[key] = jnp.clip(bm.as_jax(grads[key]) * mask.get(key, 1.0), -0.1, 0.1)
        opt.update(grads=grads)
        return value

    return [float(step()) for _ in range(6)]


def test_gradients_that_are_masked_by_key():
    assert_equal_numbers(
        _masked,
        lambda weights: _optim().Adam(0.02, train_vars=weights),
        lambda weights, **more: bo.optim.Adam(0.02, train_vars=weights, **more),
        DIALECT,
    )
