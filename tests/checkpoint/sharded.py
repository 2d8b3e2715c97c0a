# SPDX-License-Identifier: Apache-2.0
"""What real processes do together in the tests of sharded checkpoints."""

import errno
import os
import sys
import time
import warnings

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.checkpoint import Manager, load, restore, save, verify
from brainopt.checkpoint.io import _os
from brainopt.distributed import exchange
from tests.checkpoint.faults import FailingFileSystem
from tests.sharding.nets import Net, data, mesh_of, step_of


def state(*shape, seed=0, devices=None, divided=True, **rules):
    """A net, its optimizer and a random state on a mesh of all devices."""
    mesh = mesh_of(*shape, devices=devices)
    both = bo.Node()
    both.net, both.random = Net(seed), bo.RandomState(seed)
    bo.sharding.shard(both, mesh, **rules)
    opt = bo.optim.AdamW(1e-2, both.net.train_vars())
    bo.sharding.zero(opt, axis="data" if divided else None)
    return {"both": both, "opt": opt, "epoch": seed}


def trained(tree, steps=1):
    """Train for some steps; return the losses."""
    step = step_of(tree["both"].net, tree["opt"])
    place = tree["both"].net.l1.W.value.sharding.mesh
    x, y = data()
    rows = slice(jax.process_index() * len(x) // jax.process_count(), None)
    rows = slice(rows.start, rows.start + len(x) // jax.process_count())
    batch = bo.sharding.batch(place, "data", (np.asarray(x)[rows], np.asarray(y)[rows]))
    return [float(step(*batch)) for _ in range(steps)]


def sums(tree):
    """A number for each array that any process can compute of any sharding."""
    found = {}
    for node in (tree["both"], tree["opt"]):
        for path, value in node.state_dict().items():
            is_key = jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
            found[path] = jax.random.key_data(value) if is_key else value
    totals = jax.jit(
        lambda values: {k: (v.astype("float32") ** 2).sum() for k, v in values.items()}
    )
    return {path: float(total) for path, total in totals(found).items()}


def said(act):
    """The kind and text of an error, and how long it took."""
    start = time.monotonic()
    try:
        act()
    except Exception as error:
        return [type(error).__name__, str(error), time.monotonic() - start]
    return ["", "", time.monotonic() - start]


def together(process, folder):
    """Every case of two processes, one after the other."""
    path, seen = os.path.join(folder, "run"), {}
    tree = state(4, fsdp="data", min_size=0)
    trained(tree, 2)
    save(path, tree, sharded=True, timeout=30)
    seen["parts"] = sorted(os.listdir(path))
    verify(path)
    seen["before"], seen["next"] = sums(tree), trained(tree, 2)

    other = state(2, 2, seed=1, rules={"*.W": P(None, "model")})
    seen["plain"] = restore(path, other, timeout=30)
    seen["after"] = sums(other)
    seen["resumed"] = trained(other, 2)

    seen["alone 0"] = process != 0 or said(
        lambda: save(path, tree, sharded=True, timeout=1)
    )
    exchange("pause", "", 30)
    seen["alone 1"] = process != 1 or said(
        lambda: save(path, tree, sharded=True, timeout=1)
    )
    exchange("pause", "", 30)

    unlike = {**tree, "epoch": process}
    seen["unlike"] = said(lambda: save(path, unlike, sharded=True, timeout=30))
    wrong = {**tree, "extra": object()} if process else tree
    seen["unstorable"] = said(lambda: save(path, wrong, sharded=True, timeout=30))
    for full in (0, 1):
        if process == full:
            error = OSError(errno.ENOSPC, "No space left on device")
            _os.fs = FailingFileSystem("write", 1, error)
        seen[f"full {full}"] = said(lambda: save(path, tree, sharded=True, timeout=30))
        _os.fs = _os.FileSystem()
        exchange("pause", "", 30)
    seen["parts after errors"] = sorted(os.listdir(path))

    seen["constants"] = constants(process, path + "-constants")
    if process:
        other["both"].net.l1.b.value = np.zeros(64, "f4")
    lone = {**other, "epoch": 0}
    missing = path + "-none" if process else path
    seen["restore elsewhere"] = said(lambda: restore(missing, lone, timeout=30))

    with Manager(os.path.join(folder, "steps"), keep=2, sharded=True) as manager:
        for step in (1, 2, 3):
            manager.save(step, tree, {"loss": float(step)}, timeout=30)
            trained(tree)
        manager.wait()
        seen["steps"] = manager.steps()
        manager.save(2, tree, timeout=30)
        seen["later"] = said(manager.wait)
        seen["resume"] = manager.resume(other, timeout=30).step
        seen["metrics"] = manager.metrics("latest")
    return seen


def constants(process, path, **options):
    """Save fixed arrays, one of them of each process its own; restore into others."""
    nodes = state(4)
    nodes["both"].net.same, nodes["both"].net.own = (
        np.ones(2, "i8"),
        np.full(3, process),
    )
    save(path, nodes, timeout=60, **(options or {"sharded": True}))
    seen = []
    for value in (1, 2):
        nodes["both"].net.same = np.full(2, value)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restore(path, nodes, timeout=60)
        seen.append("".join(str(warned.message) for warned in caught))
    return seen


def numbered(number, size=1 << 18):
    """A tree of one number, with an array over the devices of all processes."""
    place = NamedSharding(mesh_of(jax.device_count()), P("data"))
    value = jax.make_array_from_callback(
        (size,), place, lambda index: np.full(size, number, "f4")[index]
    )
    return {"v": value, "number": number, "local": np.full(7, number)}


def number_in(path):
    """The one number of a checkpoint, every byte of which is read."""
    loaded = load(path)
    assert (loaded["v"] == np.float32(loaded["number"])).all()
    assert (loaded["local"] == loaded["number"]).all()
    return loaded["number"]


def save_for_ever(process, path, first):
    """Save one number after the other until a process is killed."""
    try:
        for number in range(first, 1 << 24):
            save(path, numbered(number), sharded=True, timeout=5)
            print("saved", number, flush=True)
    except Exception as error:
        print(error, file=sys.stderr, flush=True)
    os._exit(1)  # jax would wait for the heartbeat of the one that was killed
