# SPDX-License-Identifier: Apache-2.0
"""The command line: ``brainopt COMMAND``, or ``python -m brainopt COMMAND``.

Exit codes: 0 all is well (`diff`: the same), 1 different or nothing found, 2 unreadable
or refused. A command is imported when it is called: help, `list`, `inspect` and
`verify` do without JAX, which takes most of the start of the others.
"""

import argparse
import difflib
import importlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ._version import __version__
from .errors import BrainoptError

_EPILOG = "exit codes: 0 well or the same, 1 different or nothing found, 2 refused"


class _Parser(argparse.ArgumentParser):
    """A parser that says what a misspelt command or option may have meant."""

    names: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        wrong = re.search("invalid choice: '([^']*)'", message)
        if wrong and (meant := difflib.get_close_matches(wrong[1], self.names, 1)):
            message = f"{wrong[1]!r} is no command; did you mean {meant[0]!r}?"
        super().error(message)

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """End with the words that this command does not know."""
        message = f"unrecognized arguments: {' '.join(words)}"
        for word in words:
            name = word.partition("=")[0]
            if meant := difflib.get_close_matches(name, _options(self), 1):
                message = f"{name!r} is no option; did you mean {meant[0]!r}?"
                break
        self.error(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the name of the program; by default those of the
            process.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if not words:
        parser.print_help()
        return 0
    chosen, unknown = parser.parse_known_args(words)
    if unknown:
        chosen.parser.refuse(unknown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that a locale cannot write
            stream.reconfigure(errors="backslashreplace")
    try:
        return chosen.run(chosen)
    except BrainoptError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # the output could not be written
        # Python flushes it at the end of the process, and would fail once more.
        sys.stdout = None  # type: ignore[assignment]
        print(error, file=sys.stderr)
        return 2


def _inspect(chosen: argparse.Namespace) -> int:
    return importlib.import_module("brainopt.checkpoint.commands._inspect").run(chosen)


def _list(chosen: argparse.Namespace) -> int:
    module = importlib.import_module("brainopt.checkpoint.commands._folder")
    return module.list_steps(chosen)


def _verify(chosen: argparse.Namespace) -> int:
    module = importlib.import_module("brainopt.checkpoint.commands._folder")
    return module.verify(chosen)


def _diff(chosen: argparse.Namespace) -> int:
    return importlib.import_module("brainopt.checkpoint.commands._files").diff(chosen)


def _convert(chosen: argparse.Namespace) -> int:
    module = importlib.import_module("brainopt.checkpoint.commands._files")
    return module.convert(chosen)


def _doctor(chosen: argparse.Namespace) -> int:
    return importlib.import_module("brainopt.checkpoint.commands._doctor").run(chosen)


def _completion(chosen: argparse.Namespace) -> int:
    module = importlib.import_module("brainopt.checkpoint.commands._completion")
    return module.run(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="brainopt", description="Look at checkpoints.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help, epilog=_EPILOG)
        made.set_defaults(run=run, parser=made)
        if run is not _completion:  # a script for a shell is no data
            made.add_argument("--json", action="store_true", help="print JSON")
        return made

    steps = command("list", _list, "tell the steps of a folder and their metrics")
    steps.add_argument("folder")
    steps.add_argument(
        "--best", metavar="METRIC[:max]", help="mark the best step (min by default)"
    )

    inspect = command("inspect", _inspect, "tell what is in a file or newest step")
    inspect.add_argument("file")
    inspect.add_argument("--stats", action="store_true", help="read the arrays too")
    inspect.add_argument("--match", metavar="WHERE", help="only paths that match")
    inspect.add_argument("--depth", type=int, default=8, help="fold what is deeper")
    inspect.add_argument("--all", action="store_true", help="fold nothing")

    verify = command("verify", _verify, "check every byte of files and folders")
    verify.add_argument("files", nargs="+")

    diff = command("diff", _diff, "compare two files or newest steps")
    diff.add_argument("one")
    diff.add_argument("two")
    diff.add_argument("--exact", action="store_true", help="every bit counts (default)")
    diff.add_argument(
        "--rtol", type=_tolerance, default=0.0, help="relative tolerance of floats (0)"
    )
    diff.add_argument(
        "--atol", type=_tolerance, default=0.0, help="absolute tolerance of floats (0)"
    )
    diff.add_argument("--all", action="store_true", help="fold no long history")

    _add_convert(command("convert", _convert, "write a file of any kind by the suffix"))
    command("doctor", _doctor, "tell what is installed and missing")

    completion = command("completion", _completion, "print a script for your shell")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    completion.set_defaults(
        options={name: _options(made) for name, made in commands.choices.items()}
    )
    # Last: by now it is known which commands there are to be meant.
    parser.names = list(commands.choices)
    return parser


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("source")
    convert.add_argument("target")
    convert.add_argument(
        "--only", metavar="WHERE", action="append", help="only paths that match"
    )
    convert.add_argument(
        "--skip", metavar="WHERE", action="append", help="no paths that match"
    )
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


def _options(parser: argparse.ArgumentParser) -> list[str]:
    words = parser.format_usage().replace("[", " ").replace("]", " ").split()
    return sorted({word for word in words if word.startswith("--")})


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not in [0, inf)")
    return value


if __name__ == "__main__":
    sys.exit(main())
