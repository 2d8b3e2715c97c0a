# SPDX-License-Identifier: Apache-2.0
"""``brainopt list`` and ``brainopt verify``: folders of steps, and their damage."""

import argparse
import importlib
import os
import sys
from typing import Any

from ...errors import CheckpointError, first_line, printable
from .._index import Index, best_of
from ..io import _os
from ..io._folder import Folder
from ..io._sharded import is_whole, open_checkpoint
from ._output import Progress, saved_at, say, say_json, styled, table

_FLAT = (".npz", ".safetensors")


def list_steps(chosen: argparse.Namespace) -> int:
    """Print the steps of a folder; 2 if one of them is damaged, 1 if there is none."""
    index = Index(Folder(chosen.folder))
    steps = index.steps()
    if not steps and not index.folder.remote:
        _refuse_missing(chosen.folder)
    metrics = index.metrics(steps)
    name, _, order = (chosen.best or "").partition(":")
    best = best_of(metrics, name, order or "min") if name else None
    told = [_told(index, step, metrics[step], step == best) for step in steps]
    if chosen.json:
        say_json({"folder": index.folder.name, "steps": told})
    elif not told:
        say(f"{printable(chosen.folder)} has no steps.")
    else:
        names = sorted({name for entry in told for name in entry["metrics"]})
        rows = [
            [
                str(entry["step"]),
                entry["saved"],
                f"{entry['bytes']:,}",
                *(_shown(entry["metrics"].get(name, "")) for name in names),
                "best" if entry["best"] else entry["damage"] or "",
            ]
            for entry in told
        ]
        lines = table(["step", "saved", "bytes", *names, ""], rows, 0)
        states = [None, *(entry["damage"] for entry in told)]
        say(
            *(
                styled(line, "red") if damage else line
                for line, damage in zip(lines, states, strict=True)
            )
        )
    if any(entry["damage"] for entry in told):
        return 2
    return 0 if told else 1


def _shown(metric: Any) -> str:
    return f"{metric:.6g}" if isinstance(metric, float) else str(metric)


def _refuse_missing(folder: str) -> None:
    try:
        _os.fs.listdir(folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder} could not be read: {error.strerror}."
        ) from None


def _told(index: Index, step: int, metrics: dict[str, Any], best: bool) -> dict:
    path = index.path(step)
    size, damage = 0, None
    # Header and manifest are proven when a file is opened, the arrays are not: `list`
    # is quick, and `verify` is thorough.
    try:
        with open_checkpoint(path) as reader:
            size = reader.size
    except CheckpointError as error:
        damage = _fault(error)
        size = next(iter(index.folder.stamp(os.path.basename(path))), 0)
    return {
        "step": step,
        "saved": saved_at(path),
        "bytes": size,
        "metrics": metrics,
        "best": best,
        "damage": damage,
    }


def _fault(error: CheckpointError) -> str:
    """Return what is wrong with a file, on one line and without its name."""
    _, *lines = str(error).splitlines()
    facts = [line.strip() for line in lines if line.startswith("  ")]
    return "; ".join(facts) or first_line(error)


def verify(chosen: argparse.Namespace) -> int:
    """Check every byte of files, and of all steps of folders; 2 if one is damaged."""
    told = []
    for name in chosen.files:
        for path in _files(name):
            damage = None
            try:
                _verify(path)
            except CheckpointError as error:
                damage = str(error)
            told.append({"file": path, "intact": damage is None, "error": damage})
            if chosen.json:
                continue
            if damage is None:
                say(f"{printable(path)}: {styled('intact', 'green')}")
            else:
                # The other files are checked all the same.
                print(damage, file=sys.stderr)
    if chosen.json:
        say_json(told)
    return 0 if all(entry["intact"] for entry in told) else 2


def _files(name: str) -> list[str]:
    if is_whole(name):
        return [name]
    index = Index(Folder(name))
    return [index.path(step) for step in index.steps()] or [name]


def _verify(path: str) -> None:
    # Through the face, which imports more: needed for files of others only.
    if path.lower().endswith(_FLAT):
        importlib.import_module("brainopt.checkpoint").verify(path)
        return
    with open_checkpoint(path) as reader:
        progress = Progress(path, reader.size)
        try:
            reader.verify(progress.add)
        finally:
            progress.close()
