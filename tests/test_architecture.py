# SPDX-License-Identifier: Apache-2.0
"""The floors of the package: imports run down, and a file keeps to its subject."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "brainopt"
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = ("brainopt", "docs", "examples", "tests")
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))

# Each wing with the wings it may import.
GROUND = {
    "errors",
    "_dtypes",
    "_memory",
    "_command_line",
    "_typing",
    "_warnings",
    "_select",
    "_version",
    "_compat",
    "_display",
    "_deprecation",
}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "distributed": GROUND,
    "checkpoint": GROUND | {"distributed"},
    "runtime": GROUND,
    "core": GROUND | {"runtime"},
    "transforms": GROUND | {"runtime", "core", "distributed"},
    "debug": GROUND | {"runtime", "core", "transforms"},
    "sharding": GROUND | {"runtime", "core", "distributed"},
    "optim": GROUND | {"runtime", "core", "transforms", "sharding"},
    "hosts": GROUND | {"runtime", "core", "optim"},
}
# The rooms inside a wing, from the bottom up: each imports those before it.
ROOMS = {
    "checkpoint": ["format", "io", "tree", "interop", "tools", "", "commands"],
    "optim": [
        "hyperparameters",
        "engine",
        "schedules",
        "settings",
        "_aliases",
        "_matches",
        "_parameters",
        "",  # the optimizer itself
        "algorithms",
        "wrappers",
    ],
    "transforms": ["", "gradients", "control_flow"],
}
BORDERS = {"hosts", "checkpoint", "__main__"}  # meet packages that may be missing
ALWAYS_THERE = {"brainopt", "jax", "numpy", "msgpack"} | sys.stdlib_module_names
LAZY = {
    "brainopt.checkpoint",
    "brainopt.debug",
    "brainopt.optim",
    "brainopt.sharding",
}  # by the names of the face
JAX_PRIVATE = ("jax._src", "jax.extend", "jax.interpreters", "jaxlib")
NO_SUBJECT = {"utils", "util", "helpers", "common", "misc", "base"}
FORBIDDEN_CALLS = {"eval", "exec", "np.load", "numpy.load", "np.save", "numpy.save"}


def _name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _wing(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "_face" else ""


MODULES = {_name(p): p for p in FILES}
TREES = {name: ast.parse(p.read_text("utf-8")) for name, p in MODULES.items()}


def _imports(module):
    """Yield (node, absolute names, is relative) of each import of a module."""
    is_package = MODULES[module].name == "__init__.py"
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield node, [a.name for a in node.names], False
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            keep = len(parts) - node.level + is_package
            base = parts[:keep] if node.level else []
            base = ".".join(base + (node.module.split(".") if node.module else []))
            names = [f"{base}.{a.name}" for a in node.names]
            ours = base.split(".")[0] == "brainopt"
            names = [base if ours and n not in MODULES else n for n in names]
            yield node, names, node.level > 0


def _inside(module):
    for node, names, relative in _imports(module):
        for name in names:
            if name.split(".")[0] == "brainopt":
                yield node, name, relative


def _deferred(module):
    """Map each import below the top level to the name of its function."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        id(node): function.name
        for function in ast.walk(TREES[module])
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }


def _where(module, node):
    return f"{MODULES[module].relative_to(ROOT)}:{node.lineno}"


def test_imports_run_down_or_within_a_wing():
    upward = [
        f"{_where(module, node)} imports {target}"
        for module in MODULES
        if (wing := _wing(module)) in MAY_IMPORT
        for node, target, _ in _inside(module)
        if _wing(target) not in MAY_IMPORT[wing] | {wing}
    ]

    assert not upward


def _room(module):
    """Return the place of a module in `ROOMS`; the other files of a wing share one."""
    _, wing, *inner = module.split(".")
    rooms = ROOMS[wing]
    return rooms.index(inner[0] if inner[0] in rooms else "")


@pytest.mark.parametrize("wing", ROOMS)
def test_imports_run_down_or_within_a_room(wing):
    face = f"brainopt.{wing}"
    inside = [m for m in MODULES if m.startswith(f"{face}.")]

    upward = [
        f"{_where(module, node)} imports {target}"
        for module in inside
        for node, target, _ in _inside(module)
        if _wing(target) == wing and target != face and _room(target) > _room(module)
    ]

    assert not upward


def test_every_wing_has_a_floor():
    wings = {_wing(module) for module in MODULES}

    assert wings <= {*MAY_IMPORT, "", "__main__"}


def test_imports_of_the_package_are_relative():
    absolute = [
        f"{_where(module, node)} imports {target}"
        for module in MODULES
        for node, target, relative in _inside(module)
        if not relative
    ]

    assert not absolute


def test_imports_stand_at_the_top():
    hidden = []
    for module in MODULES:
        deferred = _deferred(module)
        for node, names, _ in _imports(module):
            function = deferred.get(id(node))
            roots = {name.split(".")[0] for name in names}
            optional = _wing(module) in BORDERS and not roots & ALWAYS_THERE
            if function and not optional:
                hidden.append(f"{_where(module, node)} imports {', '.join(names)}")

    assert not hidden


def _graph():
    """Return the modules that each module imports."""
    graph = {}
    for module in MODULES:
        targets = {target for _, target, _ in _inside(module)}
        graph[module] = (targets & MODULES.keys()) - {module}
    graph["brainopt"] -= LAZY  # imported by the first use of the name
    return graph


def test_no_import_circle():
    graph = _graph()

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_file_stands_on_few_others():
    """The longest chain of imports: how many files lie below one, faces left out."""
    faces = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {k: v - faces for k, v in _graph().items() if k not in faces}

    depth = {}
    for module in TopologicalSorter(graph).static_order():
        depth[module] = 1 + max((depth[below] for below in graph[module]), default=0)

    assert max(depth.values()) <= 13, max(depth, key=lambda module: depth[module])


def test_no_import_is_for_type_checkers_alone():
    quiet = [
        f"{_where(module, block)}"
        for module in MODULES.keys() - {"brainopt"}
        for block in ast.walk(TREES[module])
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert not quiet


def test_wings_are_entered_by_their_face():
    private = [
        f"{_where(module, node)} imports {target}"
        for module in MODULES
        for node, target, _ in _inside(module)
        if _wing(target) not in GROUND | {"", _wing(module)}
        and any(room.startswith("_") for room in target.split(".")[2:])
    ]

    assert not private


def test_jax_private_names_are_touched_in_compat_only():
    private = []
    for module in MODULES.keys() - {"brainopt._compat"}:
        used = [(node, n) for node, names, _ in _imports(module) for n in names]
        used += [
            (node, ast.unparse(node))
            for node in ast.walk(TREES[module])
            if isinstance(node, ast.Attribute)
        ]
        private += [
            f"{_where(module, node)} touches {name}"
            for node, name in used
            if name.startswith(JAX_PRIVATE)
        ]

    assert not private


def test_nothing_executes_data():
    """No pickle, no eval, no ``numpy.load``: a file can only be read as data."""
    found = []
    for module in MODULES:
        for node, names, _ in _imports(module):
            roots = {n.split(".")[0] for n in names}
            if roots & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}:
                found.append(f"{_where(module, node)} imports {', '.join(names)}")
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
                found.append(f"{_where(module, node)} calls {ast.unparse(node.func)}")

    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_has_a_licence_a_subject_and_an_end(path):
    text = path.read_text("utf-8")

    assert "SPDX-License-Identifier: Apache-2.0" in "\n".join(text.splitlines()[:3])
    assert path.stem.strip("_") not in NO_SUBJECT
    assert len(text.splitlines()) <= 400
