# SPDX-License-Identifier: Apache-2.0
"""Every state goes through every way out and in: things times ways times formats."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import CheckpointError
from tests.checkpoint.states import CASES, SLOW

SUFFIXES = ["", ".bopt", ".npz", ".safetensors"]
# What a format cannot hold, it refuses: keys both, bfloat16 the first.
REFUSED = {
    ".npz": {"AdamW-kahan", "Node", "Node-random", "Node-trainer"},
    ".safetensors": {"Node-random", "Node-trainer"},
}


def numbers(built):
    """Everything there is to compare, to the bit."""
    found = {**built.node.state_dict(), **{f"its {k}": v for k, v in others(built)}}
    return {path: _bits(value) for path, value in found.items()}


def others(built):
    return [(path, variable.value) for path, variable in built.others.items()]


def _bits(value):
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        kind, value = str(jax.random.key_impl(value)), jax.random.key_data(value)
    else:
        kind = f"{value.dtype} weak={getattr(value, 'weak_type', False)}"
    return kind, value.shape, np.asarray(value).tobytes()


def _manager(folder, tree=None, async_=True):
    manager = checkpoint.Manager(folder, async_=async_)
    if tree is not None:
        manager.save(3, tree)
        manager.wait()
    return manager


def _save_beside(path, tree):
    with checkpoint.AsyncSaver() as saver:
        saver.save(path, tree)


WRITERS = {
    "save_states": lambda path, node: node.save_states(path),
    "save": checkpoint.save,
    "AsyncSaver": _save_beside,
}
READERS = {
    "load_states": lambda path, node: node.load_states(path),
    "restore": checkpoint.restore,
    "load": lambda path, node: node.load_state_dict(checkpoint.load(path)),
}
WAYS = {
    f"{reader}{suffix}": lambda folder, node, suffix=suffix, read=read: read(
        folder / f"save{suffix}", node
    )
    for reader, read in READERS.items()
    for suffix in SUFFIXES
}
WAYS |= {
    f"named{suffix}": lambda folder, node, suffix=suffix: checkpoint.restore(
        folder / f"named{suffix}",
        {"it": node, "epoch": 0} if not suffix else {"it": node},
    )
    for suffix in SUFFIXES
}
WAYS |= {
    "Manager.restore": lambda folder, node: _manager(folder / "async").restore(node),
    "Manager.restore-sync": lambda folder, node: _manager(folder / "sync").restore(
        node
    ),
    "Manager.load": lambda folder, node: node.load_state_dict(
        _manager(folder / "sync").restore()
    ),
}


PARAMS = [
    pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in CASES
]


@functools.cache
def trained(name):
    """An instance after two steps, and its numbers."""
    built = CASES[name]()
    with jax.disable_jit():  # each step by its operations: one compilation for all
        built.step(0)
        built.step(1)
    return built, numbers(built), dict(others(built))


@pytest.fixture(scope="module", params=PARAMS)
def saved(request, tmp_path_factory):
    """A folder with the files of a trained instance, and what must come back."""
    refused = {suffix for suffix, names in REFUSED.items() if request.param in names}
    built, now, held = trained(request.param)
    folder = tmp_path_factory.mktemp("states")
    for suffix in SUFFIXES:
        if suffix in refused:
            with pytest.raises(CheckpointError, match=f"A {suffix} file cannot hold"):
                checkpoint.save(folder / f"refused{suffix}", built.node)
            continue
        for name, write in WRITERS.items():
            write(folder / f"{name}{suffix}", built.node)
        tree = {"it": built.node} | ({} if suffix else {"epoch": 0})
        checkpoint.save(folder / f"named{suffix}", tree)
    _manager(folder / "async", built.node)
    _manager(folder / "sync", built.node, async_=False)
    memory = built.node.state_dict()
    with jax.disable_jit():
        built.step(2)
    return CASES[request.param], folder, memory, now, held, numbers(built)


def second(build, held, load):
    """Return a fresh instance that has loaded, beside the same other Variables."""
    fresh = build()
    load(fresh.node)
    for path, value in held.items():
        fresh.others[path].value = value
    return fresh


def test_every_writer_writes_the_same_bytes(saved):
    _, folder, *_ = saved
    for suffix in {path.suffix for path in folder.glob("named*")}:
        files = [(folder / f"{name}{suffix}").read_bytes() for name in WRITERS]
        assert files[0] == files[1] == files[2], suffix


def test_every_way_gives_a_fresh_instance_all_values(saved):
    build, folder, memory, now, held, _ = saved
    ways = {**WAYS, "memory": lambda _, node: node.load_state_dict(memory)}
    assert numbers(build()) != now
    for way, load in ways.items():
        suffix = way[way.find(".") :] if "." in way else ""
        if suffix in REFUSED and not (folder / f"named{suffix}").exists():
            continue
        fresh = second(build, held, functools.partial(load, folder))
        assert numbers(fresh) == now, way


def test_the_next_step_of_a_loaded_instance_gives_the_same_bits(saved):
    build, folder, _, _, held, after = saved
    fresh = second(build, held, lambda node: node.load_states(folder / "save_states"))
    with jax.disable_jit():
        fresh.step(2)
    assert numbers(fresh) == after


def test_no_class_is_forgotten():
    faces = {**vars(bo.optim), "Node": bo.Node}.values()
    classes = [c for c in faces if inspect.isclass(c) and issubclass(c, bo.Node)]
    covered = {type(build().node) for build in CASES.values()}
    assert {c for c in classes if not inspect.isabstract(c)} <= covered
