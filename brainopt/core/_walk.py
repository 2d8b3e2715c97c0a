# SPDX-License-Identifier: Apache-2.0
"""The walk from a root to its Nodes and Variables, and the one grammar of paths.

A path joins attribute names, list positions and dict keys with dots:
``layers.0.W``. Plain containers, see `_parts`, are walked like the containers of this
package; they do not count as a level.

All that asks for Nodes, Variables or arrays below a root reads the visits of a walk. A
save and a restore ask several times, and so walk once: see `walked_once`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeGuard

import jax

from .._typing import Model
from ..errors import message
from ..runtime import Owner, changes
from . import _host
from ._collectors import NodeCollector, VarCollector
from ._parts import is_atom, parts
from ._paths import join
from ._variable import TrainVar, Variable

Method = Literal["relative", "absolute"]


Items = list[tuple[str, Any]]


class Visit(NamedTuple):
    """A node that the walk came to.

    Attributes:
        path: of the node from the root.
        node: the node; the root may be a container.
        items: the Variables and Nodes right inside, by their path from the node.
    """

    path: str
    node: Any
    items: Items


class _Kept(threading.local):
    def __init__(self):
        self.walks: dict[int, tuple[int, list[Visit]]] = {}


_kept = _Kept()


@contextlib.contextmanager
def walked_once(root: Model) -> Iterator[None]:
    """Walk a root once for everything in the block, in this thread.

    It is walked again where an attribute was assigned since. Lists and dicts of users
    are not looked at, so nothing may be added to one in the block.
    """
    walks, key = _kept.walks, id(root)
    if key in walks:
        yield
        return
    walks[key] = changes.count, _walk(root, -1)
    try:
        yield
    finally:
        del walks[key]


def visits(root: Model, level: int = -1) -> list[Visit]:
    """Return the visits of a walk: the root, then the nodes below it to ``level``.

    A node that two paths reach is visited under both, what is below it under the first
    (nodes that refer to each other would have more paths than could be listed); a cycle
    is cut where it closes.
    """
    key = id(root)
    if level >= 0 or key not in _kept.walks:
        return _walk(root, level)
    count, found = _kept.walks[key]
    if count != changes.count:
        count, found = _kept.walks[key] = changes.count, _walk(root, level)
    return found


def _walk(root: Model, level: int) -> list[Visit]:
    found: list[Visit] = []
    expanded: dict[int, int] = {}

    def visit(path: str, node: Model, depth: int, above: tuple[int, ...]) -> None:
        items = inside(node)
        found.append(Visit(path, node, items))
        # With a limit, a node that is found again nearer to the root is entered again:
        # from there more levels are within the limit.
        before = expanded.get(id(node))
        if depth == level or (before is not None and (level < 0 or before <= depth)):
            return
        expanded[id(node)] = depth
        above = (*above, id(node))
        for key, item in items:
            if not isinstance(item, Variable) and id(item) not in above:
                visit(join(path, key), item, depth + 1, above)

    visit("", root, 0, ())
    return found


def is_node(obj: object) -> TypeGuard[Owner]:
    """Whether ``obj`` is a Node."""
    return isinstance(obj, Owner)


def inside(node: Model) -> Items:
    """Return the Variables and Nodes right inside a Node or a container, by path."""
    if not is_node(node):
        return children(node)
    found: Items = []
    for name, value in node._owned_attributes():
        _gather(value, name, (), found)
    return found


def children(container: Model) -> Items:
    """Return the Nodes and Variables in a container, those of foreign models too."""
    found: Items = []
    _gather(container, "", (), found)
    return found


_FOUND = (Variable, Owner)


def _gather(container: Any, key: str, above: tuple[int, ...], found: Items) -> None:
    if isinstance(container, _FOUND):
        found.append((key, container))
    elif is_atom(container) or id(container) in above:  # a list may hold itself
        return
    elif (foreign := foreign_vars(container)) is not None:
        paths = getattr(foreign, "paths", {})
        for path, variable in foreign.items():
            found.append((join(key, paths.get(variable, path)), variable))
    else:
        above = (*above, id(container))
        for name, item in parts(container) or ():
            if isinstance(item, _FOUND):
                found.append((join(key, str(name)), item))
            elif not is_atom(item):
                _gather(item, join(key, str(name)), above, found)


def foreign_vars(obj: Model) -> _host.Found | None:
    """Return what a host finds in a model of another framework; None of others."""
    return None if isinstance(obj, list | tuple) else _host.find(obj)


class Owned(NamedTuple):
    """A Variable, where it was found."""

    path: str
    owner: Owner | None
    key: str
    variable: Variable

    @property
    def absolute(self) -> str:
        """The key BrainPy gives it: ``Node0.list-0``."""
        if self.owner is None:
            return self.path
        return f"{self.owner.name}.{self.key.replace('.', '-')}"


def foreign_models(
    container: Model, path: str = "", above: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield ``(path, model)`` for the models of other frameworks below a root."""
    if isinstance(container, Variable) or is_atom(container) or id(container) in above:
        return
    above = (*above, id(container))
    if is_node(container):
        items = container._owned_attributes()
    elif isinstance(container, VarCollector):
        items = [("", model) for model in container._models()]
    elif (found := foreign_vars(container)) is not None:
        if found and "" not in found:  # a single state is no model
            yield path, container
        return
    else:
        items = parts(container) or ()
    for name, item in items:
        yield from foreign_models(item, join(path, str(name)), above)


def may_own(obj: Model) -> bool:
    """Whether Variables could be in ``obj``: a Node, a container, a known model."""
    return is_node(obj) or parts(obj) is not None or foreign_vars(obj) is not None


def walk_nodes(root: Model, level: int = -1) -> list[tuple[str, Any]]:
    """Return ``(path, node)`` of the visits of a walk, see `visits`."""
    return [(visit.path, visit.node) for visit in visits(root, level)]


def walk_vars(
    root: Model, level: int = -1, include_self: bool = True
) -> Iterator[Owned]:
    """Yield every Variable below ``root`` with its path and owner."""
    for path, node, items in visits(root, level):
        if not include_self and node is root:
            continue
        owner = node if is_node(node) else None
        for key, item in items:
            if isinstance(item, Variable):
                yield Owned(join(path, key), owner, key, item)


def find(root: Model, path: str) -> tuple[Variable, str] | None:
    """Return the Variable at ``path`` (any alias will do), and the rest of the path.

    The rest is the path inside the value of a Variable that holds a pytree.
    """
    if isinstance(root, Variable):
        return root, path
    # By prefix and not split at the dots: a key may be that of a list in a dict.
    for key, item in inside(root):
        if key and (path == key or path.startswith(f"{key}.")):
            found = find(item, path[len(key) + 1 :])
            if found is not None:
                return found
    return None


def check_method(method: str) -> None:
    """Raise ValueError unless ``method`` is one of the two."""
    if method not in ("relative", "absolute"):
        raise ValueError(
            message(f"method={method!r}.", help="'relative' or 'absolute'.")
        )


def collect_vars(
    root: Model,
    method: Method = "relative",
    level: int = -1,
    include_self: bool = True,
    exclude_types: tuple[type, ...] | None = None,
) -> VarCollector:
    """Return the Variables below ``root`` by path, or by BrainPy's absolute names."""
    check_method(method)
    found = VarCollector()
    for item in walk_vars(root, level, include_self):
        if exclude_types and isinstance(item.variable, exclude_types):
            continue
        # Before the entry, which would take its key for the path.
        found.paths.setdefault(item.variable, item.path)
        found[item.path if method == "relative" else item.absolute] = item.variable
    return found


def collect_nodes(
    root: Model, method: Method = "relative", level: int = -1, include_self: bool = True
) -> NodeCollector:
    """Return the nodes below ``root`` by path, or by their unique names."""
    check_method(method)
    found = NodeCollector()
    for path, node in walk_nodes(root, level):
        if is_node(node) and (include_self or node is not root):
            found[path if method == "relative" else node.name] = node
    return found


def train_vars_of(source: Model) -> VarCollector:
    """Return what ``source`` offers for training, by path.

    Args:
        source: a Variable, a Node, a collector, a foreign model, or lists and dicts
            of these. Of a Node each `TrainVar` is taken; a Variable given directly
            is taken whatever its kind.
    """
    if isinstance(source, VarCollector):
        return source.to_train()
    found = VarCollector()
    for key, path, variable in _trainable(source, ""):
        found.paths.setdefault(variable, path or "param")
        found[key or "param"] = variable
    return found


_ATTACH = (
    "attach the pytree, `net = bo.attach(model)`; train `net`, and read `net.model`."
)
_TRAINABLE = (
    "give a Node, `node.train_vars()`, a Variable, a foreign model, or a list or dict "
    "of these; an array becomes a Variable by `bo.TrainVar(array)`, and a pytree of "
    "arrays a Node by `bo.attach(tree)`."
)


def _is_pytree(source: Model) -> bool:
    """Whether arrays are below it that JAX knows."""
    leaves = jax.tree.leaves(source)
    return any(isinstance(x, jax.Array) for x in leaves if x is not source)


def _trainable(source: Model, path: str) -> Iterator[tuple[str, str, Variable]]:
    """Yield ``(key, path, Variable)``; only in foreign collectors the two differ."""
    if isinstance(source, Variable):
        yield path, path, source
    # Before `dict`: the collectors of other frameworks are dicts.
    elif (foreign := _host.trained_in(source)) is not None:
        for key, own, variable in foreign:
            yield join(path, key), join(path, own), variable
    elif isinstance(source, VarCollector):
        for key, variable in source.to_train().items():
            yield join(path, key), join(path, key), variable
    elif isinstance(source, dict):
        for name, item in source.items():
            yield from _trainable(item, join(path, str(name)))
    elif isinstance(source, list | tuple):
        for i, item in enumerate(source):
            yield from _trainable(item, join(path, str(i)))
    elif is_node(source):
        for owned in walk_vars(source):
            if isinstance(owned.variable, TrainVar):
                name = join(path, owned.path)
                yield name, name, owned.variable
    else:
        raise TypeError(
            message(
                f"{path or 'train_vars'}: a {type(source).__name__} has no Variables "
                f"to train.",
                help=_ATTACH if _is_pytree(source) else _TRAINABLE,
            )
        )
