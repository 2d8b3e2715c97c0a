# SPDX-License-Identifier: Apache-2.0
"""What goes through JAX in the place of Variables and Nodes.

A Variable goes by its value. A Node goes in one of two ways:

* as itself (`held`), among arguments that a transform hands on: JAX sees no array, and
  the function gets the same Node, whose Variables it reads and writes as if it closed
  over them;
* by its values (`pack`), where these are what the transform works on: a carry, the
  slices of a loop, a result. The function gets a new Node. What it writes to that one
  lasts only if it returns it, so `warn_of_lost` says what it did not return.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from .._typing import PyTree
from .._warnings import warn_user
from ..core import ArrayLike, Node, Variable, describe, take_apart, unwrap
from ..errors import StateWarning, message
from ..runtime import Cell, Frame, foreign_kinds, unrecorded
from ._records import Recorded, handed_over


@jax.tree_util.register_pytree_node_class
class Packed:
    """A Node on its way through a transform: the values, and how to rebuild it.

    A Node is rebuilt in the frame that goes on with it, so that its new Variables
    last as long as that frame.
    """

    __slots__ = ("leaves", "tree")

    def __init__(self, leaves: Sequence[PyTree], tree: PyTree):
        self.leaves = leaves
        self.tree = tree

    def tree_flatten(self):
        return tuple(self.leaves), self.tree

    @classmethod
    def tree_unflatten(cls, tree: PyTree, leaves: Sequence[PyTree]):
        return cls(leaves, tree)


class _Identity:
    """A Node for comparison; JAX keeps it, so it does not hold the Node."""

    __slots__ = ("_id", "node")

    def __init__(self, node: Node):
        self.node = weakref.ref(node)
        self._id = id(node)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        mine = self.node()
        return mine is not None and type(other) is _Identity and other.node() is mine


@jax.tree_util.register_pytree_node_class
class Held:
    """A Node on its way through a transform that leaves it as it is."""

    __slots__ = ("node",)

    def __init__(self, node: Node):
        self.node = node

    def tree_flatten(self):
        return (), _Identity(self.node)

    @classmethod
    def tree_unflatten(cls, identity: _Identity, _: Sequence[PyTree]):
        node = identity.node()
        assert node is not None  # the caller holds it
        return cls(node)


def is_state(x: PyTree) -> bool:
    """Whether ``x`` is a Variable, a view, a Node, or a state of another framework."""
    return isinstance(x, (ArrayLike, Node, foreign_kinds()))


def is_view(x: PyTree) -> bool:
    """Whether ``x`` holds an array, but may be unknown to JAX."""
    return is_state(x) and not isinstance(x, Variable | Node)


def value_in(x: PyTree) -> Any:
    """Return the value in a Variable, a view or a foreign state; others as they are."""
    return x.value if isinstance(x, foreign_kinds()) else unwrap(x)


# A state is a leaf here, also where JAX would go into it: a Node is a pytree.
def pack(tree: PyTree) -> Any:
    """Return ``tree`` with Variables replaced by values, and Nodes packed."""
    return _replaced(tree, lambda node: Packed(*jax.tree.flatten(node)))


def held(tree: PyTree) -> Any:
    """Return ``tree`` with Variables replaced by values, and Nodes held."""
    return _replaced(tree, Held)


def _replaced(tree: PyTree, of_node: Callable[[Node], Any]) -> Any:
    def replace(x: PyTree):
        return of_node(x) if isinstance(x, Node) else value_in(x)

    return jax.tree.map(replace, tree, is_leaf=is_state)


def as_operands(operands: PyTree, packed: Callable[[PyTree], Any] = pack) -> Any:
    """Return operands as a packed tuple; a tuple is many."""
    many = operands if isinstance(operands, tuple) else (operands,)
    return tuple(map(packed, many))


def unpack(tree: PyTree, made: list[Node] | None = None) -> Any:
    """Return ``tree`` with each packed Node replaced by a new one, and held ones.

    What was recorded goes to the frame that runs now.

    Args:
        tree: of `pack` or `held`, or of what a run returned.
        made: takes the new Nodes.
    """

    def replace(x: PyTree):
        if isinstance(x, Recorded):
            return unpack(handed_over(x), made)
        if isinstance(x, Held):
            return x.node
        if not isinstance(x, Packed):
            return x
        node = jax.tree.unflatten(x.tree, x.leaves)
        if made is not None:
            made.append(node)
        return node

    return jax.tree.map(replace, tree, is_leaf=_is_packed)


def _is_packed(x: PyTree) -> bool:
    return isinstance(x, Packed | Held | Recorded)


class Values:
    """An argument whose values a transform replaces, also those of its Nodes.

    Args:
        argument: of the user.
    """

    def __init__(self, argument: PyTree):
        self._held = held(argument)
        # In the order of the leaves of a packed Node.
        with unrecorded():
            self._variables = [take_apart(node)[1] for node in nodes_in(argument)]
        self._trees = [
            jax.tree.structure([v.value for v in variables])
            for variables in self._variables
        ]

    @property
    def variables(self) -> list[Variable]:
        """The Variables of its Nodes."""
        return [v for variables in self._variables for v in variables]

    def fill(self, packed: PyTree, bindings: list[tuple[Cell, Any]]) -> Any:
        """Return the argument with other values, those of Nodes among the bindings.

        Args:
            packed: what `pack` returned of the argument, with the new values.
            bindings: takes the value of each Variable of a Node.
        """
        places = iter(zip(self._variables, self._trees, strict=True))

        def fill(old: PyTree, new: PyTree):
            if not isinstance(old, Held):
                return new
            variables, tree = next(places)
            values = jax.tree.unflatten(tree, new.leaves)
            bindings.extend(zip(variables, values, strict=True))
            return old

        return jax.tree.map(fill, self._held, packed, is_leaf=_is_packed)


def nodes_in(tree: PyTree) -> list[Node]:
    """Return the Nodes of a tree, or those that are held in it."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Node | Held))
    leaves = (leaf.node if isinstance(leaf, Held) else leaf for leaf in leaves)
    return [leaf for leaf in leaves if isinstance(leaf, Node)]


_told: set[tuple[str, str]] = set()


def warn_of_lost(
    function: Callable,
    made: Sequence[Node],
    before: Mapping[Cell, Any],
    frame: Frame,
    out: PyTree,
) -> None:
    """Warn once where a function writes to a new Node and returns no such Node.

    Args:
        function: which ran.
        made: the new Nodes among its arguments.
        before: the values of all Variables when it began.
        frame: in which it ran.
        out: what it returned.
    """
    place = describe(function)
    with unrecorded():
        # By class, since a transform inside may have returned it as another new one.
        returned = {
            type(node)
            for node in nodes_in(out)
            if any(v in frame.created_here for v in take_apart(node)[1])
        }
        lost = [
            variable.label
            for node in made
            if type(node) not in returned
            for variable in take_apart(node)[1]
            if frame.values.get(variable) is not before.get(variable)
        ]
    if fresh := [label for label in lost if (place, label) not in _told]:
        _told.update((place, label) for label in fresh)
        warn_user(
            message(
                f"{place} writes to these Variables of a Node that a loop hands in by "
                f"its values, and does not return the Node, so what it wrote is lost:",
                fresh,
                "let the function close over the Node, or return it as the carry.",
            ),
            StateWarning,
        )
