# SPDX-License-Identifier: Apache-2.0
"""Places: the shardings of Variables, and how a new value gets to one.

The place of a Variable is the sharding of its value, once that is a `NamedSharding`:
a mesh, how the mesh divides the value, and the kind of memory. Nothing else records
it. Every write outside of a trace puts the new value there (`kept`), and every program
returns its results there (`shardings`), so that only a move changes it.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Protocol, TypeGuard

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from .._compat import as_keys, is_eager, is_key_array, key_data, put_uncommitted
from .._memory import copied
from .._typing import Device, PyTree
from . import storage


class InParts(Protocol):
    """An array that is somewhere else, as in a file, and is read in parts.

    Attributes:
        shape: of the whole.
        dtype: of the whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def read_parts(self, parts: Sequence[tuple[slice, ...]]) -> list[np.ndarray]:
        """Return parts of it, given by one slice without a step for each axis."""
        ...


def is_in_parts(value: object) -> TypeGuard[InParts]:
    """Whether an array is read in parts."""
    return not isinstance(value, np.ndarray) and hasattr(type(value), "read_parts")


_HOST = jax.memory.Space.Host
_DEVICE = jax.memory.Space.Device


def place_of(value: PyTree) -> NamedSharding | None:
    """Return the place of an array, or None where it has none."""
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer):
        return None
    place = value.sharding
    return place if isinstance(place, NamedSharding) else None


def shardings(values: Iterable[PyTree]) -> tuple[Any, ...]:
    """Return the places of values, each a tree like its value; None: free to choose."""
    return tuple(jax.tree.map(place_of, value) for value in values)


def has_place(places: PyTree) -> bool:
    """Whether there is a place in a tree of places."""
    return bool(jax.tree.leaves(places))


def on_device(tree: PyTree) -> Any:
    """Return ``tree`` with each array in host memory moved to its device.

    For use inside a trace: code computes in the memory of the device alone.
    """
    return jax.tree.map(_on_device, tree)


def _on_device(value: PyTree) -> Any:
    if getattr(jax.typeof(value), "memory_space", _DEVICE) != _HOST:
        return value
    return jax.device_put(value, _DEVICE)


def divided_as(new: PyTree, old: PyTree) -> Any:
    """Return ``new`` divided as ``old`` by the axes of an Explicit mesh, in a trace."""
    kind = jax.typeof(old).sharding
    if kind.mesh.empty or jax.typeof(new).sharding == kind:
        return new
    return jax.sharding.reshard(new, kind)


def kept(old: PyTree, new: PyTree) -> Any:
    """Return ``new`` at the place of ``old``; the first place is noted as a move.

    Args:
        old: the value that stands in a Variable.
        new: what is to replace it; of the same structure.
    """
    if isinstance(old, jax.Array) and isinstance(new, jax.Array):
        return _kept(new, old)
    try:
        return jax.tree.map(_kept, new, old)
    except ValueError:  # the old value ended with its trace, or is no tree of arrays
        return new


def all_kept(old: Sequence[PyTree], new: Sequence[PyTree]) -> Sequence[Any]:
    """Return each new value at the place of the old one, see `kept`."""
    # The usual case pays a call into C for each array: none of them has a place.
    with contextlib.suppress(AttributeError):
        if NamedSharding not in {*map(type, map(_sharding, chain(old, new)))}:
            return new
    return list(map(kept, old, new))


_sharding = operator.attrgetter("sharding")


def _kept(new: PyTree, old: PyTree) -> Any:
    place = place_of(old)
    if place is None:
        if place_of(new) is not None:
            # Programs that were compiled before leave the results wherever JAX likes.
            storage.note_move()
        return new
    if isinstance(new, jax.core.Tracer):
        return new
    return new if is_at(new, place) else put(new, place)


def is_at(value: PyTree, place: Sharding) -> bool:
    """Whether an array is at ``place`` already."""
    there = place_of(value)
    if there is None:
        return getattr(value, "sharding", None) == place
    # An array that is not committed to its devices is moved by JAX when it meets
    # another one, so it is not there to stay.
    return there is place or (
        value.committed
        and there.memory_kind == place.memory_kind
        and there.is_equivalent_to(place, value.ndim)
    )


def put(value: PyTree, place: Device | Sharding) -> Any:
    """Return a copy of an array at a place, without asking other processes.

    The copy of a NumPy array does not share its memory, and no device holds more of it
    than its part. Where a place spans processes, `jax.device_put` would send every byte
    to all of them and compare, wait for ever for one that does not call it, and refuse
    typed keys. Here each process takes its part of its own value.

    Raises:
        ValueError: the value cannot be divided so.
    """
    if isinstance(value, jax.Array):
        local = isinstance(place, jax.Device) or place.is_fully_addressable
        if local or not (value.is_fully_addressable or value.is_fully_replicated):
            # Without a copy the result would share its buffer with `value`, and
            # donating the one would delete the other under its holder.
            return jax.device_put(value, place, may_alias=False)
        if is_key_array(value):
            return as_keys(put(key_data(value), place), value.dtype)
        # Every part of a replicated value is the whole of it.
        value = value.addressable_data(0) if value.is_fully_replicated else value
    if not isinstance(place, NamedSharding):
        return jax.device_put(copied(np.asarray(value)), place)
    host = value if is_in_parts(value) else np.asarray(value)
    place.shard_shape(host.shape)  # raises where the mesh does not divide the shape
    if is_in_parts(host):
        part = _read_parts(host, place)
    else:
        part = functools.partial(_part, np.asarray(host))
    make: Any = jax.make_array_from_callback
    return make(host.shape, place, part)


def array_maker() -> Callable[[np.ndarray], Any]:
    """Return a function that does what `jnp.array` does, for many NumPy arrays.

    `jnp.array` takes three times as long for small ones, and compiles a copy for each
    shape that is new.
    """
    put = put_uncommitted()
    if put is None or not is_eager():
        return jnp.array
    # Its place is where JAX puts arrays that have none; in `jax.set_mesh` it is a mesh.
    there = jnp.array(np.zeros((), np.float32))
    if type(there.sharding) is not SingleDeviceSharding:
        return jnp.array
    place, devices = there.sharding, list(there.devices())
    aval_of = functools.cache(jax.core.ShapedArray)

    def make(array: np.ndarray) -> Any:
        # JAX may take the memory as it is, so it has to be of our own.
        own = copied(array)
        return put(aval_of(own.shape, own.dtype), place, [own], devices, False)

    return make


def _part(host: np.ndarray, index: Any) -> np.ndarray:
    return copied(host[index])


def _read_parts(value: InParts, place: NamedSharding) -> Callable[[Any], np.ndarray]:
    """Read what the devices of this process hold of a value, each part once."""
    indices: Any = place.addressable_devices_indices_map(value.shape).values()
    left = Counter(map(str, indices))
    read = value.read_parts(list({str(index): index for index in indices}.values()))
    parts = dict(zip(left, read, strict=True))

    def take(index: object) -> np.ndarray:
        # The last device gets the memory that was read, the others get copies.
        name = str(index)
        left[name] -= 1
        return copied(parts[name]) if left[name] > 0 else parts.pop(name)

    return take


def undivided(place: Device | Sharding) -> Any:
    """Return a place like ``place`` where values are whole on every device."""
    if not isinstance(place, NamedSharding):
        return place
    return NamedSharding(place.mesh, PartitionSpec(), memory_kind=place.memory_kind)
