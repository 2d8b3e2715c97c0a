# SPDX-License-Identifier: Apache-2.0
"""A signal at any place of a compiled step leaves whole values of every kind.

A handler of Python can run wherever Python runs, so the quick tests raise a signal at
each call and return of a Python or C function within one step (at 150 of them where
there are more); the long ones at random times.
"""

import random
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer"),
]


@jax.tree_util.register_pytree_node_class
class Pair:
    """A pytree that JAX rebuilds by calling Python."""

    def __init__(self, key, x):
        self.key, self.x = key, x

    def tree_flatten(self):
        return (self.key, self.x), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def quantity():
    brainunit = pytest.importorskip("brainunit")
    return bo.Variable(jnp.zeros(3) * brainunit.ms)


def of_brainstate(value):
    brainstate = pytest.importorskip("brainstate")
    return bo.attach(brainstate.ShortTermState(value()))


def of_brainpy(value):
    math = pytest.importorskip("brainpy.math")
    return bo.attach(math.Variable(value()))


def key():
    return jax.random.key(0)


KINDS = {
    "array": lambda: bo.Variable(jnp.zeros(3)),
    "RandomState": lambda: bo.RandomState(0),
    "keys": lambda: bo.Variable(jax.random.split(key(), 2)),
    "rbg key": lambda: bo.Variable(jax.random.key(0, impl="rbg")),
    "dict": lambda: bo.Variable({"a": jnp.zeros(3), "b": [jnp.zeros(2)]}),
    "dict with a key": lambda: bo.Variable({"k": key(), "x": jnp.zeros(2)}),
    "custom pytree": lambda: bo.Variable(Pair(key(), jnp.zeros(2))),
    "quantity": quantity,
    "batch_axis": lambda: bo.Variable(jnp.zeros((2, 3)), batch_axis=0),
    "batch of keys": lambda: bo.Variable(jax.random.split(key(), 2), batch_axis=0),
    "brainstate array": lambda: of_brainstate(lambda: jnp.zeros(3)),
    "brainstate key": lambda: of_brainstate(key),
    "brainstate pytree": lambda: of_brainstate(lambda: Pair(key(), jnp.zeros(2))),
    "brainpy array": lambda: of_brainpy(lambda: jnp.zeros(3)),
}
HOSTS = {"quantity", *(name for name in KINDS if name.startswith("brain"))}
QUICK = {"RandomState", "brainstate key"}
EXTRAS = {
    "plain": lambda state: None,
    "effect": lambda state: jax.debug.callback(lambda _: None, state.count.value),
    "key out": lambda state: jax.random.key(state.count.value),
    "pytree out": lambda state: Pair(jax.random.key(0), state.w.value),
}


COMPILED = [
    pytest.param(
        kind,
        marks=[
            *([pytest.mark.hosts] if kind in HOSTS else []),
            *([] if kind in QUICK else [pytest.mark.long]),
        ],
    )
    for kind in KINDS
]


def combined():
    """Each kind with each extra; those that say little more are long."""
    return [
        pytest.param(
            kind,
            extra,
            marks=[
                *([pytest.mark.hosts] if kind in HOSTS else []),
                *(
                    []
                    if kind in QUICK or (extra == "plain" and kind != "custom pytree")
                    else [pytest.mark.long]
                ),
            ],
        )
        for kind in KINDS
        for extra in EXTRAS
    ]


def following(x):
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x + 1
    return (
        jax.vmap(lambda k: jax.random.fold_in(k, 1))(x)
        if x.ndim
        else (jax.random.fold_in(x, 1))
    )


class State(bo.Node):
    """A count, an array, and one Variable of some kind, which change together."""

    def __init__(self, kind, extra="plain"):
        self.count = bo.Variable(jnp.zeros((), jnp.int32))
        self.w = bo.Variable(jnp.zeros(3))
        self.more = KINDS[kind]()
        found = self.vars().unique().items()
        (self.other,) = (v for path, v in found if path.startswith("more"))
        self.extra = EXTRAS[extra]

    def step(self, x=0.0):
        self.count.value += 1
        self.w.value = self.w.value + 1 + 0 * jnp.sum(x)
        self.other.value = jax.tree.map(following, self.other.value)
        return self.extra(self)

    def seen(self):
        leaves = jax.tree.leaves((self.w.value, self.other.value))
        return int(self.count.value), [as_bytes(x) for x in leaves]


def as_bytes(x):
    keys = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if keys else x).tobytes()


class Oracle:
    """What the state is after each whole number of steps, by the eager step."""

    def __init__(self, kind):
        self.state = State(kind)
        self.known = [self.state.seen()]

    def check(self, state):
        count, found = state.seen()
        while len(self.known) <= count:
            self.state.step()
            self.known.append(self.state.seen())
        assert (count, found) == self.known[count]


LOCKS = type(threading.Lock()), type(threading.RLock())


class Struck(Exception):
    pass


def strike(*_):
    raise Struck


@pytest.fixture
def struck():
    """Have SIGUSR1 raise, as a batch system does."""
    before = signal.signal(signal.SIGUSR1, strike)
    yield
    signal.signal(signal.SIGUSR1, before)


def run(step, at=-1):
    """Call ``step`` with a signal at one event; return the events, and if it rose."""
    events = 0
    inside = False

    def profile(_, event, called):
        nonlocal events, at
        events += inside
        of_lock = isinstance(getattr(called, "__self__", None), LOCKS)
        if of_lock and events == at:
            at += 1  # CPython handles no signal between a lock and its ``with``
        elif events == at and inside:
            signal.raise_signal(signal.SIGUSR1)

    sys.setprofile(profile)
    try:
        inside = True
        step()
        inside = False
    except BaseException as error:
        inside = False
        sys.setprofile(None)
        assert not isinstance(error, bo.errors.StateLostError)
        # Inside JAX's own Python an exception may surface as something else.
        return events, True
    sys.setprofile(None)
    return events, False


@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize("look", [True, False], ids=["looked at", "not looked at"])
@pytest.mark.parametrize(("kind", "extra"), combined())
def test_a_signal_at_each_event_of_a_step_leaves_it_whole(kind, extra, look):
    state, oracle = State(kind, extra), Oracle(kind)
    step = bo.jit(state.step)
    for _ in range(3):
        step()
    events = max(run(step)[0] for _ in range(2))
    risen, places = 0, range(1, events + 1, events // 150 + 1)
    for at in places:
        if look:
            oracle.check(state)
        risen += run(step, at)[1]
    oracle.check(state)

    assert risen > len(places) / 2


@pytest.mark.more
@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize("again", ["first call", "other shape"])
@pytest.mark.parametrize("kind", COMPILED)
def test_a_signal_while_a_step_is_compiled_leaves_it_whole(kind, again):
    oracle, shapes = Oracle(kind), iter(range(1, 1000))
    state = State(kind)
    held = bo.jit(state.step)
    held(jnp.zeros(0))

    def step():
        jitted = bo.jit(state.step) if again == "first call" else held
        jitted(jnp.zeros(next(shapes)))

    events = max(run(step)[0] for _ in range(2))
    risen = 0
    # Mostly near the end, where the computation runs and its results are stored.
    places = [events - 3 * 2**i for i in range(20) if 3 * 2**i < events]
    for at in places:
        risen += run(step, at)[1]
        oracle.check(state)

    assert risen > 3


def strike_at_exit(step, number):
    """Raise a signal where JAX begins to leave a trace; return how often it did."""
    exits = 0

    def profile(frame, event, _):
        nonlocal exits
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if event == "call" and name == "__exit__" and "/jax/_src/" in file:
            exits += 1
            if exits == number:
                signal.raise_signal(signal.SIGUSR1)

    sys.setprofile(profile)
    try:
        step()
    except BaseException:
        pass
    finally:
        sys.setprofile(None)
    return exits


def stepping(road, state):
    """A step of some road, which JAX traces anew at each call."""
    shapes = iter(range(1, 10_000))
    held = bo.jit(state.step)
    held(jnp.zeros(0))

    def loss():
        state.step()
        return (state.w.value**2).sum()

    steps = {
        "first call": lambda: bo.jit(state.step)(jnp.zeros(next(shapes))),
        "other shape": lambda: held(jnp.zeros(next(shapes))),
        "loop": lambda: bo.for_loop(lambda: state.step(), length=1),
        "while": lambda: bo.while_loop(
            lambda going: state.step() or ~going, lambda going: going, True
        ),
        "branch": lambda: bo.cond(True, lambda: state.step(), lambda: state.step()),
        "grad": lambda: bo.grad(loss, state.w)(),
        "hessian": lambda: bo.hessian(loss, state.w)(),
        "remat": lambda: bo.remat(lambda: state.step())(),
        "checkify": lambda: bo.checkify(lambda: state.step())(),
        "vmap": lambda: bo.vmap(lambda _: state.step(), axis_size=1)(jnp.zeros(1)),
        "jaxpr": lambda: bo.make_jaxpr(lambda: state.w.value + 1)(),
        "shapes": lambda: bo.eval_shape(lambda: state.w.value + 1),
    }
    return steps[road]


ROADS = [
    *("first call", "other shape", "loop", "while", "branch", "grad", "hessian"),
    *("remat", "checkify", "vmap", "jaxpr", "shapes"),
]


@pytest.mark.more
@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize("road", ROADS)
def test_a_signal_where_jax_leaves_a_trace_leaves_no_trace_behind(road):
    state, oracle = State("array"), Oracle("array")
    step = stepping(road, state)
    exits = strike_at_exit(step, -1)
    assert exits > 5
    for number in range(1, exits + 1):
        strike_at_exit(step, number)
        assert not isinstance(jnp.zeros(2) + 1, jax.core.Tracer)
        oracle.check(state)


@pytest.mark.long
@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize(("kind", "extra"), combined())
def test_a_thousand_signals_at_random_times_leave_steps_whole(kind, extra):
    state, oracle = State(kind, extra), Oracle(kind)
    step, hits, rng = bo.jit(state.step), 0, random.Random(0)
    for _ in range(3):
        step()
    start = time.perf_counter()
    for _ in range(20):
        step()
    once = (time.perf_counter() - start) / 20
    before = signal.signal(signal.SIGALRM, strike)
    try:
        while hits < 1000:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + rng.random() * once * 1.5)
                for _ in range(4):
                    step()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Exception as error:  # JAX may raise another in its place
                assert not isinstance(error, bo.errors.StateLostError)
                hits += 1
            try:
                if hits % 10 == 0:
                    oracle.check(state)
            except Struck:  # it came after the steps
                hits += 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    oracle.check(state)
