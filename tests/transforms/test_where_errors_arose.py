# SPDX-License-Identifier: Apache-2.0
"""An error of JAX inside a transform says in which function, and what to do."""

import traceback
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

OURS = str(Path(bo.__file__).parent)


def to_numpy(x):
    return np.tanh(x)


def misshapen(x):
    return (jnp.ones(3) * x) @ jnp.ones((4, 2))


def mismatched(x):
    return (jnp.ones(3) * x + jnp.ones(4)).sum()


WRONG = {
    to_numpy: "`jnp`",
    misshapen: "print the shapes",
    mismatched: "print the shapes",
}
TRANSFORMS = {
    "bo.jit": lambda f: bo.jit(f)(1.0),
    "bo.grad": lambda f: bo.grad(f)(1.0),
    "bo.vmap": lambda f: bo.vmap(f)(jnp.ones(2)),
    "bo.remat": lambda f: bo.remat(f)(1.0),
    "bo.for_loop": lambda f: bo.for_loop(f, jnp.ones(2)),
    "bo.cond": lambda f: bo.cond(True, f, f, 1.0),
    "bo.eval_shape": lambda f: bo.eval_shape(f, 1.0),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("wrong", WRONG)
def test_one_line_says_where_and_one_how_to_mend(transform, wrong):
    with pytest.raises((TypeError, ValueError)) as caught:
        TRANSFORMS[transform](wrong)

    notes = [n for n in caught.value.__notes__ if "---" not in n]
    assert notes[0].startswith(f"in {transform} of {wrong.__name__} ({__file__}:")
    assert notes[1].startswith("help: ") and WRONG[wrong] in notes[1]
    assert len(notes) == 2


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_traceback_leaves_out_the_inside_of_a_transform(transform):
    with pytest.raises(TypeError) as caught:
        TRANSFORMS[transform](misshapen)

    frames = traceback.extract_tb(caught.value.__traceback__)
    assert sum(frame.filename.startswith(OURS) for frame in frames) <= 3


@pytest.mark.parametrize("value", [1j, jnp.ones(2)])
def test_a_loop_goes_on_by_one_real_number(value):
    with pytest.raises(TypeError, match="one boolean or real number"):
        bo.while_loop(lambda x: x, lambda x: value, 1.0)
