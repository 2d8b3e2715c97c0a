# SPDX-License-Identifier: Apache-2.0
"""Moments of 8 and 16 bits: memory, time, and what they do to every example.

    python -m tests.benchmarks.quantized_moments            # all of it
    python -m tests.benchmarks.quantized_moments time       # one part
    python -m tests.benchmarks.quantized_moments dale_rnn   # one example

The whole takes half an hour of a processor, so `make bench` leaves it out. The examples
are trained for fewer steps than their pages say, with the same seeds under each scheme;
those of a framework that is not installed are left out. What came of it is in
`docs/decisions`.
"""

import contextlib
import functools
import importlib
import importlib.util
import resource
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo

from . import codes
from .codes import SCHEMES
from .timing import interleaved, row, show

EXAMPLES = Path(__file__).parents[2] / "examples"
LARGE = 1000
"""The rows and columns of the weights of a large model."""


# --- the examples: each function takes the program and a seed, and returns an error and
# the optimizer


def _samples(example, count):
    """Return points of the Yin-Yang task to train and to test on, and their classes."""
    drawn = example.sample(count, 42), example.sample(9999, 40)
    return [(example.spike_times(x), jnp.asarray(y)) for x, y in drawn]


def _yinyang(example, seed, epochs=15):
    train, test = _samples(example, 5000)
    run = example.Trainer(200, epochs, seed)
    for _ in range(epochs):
        run.epoch(*train)
    return 1 - run.accuracy(*test), run.opt


def _randman(example, seed, epochs=30):
    train, _, test = example.make_data(seed)
    run = example.Trainer(128, epochs, seed)
    for _ in range(epochs):
        run.epoch(*train)
    return 1 - run.accuracy(*test), run.opt


def _store_recall(example, seed, updates=40):
    run = example.Trainer(updates, seed)
    for _ in range(updates):
        run.update()
    return np.mean([float(run.test()) for _ in range(4)]), run.opt


def _dale(example, seed, steps=16):
    run = example.Trainer(example.Decision(), steps, seed)
    for _ in range(steps):
        run.train()
    return 1 - run.score(500, seed + 3).mean(), run.opt


def _fit_hh(example, seed, steps=60):
    fit = example.our_fit(steps)
    noise = np.random.default_rng(seed).normal(size=2)
    fit.set(example.START * (1 + 0.1 * noise))
    for _ in range(steps):
        fit.step()
    return np.abs(fit.get() / example.TRUTH - 1).max(), fit.opt


def _population(example, seed, epochs=8):
    train, test = _samples(example, 1000)
    run = example.Population(seed, epochs * (1000 // example.BATCH))
    for _ in range(epochs):
        run.epoch(*train)
    return 1 - np.median(run.accuracy(*test)), run.members.opt


def _data_parallel(example, seed, steps=100):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    teacher = [np.asarray(v.value) for v in example.Net(seed + 1).train_vars().values()]
    net = example.Net(seed + 10)
    opt = bo.optim.AdamW(1e-2, net)

    @bo.jit
    def step(x, y):
        loss = bo.grad(lambda: jnp.mean((net(x) - y) ** 2), net, return_value=True)
        grads, value = loss()
        opt.update(grads)
        return value

    batches = (example.batch_of(k, teacher, mesh) for k in range(steps))
    return np.mean([float(step(*batch)) for batch in batches][-10:]), opt


def _attach_brainpy(example, seed, steps=60):
    net, loss, opt = example.make(seed)
    step = example.stepper(net, loss, opt, "bo.jit")
    return np.mean(example.train(step, example.batches(steps, seed))[-10:]), opt


def _attach_brainstate(example, seed, steps=60):
    net, loss, opt = example.make(seed)
    step = example.by_brainopt(net, loss, opt)
    return np.mean([float(step()[0]) for _ in range(steps)][-10:]), opt


RUNS = {
    "yinyang_snn": (_yinyang, range(1, 5), "test error"),
    "randman_snn": (_randman, range(1, 3), "test error"),
    "store_recall": (_store_recall, range(10, 12), "recall error"),
    "dale_rnn": (_dale, range(3), "error"),
    "fit_hh": (_fit_hh, range(3), "largest relative error"),
    "population_training": (_population, range(1, 3), "median test error"),
    "data_parallel": (_data_parallel, range(3), "last losses"),
    "attach_brainpy": (_attach_brainpy, range(3), "last losses"),
    "attach_brainstate": (_attach_brainstate, range(3), "last losses"),
}


SHOWN = [
    *("float32", "bfloat16, nearest", "linear, v > 0, stochastic"),
    *("dynamic, stochastic", "dynamic, v > 0, stochastic", "float8, stochastic"),
]
FEW = [SHOWN[k] for k in (0, 2, 3, 4)]
COMPARED = {"yinyang_snn": list(SCHEMES)} | dict.fromkeys(
    ("dale_rnn", "randman_snn", "store_recall"), FEW
)
"""The schemes of an example, where they are not `SHOWN`: as its time allows."""


@contextlib.contextmanager
def moments(scheme):
    """Let the optimizers that a block makes keep their moments by a scheme."""
    kinds = {name: getattr(bo.optim, name) for name in ("Adam", "AdamW", "RMSProp")}
    for name, kind in kinds.items():
        setattr(bo.optim, name, codes.optimizer(kind, scheme))
    try:
        yield
    finally:
        for name, kind in kinds.items():
            setattr(bo.optim, name, kind)


def on_example(name):
    """Print the error of an example under each scheme, beside that of float32."""
    package = name.partition("attach_")[2] or "jax"
    if importlib.util.find_spec(package) is None:
        print(f"left out, {package} is not installed")
        return
    run, seeds, measure = RUNS[name]
    sys.path.insert(0, str(EXAMPLES))
    example = importlib.import_module(name)
    print(f"{measure} of seeds {list(seeds)}: mean (range), and bytes of moments")
    plain = None
    for label in COMPARED.get(name, SHOWN):
        began = _processor()
        with moments(SCHEMES[label]):
            pairs = [run(example, seed) for seed in seeds]
        errors = np.array([float(error) for error, _ in pairs])
        plain = errors if plain is None else plain
        spent = _processor() - began
        print(line(label, errors, plain, pairs[0][1], spent), flush=True)


def line(label, errors, plain, opt, seconds):
    """Return what a scheme did: the mean, the range, and the paired difference."""
    apart = errors - plain
    error = apart.std(ddof=1) / len(apart) ** 0.5
    return (
        f"{label:26} {errors.mean():.4g} ({errors.min():.4g} to {errors.max():.4g})"
        f"  minus float32 {apart.mean():+.4f} ± {error:.4f}"
        f"  {nbytes(opt):,} bytes  {seconds:.0f} s"
    )


def nbytes(opt):
    """Return the bytes of all slots."""
    return sum(v.value.nbytes for slots in opt.slots.values() for v in slots.values())


def _processor():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


# --- what does not depend on a task


def of_memory():
    """Print the bytes of the moments of a model of a million numbers."""
    for label, scheme in SCHEMES.items():
        held = nbytes(_large(scheme)[1])
        print(f"{label:26} {held:,} bytes, {held / (8 * (LARGE**2 + LARGE)):.3f}")


def of_time():
    """Print the time of a compiled update of a million numbers, over float32's."""

    def stepper(scheme):
        net, opt = _large(scheme)
        grads = {path: 0.01 * v.value for path, v in net.train_vars().items()}
        step = bo.jit(lambda grads: opt.update(grads))

        def run():
            step(grads)
            jax.block_until_ready([v.value for v in net.train_vars().values()])

        return run

    plain = stepper(SCHEMES["float32"])
    for label, scheme in SCHEMES.items():
        found = interleaved(stepper(scheme), plain, 9)
        show([row(f"update of 1e6, {label} / float32", *found, float("inf"))])


def _large(scheme):
    class Model(bo.Node):
        def __init__(self):
            rng = bo.RandomState(0)
            self.w = bo.TrainVar(rng.normal((LARGE, LARGE)))
            self.b = bo.TrainVar(rng.normal((LARGE,)))

    net = Model()
    return net, codes.optimizer(bo.optim.AdamW, scheme)(1e-3, net)


def of_freezing(steps=5000, decay=0.999):
    """Print v over its true value, after gradients have fallen to a tenth.

    One of the numbers of a block keeps its gradient, so that the scale stays.
    """
    squares = jnp.full(codes.BLOCK, 1e-2).at[0].set(1.0)
    exact = 1e-2 + (1 - 1e-2) * decay**steps
    for label, scheme in SCHEMES.items():
        if scheme.square is None:
            continue

        @jax.jit
        def run(scheme=scheme):
            def step(k, kept):
                v = scheme.read("v", kept)
                key = jax.random.fold_in(jax.random.key(0), k)
                return scheme.kept("v", v + (1 - decay) * (squares - v), key)

            first = scheme.kept("v", jnp.ones(codes.BLOCK), jax.random.key(1))
            return scheme.read("v", jax.lax.fori_loop(0, steps, step, first))

        ratios = np.asarray(run())[1:] / exact
        print(
            f"{label:26} {ratios.mean():7.3f} (standard deviation {ratios.std():.3f})"
        )


def of_resuming(steps=20):
    """Print whether a run that goes on from a file has the bits of one without."""

    def run(net, opt, first, last):
        step = bo.jit(lambda g: opt.update({"w": g * net.w.value, "b": net.b.value}))
        for k in range(first, last):
            step(jnp.cos(1.0 * k))

    for label, scheme in SCHEMES.items():
        whole, again = _large(scheme), _large(scheme)
        run(*whole, 0, steps // 2)
        with tempfile.TemporaryDirectory() as folder:
            names = "net", "opt"
            file = f"{folder}/run.bo"
            bo.checkpoint.save(file, dict(zip(names, whole, strict=True)))
            run(*whole, steps // 2, steps)
            bo.checkpoint.restore(file, dict(zip(names, again, strict=True)))
        run(*again, steps // 2, steps)
        same = all(
            np.array_equal(value, mine[path])
            for node, other in zip(whole, again, strict=True)
            for mine in [other.state_dict()]
            for path, value in node.state_dict().items()
        )
        print(f"{label:26} {'equal to the bit' if same else 'DIFFERS'}")


PARTS = {
    "memory": of_memory,
    "time": of_time,
    "freezing": of_freezing,
    "resuming": of_resuming,
} | {name: functools.partial(on_example, name) for name in RUNS}


def main(names):
    """Print the parts that are asked for, or all."""
    with tempfile.TemporaryDirectory() as folder:
        # A second seed compiles nothing.
        jax.config.update("jax_compilation_cache_dir", folder)
        for name in names or PARTS:
            print(f"--- {name}", flush=True)
            PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
