# SPDX-License-Identifier: Apache-2.0
"""No finite gradient makes a state infinite without a word: members times sizes."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainopt as bo
from tests.optim.members import ALL, each, problem
from tests.optim.runs import variables_of

# Members whose first steps are proportional to the gradient, and sum it.
PROPORTIONAL = ("SGD-momentum", "SGD-nesterov", "SGD-damped", "LBFGS")
START = np.array([[0.5, -1.0], [2.0, 1.5]])
SIGNS = np.array([[1.0, -1.0], [-1.0, 1.0]])
DIALECTS = ("document", "torch", "brainpy", "optax", "keras")
DTYPES = ("float32", "float64", "bfloat16", "float16")


def _sizes(dtype):
    """Return sizes around the root of the largest number, and that number."""
    bits = int(jnp.finfo(dtype).maxexp)
    roots = [2.0 ** (bits // 2 + more) for more in (-1, 1, bits // 4)]
    return [*roots, float(jnp.finfo(dtype).max)]


def _bound(member, dtype):
    """Return the size that larger gradients count as; see the guide."""
    if member.cls in (bo.optim.Adagrad, bo.optim.SM3, bo.optim.Adafactor):
        return 2.0**496 if dtype == "float64" else 2.0**48
    squares = member.cls._squares or member.cls is bo.optim.AdamW
    return (2.0**510 if dtype == "float64" else 2.0**62) if squares else np.inf


def _trained(member, dtype, grads):
    w = bo.TrainVar(jnp.asarray(START, dtype))
    opt = member.make(w)
    with jax.disable_jit(), warnings.catch_warnings():
        # That weights are not finite is told when the state is read.
        warnings.simplefilter("ignore", bo.errors.TrainingWarning)
        for grad in grads:
            opt.update(jnp.asarray(grad, dtype))
        state = opt.state_dict()
    values = [np.asarray(value, np.float64) for value in state.values()]
    return np.asarray(w.value, np.float64), all(np.isfinite(v).all() for v in values)


@each(few=True, but=(bo.optim.Optax,))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_huge_gradient_moves_as_its_reference_does(member, dtype):
    """Two huge gradients and two of usual size, up to the largest of the dtype."""
    with jax.enable_x64(dtype == "float64"):
        for size in _sizes(dtype):
            grads = [SIGNS * size] * 2 + [SIGNS[::-1] * 0.5] * 2
            found, is_finite = _trained(member, dtype, grads)
            most = _bound(member, dtype)
            # Beyond the range of float64 the reference counts in 80 bits.
            start, *rest = (
                np.asarray(np.clip(x, -most, most), np.longdouble)
                for x in (START, *grads)
            )
            right = member.reference(start, rest, **member.settings)
            if not is_finite:
                assert member.name in PROPORTIONAL and not np.isfinite(found).all()
                continue
            ulps = 100 * float(jnp.finfo(dtype).eps)
            assert np.abs(found - right).max() <= ulps * max(1, np.abs(right).max())


PROPORTIONAL_STEPS = ("SGD", "Momentum", "MomentumNesterov", "ASGD", "RAdam", "LBFGS")
DIVIDED = [
    m
    for m in ALL
    if m.cls.__name__ not in (*PROPORTIONAL_STEPS, "Optax") and "-" not in m.name
]


@pytest.mark.parametrize("member", DIVIDED, ids=lambda m: m.name)
def test_a_training_goes_on_after_a_huge_gradient(member):
    """Rules that divide by the size of gradients move as far as with smaller ones."""
    far = [
        _trained(member, "float32", [SIGNS * size, SIGNS * size])[0] - START
        for size in (1e6, 1e25, 3e38)
    ]

    assert np.abs(far[0]).min() > 1e-6
    np.testing.assert_allclose(far[1], far[0], rtol=2e-3)
    np.testing.assert_allclose(far[2], far[0], rtol=2e-3)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"amsgrad": True}])
def test_each_dialect_of_adamw_goes_on(dialect, options):
    w = bo.TrainVar(jnp.zeros(2))
    opt = bo.optim.AdamW(0.1, w, dialect=dialect, **options)

    for _ in range(2):
        opt.update(jnp.array([1e25, -1e25]))

    np.testing.assert_allclose(w.value, [-0.2, 0.2], rtol=0.5)
    assert all(np.isfinite(v).all() for v in opt.state_dict().values())


def test_a_huge_complex_gradient_keeps_its_phase():
    w = bo.TrainVar(jnp.zeros(1, jnp.complex64))

    bo.optim.AdamW(0.1, w).update(jnp.array([3e38 - 3e38j], jnp.complex64))

    np.testing.assert_allclose(w.value, [-0.1 * (1 + 1j) / np.sqrt(2)], rtol=1e-5)


@each(few=True)
def test_what_is_not_finite_stays_so(member):
    """The bound hides no infinity and no NaN."""
    for bad in (np.inf, np.nan):
        variables = variables_of(problem(dtype=np.float32)[0])
        opt = member.make(variables)

        opt.update({"W": jnp.full((4, 3), bad), "b": jnp.full(3, bad)})

        if member.name in ("SGD-momentum", "AdamW", "NAdam"):
            assert not np.isfinite(variables["b"].value).any()


def test_rls_takes_a_huge_sample():
    net = bo.Node()
    net.W = bo.TrainVar(jnp.zeros((2, 1)))
    rls = bo.optim.RLS(net.W)

    rls.update(jnp.array([1e25, 0.0]), jnp.array([-1e25]))

    np.testing.assert_allclose(net.W.value, [[1.0], [0.0]], rtol=1e-5)
    np.testing.assert_allclose(rls.P.value, [[0.0, 0.0], [0.0, 1.0]], atol=1e-6)


def test_sam_climbs_along_a_huge_gradient():
    w = bo.TrainVar(jnp.zeros(2))
    seen = []

    def loss():
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), w.value)
        return (w * jnp.array([3e25, 4e25])).sum()

    bo.optim.SAM(bo.optim.SGD(0.0, w), rho=0.5).step(loss)

    jax.effects_barrier()
    np.testing.assert_allclose(seen[-1], [0.3, 0.4], rtol=1e-5)


def test_an_infinite_moment_of_optax_is_told_of_by_name():
    w = bo.TrainVar(jnp.zeros(2))
    opt = bo.optim.Optax(optax.adam(0.1), w)

    opt.update(jnp.array([1e25, 1.0]))

    with pytest.warns(bo.errors.TrainingWarning, match=r"nu\.param: 1 of 2 numbers"):
        opt.state_dict()


def test_squares_have_no_room_in_float16():
    for kind in (jnp.float16, "float16", jnp.float8_e4m3fn):
        with pytest.raises(bo.errors.HyperparameterError, match="narrow for squares"):
            bo.optim.AdamW(0.1, nu_dtype=kind)


# --- sums of micro-batches

HUGE = 2e38  # finite in float32, and twice as much is not


@pytest.mark.parametrize("weight", [1.0, 2.0, 1e30])
@pytest.mark.parametrize("through", ["eager", "jit", "apply"])
def test_a_micro_batch_whose_sum_overflows_does_not_count(through, weight):
    opt = bo.optim.SGD(1e-37, accumulate=2, nonfinite="skip")
    w = bo.TrainVar([1.0])
    params, state = {"w": w.value}, opt.init({"w": w.value})
    if through != "apply":
        opt = bo.optim.SGD(1e-37, {"w": w}, accumulate=2, nonfinite="skip")
    update = bo.jit(opt.update) if through == "jit" else opt.update

    for g in (HUGE / weight, HUGE, -HUGE / weight / 2):
        grads = {"w": jnp.full(1, g)}
        if through == "apply":
            params, state = opt.apply(params, state, grads, weight=weight)
        else:
            update(grads, weight=weight)
    if through != "apply":
        params, state = {"w": w.value}, opt.state_dict()

    assert (int(state["step"]), int(state["counters.skipped"])) == (1, 1)
    mean = (HUGE - HUGE / 2) / 2 / weight
    np.testing.assert_allclose(params["w"], 1 - 1e-37 * mean, rtol=1e-6)


def test_a_sum_that_overflows_raises_and_changes_nothing():
    w = bo.TrainVar([1.0])
    opt = bo.optim.SGD(0.1, w, accumulate=4, nonfinite="raise")
    opt.update(jnp.full(1, HUGE))

    with pytest.raises(bo.errors.GradientError, match="overflows in the sum"):
        opt.update(jnp.full(1, HUGE))

    assert (float(w.value[0]), int(opt.counters["micro_batches"].value)) == (1.0, 1)
    assert float(opt.slots["param"]["grad_sum"][0]) == np.float32(HUGE)
