# SPDX-License-Identifier: Apache-2.0
"""Train, save and load with an installed brainopt, and nothing else of the project."""

import importlib.resources
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp

import brainopt as bo

assert Path(bo.__file__).is_relative_to(sys.prefix), bo.__file__
assert importlib.resources.files(bo).joinpath("py.typed").is_file()


class Line(bo.Node):
    def __init__(self):
        super().__init__()
        self.w = bo.TrainVar(jnp.zeros(()))


net = Line()
opt = bo.optim.AdamW(0.1, net.train_vars(), weight_decay=0.0)
grad = bo.grad(lambda: (net.w.value - 1.0) ** 2, net.train_vars())


@bo.jit
def step():
    opt.update(grad())


for _ in range(200):
    step()
assert abs(float(net.w.value) - 1.0) < 1e-2, net.w

with tempfile.TemporaryDirectory() as folder:
    net.save_states(f"{folder}/line.msgpack")
    other = Line()
    other.load_states(f"{folder}/line.msgpack")
assert other.w.value == net.w.value, (other.w, net.w)
