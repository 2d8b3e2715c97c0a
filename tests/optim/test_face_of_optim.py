# SPDX-License-Identifier: Apache-2.0
"""The face of `brainopt.optim`: each optimizer is tested, each argument documented."""

import inspect
import re

import pytest

import brainopt as bo
from brainopt.core import Node
from tests.optim.members import ALL, NO_MEMBERS

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


@pytest.mark.parametrize("cls", MINE, ids=lambda cls: cls.__name__)
def test_every_argument_has_a_line_in_the_documentation(cls):
    arguments = inspect.signature(cls).parameters

    block = re.search(r"^Args:\n((?:    .*\n|\n)*)", cls.__doc__, re.MULTILINE)

    assert block and re.findall(r"^    (\w+):", block[1], re.M) == list(arguments)


OURS = [c for c in optim.AdamW.__mro__ if c.__module__.startswith("brainopt")]


def test_four_classes_make_an_optimizer():
    assert len(OURS) <= 4


def test_attributes_are_set_in_one_place():
    setters = [c.__name__ for c in OURS if "__setattr__" in vars(c)]
    getters = [c.__name__ for c in OURS if "__getattr__" in vars(c)]

    assert (setters, getters) == (["Node"], [])


def test_little_but_methods_of_the_documents_and_settings_is_public():
    settings = {
        *optim.AdamW._declared.fields,
        *inspect.signature(optim.AdamW).parameters,
    }

    public = [name for name in dir(optim.AdamW(0.1)) if name[0] != "_"]

    assert len(set(public) - settings) <= 45
