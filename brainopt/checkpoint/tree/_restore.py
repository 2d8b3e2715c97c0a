# SPDX-License-Identifier: Apache-2.0
"""A restore as one transaction: compare everything, report everything, commit once.

**How it works.** `Source` is the file as a tree. Its leaves are `Slot`s, the places of
arrays that are not read yet; its nodes are `SavedNode`s, metadata and a flat state of
slots. The nodes to restore are the targets, in a tree of their own. Both trees name
their contents by dotted paths.

1. Plain values of the file are read, and a plain dict at the place of a target becomes
   its state (`_adopt`).
2. Each path of the file gets its new name, is kept or left by the selection, and goes
   to the target with the longest name that is a prefix of it (`_choose`).
3. The slots that were chosen are read and verified, each once (`_stage`).
4. Each target compares its part with its variables and converts it, without writing
   (`Stateful._stage_state_dict`). Metadata and units are compared, too.
5. Every step adds its misfits to `wrong`. If there is any, one error lists all of them;
   otherwise the first stage commits all stages in one call.

**What must never happen.** A write before step 5. A path that is neither restored, nor
left by the selection, nor reported. A state that is matched by position. A restore that
changes one node and fails at the next.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import jax

from ..._select import is_below
from ..._typing import Model
from ...errors import CheckpointMismatchError, PathError, message
from ._build import SavedNode
from ._metadata import (
    NO_ARRAY,
    changed_constants,
    chosen,
    differences,
    joined,
    other_units,
    paths_in,
    takes,
    warn_of_constants,
)
from ._paths import dotted, flat_paths, under
from ._plain import nodes_in, plain_paths, plain_values, saved_nodes, with_defaults
from ._protocol import (
    CONSTANTS,
    NOTES,
    UNITS,
    Staged,
    Stateful,
    walked_once,
)
from ._selection import Selection
from ._source import Slot, Source, filled, slots_in

_SMALL = 1 << 16
"""Bytes of an array that is read together with others."""


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
        staged: the new state of each node, by its path, from `prepare` on.
    """

    def __init__(
        self,
        source: Source,
        nodes: Model,
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
        self.changed: list[str] = []
        # A process of several may keep its own part of the data in an attribute.
        self._same_constants = strict and jax.process_count() == 1
        self.staged: dict[str, Staged] = {}
        self.targets = self._named(nodes_in(nodes), "the nodes")
        self._by_length = sorted(self.targets, key=len, reverse=True)
        self.saved: dict[str, SavedNode] = {}
        self.left: dict[str, Any] = {}

    def prepare(self) -> None:
        """Read and compare everything, and change nothing.

        Raises:
            CheckpointMismatchError: the file does not fit.
        """
        try:
            with walked_once(self.targets.values()):
                self._prepare()
        except BaseException:
            self.discard()
            raise

    def _prepare(self) -> None:
        tree = filled(self.source.tree, self.source.read(slots_in([self.source.tree])))
        tree = self._adopt(tree, self.nodes)
        self.saved = self._named(saved_nodes(tree), "the file")
        chosen = self._choose()
        if self.strict:
            self._refuse_unmatched(tree)
        # Also after a misfit of names, so that the error lists those of shapes with
        # them.
        self._stage(chosen)
        if self._same_constants:
            self.wrong += self.changed
        if self.wrong:
            raise self._mismatch()
        self._rest = with_defaults(self.nodes, plain_values(tree))

    def discard(self) -> None:
        """Discard all stages."""
        for stage in self.staged.values():
            getattr(stage, "discard", lambda: None)()

    def commit(self) -> Any:
        """Change all nodes at once, and return the plain values of the file."""
        if self.changed and not self._same_constants:
            warn_of_constants(self.source.name, self.changed)
        if self.staged:
            first, *others = self.staged.values()
            first.commit_with(*others)
        return self._rest

    @cached_property
    def own(self) -> dict[str, dict[str, Any]]:
        """The values of each target, by its name and their paths from the root."""
        return {
            name: {under(name, path): v for path, v in node.state_dict().items()}
            for name, node in self.targets.items()
        }

    def _adopt(self, tree: Any, nodes: Model) -> Any:
        """Turn plain dicts of arrays into states of the nodes at their places.

        Both ``{"net": {"layers": {"0": …}}}`` and ``{"net.layers.0.W": …}`` will do.
        """
        if not isinstance(tree, dict):
            return tree
        # A dict with saved nodes in it is a tree of several nodes, not the state of
        # one.
        if isinstance(nodes, Stateful):
            whole = not any(True for _ in saved_nodes(tree))
            return SavedNode({}, self._flat(tree)) if whole else tree
        if not isinstance(nodes, Mapping):
            return tree
        adopted: dict[Any, Any] = {}
        for key, value in tree.items():
            name, _, rest = key.partition(".") if isinstance(key, str) else ("", "", "")
            is_part = isinstance(nodes.get(name), Stateful) and key not in nodes
            if is_part and rest and not isinstance(value, SavedNode):
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
            name = dotted(path)
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
                old = under(name, path)
                new = self.selection.renamed(old)
                if not self._takes(new, slot):
                    self.left[new] = slot
                    continue
                # Two names that become one would restore whichever comes last.
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
        if not self.selection.filters:
            return True
        own = self.own.get(self._owner(path) or "", {})
        return self.selection.takes(path, own.get(path, stored))

    def _refuse_unmatched(self, tree: Any) -> None:
        """Note each choice that means no path of the file, of the nodes, or plain."""
        stored = {
            under(name, path): slot
            for name, saved in self.saved.items()
            for path, slot in [("", None), *saved.state.items()]
        }
        plain = plain_paths(plain_values(tree))
        unmatched = self.selection.renamed.unmatched([*stored, *plain])
        self.wrong += [f"rename={old!r} matches nothing" for old in unmatched]
        if self.selection.filters:
            candidates = dict.fromkeys([*plain, *self.targets])
            candidates |= {self.selection.renamed(old): v for old, v in stored.items()}
            for own in self.own.values():
                candidates |= own
            candidates |= dict.fromkeys(self._meta_paths(), NO_ARRAY)
            self.wrong += self.selection.unmatched(candidates.items())

    def _meta_paths(self) -> Iterator[str]:
        metas = [(self.selection.renamed(n), s.meta) for n, s in self.saved.items()]
        metas += [(name, n._checkpoint_meta()) for name, n in self.targets.items()]
        for name, meta in metas:
            yield from paths_in(name, meta)
            yield from paths_in(name, meta.get(CONSTANTS, {}))

    def _owner(self, path: str) -> str | None:
        # The longest name: a target may lie below another, as a part of it.
        return next((name for name in self._by_length if is_below(path, name)), None)

    def _stage(self, chosen: dict[str, dict[str, Any]]) -> None:
        contexts = {name: self._context(name) for name in self.targets}
        values = self._values(
            {
                slot: self.targets[name]
                for table in (chosen, contexts)
                for name, state in table.items()
                for slot in state.values()
                if isinstance(slot, Slot)
            }
        )
        for name, node in self.targets.items():
            if not chosen[name] and not self._expected(name):
                continue
            self._compare_meta(name, node)
            state, context = (
                {
                    path: values[slot] if isinstance(slot, Slot) else slot
                    for path, slot in table[name].items()
                }
                for table in (chosen, contexts)
            )
            more = {"context": context} if context else {}
            # Missing and unexpected paths are judged here, where the filters are known.
            stage: Any = node._stage_state_dict(
                state, strict=False, cast=self.cast, **more
            )
            self._judge(name, stage)
            if hasattr(stage, "conflicts_with"):
                clashes = stage.conflicts_with(*self.staged.values())
                self.wrong += [under(name, line) for line in clashes]
            self.staged[name] = stage

    def _context(self, name: str) -> dict[str, Any]:
        """Return entries outside the selection that a node needs to read the rest."""
        ask = getattr(self.targets[name], "_state_context", None)
        if not self.left or ask is None:
            return {}
        asked = {path: under(name, path) for path in ask()}
        return {p: self.left[full] for p, full in asked.items() if full in self.left}

    def _values(self, wanted: dict[Slot, Stateful]) -> dict[Slot, Any]:
        """Read slots; a large one is left to its node, where it can read it."""
        parts = self.source.parts
        left = {
            slot: parts(slot)
            for slot, node in wanted.items()
            if parts is not None
            and slot.kind == "array"
            and slot.nbytes > _SMALL
            and getattr(node, "_reads_parts", False)
        }
        # The others in one call, so that they are read in the order of the file.
        return self.source.read([slot for slot in wanted if slot not in left]) | left

    def _expected(self, name: str) -> bool:
        if not self.selection.filters:
            return True
        return any(map(self._takes, self.own[name]))

    def _judge(self, name: str, stage: Any) -> None:
        self.wrong += [under(name, line) for line in stage.mismatched]
        if not self.strict:
            return
        for path in (under(name, path) for path in stage.missing):
            if self._takes(path):
                self.wrong.append(f"{path}: missing from the file")
        for path in (under(name, path) for path in stage.unexpected):
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
        mine, stored = dict(node._checkpoint_meta()), dict(saved.meta)
        # Units also without ``strict``: numbers in another unit are wrong numbers.
        for kind, compare, lines in (
            (UNITS, other_units, self.wrong),
            (CONSTANTS, changed_constants, self.changed),
        ):
            if any(not isinstance(t.get(kind, {}), dict) for t in (stored, mine)):
                continue  # compared as other metadata
            was = joined(old, stored.pop(kind, {}))
            was = {self.selection.renamed(path): text for path, text in was.items()}
            own = joined(name, mine.pop(kind, {})).items()
            lines += compare(was, {p: x for p, x in own if takes(self.selection, p)})
        # Notes repeat numbers of the state, which is about to be replaced.
        stored.pop(NOTES, None)
        mine.pop(NOTES, None)
        if self.strict:
            stored, mine = (chosen(self.selection, name, m) for m in (stored, mine))
            self.wrong += differences(name, stored, mine)

    def _mismatch(self) -> CheckpointMismatchError:
        error = CheckpointMismatchError(
            message(
                f"{self.source.name} does not fit; nothing was restored:",
                self.wrong,
                "build the nodes as they were when the file was saved (of another "
                "framework's model give `bo.attach(model)`), choose with `only=`, "
                "`skip=` (as `skip=['*.class']` where only a class was renamed) and "
                "`rename=`, or pass `cast=True` for dtypes and `strict=False` for "
                "missing and unexpected paths.",
            )
        )
        error.differences = tuple(self.wrong)
        return error
