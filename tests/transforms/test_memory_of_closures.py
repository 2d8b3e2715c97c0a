# SPDX-License-Identifier: Apache-2.0
"""Fresh closures in eager loops and branches take no more memory than in plain JAX."""

import subprocess
import sys

import pytest

CODE = """
import gc, sys, jax, jax.numpy as jnp, brainopt as bo
kind, count = sys.argv[1], int(sys.argv[2])
v, xs = bo.Variable(jnp.zeros(4)), jnp.ones((3, 4))

def ours():
    def body(x):
        v.value = v + x
        return v.value
    bo.for_loop(body, xs)
    bo.cond(True, lambda: v + 1.0, lambda: v - 1.0)

def plain():
    c, _ = jax.lax.scan(lambda c, x: (c + x, c + x), v.value, xs)
    v.value = c
    jax.lax.cond(True, lambda a: a + 1.0, lambda a: a - 1.0, c)

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

call = ours if kind == "ours" else plain
for _ in range(20):
    call()
before = resident()
for _ in range(count):
    call()
print((resident() - before) / count)
"""


def _bytes_each(kind, count):
    run = [sys.executable, "-c", CODE, kind, str(count)]
    return float(subprocess.run(run, capture_output=True, check=True).stdout)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closures_grow_no_more_than_in_plain_jax():
    assert _bytes_each("ours", 500) <= _bytes_each("plain", 100)
