# SPDX-License-Identifier: Apache-2.0
"""Variables created at the first call: refused inside a transform, nothing is left."""

import jax.numpy as jnp
import pytest

import brainopt as bo

X = jnp.ones(3)


class Lazy(bo.Node):
    """Creates its weight at the first call, where the caller says."""

    def __init__(self, find, create):
        self.layers, self.table, self.none = [], {"known": 1.0}, None
        self.find, self.create = find, create

    def __call__(self, x):
        if self.find(self) is None:
            self.create(self, bo.TrainVar(2 * jnp.ones(x.shape)))
        return (self.find(self) * x).sum()


def _sub(node, weight):
    node.sub = bo.Node()
    node.sub.w = weight


PLACES = {
    "attribute": (
        lambda node: vars(node).get("w"),
        lambda node, w: setattr(node, "w", w),
    ),
    "dict": (
        lambda node: node.table.get("w"),
        lambda node, w: node.table.update(w=w),
    ),
    "list": (
        lambda node: node.layers[0] if node.layers else None,
        lambda node, w: node.layers.append(w),
    ),
    "list in a dict": (
        lambda node: node.table["ws"][0] if "ws" in node.table else None,
        lambda node, w: node.table.update(ws=[w]),
    ),
    "none": (lambda node: node.none, lambda node, w: setattr(node, "none", w)),
    "node": (lambda node: node.sub.w if "sub" in vars(node) else None, _sub),
}
CALLS = {
    "cond": lambda f: bo.cond(True, f, lambda x: 0.0, X),
    "for_loop": lambda f: bo.for_loop(f, X[None]),
    "grad": lambda f: bo.grad(f)(X),
    "jit": lambda f: bo.jit(f)(X),
    "jit of for_loop": lambda f: bo.jit(lambda x: bo.for_loop(f, x[None]))(X),
    "jit of grad": lambda f: bo.jit(bo.grad(f))(X),
    "remat": lambda f: bo.remat(f)(X),
    "vmap": lambda f: bo.vmap(f)(X[None]),
}


CASES = [(c, p) for c in CALLS for p in PLACES if c == "jit" or p in ("dict", "none")]


@pytest.mark.parametrize(("name", "place"), CASES)
def test_it_is_as_before_and_the_next_try_works(name, place):
    node = Lazy(*PLACES[place])
    function = lambda x: node(x)  # noqa: E731

    with pytest.raises(
        bo.errors.TraceContextError, match=r"(?s)Lazy.*call the function"
    ):
        CALLS[name](function)

    assert node.find(node) is None and not node.vars()
    assert (
        node.layers == [] and node.table == {"known": 1.0} and "sub" not in vars(node)
    )
    assert node(X) == 6.0  # creates the weight
    CALLS[name](function)
    assert list(node.vars().values()) == [node.find(node)]
