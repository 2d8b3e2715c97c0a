# SPDX-License-Identifier: Apache-2.0
"""What a user writes, with the types that pyright and mypy are to find in it.

`test_types.py` has both check this file; nothing here runs.
"""

from collections.abc import Callable
from typing import Any, assert_type

import jax
import jax.numpy as jnp

import brainopt as bo


class Cell(bo.Node):
    """A Node whose attributes are declared, so that arrays may be assigned to them."""

    w: bo.TrainVar
    v: bo.Variable

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = bo.TrainVar(jnp.ones(size))
        self.v = bo.Variable(jnp.zeros(size))

    @bo.jit
    def update(self, x: jax.Array, gain: float = 1.0) -> jax.Array:
        """Write three times, as numbers, arrays and in place."""
        self.v = self.v * 0.9 + self.w * x
        self.v += gain
        self.v.value = [0.0, 1.0]
        return jnp.tanh(self.v)


def variables(cell: Cell, other: jax.Array) -> None:
    """A Variable is an array: in arithmetic, indexing, methods and functions."""
    assert_type(cell.v, bo.Variable)
    assert_type(cell.v.value, jax.Array)
    assert_type(cell.w * 2, jax.Array)
    assert_type(other @ cell.w, jax.Array)
    assert_type(cell.v > 0, jax.Array)
    assert_type(-cell.v, jax.Array)
    assert_type(cell.v[0], jax.Array)
    assert_type(cell.v.sum(axis=0), jax.Array)
    assert_type(cell.v.shape, tuple[int, ...])
    assert_type(jnp.where(cell.v > 0, cell.v, other), jax.Array)
    assert_type(float(cell.v[0]), float)
    cell.v = other
    cell.v = 0.0
    cell.v[0] = 1.0
    cell.v += 1
    assert_type(cell.v, bo.Variable)


def collectors(cell: Cell) -> None:
    """What a Node owns comes by path; containers know what they hold."""
    for path, variable in cell.vars().items():
        assert_type(path, str)
        assert_type(variable, bo.Variable)
    assert_type(bo.VarList([cell.w])[0], bo.Variable)
    assert_type(bo.NodeList([cell, cell])[0], Cell)
    assert_type(bo.RandomState(0).normal((3,)), jax.Array)


def compiled(cell: Cell, x: jax.Array) -> None:
    """The signature of a function stands after `jit`, `vmap` and `remat`."""

    @bo.jit
    def step(x: jax.Array, scale: float = 1.0) -> tuple[jax.Array, int]:
        return x * scale, 1

    assert_type(step(x, scale=2.0), tuple[jax.Array, int])
    assert_type(cell.update(x, gain=0.5), jax.Array)
    step("not an array")  # error: a str for an array
    step(x, gain=1.0)  # error: no such argument
    cell.update(x, 1.0, 2.0)  # error: too many arguments

    @bo.jit(static_argnums=1)
    def power(x: jax.Array, n: int) -> jax.Array:
        return x**n

    assert_type(power(x, 2), jax.Array)
    assert_type(step.compiles, int)

    @bo.vmap
    def lane(x: jax.Array) -> jax.Array:
        return x

    @bo.remat(prevent_cse=False)
    def layer(x: jax.Array) -> jax.Array:
        return x

    assert_type(lane(x), jax.Array)
    assert_type(layer(x), jax.Array)
    layer(x, x)  # error: too many arguments


def loops(x: jax.Array) -> None:
    """Loops and branches return what their functions return."""

    def body(carry: jax.Array, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, int]]:
        return carry + x, (x, 1)

    def double(x: jax.Array) -> jax.Array:
        return 2 * x

    assert_type(bo.scan(body, 0.0, x), tuple[jax.Array, tuple[jax.Array, int]])
    assert_type(bo.for_loop(double, x), jax.Array)
    assert_type(bo.cond(x[0] > 0, double, double, (x,)), jax.Array)
    assert_type(bo.switch(1, [double, double], (x,)), jax.Array)


def gradients(cell: Cell, x: jax.Array) -> None:
    """`grad` appends the value and the aux, each with its type."""

    def loss(x: jax.Array) -> jax.Array:
        return (cell.w * x).sum()

    def loss_and_rate(x: jax.Array) -> tuple[jax.Array, float]:
        return loss(x), 0.5

    assert_type(bo.grad(loss, cell)(x), Any)
    assert_type(bo.grad(loss, cell, return_value=True)(x), tuple[Any, jax.Array])
    aux = bo.grad(loss_and_rate, cell, has_aux=True)
    assert_type(aux(x), tuple[Any, float])
    both = bo.grad(loss_and_rate, cell, has_aux=True, return_value=True)
    assert_type(both(x), tuple[Any, jax.Array, float])
    assert_type(bo.value_and_grad(loss, cell)(x), tuple[jax.Array, Any])
    value, pull_back = bo.vjp(loss, x, grad_vars=cell)
    assert_type(value, jax.Array)
    assert_type(pull_back, Callable[[Any], Any])
    bo.grad(loss, cell)(x, x)  # error: too many arguments


def optimizers(cell: Cell, rate: Callable[[jax.Array], jax.Array]) -> None:
    """A rate is a number, an array, a Variable, a schedule or a callable."""
    for lr in (1e-3, jnp.ones(()), cell.w, bo.optim.CosineAnnealingLR(0.1, 10), rate):
        opt = bo.optim.AdamW(lr, cell, weight_decay=0.1)
        bo.optim.SGD(lr, cell.train_vars())
    opt.lr = 1e-4
    opt.lr = rate
    assert_type(opt.current_lr, jax.Array)
    opt.update(bo.grad(lambda: cell.w.sum(), cell)())
    bo.optim.AdamW(lr=[1e-3])  # error: a list is no rate
    bo.optim.AdamW(learning_rate=1e-3)  # error: no such argument


def schedules() -> None:
    """A schedule declares its arguments; it reads as arrays and Variables."""
    rate = bo.optim.StepLR(0.1, 5, 0.5, 3, clock="step")
    assert_type(rate.gamma, jax.Array)
    assert_type(rate.last_epoch, bo.Variable)
    assert_type(bo.optim.MultiStepLR(0.1, [3, 6]).milestones, bo.Variable)
    assert_type(bo.optim.Warmup(rate, 10).schedule, bo.optim.Schedule)
    bo.optim.SequentialLR([0.1, rate], [3])
    rate.gamma = 0.9
    bo.optim.StepLR(0.1)  # error: no step_size
    bo.optim.StepLR(0.1, 5, clock="day")  # error: no such clock
