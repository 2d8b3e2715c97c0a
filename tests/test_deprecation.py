# SPDX-License-Identifier: Apache-2.0
"""A deprecated name warns at the user's line, and is gone by the version it names."""

import ast
import functools
import inspect
import sys
import types
import warnings
from pathlib import Path

import brainopt as bo
from brainopt._deprecation import deprecated, warn_deprecated

PACKAGE = Path(bo.__file__).parent
OLD = {"removal": "0.3", "instead": "use bo.new(x)"}
TEXT = "bo.old is deprecated; brainopt 0.3 removes it.\nhelp: use bo.new(x)."


@deprecated("bo.old", **OLD)
def old(x: int, *, scale: int = 1) -> int:
    """Return a multiple."""
    return x * scale


def _library_module(code):
    """Return a module whose code stands in a file of the library."""
    module = types.ModuleType("brainopt_example")
    module.__dict__["warn"] = functools.partial(warn_deprecated, "bo.old", **OLD)
    exec(compile(code, str(PACKAGE / "core" / "_example.py"), "exec"), module.__dict__)
    return module


def _line_of_the_warning(act):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        act()
    (warning,) = seen
    assert str(warning.message) == TEXT and warning.category is DeprecationWarning
    assert warning.filename == __file__
    return Path(__file__).read_text("utf-8").splitlines()[warning.lineno - 1]


def test_a_decorated_function_warns_at_the_line_of_its_call():
    def act():
        assert old(2, scale=3) == 6  # the call

    assert "# the call" in _line_of_the_warning(act)


def test_an_old_argument_warns_at_the_line_outside_the_library():
    module = _library_module(
        "def inner(times):\n    warn()\n\ndef outer(times):\n    inner(times)\n"
    )

    def act():
        module.outer(times=3)  # the call

    assert "# the call" in _line_of_the_warning(act)


def test_a_name_that_moved_warns_at_the_line_of_its_import(monkeypatch):
    module = _library_module(
        "def __getattr__(name):\n"
        "    if name != 'moved':\n        raise AttributeError(name)\n"
        "    warn()\n    return name\n"
    )
    monkeypatch.setitem(sys.modules, "brainopt_example", module)

    def act():
        from brainopt_example import moved  # the import

        assert moved == "moved"

    assert "# the import" in _line_of_the_warning(act)


def test_a_function_traced_by_jit_warns_at_the_line_of_its_call():
    def act():
        bo.jit(lambda x: old(x))(2.0)  # the call

    assert "# the call" in _line_of_the_warning(act)


def test_a_line_in_a_loop_warns_once_by_default():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            old(1)

    assert len(seen) == 1


def test_a_deprecated_function_keeps_its_signature_and_its_text():
    assert str(inspect.signature(old)) == "(x: int, *, scale: int = 1) -> int"
    assert old.__doc__ == "Return a multiple."


def _number(version):
    return tuple(map(int, version.split(".")[:2]))


def _overdue(source, version):
    """Return the removals in a source that this version should have carried out."""
    return [
        f"line {keyword.value.lineno}: {removal}"
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "removal" and isinstance(keyword.value, ast.Constant)
        if _number(removal := keyword.value.value) <= _number(version)
    ]


def test_what_is_overdue_is_found():
    source = 'deprecated("a", removal="0.3", instead="b")\nwarn(removal="0.10")'

    assert _overdue(source, "0.2.9") == []
    assert _overdue(source, "0.3.0") == ["line 1: 0.3"]
    assert _overdue(source, "0.10.1") == ["line 1: 0.3", "line 2: 0.10"]


def test_nothing_outlives_the_version_that_removes_it():
    overdue = {
        str(path.relative_to(PACKAGE)): late
        for path in PACKAGE.rglob("*.py")
        if (late := _overdue(path.read_text("utf-8"), bo.__version__))
    }

    assert not overdue
