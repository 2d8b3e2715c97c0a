# SPDX-License-Identifier: Apache-2.0
"""Gradients: the table of return conventions, and state around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import GradientError


@pytest.fixture
def pair():
    """Return a = 2, b = 3 and f(x, y) = a² b x + y, f_a = 2abx, f_b = a² x."""
    a, b = bo.TrainVar(jnp.array(2.0), name="a"), bo.TrainVar(jnp.array(3.0), name="b")

    def f(x, y):
        return a**2 * b * x + y

    return a, b, f


X, Y = 5.0, 7.0
VALUE = 4.0 * 3.0 * 5.0 + 7.0
BY_A, BY_B, BY_X, BY_Y = 60.0, 20.0, 12.0, 1.0


def floats(tree):
    return jax.tree.map(float, tree)


TABLE = [
    (None, None, BY_X),
    (None, 1, BY_Y),
    (None, -1, BY_Y),
    (None, (0,), (BY_X,)),
    (None, [0, 1], (BY_X, BY_Y)),
    ("one", None, BY_A),
    ("list", None, [BY_A, BY_B]),
    ("tuple", None, (BY_A, BY_B)),
    ("nested", None, {"z": {"p": BY_B}, "a": [BY_A, (BY_B,)]}),
    ("dict", None, {"p": BY_A, "q": BY_B}),
    ("twice", None, [BY_A, BY_A]),
    ("one", 0, (BY_A, BY_X)),
    ("list", (0, -1), ([BY_A, BY_B], (BY_X, BY_Y))),
    ("dict", 1, ({"p": BY_A, "q": BY_B}, BY_Y)),
]


@pytest.mark.parametrize("kind, argnums, expected", TABLE)
def test_the_table_of_return_conventions(pair, kind, argnums, expected):
    a, b, f = pair
    grad_vars = {
        None: None,
        "one": a,
        "list": [a, b],
        "tuple": (a, b),
        "dict": {"p": a, "q": b},
        "twice": [a, a],
        "nested": {"z": {"p": b}, "a": [a, (b,)]},
    }[kind]

    def with_aux(x, y):
        return f(x, y), "aux"

    def plain(**options):
        return floats(bo.grad(f, grad_vars, argnums, **options)(X, Y))

    grads, aux = bo.grad(lambda x, y: (f(x, y), x), grad_vars, argnums, has_aux=True)(
        X, Y
    )
    both = bo.grad(
        lambda x, y: (f(x, y), x), grad_vars, argnums, has_aux=True, return_value=True
    )(X, Y)

    assert plain() == expected
    assert plain(return_value=True) == (expected, VALUE)
    assert (floats(grads), float(aux)) == (expected, X)
    assert floats(both) == (expected, VALUE, X)


def test_value_and_grad_is_jaxs(pair):
    a, _, f = pair

    value, grads = bo.value_and_grad(f, a)(X, Y)
    (again, aux), _ = bo.value_and_grad(lambda x: (x * a, x), a, has_aux=True)(X)

    assert (float(value), float(grads)) == (VALUE, BY_A)
    assert (float(again), float(aux)) == (10.0, 5.0)


def test_a_node_gives_the_gradients_of_its_train_vars():
    class Net(bo.Node):
        def __init__(self):
            self.w = bo.TrainVar([1.0, 2.0])
            self.state = bo.Variable([3.0, 3.0])

    net = Net()
    loss = lambda: (net.w * net.state).sum()  # noqa: E731

    assert list(bo.grad(loss, net)()) == ["w"]
    assert bo.grad(loss, net.vars())()["state"].tolist() == [1.0, 2.0]
    assert bo.grad(loss, net.train_vars())()["w"].tolist() == [3.0, 3.0]


def test_more_than_one_aux_comes_as_a_tuple():
    out = bo.grad(lambda x: (x, 1, 2), has_aux=True)(1.0)

    assert floats(out) == (1.0, (1.0, 2.0))


@pytest.mark.parametrize("out", [3.0, (3.0,), [1.0, 2.0]])
def test_a_missing_aux_says_so(out):
    with pytest.raises(TypeError, match=r"did not return a tuple \(value, aux\)"):
        bo.grad(lambda x: out, has_aux=True)(1.0)


def test_argnums_out_of_range_say_so():
    with pytest.raises(ValueError, match="argnums=2 for a call with 1 arguments"):
        bo.grad(lambda x: x, argnums=2)(1.0)


def test_variables_of_an_unfit_dtype_are_named():
    n = bo.Variable(jnp.array(1), name="n")
    z = bo.Variable(jnp.array(1j), name="z")
    w = bo.TrainVar(jnp.array(1.0), name="w")

    with pytest.raises(GradientError, match=r"dtype to[\s\S]*'n': int32\nhelp"):
        bo.grad(lambda: w.value, [n, z, w])()
    with pytest.raises(GradientError, match=r"complex dtype[\s\S]*'w': float32\n"):
        bo.grad(lambda: z.value, [w, z], holomorphic=True)()
    for forward in (bo.jacfwd, bo.hessian):
        with pytest.raises(GradientError, match=r"real floating[\s\S]*'z': complex64"):
            forward(lambda: abs(z.value), [z, w])()


def _energy(z, w):
    return (jnp.abs(z * w - (1 - 2j)) ** 2).sum() + z.imag.sum()


@pytest.mark.parametrize("through", [lambda f: f, bo.jit], ids=["eager", "jit"])
def test_the_gradient_of_a_real_loss_by_complex_variables_is_that_of_jax(through):
    z, w = bo.TrainVar(jnp.array([1 + 2j, -1j])), bo.TrainVar([3.0, 0.5])
    loss = lambda: _energy(z.value, w.value)  # noqa: E731
    expected = jax.grad(_energy, argnums=(0, 1))(z.value, w.value)

    grads = through(bo.grad(loss, [z, w]))()
    value, also = through(bo.value_and_grad(loss, [z, w]))()
    rows = through(bo.jacrev(loss, [z, w]))()

    for found in (grads, also, rows):
        assert [g.dtype for g in found] == [jnp.complex64, jnp.float32]
        assert all(map(jnp.array_equal, found, expected))
    assert float(value) == float(_energy(z.value, w.value))


def test_a_complex_loss_is_refused_as_by_jax():
    z = bo.TrainVar(jnp.array(1 + 2j))

    with pytest.raises(TypeError, match="real-valued outputs"):
        bo.grad(lambda: z.value**2, z)()


def test_holomorphic_and_integer_cases_are_jaxs():
    z = bo.Variable(jnp.array(1 + 2j))
    n = bo.Variable(jnp.array(2))

    by_z = bo.grad(lambda: z.value**2, z, holomorphic=True)()
    by_n = bo.grad(lambda: 1.0 * n.value, n, allow_int=True)()

    assert complex(by_z) == 2 + 4j
    assert by_n.dtype == jax.dtypes.float0


def test_a_variable_that_the_loss_does_not_use_gets_zeros():
    w, unused = bo.TrainVar([1.0]), bo.TrainVar([[1.0, 2.0]])

    grads = bo.grad(lambda: w.value.sum(), [w, unused], allow_unused=True)()

    assert grads[1].tolist() == [[0.0, 0.0]]


def test_state_written_in_the_loss_is_kept():
    w, calls = bo.TrainVar([2.0]), bo.Variable(jnp.array(0))

    def loss():
        calls.value += 1
        return (w**2).sum()

    assert bo.grad(loss, w)().tolist() == [4.0]
    assert int(calls) == 1


def test_gradients_flow_through_state_written_before_it_is_read():
    w, v = bo.TrainVar(jnp.array(3.0)), bo.Variable(jnp.array(100.0))

    def loss():
        v.value = w.value * 2
        return v.value**2

    assert float(bo.grad(loss, w)()) == 24.0
    assert float(bo.grad(loss, v)()) == 0.0
    assert float(v) == 6.0


def test_a_variable_that_is_differentiated_by_may_be_written():
    w = bo.TrainVar(jnp.array(3.0))

    def loss():
        out = w.value**2
        w.value = jnp.array(10.0)
        return out + w.value

    assert float(bo.grad(loss, w)()) == 6.0
    assert float(w) == 10.0


def test_methods_may_be_decorated():
    class Net(bo.Node):
        def __init__(self):
            self.w = bo.TrainVar(jnp.array(2.0))

        @bo.grad(argnums=1)
        def loss(self, x):
            return self.w * x**2

    assert float(Net().loss(3.0)) == 12.0


def test_a_nonscalar_loss_is_jaxs_error():
    w = bo.TrainVar([1.0, 2.0])

    with pytest.raises(TypeError, match="scalar-output"):
        bo.grad(lambda: w.value, w)()


def test_gradients_of_gradients():
    w = bo.TrainVar(jnp.array(3.0))
    inner = bo.grad(lambda: w**4, w)

    assert float(bo.grad(inner, w)()) == 12 * 9.0
    assert float(bo.jit(bo.grad(bo.grad(inner, w), w))()) == 24 * 3.0


def test_a_training_step_is_the_one_of_plain_jax():
    key = jax.random.key(0)
    x = jax.random.normal(key, (8, 3))
    w, b = bo.TrainVar(jnp.ones((3, 2))), bo.TrainVar(jnp.zeros((1, 2)))

    def loss():
        return jnp.mean((jnp.tanh(x @ w.value + b.value) - 1) ** 2)

    @bo.jit
    def step():
        grads, value = bo.grad(loss, {"w": w, "b": b}, return_value=True)()
        w.value -= 0.1 * grads["w"]
        b.value -= 0.1 * grads["b"]
        return value

    def pure(p):
        return jnp.mean((jnp.tanh(x @ p["w"] + p["b"]) - 1) ** 2)

    p = {"w": jnp.ones((3, 2)), "b": jnp.zeros((1, 2))}
    for _ in range(5):
        value = step()
        expected, g = jax.value_and_grad(pure)(p)
        p = jax.tree.map(lambda p, g: p - 0.1 * g, p, g)

    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(w.value, p["w"], rtol=1e-6)


def test_a_meta_gradient_goes_through_an_optimizer():
    lr0 = 0.1
    w = bo.TrainVar(jnp.array(2.0))
    lr = bo.TrainVar(jnp.array(lr0))

    def trained():
        w.value = jnp.array(2.0)
        g = bo.grad(lambda: w**2, w)()
        w.value = w.value - lr.value * g
        return w.value**2

    # w1 = 2 (1 - 2 lr), d w1² / d lr = 2 w1 · (-4)
    assert np.isclose(float(bo.grad(trained, lr)()), 2 * (2 - 4 * lr0) * -4)


DERIVATIVES = {
    "grad": bo.grad,
    "vector_grad": bo.vector_grad,
    "jacrev": bo.jacrev,
    "jacfwd": bo.jacfwd,
    "hessian": bo.hessian,
}


@pytest.mark.parametrize("source", ["dict", "collector", "node"])
@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_come_in_the_order_of_grad_vars(name, source):
    class Net(bo.Node):
        def __init__(self):
            self.z = bo.TrainVar(jnp.array(1.0))
            self.a = bo.TrainVar(jnp.array(2.0))

    net = Net()
    given = {"dict": {"z": net.z, "a": net.a}, "node": net}
    given["collector"] = net.train_vars()
    found = DERIVATIVES[name](lambda: net.z * net.a**2, given[source])()

    assert list(found) == ["z", "a"]
    if name == "hessian":
        assert [list(row) for row in found.values()] == [["z", "a"], ["z", "a"]]
    else:
        assert floats(found) == {"z": 4.0, "a": 4.0}


@pytest.mark.parametrize("optimizer", [bo.optim.SGD, bo.optim.AdamW])
def test_nested_gradients_update(optimizer):
    held = {"z": {"p": bo.TrainVar(jnp.ones(2))}, "a": [bo.TrainVar(jnp.ones(3))]}
    gradient = bo.grad(lambda: (held["z"]["p"] ** 2).sum() + held["a"][0].sum(), held)
    opt = optimizer(0.1, held)
    opt.update(gradient())
    assert held["z"]["p"].value[0] < 1.0 and held["a"][0].value[0] < 1.0


@pytest.mark.parametrize("argnums", [0.5, "x", None, True, (0, 0.5), {0}], ids=str)
@pytest.mark.parametrize("name", DERIVATIVES)
def test_argnums_are_integers(name, argnums):
    derivative = DERIVATIVES[name]
    if argnums is None:
        assert derivative(lambda x: x**2, argnums=np.int64(0))(1.0) == 2.0
        return
    with pytest.raises(TypeError, match="argnums=") as caught:
        derivative(lambda x: x, argnums=argnums)
    assert "grad_vars" in str(caught.value)
