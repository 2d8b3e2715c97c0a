# SPDX-License-Identifier: Apache-2.0
"""Data parallelism with ZeRO-1 in one process or several, and equal losses in all.

    python examples/data_parallel.py                     # this process, all its devices
    python examples/data_parallel.py --processes 2       # two processes of this machine
    python examples/data_parallel.py --resume            # go on, on any number of them

A network learns the outputs of another one. The weights are whole on every device, the
moments of AdamW are divided, each process reads its own rows, and all processes write
one checkpoint together. Kill any of them at any moment and resume.
"""

import os
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from program import course, keep, options, parse, pyplot, save_figure

import brainopt as bo

ROWS, INPUTS, HIDDEN, OUTPUTS = 64, 32, 64, 16
EVERY = 10


class Net(bo.Node):
    """Two layers."""

    def __init__(self, seed):
        first, second = jax.random.split(jax.random.key(seed))
        self.W1 = bo.TrainVar(jax.random.normal(first, (INPUTS, HIDDEN)) / INPUTS**0.5)
        self.W2 = bo.TrainVar(jax.random.normal(second, (HIDDEN, OUTPUTS)) / 8)

    def __call__(self, x):
        """Return the outputs, (rows, 16), of inputs, (rows, 32)."""
        return jnp.tanh(x @ self.W1.value) @ self.W2.value


def batch_of(step, teacher, mesh):
    """Return the rows of a step: each process makes its own, the same on any number."""
    x = np.random.default_rng(step).normal(size=(ROWS, INPUTS)).astype("f4")
    y = np.tanh(x @ teacher[0]) @ teacher[1]
    own = np.array_split(np.arange(ROWS), jax.process_count())[jax.process_index()]
    return bo.sharding.batch(mesh, "data", (x[own], y[own]))


def train(args):
    """Train, and return the losses and the bytes of moments on one device."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    teacher = [np.asarray(v.value) for v in Net(args.seed + 1).train_vars().values()]
    net = Net(args.seed)
    bo.sharding.shard(net, mesh)
    opt = bo.optim.AdamW(1e-2, net, zero="data")
    nodes = {"net": net, "opt": opt, "losses": []}

    @bo.jit
    def step(x, y):
        grads, loss = bo.grad(
            lambda: jnp.mean((net(x) - y) ** 2), net.train_vars(), return_value=True
        )()
        opt.update(grads)
        return loss

    losses = []
    with bo.checkpoint.Manager(args.checkpoint, keep=2, sharded=True) as manager:
        found = manager.resume(nodes) if args.resume else None
        if found is not None:
            losses = list(found.values["losses"])
            say(f"resumed after step {found.step}")
        elif args.resume:
            say(f"no checkpoint in {args.checkpoint} yet: starting at step 0")
        for number in range(len(losses), args.steps):
            losses.append(float(step(*batch_of(number, teacher, mesh))))
            if (number + 1) % EVERY == 0 or number + 1 == args.steps:
                saved = {"net": net, "opt": opt, "losses": list(losses)}
                manager.save(number + 1, saved, overwrite=not args.resume, timeout=60)
                say(f"step {number + 1:4d}/{args.steps}  loss {losses[-1]:.6f}")
    moments = opt.slots["W1"]["m"].value
    return losses, moments.nbytes, moments.addressable_shards[0].data.nbytes


def say(text):
    """Print in one process alone."""
    if jax.process_index() == 0:
        print(text, flush=True)


def start(count, argv):
    """Start this program ``count`` times; end all of them when one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = []
    for process in range(count):
        env = os.environ | {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(process),
        }
        command = [sys.executable, __file__, *argv, "--processes", "1"]
        running.append(subprocess.Popen(command, env=env))
        print(f"process {process} has pid {running[-1].pid}", flush=True)
    try:
        while (codes := [p.poll() for p in running]).count(None):
            if any(codes):
                break
            time.sleep(0.05)
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
    return max(abs(process.wait()) for process in running)


def draw(path, losses):
    """Draw the losses."""
    figure, axes = pyplot().subplots(figsize=(5, 3), layout="constrained")
    course(axes, losses)
    axes.set(xlabel="step", ylabel="mean squared error", yscale="log")
    axes.set(title=f"Devices: {jax.device_count()}, moments divided (ZeRO-1)")
    save_figure(figure, path)


def main(argv=None):
    """Run the program; return the losses, or the exit code of several processes."""
    argv = sys.argv[1:] if argv is None else argv
    name, a_step = "data_parallel", "one batch of 64 rows"
    parser = options(__doc__, name, 100, a_step, device=False)
    parser.add_argument("--processes", type=int, default=1, help="started here (1)")
    args = parse(parser, argv)
    if args.processes > 1:
        return start(args.processes, argv)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    bo.distributed.initialize()
    began = time.perf_counter()
    losses, whole, part = train(args)
    say(f"{jax.process_count()} processes, {jax.device_count()} devices")
    say(f"moments of W1: {part:,} of {whole:,} bytes on a device")
    say(f"final loss {losses[-1]:.6f}")
    if jax.process_index() == 0:
        results = {"first loss": losses[0], "last loss": losses[-1]}
        keep(args, results, {"wall seconds": round(time.perf_counter() - began, 1)})
        if args.figure:
            draw(args.figure, losses)
    return losses


if __name__ == "__main__":
    code = main()
    sys.exit(code if isinstance(code, int) else 0)
