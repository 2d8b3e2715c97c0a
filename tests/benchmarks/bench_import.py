# SPDX-License-Identifier: Apache-2.0
"""What importing brainopt costs beyond jax, each in processes of its own.

From byte code, as in an installation: where an environment keeps Python from writing
it, each process would compile all sources first.
"""

import os
import statistics
import subprocess
import sys
import time

from .timing import row

REQUIRED_SECONDS = 0.1


def _seconds(module: str) -> float:
    code = (
        f"import time; start = time.perf_counter(); import {module}; "
        "print(time.perf_counter() - start)"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, env=env)
    return float(done.stdout)


def main():
    """Return one row: seconds of both, and their difference over the bound."""
    _seconds("brainopt")  # writes the byte code
    pairs = []
    for _ in range(9):
        pairs.append((_seconds("brainopt"), _seconds("jax")))
        time.sleep(0.05)
    ours = statistics.median(a for a, _ in pairs)
    jax = statistics.median(b for _, b in pairs)
    extra = statistics.median(a - b for a, b in pairs)
    name = f"import brainopt: seconds beyond import jax / {REQUIRED_SECONDS} s"
    return [row(name, ours, jax, extra / REQUIRED_SECONDS, 1.0)]


if __name__ == "__main__":
    print(main())
