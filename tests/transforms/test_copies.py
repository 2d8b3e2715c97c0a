# SPDX-License-Identifier: Apache-2.0
"""Compiled methods kept as attributes are copied with their Node, bound to the copy."""

import copy
import pickle

import jax.numpy as jnp
import pytest

import brainopt as bo


class Counter(bo.Node):
    def __init__(self, make):
        self.v = bo.Variable(jnp.array(1.0))
        self.by = 1.0
        self.step = make(self)

    def _step(self, x):
        self.v.value = self.v + self.by * x
        return self.v.value

    @bo.jit
    def decorated(self, x):
        return self._step(x)


@bo.jit
def doubled(x):
    """Return twice ``x``."""
    return 2.0 * x


MADE = {
    "jit": lambda self: bo.jit(self._step),
    "options": lambda self: bo.jit(self._step, donate=False, static_argnames="y"),
    "safe": lambda self: bo.jit(self._step, safe=True),
    "bound decorated method": lambda self: self.decorated,
    "jit of that": lambda self: bo.jit(self.decorated),
}
COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda node: pickle.loads(pickle.dumps(node)),
    "cloudpickle": lambda node: _cloudpickled(node),
}


def _cloudpickled(node):
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(node))


@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "after a call"])
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("made", MADE)
def test_the_copy_steps_itself(made, way, ran):
    node = Counter(MADE[made])
    if ran:
        node.step(1.0)
    start = float(node.v)

    other = COPIES[way](node)

    assert float(other.step(2.0)) == start + 2.0
    assert (float(other.v), float(node.v)) == (start + 2.0, start)
    other.by = 5.0
    assert float(other.step(1.0)) == start + 7.0
    assert float(node.step(1.0)) == start + 1.0


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_decorated_function_is_found_by_its_name(way):
    assert COPIES[way](doubled) is doubled
    assert float(COPIES[way]({"f": doubled})["f"](2.0)) == 4.0


def test_a_copy_is_not_compiled_and_has_the_same_options():
    node = Counter(MADE["options"])
    node.step(1.0)
    other = copy.deepcopy(node)
    assert (node.step.compiles, other.step.compiles) == (1, 0)
    assert other.step._donate is False
