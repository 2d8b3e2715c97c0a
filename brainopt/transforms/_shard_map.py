# SPDX-License-Identifier: Apache-2.0
"""Mapping over the devices of a mesh."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, overload

import jax
import jax.numpy as jnp

from .._compat import varying_axes
from .._typing import Model, P, PyTree, R
from ..core import as_transform
from ..runtime import Effects
from ._lift import read, run_to_fixed_point
from ._packed import held
from ._positions import check_entries
from ._records import refuse_records
from ._rules import MappedRun, Rules, fork, of_nodes, refuse

_HELP = (
    "give their PartitionSpec, as in `bo.shard_map(…, specs={variable: P('data')})`, "
    "or write a value that is equal on all devices, such as a `jax.lax.pmean`."
)

_RETURN = "return the values, with their PartitionSpec in `out_specs`."


_SHARED = jax.sharding.PartitionSpec()

Specs: TypeAlias = PyTree
"""A PartitionSpec, or a tree of these that begins as the arguments do."""

Rule: TypeAlias = jax.sharding.PartitionSpec | None
VariableSpecs: TypeAlias = Mapping[Model, Rule] | Iterable[tuple[Model, Rule]]
"""The PartitionSpec of each Variable, Node, kind, or list of these."""


@overload
def shard_map(
    fun: Callable[P, R],
    *,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
    in_specs: Specs,
    out_specs: Specs,
    specs: VariableSpecs | None = None,
    check_vma: bool = True,
) -> Callable[P, R]: ...


@overload
def shard_map(
    *,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
    in_specs: Specs,
    out_specs: Specs,
    specs: VariableSpecs | None = None,
    check_vma: bool = True,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@as_transform
def shard_map(
    fun: Any = None,
    *,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
    in_specs: Specs,
    out_specs: Specs,
    specs: VariableSpecs | None = None,
    check_vma: bool = True,
) -> Any:
    """Run a function on each device's part of its arguments and of chosen Variables.

    A Variable with a rule in ``specs`` is split over the mesh; every device sees the
    whole of every other Variable, and may write only what is equal on all devices. Each
    device draws its own random numbers, as each lane of `vmap` does.

    Args:
        fun: the function of one device.
        mesh: the `jax.sharding.Mesh`.
        in_specs: the PartitionSpec of each argument, as in `jax.shard_map`; where it
            decorates a method, ``P()`` is in the place of ``self``.
        out_specs: those of the result.
        specs: a mapping, or a list of pairs, from a Variable, Node, collector, kind of
            Variable, or list of these to a PartitionSpec, or to None for a Variable
            that all devices share.
        check_vma: as in `jax.shard_map`.

    Raises:
        VariableError: the devices write different values to a Variable without a rule.

    Example:
        >>> import brainopt as bo
        >>> P = jax.sharding.PartitionSpec
        >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
        >>> total = bo.Variable(jnp.array(0.0))
        >>> def add(x):
        ...     total.value += jax.lax.psum(x.sum(), "data")
        >>> bo.shard_map(add, mesh=mesh, in_specs=P("data"), out_specs=P())(jnp.ones(4))
        >>> float(total)
        4.0
    """
    mapping = functools.partial(jax.shard_map, mesh=mesh, check_vma=check_vma)
    in_specs = tuple(in_specs) if isinstance(in_specs, list) else in_specs

    def wrapper(*args):
        split = ((n, s) for n, s in of_nodes(in_specs, args) if s != _SHARED)
        devices = _Devices(fun, Rules(specs, split), mesh)
        option = "bo.shard_map(self.method, specs={self: spec}, …)"
        check_entries("in_specs", in_specs, args, _SHARED, option)
        args = held(args)

        def attempt(effects: Effects):
            return devices.attempt(mapping, (in_specs, out_specs), args, effects)

        start = Effects((), (), devices.rules.mapped())
        return run_to_fixed_point(lambda: (start, None), attempt)

    return wrapper


class _Devices:
    """One call of a function that runs on each device of a mesh."""

    def __init__(self, fun: Callable, rules: Rules, mesh: Any):
        self.fun = fun
        self.rules = rules
        self.mesh = mesh

    def attempt(self, mapping: Callable, specs: PyTree, args: tuple, effects: Effects):
        """Run with the Variables split that ``effects`` knows.

        The specs of the results must be known before, so a written Variable that the
        effects does not know is left out, and the next attempt threads it.
        """
        rules = self.rules
        split = [v for v in effects.known if rules.splits(v)]
        mapped = [v for v in effects.known if rules.maps(v) and v not in set(split)]
        places = [rules.of(v) for v in mapped]
        keys, next_keys = fork(split)
        # The next key of a RandomState is made out here, once for all devices.
        written = [v for v in effects.written if not rules.splits(v)]
        out_places = [rules.of(v) or _SHARED for v in written]
        seen: list[MappedRun] = []

        def pure(values: tuple, keys: tuple, args: tuple):
            lane = jax.lax.axis_index(tuple(self.mesh.axis_names))
            own_keys = [jax.random.fold_in(key, lane) for key in keys]
            bindings = zip((*mapped, *split), (*values, *own_keys), strict=True)
            run = MappedRun(self.fun, args, {}, bindings, effects, rules, self._part)
            seen[:] = [run]
            results = run.results(written)
            differing = [
                v
                for v, x in zip(written, results, strict=True)
                if not rules.maps(v) and _differs(x)
            ]
            refuse("device of the mesh", differing, _HELP)
            return refuse_records(run.out, "A shard_map", _RETURN), results

        in_specs, out_specs = specs
        function = mapping(
            pure,
            in_specs=(places, _SHARED, in_specs),
            out_specs=(out_specs, tuple(out_places)),
        )
        values = [read(v) for v in mapped]
        out, results = function(values, list(keys.values()), args)
        run = seen[0]
        learned = Effects(run.effects.written, run.effects.inner, run.mapped)
        everything = [*written, *next_keys], [*results, *next_keys.values()]
        return (out, *everything), learned

    # The first part, as a stand-in of the shape that each device sees.
    def _part(self, x: Any, spec: Any) -> Any:
        sizes = [
            size // self._devices_along(spec[i] if i < len(spec) else None)
            for i, size in enumerate(jnp.shape(x))
        ]
        return x[tuple(map(slice, sizes))]

    def _devices_along(self, names: Any) -> int:
        names = () if names is None else names if isinstance(names, tuple) else (names,)
        return math.prod(self.mesh.shape[name] for name in names)


# JAX keeps with each value the axes of the mesh along which it varies.
def _differs(value: Any) -> bool:
    return any(map(varying_axes, jax.tree.leaves(value)))
