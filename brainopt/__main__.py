# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m brainopt inspect | verify | diff | convert | doctor``.

Exit codes: 0 all is well (`diff`: the same), 1 different, 2 unreadable or refused.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
import math
import platform
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from . import checkpoint
from ._select import Choice, refuse_unmatched
from ._version import __version__
from .checkpoint.format._checksum import LIBRARY as CRC_LIBRARY
from .errors import BrainoptError, CheckpointError, printable

# Package, its distribution, and what installs it.
_HOSTS = (
    ("brainpy", "brainpy", "brainopt[brainpy]"),
    ("brainstate", "brainstate", "brainopt[brainstate]"),
    ("braintools", "braintools", "brainopt[brainstate]"),
    ("flax", "flax", "brainopt[flax]"),
    ("equinox", "equinox", "brainopt[equinox]"),
    ("haiku", "dm-haiku", "brainopt[haiku]"),
    ("jaxley", "jaxley", "brainopt[jaxley]"),
    ("optax", "optax", "brainopt[optax]"),
    ("orbax", "orbax-checkpoint", "orbax-checkpoint"),
)
_JSON = bool | int | float | str | None
_NEEDED = ("jax", "jaxlib", "numpy", "msgpack")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the name of the program; by default those of the
            process.

    Returns:
        The exit code.
    """
    chosen = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that a locale cannot write
            stream.reconfigure(errors="backslashreplace")
    try:
        return chosen.run(chosen)
    except BrainoptError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # the output could not be written
        sys.stdout = None  # type: ignore[assignment]
        print(error, file=sys.stderr)
        return 2


def _say(*lines: Any) -> None:
    """Print lines; a reader of the output that has seen enough changes no exit code."""
    try:
        for line in lines:
            print(line)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brainopt", description="Look at checkpoints."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="tell what is in a file")
    inspect.add_argument("file")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.add_argument("--stats", action="store_true", help="read the arrays too")
    inspect.add_argument(
        "--match", metavar="GLOB", help="only paths that match, and below"
    )
    inspect.set_defaults(run=_inspect)

    verify = commands.add_parser("verify", help="check every byte of files")
    verify.add_argument("files", nargs="+")
    verify.set_defaults(run=_verify)

    diff = commands.add_parser("diff", help="compare two files")
    diff.add_argument("one")
    diff.add_argument("two")
    diff.add_argument("--exact", action="store_true", help="every bit counts (default)")
    diff.add_argument("--rtol", type=_tolerance, default=0.0)
    diff.add_argument("--atol", type=_tolerance, default=0.0)
    diff.set_defaults(run=_diff)

    convert = commands.add_parser(
        "convert", help="read a file of any kind, write one by the suffix"
    )
    convert.add_argument("source")
    convert.add_argument("target")
    convert.add_argument(
        "--map",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="rename a path and all below it; may be given several times",
    )
    convert.add_argument(
        "--optimizer",
        metavar="NAME",
        help="convert the state of the optimizer alone, and call it NAME",
    )
    convert.add_argument(
        "--step",
        type=int,
        help="with --optimizer: the updates done, where the file does not tell",
    )
    convert.set_defaults(run=_convert)

    doctor = commands.add_parser("doctor", help="tell what is installed and missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not in [0, inf)")
    return value


def _inspect(chosen: argparse.Namespace) -> int:
    told = checkpoint.inspect(chosen.file)
    entries = told.entries
    if chosen.match is not None:
        fits = Choice(chosen.match)
        leaves = [(entry.path, entry) for entry in entries]
        refuse_unmatched(
            f"{chosen.file} has nothing of:", [fits], leaves, "it is empty."
        )
        entries = [entry for entry in entries if fits(entry.path, entry)]
    stats = _stats(chosen.file, entries) if chosen.stats else {}
    if chosen.json:
        table = dataclasses.asdict(dataclasses.replace(told, entries=entries))
        for entry in table["entries"]:
            entry |= stats.get(entry["path"], {})
        _say(json.dumps(_as_json(table), indent=1, allow_nan=False))
        return 0
    _say(dataclasses.replace(told, entries=entries))
    for path, numbers in stats.items():
        said = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
        _say(f"  {printable(path)}: {said}")
    return 0


def _as_json(value: Any) -> Any:
    """Turn data into what strict JSON can hold; what it cannot becomes its text."""
    if isinstance(value, dict):
        return {str(key): _as_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(child) for child in value]
    if hasattr(value, "tolist"):
        return _as_json(value.tolist())
    if isinstance(value, int) and value.bit_length() > 64:
        return hex(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value if isinstance(value, _JSON) else repr(value)


def _stats(file: str, entries: list[checkpoint.Entry]) -> dict[str, dict[str, float]]:
    wanted = {entry.path for entry in entries if entry.kind == "array"}
    values = checkpoint.flat_paths(checkpoint.load(file)) if wanted else {}
    found = {}
    for path, value in values.items():
        if path not in wanted or not value.size:
            continue
        wide = np.abs(value) if "complex" in value.dtype.name else value
        wide = wide.astype(np.float64)
        finite = wide[np.isfinite(wide)]
        found[path] = {
            "min": float(finite.min()) if finite.size else float("nan"),
            "max": float(finite.max()) if finite.size else float("nan"),
            "mean": float(finite.mean()) if finite.size else float("nan"),
            "norm": float(np.linalg.norm(finite)),
            "nonfinite": float(wide.size - finite.size),
        }
    return found


def _verify(chosen: argparse.Namespace) -> int:
    worst = 0
    for file in chosen.files:
        try:
            checkpoint.verify(file)
            _say(f"{printable(file)}: intact")
        except CheckpointError as error:
            print(error, file=sys.stderr)
            worst = 2
    return worst


def _diff(chosen: argparse.Namespace) -> int:
    rtol, atol = (0.0, 0.0) if chosen.exact else (chosen.rtol, chosen.atol)
    lines = checkpoint.diff(chosen.one, chosen.two, rtol=rtol, atol=atol)
    _say(*lines)
    return 1 if lines else 0


def _convert(chosen: argparse.Namespace) -> int:
    names = dict(_pair(text) for text in chosen.map) or None
    if chosen.step is not None and chosen.optimizer is None:
        raise CheckpointError("--step belongs to --optimizer.")
    checkpoint.convert(
        chosen.source,
        chosen.target,
        rename=names,
        optimizer=chosen.optimizer,
        step=chosen.step,
    )
    count = len(checkpoint.inspect(chosen.target).entries)
    _say(f"{chosen.target}: {count} values")
    return 0


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or not old:
        raise CheckpointError(f"--map {text}: write OLD=NEW.")
    return old, new


def _doctor(chosen: argparse.Namespace) -> int:
    _say(f"brainopt {__version__}, Python {platform.python_version()}")
    for name in _NEEDED:
        _say(f"  {name} {importlib.metadata.version(name)}")
    _say(f"devices: {_devices()}")
    there, missing = [], []
    for name, distribution, source in _HOSTS:
        if importlib.util.find_spec(name) is None:
            missing.append(f"no {name}: pip install '{source}'")
        else:
            there.append(f"{name} {_version(distribution)}")
    _say(f"hosts: {', '.join(there) or 'none'}")
    _say(f"checksums: {CRC_LIBRARY}")
    if CRC_LIBRARY == "zlib":
        missing.append("no isal: pip install 'brainopt[fast]' for faster checkpoints")
    for line in missing:
        _say(line)
    if "cpu" in _devices().lower():
        _say("no accelerator: pip install 'brainopt[cuda12]' where there is one")
    return 0


def _devices() -> str:
    try:
        return ", ".join(map(str, jax.devices()))
    except RuntimeError as error:  # a plugin without its driver
        return f"none; jax says: {error}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


if __name__ == "__main__":
    sys.exit(main())
