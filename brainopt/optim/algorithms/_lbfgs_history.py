# SPDX-License-Identifier: Apache-2.0
"""The history of L-BFGS: vectors of all that trains, kept under the name of each.

The method computes with one vector of all parameters that are not frozen, in their
order in the model. A file is found again by names, and another model may have another
order or freeze others, so each vector is kept in parts, as ``s_history.layers.0.W``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp

from ..._typing import Array, Arrays
from ..engine._precision import wide

KINDS = ("s_history", "y_history", "x", "grad")


def flat(tree: Mapping[str, Any]) -> Any:
    """Return the leaves of a dict as one vector, in the order of the dict."""
    leaves = [leaf.astype(wide(leaf.dtype)).reshape(-1) for leaf in tree.values()]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def unflat(x: Array, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return a vector of `flat` as a dict of leaves like those of another."""
    parts, start = {}, 0
    for path, leaf in like.items():
        part = x[start : start + leaf.size].reshape(leaf.shape)
        parts[path] = part.astype(wide(leaf.dtype))
        start += leaf.size
    return parts


def empty(params: Arrays, size: int) -> dict[str, Any]:
    """Return a history of ``size`` pairs of zeros, and no point before."""
    # The history has a fixed size, as a compiled loop needs.
    x = flat(params)
    pairs = dict.fromkeys(("s_history", "y_history"), (size, x.size))
    shapes = pairs | dict.fromkeys(("x", "grad"), x.shape)
    held = {kind: jnp.zeros(shape, x.dtype) for kind, shape in shapes.items()}
    return parted(held | {"count": jnp.full((), -1, jnp.int32)}, params)


def parted(held: Mapping[str, Any], params: Arrays) -> dict[str, Any]:
    """Return a history by parameter, ``{"s_history.W": ..., "count": ...}``."""
    ends = list(itertools.accumulate(leaf.size for leaf in params.values()))[:-1]
    found = {"count": held["count"]}
    for kind in KINDS if params else ():
        parts = jnp.split(held[kind], ends, axis=-1)
        found |= {f"{kind}.{p}": v for p, v in zip(params, parts, strict=True)}
    return found


def joined(held: Mapping[str, Any], params: Arrays) -> dict[str, Any]:
    """Return the vectors of a history by parameter; undoes `parted`."""
    found = {"count": held["count"]}
    for kind in KINDS:
        parts = [held[f"{kind}.{path}"] for path in params]
        nothing = jnp.zeros((1, 0) if "history" in kind else 0)
        found[kind] = jnp.concatenate(parts, axis=-1) if parts else nothing
    return found


def of_others(keys: Iterable[str], own: Iterable[str], section: str) -> list[str]:
    """Return the entries of a state for parameters that are not here, or reverse."""
    own, places = set(own), tuple(f"{section}.{kind}." for kind in KINDS)
    stored = {key for key in keys if key.startswith(places)}
    return sorted(stored ^ {key for key in own if key.startswith(places)})
