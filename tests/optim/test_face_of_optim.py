# SPDX-License-Identifier: Apache-2.0
"""The face of `brainopt.optim`: each optimizer is tested, each argument documented."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import brainopt as bo
from brainopt.core import Node
from brainopt.optim.hyperparameters._fields import Option
from tests.optim.members import ALL, NO_MEMBERS
from tests.optim.test_schedules import SCHEDULES

optim = bo.optim
FACE = {
    name
    for name, value in vars(optim).items()
    if inspect.isclass(value) and issubclass(value, Node)
    if not issubclass(value, optim.Schedule)
}
MINE = [c for c in dict.fromkeys(m.cls for m in ALL) if c is not optim.Optax]


def test_every_optimizer_of_the_face_is_held_to_every_promise():
    assert {member.cls.__name__ for member in ALL} == FACE - NO_MEMBERS


def _below(cls):
    return {cls}.union(*map(_below, cls.__subclasses__()))


def test_every_optimizer_of_the_library_is_in_its_face():
    for module in pkgutil.walk_packages(optim.__path__, "brainopt.optim."):
        importlib.import_module(module.name)

    final = {
        cls.__name__
        for cls in _below(optim.Optimizer)
        if cls.__module__.startswith("brainopt.") and not inspect.isabstract(cls)
    }

    assert final == {cls.__name__ for cls in dict.fromkeys(m.cls for m in ALL)}


ROOT = Path(__file__).parents[2]
SOURCES = [
    path.relative_to(ROOT)
    for folder in ("brainopt", "docs", "examples", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md") and path != Path(__file__)
    if "_build" not in path.parts  # the site, where it was built
]


def _touched(name):
    """Return the files that name an optimizer; of a folder with one file each, that."""
    word = re.compile(rf"\b{name}\b|\bdef {name.lower()}\b")
    found = [p for p in SOURCES if word.search((ROOT / p).read_text("utf-8"))]
    each = {"brainopt/optim/algorithms", "docs/reference"}
    parents = {p: p.parent.as_posix() for p in found}
    return {f"{parents[p]}/" if parents[p] in each else p.as_posix() for p in found}


def test_a_new_optimizer_touches_the_files_that_contributing_names():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    row = re.search(r"^\| optimizer \|.*$", text, re.M)
    named = set(re.findall(r"`([^`]+/[^`]*)`", row[0])) if row else set()

    common = set.intersection(*map(_touched, ("AdaBelief", "Yogi", "Adamax", "Rprop")))

    assert common == named


@pytest.mark.parametrize("cls", MINE, ids=lambda cls: cls.__name__)
def test_every_argument_has_a_line_in_the_documentation(cls):
    arguments = inspect.signature(cls).parameters

    block = re.search(r"^Args:\n((?:    .*\n|\n)*)", cls.__doc__, re.MULTILINE)

    assert block and re.findall(r"^    (\w+):", block[1], re.M) == list(arguments)


OURS = [c for c in optim.AdamW.__mro__ if c.__module__.startswith("brainopt")]


def test_four_classes_make_an_optimizer():
    assert len(OURS) <= 4


_WORDS = ("id", "attr", "arg", "value", "name")
CORE = [
    path
    for room in ("engine", "settings")
    for path in sorted((ROOT / "brainopt" / "optim" / room).glob("*.py"))
]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_no_option_of_an_algorithm_is_known_to_the_engine(path):
    own = {name for cls in MINE for name in cls._declared.of(Option)}

    code = ast.walk(ast.parse(path.read_text("utf-8")))
    words = {getattr(node, part, None) for node in code for part in _WORDS}

    assert {"decay_by", "amsgrad", "nesterov"} < own and not words & own


RATES = sorted(
    (c for c in vars(optim).values() if inspect.isclass(c)),
    key=lambda cls: cls.__name__,
)
RATES = [c for c in RATES if issubclass(c, optim.Schedule) and c is not optim.Schedule]


def test_every_schedule_of_the_face_is_held_to_every_promise():
    assert {type(s) for s in SCHEDULES} == set(RATES) - {optim.Constant}


@pytest.mark.parametrize("cls", RATES, ids=lambda cls: cls.__name__)
def test_every_argument_of_a_schedule_has_a_line_too(cls):
    arguments = inspect.signature(cls).parameters

    block = re.search(r"^ *Args:\n((?:.*\S.*\n)+)", cls.__doc__, re.MULTILINE)

    assert block and re.findall(r"^ {4,8}(\w+):", block[1], re.M) == list(arguments)


def test_attributes_are_set_in_one_place():
    assert [c.__name__ for c in OURS if "__setattr__" in vars(c)] == ["Node"]


def test_no_class_of_optim_sets_or_gives_attributes_by_itself():
    """One that only raises words the error of an attribute that is absent."""
    defined = {
        (path.stem, node.name)
        for path in (ROOT / "brainopt" / "optim").rglob("*.py")
        for kind in ast.walk(ast.parse(path.read_text("utf-8")))
        for node in (kind.body if isinstance(kind, ast.ClassDef) else ())
        if getattr(node, "name", "") in ("__setattr__", "__getattr__")
        and not isinstance(node.body[0], ast.Raise)
    }

    assert defined == {("_hyper", "__getattr__")}  # what a rule reads is no Node


def test_little_but_methods_of_the_documents_and_settings_is_public():
    settings = {
        *optim.AdamW._declared.fields,
        *inspect.signature(optim.AdamW).parameters,
    }

    public = [name for name in dir(optim.AdamW(0.1)) if name[0] != "_"]

    assert len(set(public) - settings) <= 49
