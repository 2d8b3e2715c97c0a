# SPDX-License-Identifier: Apache-2.0
"""The differences of two checkpoints."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import printable
from ..interop._foreign import is_own, load_foreign
from ..interop._formats import flat_format
from ..io._parts import is_sharded
from ..io._place import Path
from ..tree._equality import equal
from ..tree._paths import dotted, leaves
from ._inspect import inspect_file


class Difference(NamedTuple):
    """One path that differs."""

    path: str
    said: str
    is_plain: bool  # a plain value, or a path that one of the files lacks


def diff(one: Path, two: Path, *, rtol: float = 0.0, atol: float = 0.0) -> list[str]:
    """Compare two checkpoints of any kind that `load_foreign` reads.

    Args:
        one: a file.
        two: another file.
        rtol: relative tolerance for floating-point and complex arrays, [0, ∞).
        atol: absolute tolerance for them, [0, ∞). With both at 0 every bit counts.

    Returns:
        One line for each path that differs, and none where the files hold the same.
        Between files that brainopt wrote the metadata of the nodes count too.

    Raises:
        CheckpointError: a file cannot be read.
    """
    found = differences(one, two, rtol, atol)
    return [printable(f"{path}: {said}") for path, said, _ in found]


def differences(one: Path, two: Path, rtol: float, atol: float) -> list[Difference]:
    """Compare as `diff` does, and return what each of its lines says in parts."""
    trees = _leaves(load_foreign(one)), _leaves(load_foreign(two))
    found = _compare(*trees, rtol, atol)
    metas = [_metas(path) for path in (one, two)]
    # A file of another library says nothing of nodes.
    if all(metas):
        found += _compare(_leaves(metas[0]), _leaves(metas[1]), 0.0, 0.0)
    return found


def _leaves(tree: Any) -> dict[str, Any]:
    """Flatten to dotted paths of which no two are one; empty containers are leaves."""
    flat: dict[str, Any] = {}
    for keys, leaf in leaves(tree):
        path, number = dotted(keys), 2
        while path in flat:  # a dotted key beside a nested path of the same spelling
            path, number = f"{path.partition('#')[0]}#{number}", number + 1
        flat[path] = leaf
    return flat


def _compare(
    one: Mapping[str, Any], two: Mapping[str, Any], rtol: float, atol: float
) -> list[Difference]:
    first, second = "only in the first", "only in the second"
    found = [Difference(path, first, True) for path in one if path not in two]
    for path, value in one.items():
        if path in two and (said := _difference(value, two[path], rtol, atol)):
            is_plain = not hasattr(value, "shape") and not hasattr(two[path], "shape")
            found.append(Difference(path, said, is_plain))
    return found + [Difference(path, second, True) for path in two if path not in one]


def _difference(one: Any, two: Any, rtol: float, atol: float) -> str:
    # The data of two kinds of keys may be equal, and mean other random numbers.
    if _impl(one) != _impl(two):
        return f"{_impl(one) or 'no PRNG key'} and {_impl(two) or 'no PRNG key'}"
    one, two = _host(one), _host(two)
    arrays = isinstance(one, np.ndarray), isinstance(two, np.ndarray)
    if not all(arrays):
        same = type(one) is type(two) and equal(one, two)
        # repr tells -0.0 from 0.0; equal numbers of other types were told before.
        same = same and (not isinstance(one, float | complex) or repr(one) == repr(two))
        return "" if same else f"{_said(one)} and {_said(two)}"
    if one.shape != two.shape or one.dtype != two.dtype:
        return f"{one.shape} {one.dtype} and {two.shape} {two.dtype}"
    if one.tobytes() == two.tobytes():
        return ""
    # Narrow floats have no `isclose`, and integers would wrap in the difference.
    wide = one.astype(_wide(one.dtype)), two.astype(_wide(two.dtype))
    if (rtol or atol) and _is_inexact(one.dtype):
        apart = ~np.isclose(*wide, rtol=rtol, atol=atol, equal_nan=True)
    else:
        # Without tolerances by bytes: -0.0 differs from 0.0, and NaN equals itself.
        item = one.dtype.itemsize
        raw = [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, two)]
        apart = (raw[0] != raw[1]).reshape(-1, item).any(axis=1).reshape(one.shape)
    if not apart.any():
        return ""
    with np.errstate(all="ignore"):
        most = np.abs(wide[0] - wide[1])[apart].max()
    return f"{int(apart.sum()):,} of {apart.size:,} numbers differ, by up to {most:.6g}"


def _impl(value: Any) -> str:
    if isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        return str(jax.random.key_impl(value))
    return ""


def _is_inexact(dtype: np.dtype) -> bool:
    return "float" in dtype.name or "complex" in dtype.name


def _host(value: Any) -> Any:
    if _impl(value):
        value = jax.random.key_data(value)
    return np.asarray(value) if hasattr(value, "__array__") else value


def _wide(dtype: np.dtype) -> type:
    return np.complex128 if "complex" in dtype.name else np.float64


def _said(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    text = hex(value) if _is_long(value) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _metas(path: Path) -> dict[str, dict[str, Any]]:
    flat = flat_format(path)
    if flat is not None:
        return flat.load(path).metas
    has_nodes = is_sharded(path) or (not os.path.isdir(path) and is_own(path))
    return inspect_file(path).nodes if has_nodes else {}


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 128
