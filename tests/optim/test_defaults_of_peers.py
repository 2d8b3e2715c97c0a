# SPDX-License-Identifier: Apache-2.0
"""The page for users of optax, torch and braintools lists each default that differs."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import brainopt as bo

PAGE = Path(__file__).parents[2] / "docs" / "start" / "from-optax-and-torch.md"
ROW = re.compile(
    r"^\| `(\w+)\.(\w+)` \| `(\w+)` \| (\S+) \| `(\w+)` \| `(\w+)` \| (\S+) \|"
)
ROWS = [
    m.groups()
    for line in PAGE.read_text("utf-8").splitlines()
    if (m := ROW.match(line))
]
PAIRS = {
    "optax": "sgd:SGD adam:Adam adamw:AdamW nadam:NAdam radam:RAdam adamax:Adamax "
    "adabelief:AdaBelief yogi:Yogi lion:Lion lamb:Lamb lars:LARS rmsprop:RMSProp "
    "adagrad:Adagrad adadelta:Adadelta adan:Adan sm3:SM3",
    "torch": "SGD:SGD Adam:Adam AdamW:AdamW RMSprop:RMSProp Adagrad:Adagrad "
    "Adadelta:Adadelta Adamax:Adamax NAdam:NAdam RAdam:RAdam",
    "braintools": "SGD:SGD Adam:Adam AdamW:AdamW RMSprop:RMSProp Lion:Lion Lamb:Lamb "
    "Lars:LARS Nadam:NAdam Adagrad:Adagrad Adadelta:Adadelta Adamax:Adamax "
    "RAdam:RAdam AdaBelief:AdaBelief Yogi:Yogi SM3:SM3",
}
SAME = {"b1": "beta1", "b2": "beta2", "decay": "rho", "alpha": "rho"}
SAME |= {"learning_rate": "lr", "trust_coefficient": "tc"}


def _arguments(callable_):
    found = inspect.signature(callable_).parameters.items()
    return {k: p.default for k, p in found if p.default is not p.empty}


def _differences(package, module):
    """Yield the rows that the table must have."""
    for pair in PAIRS[package].split():
        there, here = pair.split(":")
        theirs = getattr(module, there)
        theirs = theirs.__init__ if inspect.isclass(theirs) else theirs
        ours = _arguments(getattr(bo.optim, here))
        for name, default in _arguments(theirs).items():
            own = (
                "epsilon"
                if name == "eps" and "epsilon" in ours
                else SAME.get(name, name)
            )
            mine = ours.get(own)
            mine = 0.0 if mine is None and own == "weight_decay" else mine
            if own == "lr" or mine is None or not isinstance(default, float | int):
                continue
            if default != mine:
                yield package, there, name, str(default), here, own, str(mine)


PACKAGES = [
    pytest.param("optax", "optax"),
    pytest.param("torch", "torch.optim", marks=pytest.mark.hosts("torch")),
    pytest.param(
        "braintools", "braintools.optim", marks=pytest.mark.hosts("braintools")
    ),
]


@pytest.mark.parametrize(("package", "module"), PACKAGES)
def test_the_page_lists_each_default_that_differs(package, module):
    expected = set(_differences(package, importlib.import_module(module)))

    assert {row for row in ROWS if row[0] == package} == expected
    assert len(ROWS) == len(set(ROWS)) > 20
