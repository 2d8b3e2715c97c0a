# SPDX-License-Identifier: Apache-2.0
"""Devices and shardings by name, and moving Variables onto them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .. import runtime
from .._select import Choice, refuse_unmatched
from .._typing import Device, Place, PlaceRules, PyTree
from ..errors import DeviceError, TraceContextError, first_line, message
from ..runtime import Cell

_PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu")
_EXTRAS = {"gpu": "cuda12", "cuda": "cuda12", "tpu": "tpu"}


def resolve(place: Place) -> Any:
    """Return the device or sharding that ``place`` names.

    Args:
        place: a Device, a Sharding, a Mesh (whole on each of its devices), or
            ``"platform"`` or ``"platform:index"`` with
            platform ``cpu``, ``gpu``, ``cuda``, ``rocm`` or ``tpu``.

    Raises:
        DeviceError: this process has no such device.
    """
    if isinstance(place, jax.Device | jax.sharding.Sharding):
        return place
    if isinstance(place, Mesh):
        return NamedSharding(place, PartitionSpec())
    if not isinstance(place, str):
        raise DeviceError(
            message(
                f"A {type(place).__name__} is no place for Variables.",
                help="give a jax Device, a Sharding, or a string like 'cuda:0'.",
            )
        )
    platform, colon, index = place.partition(":")
    if platform not in _PLATFORMS or not (index if colon else "0").isdecimal():
        raise DeviceError(
            message(
                f"No device is called {place!r}.",
                help="'cpu', 'gpu', 'cuda', 'rocm' or 'tpu', with an index as in "
                "'cuda:1' where there are several.",
            )
        )
    try:
        # Of this process: it cannot put anything on the devices of another one.
        devices = jax.local_devices(backend=platform)
    except RuntimeError:
        raise DeviceError(_absent(place, platform)) from None
    if int(index or 0) >= len(devices):
        raise DeviceError(
            message(
                f"{place!r} is not there: this process has {len(devices)} "
                f"{platform} device(s).",
                help="for several CPU devices set XLA_FLAGS="
                "--xla_force_host_platform_device_count=N before jax is imported.",
            )
        )
    return devices[int(index or 0)]


def move(
    variables: Sequence[Cell],
    place: Place | PlaceRules,
    named: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Move the values of all Variables to ``place``: all of them or none.

    A sharding that names more axes than a value has (a step count, a scalar) leaves
    that value whole on every device of its mesh, and so are the settings of optimizers.

    A PartitionSpec is one of the mesh that a value is on, or of that of `jax.set_mesh`.
    Of rules the first that chooses a Variable holds; what none chooses stays.

    Args:
        variables: what to move.
        place: where to, or rules.
        named: gives the Variables by path, for rules.

    Raises:
        DeviceError: there is no such device, or a value cannot be divided so.
        PathError: a rule chooses no Variable.
        TraceContextError: called inside a transform.
    """
    if isinstance(place, Mapping):
        _move_by_rules(named(), place)
    else:
        move_each(variables, goals_of(variables, [place] * len(variables)))


def _move_by_rules(found: Mapping[str, Cell], rules: PlaceRules) -> None:
    named = getattr(found, "unique", lambda: found)()
    choices = [(Choice(where), place) for where, place in rules.items()]
    leaves = [(path, runtime.read(variable)) for path, variable in named.items()]
    refuse_unmatched(
        "These rules fit no variable:", [c for c, _ in choices], leaves, ""
    )
    # From the last rule to the first, so that the first that fits has the last word.
    placed = {
        path: place
        for choice, place in reversed(choices)
        for path, value in leaves
        if choice(path, value)
    }
    chosen = [named[path] for path in placed]
    move_each(chosen, goals_of(chosen, list(placed.values()), exact=True))


def goals_of(
    variables: Sequence[Cell], places: Sequence[Place], exact: bool = False
) -> list[Any]:
    """Return the devices or shardings for values of Variables; for a pytree a tree.

    Args:
        variables: what is to move.
        places: where to, one for each.
        exact: whether a spec that names more axes than a value has is kept.
    """
    resolved: dict[Any, Any] = {}
    for place in places:
        if not isinstance(place, PartitionSpec) and place not in resolved:
            resolved[place] = resolve(place)
    values = runtime.snapshot(variables)
    return [
        jax.tree.map(
            functools.partial(_goal, variable, resolved.get(place, place), exact), v
        )
        for variable, place, v in zip(variables, places, values, strict=True)
    ]


def move_each(variables: Sequence[Cell], places: Sequence[PyTree]) -> None:
    """Move each Variable to its own place: all of them or none.

    Args:
        variables: what to move.
        places: a device or sharding for each; for a pytree a tree of them.

    Raises:
        DeviceError: listing the values that cannot be divided so.
        TraceContextError: called inside a transform.
    """
    if not runtime.at_rest():
        raise TraceContextError(
            message("Variables cannot be moved inside a transformed function.")
        )
    with runtime.lock:  # a step committed in between would be undone
        values, problems = [], []
        held = runtime.snapshot(variables)
        for variable, value, place in zip(variables, held, places, strict=True):
            try:
                values.append(jax.tree.map(runtime.put, value, place))
            except ValueError as error:
                problems.append(f"{variable.label}: {first_line(error)}")
        if problems:
            raise DeviceError(message("These cannot be moved:", problems))
        # The copies are complete, and no Variable has changed before this line.
        runtime.move(variables, values)


def _goal(
    variable: Cell,
    target: Device | jax.sharding.Sharding | PartitionSpec,
    exact: bool,
    value: jax.Array,
) -> Any:
    if isinstance(target, PartitionSpec):
        # The mesh that the value is on, so that a model on two meshes keeps both.
        there = runtime.place_of(value)
        mesh = jax.sharding.get_mesh() if there is None else there.mesh
        if mesh.empty:
            raise DeviceError(
                message(
                    f"{variable.label} is on no mesh that {target} could divide.",
                    help="give a NamedSharding, move to a mesh first, or use "
                    "`jax.set_mesh`.",
                )
            )
        target = NamedSharding(mesh, target)
    # Settings and counts are whole everywhere, and so is what lacks the axes to divide.
    divides = isinstance(target, jax.sharding.NamedSharding)
    if not exact and divides and value.ndim < len(target.spec):
        return runtime.undivided(target)
    if variable._whole:
        return runtime.undivided(target)
    return target


def _absent(place: str, platform: str) -> str:
    extra = _EXTRAS.get(platform)
    present = sorted({device.platform for device in jax.devices()} | {"cpu"})
    return message(
        f"{place!r} is not there: this process has no {platform} platform.",
        [f"present: {name}" for name in present],
        f"pip install 'brainopt[{extra}]'" if extra else "",
    )
