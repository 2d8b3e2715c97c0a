# SPDX-License-Identifier: Apache-2.0
"""Programs for flax, spyx, equinox and jaxley, with their optimizer and with ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from tests.hosts.programs.swaps import assert_equal_numbers

_draw = np.random.RandomState(0)
X = _draw.randn(8, 6).astype("f")
Y = np.sin(X.sum(1, keepdims=True)).astype("f")
LABELS = _draw.randint(0, 3, 8)


def _cross_entropy(logits):
    picked = jax.nn.log_softmax(logits)[jnp.arange(len(LABELS)), LABELS]
    return -picked.mean()


def _convolutions(make):
    """A net of flax.nnx with normalised batches, by `nnx.Optimizer`."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.conv = nnx.Conv(1, 4, (3,), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.out = nnx.Linear(24, 3, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv(x[..., None])))
            return self.out(x.reshape(len(x), -1))

    net = Net()
    opt = nnx.Optimizer(net, make(), wrt=nnx.Param)

    @nnx.jit
    def step(net, opt):
        value, grads = nnx.value_and_grad(lambda m: _cross_entropy(m(X)))(net)
        opt.update(net, grads)
        return value

    return [float(step(net, opt)) for _ in range(5)]


# The names and defaults of optax; what differs stands in the table of
# docs/start/from-optax-and-torch.md.
PAIRS = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 1e-4}),
    "lion": ("Lion", {"weight_decay": 1e-3}),
    "sgd": ("SGD", {}),
    "adabelief": ("AdaBelief", {"eps_root": 1e-16, "eps": 1e-16}),
}


@pytest.mark.hosts("flax", "optax")
@pytest.mark.parametrize("name", PAIRS)
def test_a_net_of_flax(name):
    import optax

    ours, settings = PAIRS[name]
    assert_equal_numbers(
        _convolutions,
        lambda: getattr(optax, name)(0.01),
        lambda: getattr(bo.optim, ours)(0.01, **settings).as_optax(),
        rtol=2e-4,
    )


def _spiking(make):
    """A spiking net of spyx."""
    import spyx
    from flax import nnx

    rngs = nnx.Rngs(0)
    net = spyx.nn.Sequential(
        nnx.Linear(6, 8, rngs=rngs),
        spyx.nn.LIF((8,), rngs=rngs),
        nnx.Linear(8, 3, rngs=rngs),
        spyx.nn.LI((3,), rngs=rngs),
    )
    spikes = jnp.asarray(X > 0, jnp.float32)[None].repeat(5, 0)

    def loss(net):
        return _cross_entropy(spyx.nn.run(net, spikes)[0].sum(0))

    opt = nnx.Optimizer(net, make(), wrt=nnx.Param)
    step = spyx.optimize.make_train_step(loss)
    return [float(step(net, opt)) for _ in range(5)]


@pytest.mark.hosts("spyx", "flax", "optax")
def test_a_chain_of_optax_around_ours():
    import optax

    def around(tx):
        return optax.chain(optax.centralize(), tx)

    assert_equal_numbers(
        _spiking,
        lambda: around(optax.lion(3e-3)),
        lambda: around(bo.optim.Lion(3e-3, weight_decay=1e-3).as_optax()),
    )


def _neural_ode(make):
    """A net of equinox as the right side of an equation, by steps of Heun."""
    import equinox as eqx

    net = eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0), activation=jax.nn.softplus)
    start = jnp.asarray(X[:, :2])

    def loss(net):
        def move(y, _):
            slope = jax.vmap(net)(y)
            after = jax.vmap(net)(y + 0.1 * slope)
            return y + 0.05 * (slope + after), None

        return ((jax.lax.scan(move, start, None, 10)[0] - Y) ** 2).mean()

    tx, with_net = make()
    state = tx.init(eqx.filter(net, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(net, state):
        value, grads = eqx.filter_value_and_grad(loss)(net)
        updates, state = tx.update(grads, state, *[net] * with_net)
        return eqx.apply_updates(net, updates), state, value

    losses = []
    for _ in range(5):
        net, state, value = step(net, state)
        losses.append(float(value))
    return losses


@pytest.mark.hosts("equinox", "optax")
@pytest.mark.parametrize("with_net", [False, True])
@pytest.mark.parametrize("name", ["adam", "adabelief"])
def test_an_equation_of_equinox(name, with_net):
    """The update takes no parameters, or the whole net with leaves that are none."""
    import optax

    ours, settings = PAIRS[name]
    assert_equal_numbers(
        _neural_ode,
        lambda: (getattr(optax, name)(0.01), with_net),
        lambda: (getattr(bo.optim, ours)(0.01, **settings).as_optax(), with_net),
    )


def _cell(make):
    """Conductances of a cell of jaxley, fitted to a voltage."""
    import jaxley as jx
    from jaxley.channels import HH
    from jaxley.optimize.transforms import ParamTransform, SigmoidTransform

    cell = jx.Cell(jx.Branch(jx.Compartment(), 2), [-1])
    cell.insert(HH())
    cell.branch(0).loc(0.0).record(verbose=False)
    current = jx.step_current(0.2, 1.0, 0.1, 0.025, 2.0)
    cell.branch(0).loc(0.0).stimulate(current, verbose=False)
    cell.make_trainable("HH_gNa", verbose=False)
    cell.make_trainable("HH_gK", verbose=False)
    bounds = [
        {"HH_gNa": SigmoidTransform(0.01, 0.5)},
        {"HH_gK": SigmoidTransform(0.01, 0.1)},
    ]
    transform = ParamTransform(bounds)

    def loss(params):
        voltages = jx.integrate(cell, params=transform.forward(params))
        return ((voltages[0, ::10] + 60.0) ** 2).mean()

    params, tx = transform.inverse(cell.get_parameters()), make()
    state, gradient, losses = tx.init(params), jax.jit(jax.value_and_grad(loss)), []
    for _ in range(3):
        value, grads = gradient(params)
        updates, state = tx.update(grads, state)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        losses.append(float(value))
    return losses


@pytest.mark.hosts("jaxley", "optax")
def test_a_cell_of_jaxley():
    import optax

    assert_equal_numbers(
        _cell, lambda: optax.adam(0.05), lambda: bo.optim.Adam(0.05).as_optax()
    )


@pytest.mark.hosts("brainpy")
def test_a_reservoir_of_another_seed_is_not_taken_for_the_same(tmp_path):
    """FORCE: the fixed weights are plain arrays, of which a checksum is in the file."""
    import brainpy as bp
    import brainpy.math as bm

    class Reservoir(bp.DynamicalSystem):
        def __init__(self, seed):
            super().__init__()
            self.w = np.random.RandomState(seed).randn(8, 8).astype("f")
            self.out = bm.TrainVar(bm.zeros((8, 1)))

    file = tmp_path / "force.bopt"
    bo.checkpoint.save(file, {"net": bo.attach(Reservoir(0))})

    bo.checkpoint.restore(file, {"net": bo.attach(Reservoir(0))})
    with pytest.raises(bo.errors.CheckpointMismatchError, match=r"net\.w"):
        bo.checkpoint.restore(file, {"net": bo.attach(Reservoir(1))})
