# SPDX-License-Identifier: Apache-2.0
"""Whatever changes between two programs, a state is found by name or refused by name.

``pytest -m long -s tests/checkpoint/test_doors.py`` takes every cell, and prints how
many there are of each verdict.
"""

import collections
import itertools

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainopt as bo
from brainopt import checkpoint
from tests.checkpoint.doors.cells import cells
from tests.checkpoint.doors.changes import CHANGES
from tests.checkpoint.doors.runs import CORE, DOORS
from tests.checkpoint.doors.things import QUICK, THINGS

ALL_DOORS = (*DOORS, CORE)


@pytest.fixture(scope="module")
def tally():
    """Counts of (change, verdict), printed at the end."""
    counts = collections.Counter()
    yield counts
    print()
    for change in CHANGES:
        found = [counts[change, v] for v in ("right", "refused", "wrong")]
        print(f"{change:14} right {found[0]:5} refused {found[1]:5} wrong {found[2]}")
    print({v: sum(n for (_, w), n in counts.items() if w == v) for _, v in counts})


def _check(name, doors, folder, tally):
    wrong = []
    for change, door, verdict in cells(name, CHANGES, doors, folder):
        kind, _, why = verdict.partition(":")
        tally[change, kind] += 1
        wrong += [f"{change}, {door}: {why}"] * (kind == "wrong")
    assert not wrong, "\n".join(wrong)


@pytest.mark.more
@pytest.mark.parametrize("name", QUICK)
def test_a_state_is_right_or_refused_by_name(name, tmp_path, tally):
    """Each change through one door, another for each thing and change."""
    turn = itertools.cycle(ALL_DOORS[QUICK.index(name) :] + ALL_DOORS)
    _check(name, lambda change: [next(turn)], tmp_path, tally)


@pytest.mark.long
@pytest.mark.parametrize("name", THINGS)
def test_a_state_is_right_or_refused_by_name_at_every_door(name, tmp_path, tally):
    _check(name, lambda change: ALL_DOORS, tmp_path, tally)


def _program(names, rules):
    net = bo.Node()
    for name in names:
        setattr(net, name, bo.TrainVar(jnp.zeros(1)))
    groups = [{"match": name, "lr_mult": 1.0} for name in rules]
    return {"net": net, "opt": bo.optim.Momentum(0.1, net, groups=groups)}


_names = st.from_regex(r"[^\W\d_]\w{0,5}", fullmatch=True).filter(str.isidentifier)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_names_in_any_order_keep_their_numbers(data):
    names = data.draw(st.lists(_names, min_size=2, max_size=4, unique=True))
    names = [name for name in names if not hasattr(bo.Node(), name)]
    saved, here = (
        _program(*(data.draw(st.permutations(names)) for _ in "ab")) for _ in "ab"
    )
    for number, name in enumerate(names):
        saved["opt"].slots[name]["velocity"].value = jnp.full(1, float(number))
        saved["opt"].groups[name].lr_mult = number

    checkpoint.restore(checkpoint.dumps(saved), here)

    for number, name in enumerate(names):
        assert float(here["opt"].slots[name]["velocity"][0]) == number
        assert float(here["opt"].groups[name].lr_mult) == number
