# SPDX-License-Identifier: Apache-2.0
"""The models of the benchmarks in plain JAX, with explicit state."""

import jax
import jax.numpy as jnp
import numpy as np


def adamw(p, m, v, g, t, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, decay=1e-2):
    """Return parameter and moments after one step of AdamW."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    c1, c2 = 1 - b1 ** t.astype(jnp.float32), 1 - b2 ** t.astype(jnp.float32)
    return p - lr * (m / c1 / (jnp.sqrt(v / c2) + eps) + decay * p), m, v


def adamw_state(count, size):
    """Return the state of ``count`` parameters."""
    full = [
        [jnp.full(size, x, jnp.float32) for _ in range(count)] for x in (1.0, 0.0, 0.0)
    ]
    return {**dict(zip("pmv", full, strict=True)), "t": jnp.zeros((), jnp.int32)}


@jax.custom_jvp
def spike(v):
    """Return 1 where the membrane is above threshold; a triangular surrogate."""
    return (v > 0).astype(v.dtype)


@spike.defjvp
def _spike_jvp(primals, tangents):
    (v,), (dv,) = primals, tangents
    return spike(v), jnp.maximum(0.0, 1 - jnp.abs(v)) * dv


def lif_params(n_in, n):
    """Return the weights of the recurrent network."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(
            rng.normal(size=shape) / np.sqrt(shape[0]), dtype=jnp.float32
        )

    return {"in": normal(n_in, n), "out": normal(n, 2), "rec": normal(n, n)}


def lif_cell(w, state, x):
    """Advance the network by one step."""
    v, s, readout = state
    current = x @ w["in"] + s @ w["rec"]
    v = 0.9 * v * (1 - s) + current
    s = spike(v - 1.0)
    return v, s, 0.95 * readout + s @ w["out"]


def lif_loss(w, xs, target):
    """Return the loss of the readout after the last step."""
    batch, n = xs.shape[1], w["rec"].shape[0]
    start = jnp.zeros((batch, n)), jnp.zeros((batch, n)), jnp.zeros((batch, 2))
    (_, _, readout), _ = jax.lax.scan(
        lambda state, x: (lif_cell(w, state, x), None), start, xs
    )
    return jnp.mean((readout - target) ** 2)


lif_loss.cell = lif_cell


def coba_weights(neurons, fan_out=80):
    """Return the targets of each neuron's synapses, excitatory first."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, neurons, (neurons, fan_out))
    return jnp.asarray(targets, jnp.int32), neurons * 4 // 5


def coba(weights, state, dt=0.1):
    """Advance a conductance-based E-I network by ``dt`` ms.

    Source: Vogels and Abbott (2005), the COBA benchmark of Brette et al. (2007).
    """
    targets, excitatory = weights
    v, ge, gi, refractory, spikes = state
    to = targets[:excitatory]
    sent = jnp.broadcast_to(spikes[:excitatory, None], to.shape)
    ge = ge * jnp.exp(-dt / 5.0) + 0.6 * jnp.zeros_like(ge).at[to].add(sent)
    to = targets[excitatory:]
    sent = jnp.broadcast_to(spikes[excitatory:, None], to.shape)
    gi = gi * jnp.exp(-dt / 10.0) + 6.7 * jnp.zeros_like(gi).at[to].add(sent)
    current = ge * (0.0 - v) + gi * (-80.0 - v) + 20.0
    free = refractory <= 0
    v = jnp.where(free, v + dt / 20.0 * (-60.0 - v + current), v)
    fired = free & (v > -50.0)
    refractory = jnp.where(fired, 5.0, refractory - dt)
    return [jnp.where(fired, -60.0, v), ge, gi, refractory, fired.astype(v.dtype)]


def coba_initial(neurons):
    """Return the state before the first step."""
    rng = np.random.default_rng(2)
    v = jnp.asarray(rng.normal(-55, 5, neurons), jnp.float32)
    zeros = jnp.zeros(neurons)
    return [v, zeros, zeros, zeros, zeros]


coba.initial = coba_initial
