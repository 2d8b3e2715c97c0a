# SPDX-License-Identifier: Apache-2.0
"""A small stateful object that follows the protocol of the checkpoint wing."""

from collections import deque

import numpy as np


class FakeVariable:
    """A box for one array; its slot is what a commit writes."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class FakeStaged:
    """What `FakeNode._stage_state_dict` returns."""

    def __init__(self, missing, unexpected, mismatched, pairs):
        self.missing = missing
        self.unexpected = unexpected
        self.mismatched = mismatched
        self.pairs = pairs

    def commit_with(self, *others):
        pairs = [pair for stage in (self, *others) for pair in stage.pairs]
        variables, values = zip(*pairs, strict=True)
        # Freeing a JAX array lets other threads run: the old ones outlive the commit.
        self.old = [variable.value for variable in variables]
        set_value = FakeVariable.value.__set__  # type: ignore[misc]  # of the slot
        deque(map(set_value, variables, values), 0)


class FakeNode:
    """A node with named variables and metadata."""

    def __init__(self, variables, **meta):
        self.variables = {k: FakeVariable(v) for k, v in variables.items()}
        self.meta = {"class": "FakeNode", **meta}

    def state_dict(self):
        get_value = FakeVariable.value.__get__  # type: ignore[misc]  # of the slot
        values = list(map(get_value, self.variables.values()))
        return dict(zip(self.variables, values, strict=True))

    def _checkpoint_meta(self):
        return self.meta

    def _stage_state_dict(self, state, *, strict=True, cast=False):
        mismatched, pairs = [], []
        for path, variable in self.variables.items():
            if path not in state:
                continue
            new, old = np.asarray(state[path]), variable.value
            if new.shape != old.shape or (new.dtype != old.dtype and not cast):
                mismatched.append(
                    f"{path}: stored {new.shape} {new.dtype}, "
                    f"variable {old.shape} {old.dtype}"
                )
            pairs.append((variable, new.astype(old.dtype)))
        missing = [path for path in self.variables if path not in state]
        unexpected = [path for path in state if path not in self.variables]
        return FakeStaged(missing, unexpected, mismatched, pairs)
