# SPDX-License-Identifier: Apache-2.0
"""Mapping over a batch or an ensemble."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, overload

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from .. import runtime
from .._compat import is_eager, is_of_current_trace
from .._typing import Array, Model, P, PyTree, R
from ..core import Node, as_transform, move_each
from ..errors import VariableError, message
from ..runtime import Cell, Effects
from ._errors import Explained
from ._lift import discovering, read, run_to_fixed_point
from ._packed import held
from ._positions import check_entries
from ._records import parted, rejoined
from ._rules import Chosen, MappedRun, Rules, fork, of_nodes, refuse

_HELP = (
    "`bo.vmap(f, discard=True)` gives each lane values of its own, which end with it; "
    "`bo.vmap(f, axes={variable: 0})` keeps those of a model with a value for each "
    "lane, as `bo.vmap(lambda _: Model())(jnp.arange(lanes))` makes it; a model made "
    "inside the function ends with the lane too. Or write a value that does not "
    "depend on the lane, such as a mean over `axis_name`."
)
_HELP_AXES = (
    "`axes` is for a model with a value for each lane, as "
    "`bo.vmap(lambda _: Model())(jnp.arange(lanes))` makes it; values that each lane "
    "sets for itself are taken by `discard=True` in the place of `axes`."
)


Axes: TypeAlias = PyTree
"""An axis, None, or a tree of these that begins as the arguments do."""

VariableRules: TypeAlias = (
    Mapping[Model, int | None] | Iterable[tuple[Model, int | None]]
)
"""The axis of each Variable, Node, kind, or list of these; None where all share it."""


@overload
def vmap(
    fun: Callable[P, R],
    in_axes: Axes = 0,
    out_axes: Axes = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | None = None,
    *,
    axes: VariableRules | None = None,
    discard: bool | Model = False,
) -> Callable[P, R]: ...


@overload
def vmap(
    *,
    in_axes: Axes = 0,
    out_axes: Axes = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | None = None,
    axes: VariableRules | None = None,
    discard: bool | Model = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@as_transform
def vmap(
    fun: Any = None,
    in_axes: Axes = 0,
    out_axes: Axes = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | None = None,
    *,
    axes: VariableRules | None = None,
    discard: bool | Model = False,
) -> Any:
    """Map a function over an axis of its arguments and of chosen Variables.

    A Variable with a rule in ``axes`` is split along that axis: each lane reads and
    writes its own slice. All lanes see the same value of every other Variable, and may
    write only what is equal in all of them. Each lane draws its own random numbers:
    a `RandomState` without a rule gives every lane a key of its own, and advances once.

    Args:
        fun: the function of one lane.
        in_axes: as in `jax.vmap`. Where `vmap` decorates a method, a tuple counts
            ``self``, with None in its place; one axis is that of the other arguments.
        out_axes: as in `jax.vmap`.
        axis_name: as in `jax.vmap`, for collectives.
        axis_size: the number of lanes, where no argument and no Variable says it.
        spmd_axis_name: as in `jax.vmap`.
        axes: a mapping, or a list of pairs, from a Variable, Node, collector, kind of
            Variable, or list of these to the axis of its value, or to None for a
            Variable that all lanes share. Nothing is guessed from shapes.
        discard: True, or the Variables, Nodes, models or kinds that it is true of: each
            lane has a value of its own of what it writes, which ends with the lane. As
            in a sweep, where each lane sets parameters and simulates from the start.

    Raises:
        VariableError: the lanes write different values to a Variable without a rule,
            or a Variable does not have the axis of its rule.

    Example:
        >>> import brainopt as bo
        >>> w = bo.Variable([1.0, 2.0, 3.0])
        >>> def double(x):
        ...     w.value = w.value * 2 + x
        >>> bo.vmap(double, axes={w: 0})(jnp.array([0.0, 1.0, 0.0]))
        >>> w.value.tolist()
        [2.0, 5.0, 6.0]

        A whole model made by ``vmap`` is an ensemble, and trains as one:

        >>> class Line(bo.Node):
        ...     def __init__(self, key):
        ...         self.slope = bo.TrainVar(jax.random.normal(key))
        >>> lines = bo.vmap(Line)(jax.random.split(jax.random.key(0), 5))
        >>> lines.slope.shape
        (5,)
    """
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    mapping = functools.partial(
        jax.vmap, axis_name=axis_name, spmd_axis_name=spmd_axis_name
    )

    def wrapper(*args, **kwargs):
        of_arguments = of_nodes(in_axes, args), of_nodes(0, kwargs)
        rules = Rules(axes, itertools.chain(*of_arguments))
        option = "bo.vmap(self.method, axes={self: axis})"
        check_entries("in_axes", in_axes, args, None, option)
        args, kwargs = held((args, kwargs))
        size = axis_size or _size(in_axes, args, kwargs, rules)
        lanes = _Lanes(fun, rules, size, Chosen(discard))

        def attempt(effects: Effects):
            return lanes.attempt(mapping, (in_axes, out_axes), (args, kwargs), effects)

        start = Effects((), (), rules.mapped())
        with Explained(fun, "bo.vmap"):
            out = run_to_fixed_point(lambda: (start, None), attempt)
        if out_axes == 0 and is_eager():
            _place_new_nodes(out, [*_mapped(in_axes, args), *_mapped(0, kwargs)])
        return out

    return wrapper


class _Lanes:
    """One call of a mapped function.

    Args:
        fun: the function of one lane.
        rules: which Variables are mapped.
        size: the number of lanes.
        discard: the Variables whose values end with the lane.
    """

    def __init__(self, fun: Callable, rules: Rules, size: int, discard: Chosen):
        self.fun = fun
        self.discard = discard
        self.rules = rules
        self.size = size

    def attempt(self, mapping: Callable, axes: tuple, given: tuple, effects: Effects):
        """Run with the Variables mapped that ``effects`` knows."""
        rules = self.rules
        split = [v for v in effects.known if rules.splits(v)]
        mapped = [v for v in effects.known if rules.maps(v) and v not in set(split)]
        places = [rules.of(v) for v in mapped]
        values = [read(v) for v in mapped]
        _check_axes(mapped, values, places, self.size)
        lane_keys, next_keys = fork(split)
        seen: list[tuple[MappedRun, list[Cell], list[Cell]]] = []

        def pure(values: tuple, lane: Array, args: tuple, kwargs: dict):
            # From the number of the lane: no array of keys has to be passed in.
            keys = [jax.random.fold_in(key, lane) for key in lane_keys.values()]
            bindings = zip((*mapped, *split), (*values, *keys), strict=True)
            run = MappedRun(self.fun, args, kwargs, bindings, effects, rules, _first)
            own = [v for v in run.effects.written if rules.of(v) is not None]
            shared = [v for v in run.effects.written if not rules.maps(v)]
            differing = [v for v in shared if _differs(run.values[v])]
            # Judged where all mapped Variables are known. Before, one that is missing
            # has the slice of the first lane in every lane.
            if set(run.mapped) <= set(effects.known) and not discovering():
                kept = [v for v in differing if not self.discard.has(v)]
                refuse("lane of vmap", kept, _HELP)
            shared = [v for v in shared if v not in set(differing)]
            seen[:] = [(run, own, shared)]
            out, records = parted(run.out)
            return out, records, run.results(own), run.results(shared)

        in_axes, out_axes = axes
        # Values leave along axis 0 and are moved to their axis below. Their number is
        # known after the trace only, and one axis fits a list of any length.
        function = mapping(
            pure,
            in_axes=(places, 0, in_axes, 0),
            out_axes=(out_axes, 0, 0, None),
            axis_size=self.size,
        )
        lane = jnp.arange(self.size)
        out, records, own_values, shared_values = function(values, lane, *given)
        run, own, shared = seen[0]
        stacked = [
            _placed(value, rules.of(v))
            for v, value in zip(own, own_values, strict=True)
        ]
        written = [*own, *shared, *next_keys]
        results = [*stacked, *shared_values, *next_keys.values()]
        learned = Effects((), run.effects.inner, run.mapped)
        return (rejoined(out, records), written, results), learned


# A value that does not depend on the lane is computed outside of the trace of `vmap`.
def _differs(value: Any) -> bool:
    return any(map(is_of_current_trace, jax.tree.leaves(value)))


def _first(x: Any, axis: int) -> Any:
    return jax.lax.index_in_dim(x, 0, axis, keepdims=False)


def _placed(value: Any, axis: int) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, axis), value)


def _check_axes(variables, values, axes: Sequence[int], size: int) -> None:
    unfit = []
    for variable, value, axis in zip(variables, values, axes, strict=True):
        for leaf in jax.tree.leaves(value):
            if not -leaf.ndim <= axis < leaf.ndim:
                unfit.append(f"{variable.label}: axis {axis} of shape {leaf.shape}")
            elif leaf.shape[axis] != size:
                unfit.append(
                    f"{variable.label}: {leaf.shape[axis]} along axis {axis} of shape "
                    f"{leaf.shape}, for {size} lanes"
                )
    if unfit:
        raise VariableError(
            message(
                "These Variables cannot be mapped as `axes` says:", unfit, _HELP_AXES
            )
        )


def _size(in_axes: Any, args: tuple, kwargs: dict, rules: Rules) -> int:
    found = [*_sizes(in_axes, args), *_sizes(0, kwargs)]
    for variable in rules.mapped():
        found += _sizes(rules.of(variable), read(variable))
    if not found:
        raise ValueError(
            message(
                "Nothing says how many lanes vmap has: no argument and no Variable is "
                "mapped.",
                help="give `axis_size`.",
            )
        )
    return found[0]


def _sizes(axes: Axes, tree: Any) -> list[int]:
    """Return the size along the axis of each mapped leaf; ``axes`` is a prefix."""
    return [jnp.shape(leaf)[axis] for leaf, axis in _mapped(axes, tree)]


def _mapped(axes: Axes, tree: Any) -> list[tuple[Any, int]]:
    """Return each mapped leaf with its axis; ``axes`` is a prefix."""
    if axes is None:
        return []
    if isinstance(axes, int):
        ranks = ((leaf, jnp.ndim(leaf)) for leaf in jax.tree.leaves(tree))
        return [(leaf, axes) for leaf, rank in ranks if -rank <= axes < rank]
    if isinstance(axes, Mapping):
        return [found for key, a in axes.items() for found in _mapped(a, tree[key])]
    pairs = zip(axes, tree, strict=False)
    return [found for a, part in pairs for found in _mapped(a, part)]


def _place_new_nodes(out: Any, mapped: Sequence[tuple[Any, int]]) -> None:
    """Divide the Variables of new Nodes over their lanes as the arguments are.

    Args:
        out: the result of an eager `vmap` along axis 0, which may hold Nodes.
        mapped: the mapped arguments, each with its axis.
    """
    nodes = [
        node
        for node in jax.tree.leaves(out, is_leaf=lambda part: isinstance(part, Node))
        if isinstance(node, Node)
    ]
    place = _lane_place(mapped) if nodes else None
    if place is None:
        return
    variables, places = [], []
    for variable in {v: None for n in nodes for v in n.vars().unique().values()}:
        value = runtime.read(variable)
        leaves = jax.tree.leaves(value)
        if any(runtime.place_of(leaf) is None and leaf.ndim for leaf in leaves):
            variables.append(variable)
            places.append(
                jax.tree.map(lambda leaf: runtime.place_of(leaf) or place, value)
            )
    move_each(variables, places)


def _lane_place(mapped: Sequence[tuple[Any, int]]) -> NamedSharding | None:
    for leaf, axis in mapped:
        place = runtime.place_of(leaf)
        spec = () if place is None else place.spec
        axis %= max(leaf.ndim, 1) if place is not None else 1
        if place is not None and axis < len(spec) and spec[axis] is not None:
            return NamedSharding(place.mesh, PartitionSpec(spec[axis]))
    return None
