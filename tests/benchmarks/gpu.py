# SPDX-License-Identifier: Apache-2.0
"""What depends on an accelerator: ``make bench-gpu``; it runs on a processor too.

Steps against hand-written JAX, optax and torch, packed and not; a large update against
copies of memory; saves and loads against transfers between host and device.
"""

import importlib
import importlib.util
import json
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo
from brainopt import checkpoint

from . import peers
from .__main__ import OUT, table, versions
from .bench_packing import net, update
from .timing import beside, cells, interleaved, row

LIMIT = 480.0
"""Seconds after which no further row begins."""

IS_SMALL = jax.default_backend() == "cpu"
LARGE = 2**20 if IS_SMALL else 2**27  # floats of a large update
SAVED = 2**22 if IS_SMALL else 2**26  # floats of a file


def torch_fused(count, size):
    """Return the fused AdamW of torch on the same kind of device, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    torch = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not IS_SMALL:
        return None
    weights = [
        torch.ones(size, device=device, requires_grad=True) for _ in range(count)
    ]
    for weight in weights:
        weight.grad = torch.full((size,), 1e-2, device=device)
    opt = torch.optim.AdamW(weights, lr=1e-3, fused=True)

    def run(calls):
        for _ in range(calls):
            opt.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def steps(count, calls):
    """Return the rows of a step over ``count`` arrays, beside torch."""
    rows = [update(count, calls, pack) for pack in (False, True)]
    if run := torch_fused(count, 64):
        optax = peers.adamw(count, 64)["optax"]
        ratio = beside(
            lambda: optax(calls), {"torch fused / optax": lambda: run(calls)}
        )
        rows[0]["peers"] |= ratio
    return rows


def bandwidth():
    """Return the row of a large update against ten copies of the weights."""
    weight = bo.TrainVar(jnp.ones(LARGE))
    opt = bo.optim.AdamW(1e-3, weight)
    step, grad = bo.jit(opt.update), jnp.full(LARGE, 1e-2)
    double = jax.jit(lambda x: x * 2.0)

    def ours():
        step(grad)
        jax.block_until_ready(weight.value)

    def reference():
        for _ in range(5):  # each reads and writes one array
            jax.block_until_ready(double(grad))

    times = interleaved(ours, reference)
    return row(f"update of {LARGE:,} floats / ten passes over memory", *times, 1.3)


def files():
    """Return the rows of a save and a restore against transfers of the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        values = jnp.ones(SAVED)

        class Model(bo.Node):
            def __init__(self):
                self.w = bo.Variable(values)

        model, host = Model(), np.ones(SAVED, np.float32)
        fetch = jax.jit(lambda x, by: x + by)
        count = iter(range(10**6))

        def down():
            np.asarray(
                fetch(values, next(count))
            )  # a new array: JAX keeps fetched ones

        def up():
            jax.block_until_ready(jax.device_put(host))

        saved = interleaved(lambda: checkpoint.save(path, model), down)
        loaded = interleaved(lambda: checkpoint.restore(path, model), up)
        mib = SAVED * 4 >> 20
        return [
            row(f"save {mib} MiB / device to host", *saved, float("inf")),
            row(f"restore {mib} MiB / host to device", *loaded, float("inf")),
        ]


def main():
    """Print and write the rows that fit into the time."""
    start, rows = time.monotonic(), []
    parts = [
        *(lambda n=n, c=c: steps(n, c) for n, c in ((10, 100), (100, 30), (1000, 3))),
        lambda: [bandwidth()],
        files,
        *(lambda n=n: [net(*n, float("inf"))] for n in ((5, 16, 100), (50, 16, 20))),
    ]
    for part in parts:
        if time.monotonic() - start > LIMIT:
            print("out of time")
            break
        for line in part():
            print(*filter(None, cells(line)), sep="  ", flush=True)
            rows.append(line)
    OUT.mkdir(parents=True, exist_ok=True)
    device = jax.devices()[0].device_kind
    (OUT / "gpu.md").write_text(f"{table(rows)}\n{device}\n", "utf-8")
    data = {"versions": versions(), "device": device, "rows": rows}
    (OUT / "gpu.json").write_text(json.dumps(data, indent=2), "utf-8")


if __name__ == "__main__":
    main()
