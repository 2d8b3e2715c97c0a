# SPDX-License-Identifier: Apache-2.0
"""Functions that JAX caches by identity and that read Variables: never an old value."""

import warnings

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.runtime import _constants

v = bo.TrainVar(jnp.array(3.0))


def _times(x):
    return x * v.value


def _times_again(x):
    return v.value * x


def _body(carry, _):
    return carry * v.value, None


def _step(_, x):
    return x * v.value


def _grow(carry):
    return carry[0] * v.value, carry[1] + 1


@jax.custom_jvp
def _with_rule(x):
    return x * 1.0


_with_rule.defjvp(lambda p, t: (_with_rule(*p), t[0]))


class _Scaled:
    @jax.jit
    def of(self, x):
        return x * v.value


jax.tree_util.register_static(_Scaled)
jitted = jax.jit(_times)
kept = jax.checkpoint(_times)
scaled = _Scaled()
ruled = jax.jit(lambda x: _with_rule(x) * v.value)

FUNCTIONS = {
    "jit": jitted,
    "method": scaled.of,
    "checkpoint": kept,
    "custom_jvp": ruled,
    "scan": lambda x: jax.lax.scan(_body, x, None, length=1)[0],
    "cond": lambda x: jax.lax.cond(x > 0, _times, _times_again, x),
    "switch": lambda x: jax.lax.switch(0, [_times, _times_again], x),
    "map": lambda x: jax.lax.map(_times, x[None])[0],
    "fori_loop": lambda x: jax.lax.fori_loop(0, 1, _step, x),
    "while_loop": lambda x: jax.lax.while_loop(lambda c: c[1] < 1, _grow, (x, 0))[0],
    "vmap": lambda x: jax.vmap(jitted)(x[None])[0],
    "associative_scan": lambda x: jax.lax.associative_scan(
        lambda a, b: a + b * v.value, jnp.stack([x * 0, x])
    )[1],
}
TWO = jnp.array(2.0)


def _write_between(function):
    v.value = jnp.array(1.0)
    before = function(TWO)
    v.value = v.value + 1
    return before, function(TWO)


def _gradient_after(function):
    v.value = jnp.array(3.0)
    out = function(TWO)
    return out, bo.grad(lambda: function(TWO), {"v": v})()["v"]


def _gradient_before(function):
    v.value = jnp.array(3.0)
    gradient = bo.grad(lambda: function(TWO), {"v": v})()["v"]
    return function(TWO), gradient


def _loop_after(function):
    v.value = jnp.array(1.0)
    before = function(TWO)

    def body(_):
        v.value = v.value + 1
        return function(TWO)

    return before, bo.for_loop(body, jnp.arange(2))[1]


def _branch_after(function):
    v.value = jnp.array(1.0)
    before = function(TWO)

    def branch():
        v.value = v.value * 2
        return function(TWO)

    return before, bo.cond(before > 0, branch, lambda: TWO)


USES = {
    _write_between: (2.0, 4.0),
    _gradient_after: (6.0, 2.0),
    _gradient_before: (6.0, 2.0),
    _loop_after: (2.0, 6.0),
    _branch_after: (2.0, 4.0),
}
SURROUNDINGS = {
    "jit": lambda use: bo.jit(use)(),
    "loop in jit": lambda use: tuple(
        out[0] for out in bo.jit(lambda: bo.for_loop(lambda _: use(), jnp.ones(1)))()
    ),
    "remat in jit": lambda use: bo.jit(lambda: bo.remat(use)())(),
}


@pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__[1:])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_the_running_step(name, use, around):
    if name == "while_loop" and "gradient" in use.__name__:
        pytest.skip("jax has no reverse mode for while loops")
    out = around(lambda: use(FUNCTIONS[name]))

    assert tuple(map(float, out)) == USES[use]


@pytest.mark.parametrize("write", ["eager", "compiled step"])
def test_a_plain_jit_that_holds_a_value_is_warned_of_once(write, monkeypatch):
    monkeypatch.setattr(_constants, "_told", set())
    monkeypatch.setattr(_constants, "_readers", {})
    gain = bo.Variable(jnp.array(1.0), name="Net.gain")
    step = bo.jit(lambda: setattr(gain, "value", gain.value + 1))
    step()

    @jax.jit
    def loss(x):
        return x * gain.value

    loss(1.0)
    with pytest.warns(UserWarning, match=r"loss .*test_cached(.|\n)*Net\.gain"):
        step() if write == "compiled step" else gain.fill_(5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()


def _scanned(gain):
    return jax.lax.scan(lambda c, _: (c * gain.value, None), 1.0, None, length=2)[0]


def _jitted(gain):
    return jax.jit(lambda: gain.value**2)()


@pytest.mark.parametrize("once", [_scanned, _jitted])
def test_functions_made_for_one_call_are_not_warned_of(once):
    gain = bo.Variable(jnp.array(1.0))

    for value in (1.0, 2.0):
        gain.value = jnp.array(value)
        assert float(once(gain)) == value**2
