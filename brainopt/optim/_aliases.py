# SPDX-License-Identifier: Apache-2.0
"""Other paths of trained variables: tied weights, and nodes in two places of a model.

Which path comes first depends on the order in which a model was built. A file has the
first one of its own model; an optimizer finds it again by any of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._typing import Model, PyTree
from ..core import Node, VarCollector, join
from ..runtime import same


def aliases_in(source: Model, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield (another path, the first path) of each variable and node found twice.

    Args:
        source: see `train_vars_of`.
        at: its own path.
    """
    if isinstance(source, VarCollector):
        places = ((path, variable) for path, variable in source.items())
        yield from _repeated(places, at, dict(source.paths))
    elif isinstance(source, Node):
        places = source.nodes().items(), source.vars().items()
        yield from _repeated(itertools.chain(*places), at, {})
    elif isinstance(source, Mapping | list | tuple):
        parts = source.items() if isinstance(source, Mapping) else enumerate(source)
        for name, part in parts:
            yield from aliases_in(part, join(at, str(name)))


def _repeated(
    places: Iterable[tuple[str, Any]], at: str, first: dict[Any, str]
) -> Iterator[tuple[str, str]]:
    for path, item in places:
        before = first.setdefault(item, path)
        if before != path:
            yield join(at, path), join(at, before)


def all_names(aliases: Mapping[str, str], paths: Iterable[str]) -> list[str]:
    """Return paths with all their aliases, sorted."""
    paths = list(paths)
    others = (
        alias + path[len(first) :]
        for alias, first in aliases.items()
        for path in paths
        if _is_at(path, first)
    )
    return sorted({*paths, *others})


def by_first_names(
    aliases: Mapping[str, str],
    section: str,
    own: Iterable[str],
    state: dict[str, PyTree],
) -> None:
    """Give the entries under an alias the path that they have here.

    Args:
        aliases: the first path of each.
        section: of the state, as ``"opt.slots"``.
        own: the keys of the section here.
        state: to be changed.
    """
    if not aliases:
        return
    own = set(own)
    strange = [k for k in state if k not in own and k.startswith(f"{section}.")]
    for key in strange:
        rest = key[len(section) + 1 :]
        for alias, first in aliases.items():
            if _is_at(rest, alias):
                name = first + rest[len(alias) :]
            elif rest.endswith(f".{alias}"):
                name = rest[: -len(alias)] + first
            else:
                continue
            # Only to a path that exists here, and that the state has not, or has with
            # the same value. Everything else stays, and is reported as unexpected.
            new = join(section, name)
            if new in own and (new not in state or same([state[new]], [state[key]])):
                state[new] = state.pop(key)
                break


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}.")
