# SPDX-License-Identifier: Apache-2.0
"""A restore as one transaction: compare everything, report everything, commit once."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ...errors import CheckpointMismatchError, PathError, message
from ._build import SavedNode
from ._paths import flat_paths
from ._protocol import NOTES, UNITS, Staged, Stateful
from ._selection import Selection
from ._source import Slot, Source, filled, slots_in

_ABSENT = object()


class Restore:
    """One restore on its way from a file into nodes.

    Args:
        source: the file.
        nodes: one stateful object, or nested dicts and lists of such objects and of
            plain defaults.
        selection: which paths take part, under which names.
        strict: whether missing and unexpected paths and other metadata are errors.
        cast: whether a stored dtype may be converted to that of its variable.

    Attributes:
        staged: what each node was given, by its path, from `run` on.
    """

    def __init__(
        self,
        source: Source,
        nodes: Any,
        selection: Selection,
        strict: bool = True,
        cast: bool = False,
    ) -> None:
        self.source = source
        self.nodes = nodes
        self.selection = selection
        self.strict = strict
        self.cast = cast
        self.wrong: list[str] = []
        self.staged: dict[str, Staged] = {}
        self.targets = self._named(_stateful(nodes, ()), "the nodes")
        self.saved: dict[str, SavedNode] = {}
        self.own = {
            _under(name, path): value
            for name, node in self.targets.items()
            for path, value in node.state_dict().items()
        }

    def run(self) -> Any:
        """Compare, commit, and return the plain values of the file.

        Raises:
            CheckpointMismatchError: the file does not fit; nothing was changed.
        """
        tree = filled(self.source.tree, self._plain_values())
        tree = self._adopt(tree, self.nodes)
        self.saved = self._named(_saved(tree, ()), "the file")
        chosen = self._choose()
        if self.strict:
            self._refuse_unmatched(tree)
        self._stage(chosen)
        if self.wrong:
            raise self._mismatch()
        if self.staged:
            first, *others = self.staged.values()
            first.commit_with(*others)
        return _merged(self.nodes, _plain(tree))

    def _plain_values(self) -> dict[Slot, Any]:
        return self.source.read(slots_in(self.source.tree))

    def _adopt(self, tree: Any, nodes: Any) -> Any:
        """Take plain dicts of arrays for the states of the nodes that stand there.

        Both ``{"net": {"layers": {"0": …}}}`` and ``{"net.layers.0.W": …}`` will do.
        """
        if not isinstance(tree, dict):
            return tree
        if isinstance(nodes, Stateful):
            whole = not any(True for _ in _saved(tree, ()))
            return SavedNode({}, self._flat(tree)) if whole else tree
        if not isinstance(nodes, Mapping):
            return tree
        adopted: dict[Any, Any] = {}
        for key, value in tree.items():
            name, _, rest = key.partition(".") if isinstance(key, str) else ("", "", "")
            if key not in nodes and rest and isinstance(nodes.get(name), Stateful):
                adopted.setdefault(name, SavedNode({}, {})).state[rest] = value
            else:
                adopted[key] = self._adopt(value, nodes.get(key))
        return adopted

    def _flat(self, tree: dict) -> dict[str, Any]:
        try:
            return flat_paths(tree)
        except PathError as error:
            raise CheckpointMismatchError(
                message(f"{self.source.name} does not fit:", [str(error)])
            ) from error

    def _named(self, found: Iterable[tuple[tuple, Any]], where: str) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for path, node in found:
            name = ".".join(map(str, path))
            if name in named:
                self.wrong.append(f"{name}: two nodes in {where} have this path")
            named[name] = node
        return named

    def _choose(self) -> dict[str, dict[str, Any]]:
        """Deal the paths of the file out to the targets, under their new names."""
        chosen: dict[str, dict[str, Any]] = {name: {} for name in self.targets}
        origin: dict[str, str] = {}
        for name, node in self.saved.items():
            for path, slot in node.state.items():
                old = _under(name, path)
                new = self.selection.renamed(old)
                if not self._takes(new, slot):
                    continue
                if new in origin:
                    self.wrong.append(f"{new}: both {origin[new]} and {old} become it")
                origin[new] = old
                target = self._owner(new)
                if target is not None:
                    own = new[len(target) + 1 :] if target else new
                    chosen[target][own] = slot
                elif self.strict:
                    self.wrong.append(f"{new}: in the file, and in no node")
        return chosen

    def _takes(self, path: str, stored: Any = None) -> bool:
        return self.selection.takes(path, self.own.get(path, stored))

    def _refuse_unmatched(self, tree: Any) -> None:
        """Note each choice that means no path of the file, of the nodes, or plain."""
        stored = {
            _under(name, path): slot
            for name, saved in self.saved.items()
            for path, slot in [("", None), *saved.state.items()]
        }
        plain = _plain_paths(_plain(tree), "")
        wrong = self.selection.renamed.unmatched([*stored, *plain])
        self.wrong += [f"rename={old!r} matches nothing" for old in wrong]
        if self.selection.filters:
            renamed = {self.selection.renamed(old): v for old, v in stored.items()}
            nodes = dict.fromkeys(self.targets)
            leaves = {**dict.fromkeys(plain), **nodes, **renamed, **self.own}
            self.wrong += self.selection.unmatched(leaves.items())

    def _owner(self, path: str) -> str | None:
        parts = path.split(".")
        for end in range(len(parts), -1, -1):
            name = ".".join(parts[:end])
            if name in self.targets:
                return name
        return None

    def _stage(self, chosen: dict[str, dict[str, Any]]) -> None:
        slots = [
            slot
            for state in chosen.values()
            for slot in state.values()
            if isinstance(slot, Slot)
        ]
        values = self.source.read(slots)
        for name, node in self.targets.items():
            if not chosen[name] and not self._expected(name, node):
                continue
            self._compare_meta(name, node)
            state = {
                path: values[slot] if isinstance(slot, Slot) else slot
                for path, slot in chosen[name].items()
            }
            # Missing and unexpected paths are judged here, where the filters are known.
            stage: Any = node.stage_state_dict(state, strict=False, cast=self.cast)
            self._judge(name, stage)
            if hasattr(stage, "conflicts_with"):
                clashes = stage.conflicts_with(*self.staged.values())
                self.wrong += [_under(name, line) for line in clashes]
            self.staged[name] = stage

    def _expected(self, name: str, node: Stateful) -> bool:
        if not self.selection.filters:
            return True
        return any(self._takes(path) for path in self.own if self._owner(path) == name)

    def _judge(self, name: str, stage: Any) -> None:
        self.wrong += [_under(name, line) for line in stage.mismatched]
        if not self.strict:
            return
        for path in (_under(name, path) for path in stage.missing):
            if self._takes(path):
                self.wrong.append(f"{path}: missing from the file")
        for path in (_under(name, path) for path in stage.unexpected):
            self.wrong.append(f"{path}: in the file, and not in the node")

    def _compare_meta(self, name: str, node: Stateful) -> None:
        old, saved = next(
            (
                pair
                for pair in self.saved.items()
                if self.selection.renamed(pair[0]) == name
            ),
            ("", None),
        )
        if saved is None or not saved.meta:
            return
        mine, stored = dict(node.checkpoint_meta()), dict(saved.meta)
        both = stored.get(UNITS, {}), mine.get(UNITS, {})
        if all(isinstance(units, Mapping) for units in both):
            self._compare_units(_joined(old, both[0]), _joined(name, both[1]))
            stored.pop(UNITS, None)
            mine.pop(UNITS, None)
        stored.pop(NOTES, None)
        mine.pop(NOTES, None)
        if self.strict:
            self.wrong += _differences(name, stored, mine)

    def _compare_units(self, stored: dict[str, Any], own: dict[str, Any]) -> None:
        stored = {self.selection.renamed(path): unit for path, unit in stored.items()}
        for path, unit in own.items():
            if self._takes(path) and stored.get(path, unit) != unit:
                self.wrong.append(f"{path}: stored in {stored[path]}, not in {unit}")

    def _mismatch(self) -> CheckpointMismatchError:
        error = CheckpointMismatchError(
            message(
                f"{self.source.name} does not fit; nothing was restored:",
                self.wrong,
                "build the nodes as they were when the file was saved (of another "
                "framework's model give `bo.attach(model)`), choose with `only=`, "
                "`skip=` and `rename=`, or pass `cast=True` for dtypes and "
                "`strict=False` for missing and unexpected paths.",
            )
        )
        error.differences = tuple(self.wrong)
        return error


def _stateful(nodes: Any, path: tuple) -> Iterator[tuple[tuple, Stateful]]:
    if isinstance(nodes, Stateful) and not isinstance(nodes, type):
        yield path, nodes
    elif isinstance(nodes, Mapping):
        for key, child in nodes.items():
            yield from _stateful(child, (*path, key))
    elif isinstance(nodes, list | tuple):
        for index, child in enumerate(nodes):
            yield from _stateful(child, (*path, index))


def _saved(tree: Any, path: tuple) -> Iterator[tuple[tuple, SavedNode]]:
    if isinstance(tree, SavedNode):
        yield path, tree
    elif isinstance(tree, dict):
        for key, child in tree.items():
            yield from _saved(child, (*path, key))
    elif isinstance(tree, list | tuple):
        for index, child in enumerate(tree):
            yield from _saved(child, (*path, index))


def _plain(tree: Any) -> Any:
    if isinstance(tree, SavedNode):
        return _ABSENT
    if isinstance(tree, dict):
        kept = {key: _plain(child) for key, child in tree.items()}
        kept = {key: child for key, child in kept.items() if child is not _ABSENT}
        return kept if kept or not tree else _ABSENT
    if isinstance(tree, list | tuple) and any(True for _ in _saved(tree, ())):
        return _ABSENT
    return tree


def _plain_paths(tree: Any, path: str) -> list[str]:
    if tree is _ABSENT:
        return []
    below = tree.items() if isinstance(tree, dict) else ()
    return [
        path,
        *(
            p
            for key, child in below
            for p in _plain_paths(child, _under(path, str(key)))
        ),
    ]


def _merged(nodes: Any, plain: Any) -> Any:
    """Plain values of the file, and the defaults where the file has none."""
    if not isinstance(nodes, Mapping):
        return {} if plain is _ABSENT else plain
    if plain is not _ABSENT and not isinstance(plain, dict):
        return plain
    found = {} if plain is _ABSENT else dict(plain)
    for key, default in nodes.items():
        if isinstance(default, Mapping):
            merged = _merged(default, found.pop(key, _ABSENT))
            if not default or not isinstance(merged, dict) or merged:
                found[key] = merged
        elif not any(True for _ in _stateful(default, ())):
            found.setdefault(key, default)
    return found


def _differences(path: str, stored: Any, own: Any) -> Iterator[str]:
    if _equal(stored, own):
        return
    if isinstance(stored, dict) and isinstance(own, Mapping):
        for key in (*stored, *(key for key in own if key not in stored)):
            values = stored.get(key, _ABSENT), own.get(key, _ABSENT)
            yield from _differences(_under(path, str(key)), *values)
    else:
        yield f"{path}: stored {_said(stored)}, this one has {_said(own)}"


def _under(name: str, path: str) -> str:
    return f"{name}.{path}" if name else path


def _joined(name: str, table: Mapping[Any, Any]) -> dict[str, Any]:
    return {_under(name, str(path)): value for path, value in table.items()}


def _said(value: Any) -> str:
    return "nothing" if value is _ABSENT else repr(value)


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray | np.generic) or hasattr(two, "__array__"):
        one, two = np.asarray(one), np.asarray(two)
        return one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(one, dict) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(_equal(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple) and type(one) is type(two):
        return len(one) == len(two) and all(map(_equal, one, two))
    if {type(one), type(two)} == {int, float}:
        return one == two
    return type(one) is type(two) and (one == two or (one != one and two != two))
