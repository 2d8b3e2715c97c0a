# SPDX-License-Identifier: Apache-2.0
"""What every example program shares: options, checkpoints, progress, a report.

A program gives ``train`` one Node that owns everything a run needs to go on (network,
optimizer, random state) and a function that advances it by one step. The node and the
history of the run are one file, so a killed program resumes to the same bits.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import resource
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo


def options(doc, name, steps, a_step, seed=1, device=True):
    """Return a parser with the options of every example.

    Args:
        doc: The docstring of the program; ``--help`` shows it.
        name: The stem of the files that the program writes.
        steps: The default number of training steps.
        a_step: What one training step is, in words.
        seed: The default seed.
        device: Whether the program runs on one device, which can be chosen.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seed", type=int, default=seed, help=f"of weights and noise ({seed})")
    add("--steps", type=int, default=steps, help=f"steps: each is {a_step} ({steps})")
    add("--resume", action="store_true", help="go on from the file of --checkpoint")
    add(
        "--checkpoint",
        default=f"{name}.bo",
        metavar="FILE",
        help=f"file that keeps the run ({name}.bo)",
    )
    add(
        "--figure",
        default=f"{name}.png",
        metavar="FILE",
        help=f"picture to draw, '' for none ({name}.png)",
    )
    add("--results", metavar="FILE", help="write the results as JSON")
    if device:
        add("--device", help="cpu, cpu:1, cuda, tpu, … (what jax takes)")
    return parser


def parse(parser, argv=None):
    """Return the options; end with a plain message where one cannot be met."""
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    if args.figure and importlib.util.find_spec("matplotlib") is None:
        parser.error("the figure needs matplotlib: install it, or say --figure ''")
    return args


def require(package, extra, parser=None):
    """End the program with what to install if a framework is missing.

    Args:
        package: The name that is imported.
        extra: The extra of brainopt that brings it.
        parser: That of the program, so that ``--help`` is answered all the same.
    """
    if importlib.util.find_spec(package) is not None:
        return
    if parser is not None and {"-h", "--help"} & set(sys.argv[1:]):
        parser.parse_args(["--help"])
    sys.exit(
        f"this needs {package}: pip install '.[{extra}]' in the folder of the "
        "repository"
    )


def train(args, run, advance, every=1, until=None):
    """Advance ``run`` to ``args.steps``; return the history, ``{name: array}``.

    Args:
        args: The parsed options.
        run: The Node that owns the whole state of the run.
        advance: Called without arguments; one step, returning ``{name: number}``.
        every: The steps between two checkpoints and lines of progress.
        until: Given the history after each checkpoint; True ends the training early.
    """
    history = _begin(args, run)
    done = len(next(iter(history.values()), ()))
    if args.device:
        run.to(args.device)
    start, rows = time.perf_counter(), []
    for step in range(done + 1, args.steps + 1):
        if not rows and until is not None and history and until(history):
            print(f"the aim is reached after step {step - 1}")
            break
        with _announced(advance, after=2.0 if step == done + 1 else None):
            row = {name: float(value) for name, value in advance().items()}
        rows.append(row)
        if step % every and step != args.steps:
            continue
        for name in rows[0]:
            column = [row[name] for row in rows]
            history[name] = np.append(history.get(name, ()), column)
        bo.checkpoint.save(args.checkpoint, {"run": run, "history": history})
        means = {name: column[-len(rows) :].mean() for name, column in history.items()}
        shown = "  ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        spent = time.perf_counter() - start
        left = spent / (step - done) * (args.steps - step)
        times = f"{spent:.1f} s, {left:.0f} s left"
        print(f"step {step:4d}/{args.steps}  {shown}  {times}", flush=True)
        rows = []
    return history


@contextlib.contextmanager
def _announced(function, after):
    """Say that a function compiles if a block takes longer than ``after`` seconds."""
    if after is None:
        yield
        return
    text = f"compiling `{function.__name__}` …"
    say = threading.Timer(after, print, [text], {"flush": True})
    say.daemon = True
    say.start()
    try:
        yield
    finally:
        say.cancel()


def _begin(args, run):
    """Return the history of the file to resume, after restoring the run from it."""
    if not args.resume:
        return {}
    if not Path(args.checkpoint).exists():
        print(f"no checkpoint {args.checkpoint} yet: starting at step 0")
        return {}
    try:
        found = bo.checkpoint.restore(args.checkpoint, {"run": run})
    except bo.errors.CheckpointError as error:  # of another program, or damaged
        sys.exit(str(error))
    history = {name: np.asarray(column) for name, column in found["history"].items()}
    done = len(next(iter(history.values())))
    print(f"resumed {args.checkpoint} after step {done}")
    return history


def fingerprint(node):
    """Return a hash of every bit of the state of ``node``."""
    digest = hashlib.sha256()
    for path, array in sorted(node.state_dict().items()):
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        digest.update(path.encode() + np.asarray(array).tobytes())
    return digest.hexdigest()[:16]


def report(args, run, results):
    """Print and return the results, with the time and the memory of the process."""
    print(f"final state {fingerprint(run)}")
    for name, value in results.items():
        print(
            f"{name}: {value:.6g}" if isinstance(value, float) else f"{name}: {value}"
        )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    spent = {
        "wall seconds": round(time.perf_counter() - _started, 1),
        "CPU seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak memory (MB)": round(kib * 1024 / 1e6),
    }
    print(", ".join(f"{name} {value}" for name, value in spent.items()))
    keep(args, results, spent)
    return results


def keep(args, results, spent):
    """Write the results where ``--results`` asks for them."""
    if args.results:
        record = {"options": vars(args), "results": results, "spent": spent}
        Path(args.results).write_text(json.dumps(record, indent=1), encoding="utf-8")


def pyplot():
    """Return matplotlib's pyplot, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    return plt


def course(axes, values, first=1, **style):
    """Draw a number of each step, the ``first`` and all after it.

    Few of them are marked, and no tick stands between two steps.
    """
    from matplotlib.ticker import MaxNLocator

    if len(values) < 10:
        style = {"marker": "o", "markersize": 3} | style
    axes.plot(np.arange(len(values)) + first, values, **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def save_figure(figure, filename):
    """Write the figure and say so."""
    figure.savefig(filename, dpi=130)
    print(f"wrote {filename}")


_started = time.perf_counter()  # when the program had imported jax
