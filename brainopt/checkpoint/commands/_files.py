# SPDX-License-Identifier: Apache-2.0
"""``brainopt diff`` and ``brainopt convert``."""

import argparse
import os

from ...errors import CheckpointError, message, printable
from ..tools._convert import convert as convert_file
from ..tools._diff import Difference, differences
from ..tools._inspect import MANY, inspect_file, list_of
from ._inspect import newest
from ._output import say, say_json

_SUFFIXES = ("", ".bopt", ".ckpt", ".npz", ".safetensors")


def diff(chosen: argparse.Namespace) -> int:
    """Print where two files differ; 1 if they do."""
    # Exit codes are those of diff(1): 0 for equal, 1 for different, 2 for an error.
    rtol, atol = (0.0, 0.0) if chosen.exact else (chosen.rtol, chosen.atol)
    one, two = newest(chosen.one), newest(chosen.two)
    found = differences(one, two, rtol, atol)
    lines = [f"{path}: {said}" for path, said, _ in found]
    if chosen.json:
        say_json({"one": one, "two": two, "same": not lines, "differences": lines})
    else:
        say(*map(printable, lines if chosen.all else _folded(found)))
    return 1 if found else 0


def _folded(found: list[Difference]) -> list[str]:
    """Return a line for each difference, and one for all those of a long list.

    The history of a run has hundreds of numbers; those of arrays have a line each.
    """
    groups: dict[tuple[str, ...], list[Difference]] = {}
    for place, difference in enumerate(found):
        key = (str(place),)
        if difference.is_plain:
            missing = difference.said if difference.said.startswith("only in") else ""
            key = (list_of(difference.path), missing)
        groups.setdefault(key, []).append(difference)
    lines = []
    for (name, *missing), group in groups.items():
        if len(group) <= MANY:
            lines += [f"{path}: {said}" for path, said, _ in group]
        elif missing[0]:
            lines.append(f"{name}: {len(group)} values {missing[0]}")
        else:
            path, said, _ = group[0]
            lines.append(f"{name}: {len(group)} values differ, {path}: {said}, …")
    return lines


def convert(chosen: argparse.Namespace) -> int:
    """Write a file of any kind as one of the kind that the suffix names."""
    names = dict(_pair(text) for text in chosen.map) or None
    if chosen.step is not None and chosen.optimizer is None:
        raise CheckpointError("--step belongs to --optimizer.")
    # In Python any suffix means our own format; typed in a shell, ``.pt`` or ``.npy``
    # is more likely a mistake.
    suffix = os.path.splitext(chosen.target)[1].lower()
    if suffix not in _SUFFIXES:
        raise CheckpointError(
            message(
                f"{chosen.target}: the suffix {suffix} names no format.",
                help=f"give one of {', '.join(_SUFFIXES[1:])}.",
            )
        )
    written = convert_file(
        chosen.source,
        chosen.target,
        rename=names,
        only=chosen.only or None,
        skip=chosen.skip or None,
        optimizer=chosen.optimizer,
        step=chosen.step,
    )
    # Counted in the new file: containers and metadata are no values.
    own = suffix not in (".npz", ".safetensors")
    count = len(inspect_file(chosen.target).entries if own else written)
    if chosen.json:
        say_json({"file": chosen.target, "values": count})
    else:
        say(f"{printable(chosen.target)}: {count} values")
    return 0


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or not old:
        raise CheckpointError(f"--map {text}: write OLD=NEW.")
    return old, new
