# SPDX-License-Identifier: Apache-2.0
"""Processes that write and are stopped, for the tests of R5, R8 and R9.

Run as a script, so that a child forks from a process without any JAX backend. Every
file that a child writes holds one number throughout, so that half a file shows.
"""

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from brainopt import checkpoint
from brainopt.errors import CheckpointError, CheckpointIOError

warnings.filterwarnings("ignore", message=".*fork.*", category=RuntimeWarning)
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)


def tree(number, size):
    """A tree whose every element is ``number``."""
    half = np.full(size // 8, number, "f4")
    return {"a": half, "number": number, "b": half.copy()}


def number_in(path):
    """The one number of a file; raises where it holds two."""
    loaded = checkpoint.load(path)
    number = loaded["number"]
    if not all((loaded[name] == np.float32(number)).all() for name in "ab"):
        raise AssertionError(f"{path} mixes two states")
    return number


def write_for_ever(path, size, first):
    """Save one number after the other."""
    for number in range(first, 1 << 24):
        checkpoint.save(path, tree(number, size))


def forked(work, *args):
    """Run a function in a child, and return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work(*args)
    except BaseException as error:
        print("child:", repr(error), flush=True)
        os._exit(1)
    os._exit(0)


def kill(folder, kills, size, seed):
    """Kill a writer at random moments; the file is always one complete state."""
    rng, path = random.Random(seed), os.path.join(folder, "f")
    checkpoint.save(path, tree(0, size))
    last = most_left = 0
    for _ in range(kills):
        child = forked(write_for_ever, path, size, last + 1)
        time.sleep(rng.uniform(0.001, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        number = number_in(path)
        assert number >= last, (seed, number, last)
        last = number
        most_left = max(most_left, len(os.listdir(folder)) - 1)
    checkpoint.save(path, tree(last + 1, size))
    left = len(os.listdir(folder)) - 1
    print(f"kills={kills} states={last} most_left={most_left} left={left}")


def race(folder, seconds, size):
    """Two writers and a reader on one file; the reader never sees a mixture."""
    path = os.path.join(folder, "f")
    checkpoint.save(path, tree(0, size))
    writers = [forked(write_for_ever, path, size, first) for first in (1, 1 << 20)]
    end, reads = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number_in(path)
        reads += 1
    alive = [os.waitpid(child, os.WNOHANG)[0] == 0 for child in writers]
    for child in writers:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    checkpoint.save(path, tree(7, size))
    left = len(os.listdir(folder)) - 1
    print(f"reads={reads} alive={sum(alive)} final={number_in(path)} left={left}")


def limit(folder, size):
    """Save beyond the largest file that the system allows this process."""
    import resource

    path = os.path.join(folder, "f")
    checkpoint.save(path, tree(1, size))
    before = Path(path).read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    try:
        checkpoint.save(path, tree(2, size))
    except CheckpointIOError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert Path(path).read_bytes() == before
    checkpoint.save(path, tree(3, size))
    print(f"final={number_in(path)} left={len(os.listdir(folder)) - 1}")


def interrupt(folder, times, seed):
    """Interrupt saves and restores at random moments; nothing is ever half done."""
    import brainopt as bo

    rng, path = random.Random(seed), os.path.join(folder, "f")
    node, hits, struck = bo.Node(), 0, []

    def strike(*_):
        struck.append(True)
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, strike)
    for index in range(20):
        setattr(node, f"v{index}", bo.Variable(np.zeros(50, "f4")))
    for number in range(2):
        for variable in node.vars().values():
            variable.value = np.full(50, number, "f4")
        checkpoint.save(f"{path}{number}", node)
    for number in range(2):  # what JAX compiles at first, it loses for good if stopped
        checkpoint.restore(f"{path}{number}", node)
    for turn in range(times):
        work = (
            lambda: [checkpoint.save(path, tree(n, 1 << 16)) for n in range(99)],
            lambda: [checkpoint.restore(f"{path}{n % 2}", node) for n in range(99)],
        )[turn % 2]
        struck.clear()
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 2e-2))
            work()
        except BaseException:
            # Inside JAX's own Python a Ctrl-C may surface as something else.
            if not struck:
                raise
            hits += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        values = {float(x) for v in node.vars().values() for x in np.asarray(v.value)}
        assert len(values) == 1, (seed, turn, values)
        assert not os.path.exists(path) or number_in(path) in range(99)
    checkpoint.save(path, tree(7, 80))
    print(f"turns={times} hits={hits} left={len(os.listdir(folder)) - 3}")


def train_for_ever(folder, first):
    """Save one step after the other through a manager."""
    manager = checkpoint.Manager(folder, keep=2, best=("acc", "max"))
    for step in range(first, 1 << 30):
        manager.save(step, tree(step, 200_000), {"acc": step % 7})


def manage(folder, kills, seed):
    """Kill a training run at random moments; no step that was there is lost."""
    rng, steps = random.Random(seed), []
    for _ in range(kills):
        child = forked(train_for_ever, folder, max(steps, default=0) + 1)
        time.sleep(rng.uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        found = checkpoint.Manager(folder).steps()
        assert max(found, default=0) >= max(steps, default=0), (seed, steps, found)
        for step in found:
            assert number_in(os.path.join(folder, f"step-{step}.bopt")) == step
        steps = found
    with checkpoint.Manager(folder, keep=2, best=("acc", "max")) as manager:
        manager.save(steps[-1] + 1, tree(0, 80), {"acc": 0})
    assert len(manager.steps()) <= 3, manager.steps()
    left = sum(name.startswith(".bopt") for name in os.listdir(folder))
    print(f"kills={kills} steps={steps} left={left}")


if __name__ == "__main__":
    try:
        name, folder, *numbers = sys.argv[1:]
        known = {"kill": kill, "race": race, "limit": limit, "manage": manage}
        act = (known | {"interrupt": interrupt})[name]
        act(folder, *map(int, numbers))
    except CheckpointError as error:
        sys.exit(f"lost: {error}")
