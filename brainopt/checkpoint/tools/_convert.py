# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of any kind written again as another."""

import os
from typing import Any

from ..._select import Rename, Renaming, Where, renamed
from ..._typing import StateDict
from ...errors import PathError, message
from ..interop._foreign import is_own, load_foreign
from ..interop._formats import flat_format, write
from ..interop._optimizers import from_brainpy, optimizer_state
from ..io._place import Path, place_of
from ..tree._build import SavedNode
from ..tree._file import load_file
from ..tree._paths import flat_paths, mapped
from ..tree._selection import Selection
from ..tree._snapshot import Snapshot
from ..tree._source import with_nodes


def convert(
    source: Path,
    target: Path,
    *,
    rename: Rename | None = None,
    only: Where | None = None,
    skip: Where | None = None,
    optimizer: str | None = None,
    step: int | None = None,
) -> Any:
    """Read a checkpoint of any kind and write it in the format of the suffix.

    A file of brainopt's own keeps its nodes, with their classes and settings, unless
    paths are renamed. State dicts of BrainPy are flattened (see `from_brainpy`).

    Args:
        source: what `load_foreign` reads.
        target: the file to write; see `save`.
        rename: from old paths to new ones, as `restore` takes it; with ``optimizer``
            from the parameters' names to their paths in your model.
        only: the paths to write, by their new names, in the grammar of `restore`.
        skip: the paths to leave out.
        optimizer: write the state of the optimizer in ``source`` alone, under this
            name (see `optimizer_state`).
        step: with ``optimizer``, the updates done, where ``source`` has none.

    Returns:
        The written tree, as plain data.

    Raises:
        CheckpointError: ``source`` cannot be read, or ``target`` cannot hold it.
        PathError: two values would have one name, or a choice or a table names what
            is not there.
    """
    # Nodes are kept only where nothing is chosen or renamed: their metadata describe
    # the state as it was saved, and would be wrong for a part of it.
    if optimizer is not None:
        state = optimizer_state(load_foreign(source), rename=rename, step=step)
        tree: Any = {optimizer: state}
    elif any(given is not None for given in (rename, only, skip)):
        flat = flat_paths(from_brainpy(load_foreign(source)))
        Renaming(rename).refuse_unmatched(list(flat))
        tree = _chosen(renamed(flat, rename), Selection(only, skip))
    else:
        tree = from_brainpy(_with_nodes(source))
    # Verified: the source may be removed next.
    write(target, Snapshot(tree), verify=True)
    return mapped(tree, lambda leaf: leaf.node.state if type(leaf) is _Saved else leaf)


def _chosen(flat: dict[str, Any], selection: Selection) -> dict[str, Any]:
    if unmatched := selection.unmatched(flat.items()):
        raise PathError(message("These choices fit nothing:", unmatched))
    return {path: value for path, value in flat.items() if selection.takes(path, value)}


def _with_nodes(path: Path) -> Any:
    name = place_of(path)
    flat = flat_format(name)
    if flat is not None:
        file = flat.load(name)
        tree = with_nodes(file.arrays, file.metas) if any(file.metas) else file.arrays
        return mapped(tree, lambda x: _Saved(x) if isinstance(x, SavedNode) else x)
    if os.path.isdir(name) or not is_own(name):
        return load_foreign(path)
    return load_file(path, node=_Saved)


class _Saved:
    """A node of a file, which can be saved as it is there."""

    def __init__(self, node: SavedNode) -> None:
        self.node = node

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as the file has it."""
        return self.node.state

    def _checkpoint_meta(self) -> dict[str, Any]:
        """Return the metadata, as the file has it."""
        return self.node.meta

    def _stage_state_dict(self, state: StateDict, **options: Any) -> Any:
        """Refuse: a file is not restored into another."""
        raise TypeError("a node of a file takes no state")
