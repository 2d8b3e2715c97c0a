# SPDX-License-Identifier: Apache-2.0
"""No road from a file to code: the source of the package has none (R4)."""

import ast
from pathlib import Path

import pytest

import brainopt

ROOT = Path(brainopt.__file__).parent
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "import_module", "literal_eval",
    "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve",
}  # fmt: skip
READERS = {"load", "loads", "fromfile", "loadtxt", "genfromtxt"}


def names_in(tree):
    """Every name that a module imports, reads or calls, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node.lineno, getattr(node, "module", None) or ""
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            if node.attr != "compile":  # of a regular expression, or of a program
                yield node.lineno, node.attr
            if isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy"):
                yield node.lineno, f"np.{node.attr}"


def literal_imports(tree):
    """Lines that import a module whose name is written out, and so is no data."""
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "import_module"
        and all(isinstance(argument, ast.Constant) for argument in node.args)
    }


def offences(source):
    tree = ast.parse(source)
    fine = literal_imports(tree)
    return [
        (line, name)
        for line, name in names_in(tree)
        if (
            (name != "import_module" or line not in fine)
            and FORBIDDEN & set(name.split("."))
        )
        or name in {f"np.{reader}" for reader in READERS}
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "checkpoint").rglob("*.py")), ids=str)
def test_no_pickle_eval_or_np_load_in_the_wing(path):
    assert offences(path.read_text(encoding="utf-8")) == []


def test_no_pickle_eval_or_np_load_in_the_package():
    found = {
        str(path.relative_to(ROOT)): bad
        for path in ROOT.rglob("*.py")
        if (bad := offences(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from pickle import loads", "eval('1')", "np.load('f')",
     "importlib.import_module(name)", "numpy.fromfile('f')"],
)  # fmt: skip
def test_the_test_sees_what_it_looks_for(code):
    assert offences(code)


def test_no_borrowed_buffer_goes_to_device_put():
    for path in (ROOT / "checkpoint").rglob("*.py"):
        names = {name for _, name in names_in(ast.parse(path.read_text("utf-8")))}
        assert "device_put" not in names, path


SYSTEM = {"open", "fdopen", "write", "read", "pread", "preadv", "fsync", "rename",
          "replace", "unlink", "remove", "listdir", "scandir", "stat", "mkdir",
          "makedirs"}  # fmt: skip


def system_calls(source):
    """Calls of `open` and of `os` that ask the operating system about files."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        act = node.func
        if isinstance(act, ast.Name) and act.id == "open":
            yield node.lineno, "open"
        of_os = isinstance(act, ast.Attribute) and getattr(act.value, "id", "") == "os"
        if of_os and act.attr in SYSTEM:
            yield node.lineno, f"os.{act.attr}"


@pytest.mark.parametrize("path", sorted((ROOT / "checkpoint").rglob("*.py")), ids=str)
def test_all_file_calls_go_through_the_one_object(path):
    found = list(system_calls(path.read_text("utf-8")))
    assert found if path.name == "_os.py" else not found
