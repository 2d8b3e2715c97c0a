# SPDX-License-Identifier: Apache-2.0
"""Nodes: objects that own Variables and other Nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from .._display import tree_html, tree_text, treescope_object
from .._typing import FilePath, Model, Place, PlaceRules, PyTree, StateDict
from ..errors import message
from ..runtime import Owner, changing, dict_of
from . import _constants, _device, _implicit, _names, _pytree, _reset, _state, _walk
from ._collectors import NodeCollector, VarCollector
from ._hidden import warn_of_hidden
from ._outline import contents, outline
from ._parts import is_atom, parts
from ._paths import join
from ._variable import TrainVar, Variable
from ._walk import Method, is_node, walked_once

_OWN = ("_name", "_implicit_vars", "_implicit_nodes")


class Node(Owner):
    """An object that owns Variables and Nodes, as attributes or inside lists and dicts.

    Subclasses set attributes in ``__init__``; nothing has to be declared, and
    ``super().__init__()`` is optional. Assigning to one with a
    Variable writes its value.

    Args:
        name: a display name, unique in this process; default: the class and a count.

    Example:
        >>> import brainopt as bo
        >>> class Cell(bo.Node):
        ...     def __init__(self):
        ...         self.W = bo.TrainVar([[1.0, 2.0]])
        ...         self.V = bo.Variable((2,))
        >>> cell = Cell()
        >>> list(cell.vars()), list(cell.train_vars())
        (['W', 'V'], ['W'])
        >>> cell.V = [3.0, 4.0]
        >>> cell.V.value.tolist()
        [3.0, 4.0]

    Differs: brainpy keys collectors by process-wide names by default, ignores plain
    lists and dicts, and makes pytrees only on request.
    """

    reset = _reset.reset
    _walked_once = walked_once
    _reads_parts: ClassVar[bool] = True  # see `checkpoint.Stateful`
    _borrowed: ClassVar[frozenset[str]] = frozenset()
    """Attributes that are looked at but not owned, hence not walked."""

    def __init__(self, name: str | None = None):
        if name is not None:
            self.name = name

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("__slots__"):
            raise TypeError(
                message(
                    f"{cls.__name__} is a Node with __slots__, whose Variables nothing "
                    "would find.",
                    help="leave `__slots__` out.",
                )
            )
        _pytree.register(cls)

    def __setattr__(self, key: str, value: Any) -> None:
        held = dict_of(self).get(key)
        if isinstance(held, Variable):
            # The Variable stays: optimizers, collectors and compiled code hold it.
            # After `+=` the value is the Variable itself, which has been written
            # already.
            if value is not held:
                held.value = value
            return
        self._check_attribute(key, value)
        self._label(value, key)
        changing(self, key)  # before: the recorder keeps the value that was there
        object.__setattr__(self, key, value)

    def __delattr__(self, key: str) -> None:
        changing(self, key)
        object.__delattr__(self, key)

    def _check_attribute(self, key: str, value: Any) -> None:
        """Hook called before an attribute is set; does nothing by default."""

    def _label(self, value: Any, key: str, above: tuple[int, ...] = ()) -> None:
        if isinstance(value, Variable):
            if value._name is None:
                value._name = join(type(self).__name__, key)
            if self._resets:
                _reset.remember(value)
        elif not is_node(value) and id(value) not in above:
            for name, item in parts(value) or ():
                if not is_atom(item):
                    self._label(item, join(key, str(name)), (*above, id(value)))

    def _owned_attributes(self) -> Iterator[tuple[str, Any]]:
        # A copy: a walk that asks a node for its name adds an attribute.
        for key, value in list(self.__dict__.items()):
            if key not in _OWN and key not in self._borrowed:
                yield key, value
        for registry in ("_implicit_vars", "_implicit_nodes"):
            yield "", self.__dict__.get(registry, {})

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        # Without the name: it is unique, so no two nodes would have one structure, and
        # a copy gets a name of its own.
        return ((k, v) for k, v in self.__dict__.items() if k != "_name")

    @property
    def name(self) -> str:
        """The display name, unique among living objects."""
        # Made when it is first asked for: most nodes are found by path alone.
        if "_name" not in self.__dict__:
            self.__dict__["_name"] = _names.claim(self)
        return self.__dict__["_name"]

    @name.setter
    def name(self, name: str) -> None:
        old = self.__dict__.get("_name")
        self.__dict__["_name"] = _names.claim(self, name)
        if old not in (None, name):
            _names.release(self, old)

    def unique_name(self, name: str | None = None, type_: str | None = None) -> str:
        """Return a unique name: ``name`` itself, or ``type_`` and a count.

        Raises:
            UniqueNameError: ``name`` is taken or is no identifier.
        """
        return _names.claim(self, name, type_)

    def nodes(
        self, method: Method = "relative", level: int = -1, include_self: bool = True
    ) -> NodeCollector:
        """Collect this node (path ``""``) and the nodes below it.

        Args:
            method: ``"relative"`` keys by path, ``"absolute"`` by unique name.
            level: how many levels of nodes to go down; -1 for all.
            include_self: whether this node is among them.

        Differs: brainpy's default is ``"absolute"``.
        """
        return _walk.collect_nodes(self, method, level, include_self)

    def vars(
        self,
        method: Method = "relative",
        level: int = -1,
        include_self: bool = True,
        exclude_types: tuple[type, ...] | None = None,
    ) -> VarCollector:
        """Collect the Variables of this node and of the nodes below it.

        A Variable that two paths reach stands under both, and ``.unique()`` keeps the
        first; what is below a shared node stands under the first path alone.

        Args:
            method: ``"relative"`` keys by path, ``"absolute"`` as BrainPy does.
            level: how many levels of nodes to go down; -1 for all, 0 for this node.
            include_self: whether this node's own Variables are among them.
            exclude_types: kinds of Variables to leave out.

        Raises:
            PathError: two different Variables stand under one path.
        """
        return _walk.collect_vars(self, method, level, include_self, exclude_types)

    def train_vars(
        self, method: Method = "relative", level: int = -1, include_self: bool = True
    ) -> VarCollector:
        """Collect the `TrainVar` Variables; arguments as in `vars`."""
        warn_of_hidden(self)
        return self.vars(method, level, include_self).subset(TrainVar)

    def register_implicit_vars(
        self,
        *variables: Any,
        var_cls: type | tuple[type, ...] | None = None,
        **named: Any,
    ) -> None:
        """Own Variables that are not attributes.

        Args:
            variables: Variables, or lists or dicts of them. One without a key is
                called ``var0``, ``var1``, …
            var_cls: the kind that all must be; default `Variable`.
            named: Variables by key.

        Differs: brainpy calls an unnamed one ``var<id>``, which no file can rely on.
        """
        self._register("_implicit_vars", var_cls or Variable, "var", variables, named)

    def register_implicit_nodes(
        self, *nodes: Any, node_cls: type | tuple[type, ...] | None = None, **named: Any
    ) -> None:
        """Own Nodes that are not attributes; as `register_implicit_vars`."""
        self._register("_implicit_nodes", node_cls or Node, "node", nodes, named)

    def _register(self, registry: str, kind: Any, stem: str, items, named) -> None:
        held = _implicit.added(
            dict_of(self).get(registry, {}), kind, stem, items, named
        )
        self._label(held, "")
        changing(self, registry)
        self.__dict__[registry] = held

    def state_dict(self) -> dict[str, Any]:
        """Return ``{path: array}`` of every Variable, each once, at one instant."""
        return self._state_dict_with()[0]

    def _state_dict_with(self, *others: Any) -> list[dict[str, Any]]:
        """Return the state dicts of this node and of others, all at one instant."""
        warn_of_hidden(self, *others)
        return _state.state_dicts([self, *others])

    def load_state_dict(
        self,
        state_dict: StateDict,
        warn: bool = True,
        compatible: str = "v2",
        *,
        strict: bool = True,
        cast: bool = False,
    ) -> _state.LoadResult:
        """Write a state dict into the Variables: all of it or, after an error, nothing.

        Args:
            state_dict: ``{path: array}``; paths of aliases and BrainPy's absolute
                names are understood.
            warn: with ``strict=False``, warn about what did not fit.
            compatible: layout of BrainPy's: ``"v2"`` (a dict for a node) or ``"v1"``.
            strict: raise unless names, shapes and dtypes all fit; otherwise load
                what fits.
            cast: convert other dtypes instead of refusing them.

        Returns:
            ``missing``, ``unexpected`` and ``mismatched`` paths.

        Raises:
            StateDictError: listing everything that does not fit.
        """
        return _state.load_state_dict(self, state_dict, warn, compatible, strict, cast)

    def _stage_state_dict(
        self,
        state_dict: StateDict,
        *,
        strict: bool = True,
        cast: bool = False,
        context: Mapping[str, Any] | None = None,
    ) -> _state.Staged:
        """Compare a state dict with the Variables without writing anything.

        Args:
            state_dict: ``{path: array}``.
            strict: not used here; missing entries are judged before the commit.
            cast: whether other dtypes of the same kind fit.
            context: entries of the same state that are not to be loaded; of those
                that `_state_context` names, the meaning of others may depend.
        """
        state_dict, staged = dict(state_dict), _state.Staged()
        for path, node in self.nodes().items():
            node._prepare_load(state_dict, path, context or {}, staged)
        return _state.stage(self, state_dict, cast, staged)

    def _state_context(self) -> list[str]:
        """Return the paths that `_stage_state_dict` wants to see in any case."""
        nodes = self.nodes().items()
        return [join(path, name) for path, node in nodes for name in node._context()]

    def _context(self) -> Iterable[str]:
        """Hook that returns what `_state_context` says of this node alone."""
        return ()

    def _prepare_load(
        self,
        state: dict[str, Any],
        path: str,
        context: Mapping[str, Any],
        staged: _state.Staged,
    ) -> None:
        """Hook called with a state before it is compared with the Variables.

        Args:
            state: of a node above, or of this one; may be changed.
            path: of this node from there.
            context: see `_stage_state_dict`.
            staged: takes what does not fit, and how to undo what is done here.
        """

    def _checkpoint_meta(self) -> dict[str, Any]:
        """Return plain data about this node that checkpoints keep and compare."""
        return _state.meta(self, Node._checkpoint_meta) | _constants.fingerprints(self)

    def _prepare_save(self) -> None:
        """Hook that may refuse to give a state dict now."""

    def save_states(self, filename: FilePath, variables: Model = None, **setting: Any):
        """Save the state to a file; see `brainopt.checkpoint.save`.

        Args:
            filename: where to; its suffix chooses the format.
            variables: a collector, or a dict or list of Variables, instead of all.
            setting: options of `brainopt.checkpoint.save`.
        """
        _state.save_states(self, filename, variables, **setting)

    def load_states(
        self,
        filename: FilePath,
        verbose: bool = False,
        *,
        strict: bool = True,
        cast: bool = False,
    ) -> _state.LoadResult:
        """Load a file written by `save_states`; all of it or, after an error, nothing.

        Args:
            filename: the file.
            verbose: print what was loaded.
            strict: raise unless all paths are in both; otherwise load those that are.
            cast: convert other dtypes instead of refusing them.

        Returns:
            ``missing``, ``unexpected`` and ``mismatched`` paths.

        Raises:
            CheckpointMismatchError: listing everything that does not fit.
            CheckpointCorruptError: the file is damaged, or no checkpoint.
        """
        return _state.load_states(self, filename, verbose, strict=strict, cast=cast)

    def to(self, device: Place | PlaceRules) -> Self:
        """Move every Variable to a device or sharding, in place; returns self.

        Args:
            device: a Device, a name as ``"cuda:1"``, a Sharding, a Mesh, a spec of the
                mesh where values are; or rules, a dict of choices by name to these.

        Raises:
            DeviceError: there is no such device, or a value cannot be divided so.
            PathError: a rule chooses no Variable. After an error nothing has moved.
        """
        _device.move(self._movable(), device, self.vars)
        return self

    def _movable(self) -> list[Variable]:
        return list(self.vars().unique().values())

    def cpu(self) -> Self:
        """Move every Variable to the first CPU device."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Move every Variable to the first CUDA device."""
        return self.to("cuda")

    def tpu(self) -> Self:
        """Move every Variable to the first TPU device."""
        return self.to("tpu")

    def tree_flatten(self) -> tuple[list[Any], _pytree.Skeleton]:
        """Return the values of the Variables and a skeleton of the rest."""
        _, variables, skeleton = _pytree.take_apart(self)
        return [v.value for v in variables], skeleton

    @classmethod
    def tree_unflatten(cls, aux: _pytree.Skeleton, values: Iterable[PyTree]) -> Self:
        """Return a new node with the values in new Variables."""
        return _pytree.put_together(aux, values)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._pytree_attributes())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return tree_text(outline(self))

    def _repr_html_(self) -> str:
        return tree_html(outline(self))

    def __treescope_repr__(self, path: str | None, render: Any) -> Any:
        return treescope_object(type(self), contents(self), path, render)


_pytree.register(Node)
