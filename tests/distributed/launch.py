# SPDX-License-Identifier: Apache-2.0
"""Start a function of a test module in several real processes that form one run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import importlib.util, json, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
import brainopt as bo
path, name, address, count, process, args = sys.argv[1:]
process = bo.distributed.initialize(address, int(count), int(process), timeout=60)
spec = importlib.util.spec_from_file_location("worker", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
result = getattr(module, name)(process, *json.loads(args))
print("RESULT" + json.dumps(result), flush=True)
"""


def launch(path, name, *args, processes=2, devices=1, timeout=120):
    """Return what ``name(process, *args)`` of a module returns in each process."""
    started = start(path, name, *args, processes=processes, devices=devices)
    try:
        ended = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    for out, err in ended:
        assert "RESULT" in out, err
    return [json.loads(out.rpartition("RESULT")[2]) for out, _ in ended]


def start(path, name, *args, processes=2, devices=1):
    """Start the processes, and return them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    work = [sys.executable, "-c", _PROGRAM, path, name, address, str(processes)]
    return [
        subprocess.Popen(
            [*work, str(process), json.dumps(args)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]
