# SPDX-License-Identifier: Apache-2.0
"""From rules to the PartitionSpec of each variable; nothing is moved here.

A dimension is divided by the first of these that says something about it:

1. the first rule whose name fits (``{"*.W": P(None, "model")}``),
2. the names of its axes (``Variable(axis_names=…)`` with ``axes={"mlp": "model"}``),
3. ``fsdp``, which divides the largest dimension that is free and divides evenly.

What a user wrote down must be possible: a rule with an axis that the mesh lacks, or
for a dimension that does not divide, is an error. What ``fsdp`` cannot divide stays as
it is, and is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from jax.sharding import Mesh, PartitionSpec

from .._select import Choice, Where, refuse_unmatched
from ..errors import ShardingError, message

AxisNames: TypeAlias = str | tuple[str, ...] | None
"""The mesh axes that divide one dimension."""


class Shaped(NamedTuple):
    """The properties of a variable that rules look at.

    Attributes:
        shape: of its value.
        axis_names: the names of its axes, or None.
    """

    shape: tuple[int, ...]
    axis_names: tuple[str, ...] | None = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


class Plan(NamedTuple):
    """The result of rules.

    Attributes:
        specs: the PartitionSpec of each variable, by path.
        whole: why a variable that ``fsdp`` was to divide is not, by path.
    """

    specs: dict[str, PartitionSpec]
    whole: dict[str, str]


def plan(
    variables: Mapping[str, Shaped],
    mesh: Mesh,
    rules: Mapping[Where, PartitionSpec] | None = None,
    axes: Mapping[str, AxisNames] | None = None,
    fsdp: AxisNames = None,
    min_size: int = 2**16,
) -> Plan:
    """Return the PartitionSpec of each variable.

    Args:
        variables: shape and axis names by path.
        mesh: whose axes the rules name.
        rules: choices by name to specs; the first that fits holds.
        axes: names of the axes of variables to axes of the mesh.
        fsdp: the axis of the mesh that divides what is large.
        min_size: the elements, in [0, inf), from which on it is large.

    Raises:
        ShardingError: listing every axis that is not there and every dimension that
            does not divide, by path.
        PathError: a rule fits no variable.
    """
    choices = [(Choice(where), spec) for where, spec in (rules or {}).items()]
    leaves = list(variables.items())
    refuse_unmatched(
        "These rules fit no variable:", [c for c, _ in choices], leaves, ""
    )
    problems = list(_unknown(mesh, rules or {}, axes or {}, fsdp))
    specs: dict[str, PartitionSpec] = {}
    whole: dict[str, str] = {}
    for path, variable in leaves:
        ruled = [spec for choice, spec in choices if choice(path, variable)][:1]
        spec = ruled[0] if ruled else _by_names(variable, axes or {})
        if not problems:
            problems += _misfits(path, variable.shape, spec, mesh)
        # Only with sound rules: how a wrong axis divides cannot be said.
        if fsdp is not None and not problems:
            spec, why = divided(variable.shape, spec, mesh, fsdp, min_size)
            whole |= {path: why} if why else {}
        specs[path] = spec
    if problems:
        raise ShardingError(message(f"These do not fit {_shown(mesh)}:", problems))
    return Plan(specs, whole)


def divided(
    shape: Sequence[int],
    spec: PartitionSpec,
    mesh: Mesh,
    names: AxisNames,
    min_size: int = 0,
) -> tuple[PartitionSpec, str]:
    """Divide one more dimension of a value: the largest that is free and divides.

    Args:
        shape: of the value.
        spec: how it is divided already.
        mesh: whose axis it is.
        names: the axis, or axes together.
        min_size: the elements from which on it is worth it.

    Returns:
        The spec, and why nothing could be divided: ``""`` where something was, or was
        before, or where the value is smaller than ``min_size``.
    """
    if math.prod(shape) < min_size or set(_each(names)) & set(_used(spec)):
        return spec, ""
    pieces = parts(mesh, names)
    # A spec may be shorter than the shape; the dimensions it leaves out are whole.
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    free = [i for i, entry in enumerate(entries) if entry is None]
    fitting = [i for i in free if shape[i] % pieces == 0 and shape[i] > 0]
    if not fitting:
        return spec, f"no free dimension of {tuple(shape)} divides by {pieces}"
    # Of equal dimensions the first, so that every process and every run chooses alike.
    entries[max(fitting, key=lambda i: shape[i])] = names
    return PartitionSpec(*entries), ""


def _by_names(variable: Shaped, axes: Mapping[str, AxisNames]) -> PartitionSpec:
    names = variable.axis_names or ()
    return PartitionSpec(*(axes.get(name) for name in names)) if axes else _WHOLE


def _unknown(
    mesh: Mesh,
    rules: Mapping[Where, PartitionSpec],
    axes: Mapping[str, AxisNames],
    fsdp: AxisNames,
) -> Iterator[str]:
    named: list[tuple[object, AxisNames]] = [("fsdp", fsdp), *axes.items()]
    named += [(where, name) for where, spec in rules.items() for name in _used(spec)]
    for where, names in named:
        for name in unknown(mesh, names):
            yield f"{where}: the mesh has no axis {name!r}"


def unknown(mesh: Mesh, names: AxisNames) -> list[str]:
    """Return the names that are no axes of a mesh."""
    return [name for name in _each(names) if name not in mesh.shape]


def _misfits(
    path: str, shape: Sequence[int], spec: PartitionSpec, mesh: Mesh
) -> Iterator[str]:
    if len(spec) > len(shape):
        yield f"{path}: {spec} for a value of shape {tuple(shape)}"
        return
    for i, names in enumerate(spec):
        pieces = parts(mesh, names)
        if shape[i] % pieces:
            yield f"{path}: {shape[i]} along axis {i} does not divide by {pieces}"
    used = _used(spec)
    if len(set(used)) < len(used):
        yield f"{path}: {spec} uses an axis twice"


def _each(names: AxisNames) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _used(spec: PartitionSpec) -> list[str]:
    return [name for names in spec for name in _each(names)]


def parts(mesh: Mesh, names: AxisNames) -> int:
    """Return into how many parts axes of a mesh divide a dimension."""
    return math.prod(mesh.shape[name] for name in _each(names))


def _shown(mesh: Mesh) -> str:
    axes = ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
    return f"the mesh ({axes})"


_WHOLE = PartitionSpec()
