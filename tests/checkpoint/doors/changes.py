# SPDX-License-Identifier: Apache-2.0
"""The changes of the table of doors: how one program differs from another."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.checkpoint.doors.things import NEVER_FROZEN


@dataclasses.dataclass
class Change:
    """Another program than the one that saved.

    Args:
        saved: names of the saved model, in order; ``"t=a"`` ties one to another.
        here: those of the model that takes the state in.
        rules: the groups of the saved optimizer.
        rules_here: those of the one that takes the state in.
        frozen: the variables that are frozen there.
        frozen_here: those that are frozen here.
        names: what an error has to name, one of these.
        go_on: changes the saved run before its next step, so that it shows what is
            right here.
        lenient: the options of the second attempt.
        must: the verdict of the first attempt at every door, where it is known.
        is_x64: whether it was saved in float64.
        is_moved: whether this one lives on another device.
        is_other: whether this one has another class.
    """

    saved: str = "a b"
    here: str = "a b"
    rules: tuple = ()
    rules_here: tuple = ()
    frozen: str = ""
    frozen_here: str = ""
    names: tuple = ()
    go_on: Callable[[Any], None] = lambda opt: None
    lenient: dict = dataclasses.field(default_factory=lambda: {"strict": False})
    must: str = ""
    is_x64: bool = False
    is_moved: bool = False
    is_other: bool = False

    @property
    def is_frozen(self):
        """Whether a variable is frozen, there or here."""
        return bool(self.frozen or self.frozen_here)

    def of(self, thing):
        """Return the change as it is for a thing, None where there is none."""
        if self.is_frozen and thing.make in NEVER_FROZEN:
            return None
        if not self.rules_here or thing.has_groups:
            return self
        # The order of the variables is one, too.
        is_order = self.must == "right"
        return dataclasses.replace(self, rules=(), rules_here=()) if is_order else None


def _rule(name, factor):
    return {"match": name, "lr_mult": factor}


def _set(name, value):
    return lambda opt: setattr(opt.groups[name], "lr_mult", value)


CHANGES = {
    "same": Change(must="right"),
    "other order": Change(
        here="b a",
        rules=(_rule("a", 0.5), _rule("b", 2.0)),
        rules_here=(_rule("b", 1.0), _rule("a", 1.0)),
        must="right",
    ),
    "extra rule": Change(
        rules=(_rule("b", 2.0),),
        rules_here=(_rule("a", 1.0), _rule("b", 1.0)),
        names=("groups.a",),
        must="refused",
    ),
    "rule gone": Change(
        rules=(_rule("a", 0.5), _rule("b", 2.0)),
        rules_here=(_rule("b", 1.0),),
        names=("groups.a",),
        go_on=_set("a", 1.0),
        must="refused",
    ),
    "other rule": Change(
        rules=(_rule("a", 0.5),),
        rules_here=(_rule("b", 1.0),),
        names=("groups.a", "groups.b"),
        go_on=_set("a", 1.0),
        must="refused",
    ),
    "missing layer": Change(saved="a new b", names=("new",)),
    "new layer": Change(here="new a b", names=("new", "slots")),
    "other class": Change(
        names=("class", "slots", "numbers", "schedule", "float"), is_other=True
    ),
    "tied": Change(saved="a b t=a", here="t b a=t", must="right"),
    "frozen": Change(frozen="b", frozen_here="b", must="right"),
    "frozen there": Change(
        frozen="b", names=("frozen", "slots"), go_on=lambda opt: opt.unfreeze("b")
    ),
    "frozen here": Change(
        frozen_here="b", names=("frozen", "slots"), go_on=lambda opt: opt.freeze("b")
    ),
    "x64": Change(
        is_x64=True, names=("float64",), lenient={"cast": True}, must="refused"
    ),
    "other device": Change(is_moved=True, must="right"),
}
