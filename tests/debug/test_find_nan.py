# SPDX-License-Identifier: Apache-2.0
"""`find_nan` names the operation, the line and the Variables, and changes nothing."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

LINES = Path(__file__).read_text("utf-8").splitlines()


class Cell(bo.Node):
    def __init__(self):
        self.w = bo.TrainVar([1.0, -1.0])
        self.v = bo.Variable(0.0)
        self.calm = bo.Variable(0.0)

    def __call__(self, x):
        self.v.value = self.v + jnp.log(self.w.value * x).sum()  # the first NaN
        self.calm.value = self.calm + 1.0
        return self.v.value


def _root(x):
    return jnp.sqrt(x * 0.0).sum()  # infinite slope


ROADS = {
    "eager": lambda cell: cell,
    "jit": bo.jit,
    "for_loop": lambda cell: lambda x: bo.for_loop(cell, jnp.stack([x, x])),
    "cond": lambda cell: lambda x: bo.cond(True, cell, lambda x: x, x),
    "grad": lambda cell: lambda x: bo.grad(cell, cell.train_vars())(x),
    "jit of grad": lambda cell: bo.jit(lambda x: bo.grad(cell, cell.train_vars())(x)),
    "vmap": lambda cell: (
        lambda x: (
            bo.vmap(lambda y: jnp.log(cell.w.value * y))(x[None]) if x.ndim else cell(x)
        )
    ),
}


def _line_of(mark):
    return next(i for i, line in enumerate(LINES, 1) if line.endswith(mark))


@pytest.mark.parametrize("road", ROADS)
def test_the_line_and_the_operation_are_named(road):
    cell = Cell()

    report = bo.debug.find_nan(ROADS[road](cell), jnp.float32(2.0))

    assert report.operation == "log"
    assert report.line == f"{__file__}:{_line_of('# the first NaN')} (__call__)"
    assert "jnp.log(self.w.value * x)" in str(report)


def test_a_nan_of_a_backward_pass_has_the_line_of_its_forward_pass():
    report = bo.debug.find_nan(bo.grad(_root), jnp.ones(3))

    assert report.line == f"{__file__}:{_line_of('# infinite slope')} (_root)"


def test_variables_are_counted_before_and_after():
    cell = Cell()
    cell.w.value = jnp.array([jnp.nan, jnp.inf])

    report = bo.debug.find_nan(cell, jnp.array([1.0, jnp.inf]))

    assert dict(report.before) == {"TrainVar 'Cell.w'": 2, "args[0]": 1}
    assert dict(report.after) == {"Variable 'Cell.v'": 1}


def test_nothing_is_changed():
    cell, opt = Cell(), bo.optim.SGD(0.1, bo.TrainVar([1.0]))
    before = {k: np.asarray(v) for k, v in (cell.state_dict()).items()}

    @bo.jit
    def step(x):
        opt.update({"param": jnp.ones(1)})
        return cell(x)

    bo.debug.find_nan(step, 2.0)

    for path, value in cell.state_dict().items():
        np.testing.assert_array_equal(value, before[path])
    assert int(opt.step) == 0


def test_a_step_without_nan_gives_nothing():
    cell = Cell()
    cell.w.value = jnp.array([1.0, 2.0])

    report = bo.debug.find_nan(cell, 2.0)

    assert not report and str(report).startswith("No NaN")
