# SPDX-License-Identifier: Apache-2.0
"""Rules of jax.custom_jvp and custom_vjp that read Variables: right, or an error."""

import itertools

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.errors import TraceContextError

# A backward rule that runs after the gradient's own trace is told of, and is right.
pytestmark = pytest.mark.filterwarnings("ignore:.*was traced by plain JAX")


def _jvp(s, where):
    @jax.custom_jvp
    def square(x):
        return (s.value if where == "function" else 1.0) * x**2

    @square.defjvp
    def _(primals, tangents):
        by = s.value if where == "rule" else 1.0
        return square(primals[0]), tangents[0] * 3.0 * by * primals[0]

    return square


def _vjp(s, where):
    @jax.custom_vjp
    def square(x):
        return (s.value if where == "function" else 1.0) * x**2

    def backward(x, g):
        return (g * 3.0 * (s.value if where == "rule" else 1.0) * x,)

    square.defvjp(lambda x: (square(x), x), backward)
    return square


# Not the derivative, so that the value says that the rule was used.
RULES = {"custom_jvp": _jvp, "custom_vjp": _vjp}
AROUND = {
    "jit": lambda f, _: lambda: bo.jit(f)(),
    "for_loop": lambda f, _: lambda: bo.for_loop(lambda x: f() * x, jnp.ones(2))[0],
    "cond": lambda f, w: lambda: bo.cond(w.value > 0, f, lambda: -f()),
    "remat": lambda f, _: lambda: bo.remat(f)(),
    "vmap": lambda f, _: lambda: bo.vmap(lambda x: f() * x)(jnp.ones(2))[0],
}


def _case(rule, where, trained, nest):
    """Return a function that gives 3 · 1.5 · (s if the rule reads it), and ``s``."""
    node = bo.Node()
    node.s, node.w = bo.TrainVar(jnp.array(2.0)), bo.TrainVar(jnp.array(1.5))
    by = {"w": node.w, "s": node.s} if trained else {"w": node.w}
    square = RULES[rule](node.s, where)

    def loss():
        return square(node.w.value * 1.0)

    def gradient(f):
        return lambda: bo.grad(f, by, allow_unused=True)()["w"]

    for name in reversed(nest):
        loss = gradient(loss) if name == "grad" else AROUND[name](loss, node.w)
    return loss, node.s


def _check(rule, where, trained, nest, may_fail):
    function, s = _case(rule, where, trained, nest)
    try:
        for value in (2.0, 4.0):
            s.value = jnp.array(value)
            wanted = 4.5 * (value if where == "rule" else 1.0)
            assert float(function()) == pytest.approx(wanted)
    except TraceContextError as error:
        text = str(error)
        assert may_fail and "Node.s" in text and "as an argument" in text


NESTS = [("grad",), ("grad", "jit"), ("jit", "for_loop", "grad")]
KINDS = list(itertools.product(RULES, ("function", "rule"), (False, True)))


@pytest.mark.parametrize("nest", NESTS, ids="-".join)
@pytest.mark.parametrize(("rule", "where", "trained"), KINDS)
def test_a_rule_that_reads_a_variable_is_right_or_the_error_names_it(
    rule, where, trained, nest
):
    # JAX runs the backward rule alone outside of the gradient.
    by_jax = not trained or (rule, where) == ("custom_vjp", "rule")

    _check(rule, where, trained, nest, may_fail=not by_jax)

    if not by_jax:
        with pytest.raises(TraceContextError, match=r"Node\.s"):
            _case(rule, where, trained, nest)[0]()


@pytest.mark.parametrize(
    "nest", [("cond", "grad", "jit"), ("jit", "grad", "for_loop")], ids="-".join
)
def test_what_jax_cannot_close_over_is_named(nest):
    _check("custom_vjp", "rule", False, nest, may_fail=True)


@pytest.mark.long
@pytest.mark.parametrize(("rule", "where", "trained"), KINDS)
def test_every_nesting_of_depth_three_is_right_or_the_error_names_it(
    rule, where, trained
):
    for nest in itertools.product(("grad", *AROUND), repeat=3):
        if nest.count("grad") == 1:
            _check(rule, where, trained, nest, may_fail=True)
