# SPDX-License-Identifier: Apache-2.0
"""The options that every optimizer takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from ._parts import Nonfinite
from ._precision import Precision


class Common(TypedDict, total=False):
    """Keyword arguments of every optimizer.

    Attributes:
        groups: rules by name, a list of dicts: ``match`` (as ``mask``) and any of
            ``lr``, ``lr_mult``, the numbers and options of the optimizer, ``sign``
            (+1, -1 or an array of these), ``bounds`` ``(low, high)`` and
            ``constraint``. The first rule that matches wins.
        mask: which variables ``weight_decay`` acts on: a path, a glob, ``"re:…"``,
            ``"matrices"``, a callable ``(path, value)``, a tree of bools, or a list
            of these.
        maximize: climb instead of descend.
        precision: what keeps small changes of float16 and bfloat16 variables:
            ``"plain"`` (nothing), ``"master"`` (a float32 copy), ``"kahan"`` (what
            rounding cut off), ``"stochastic"`` (rounding up or down by chance).
        nonfinite: gradients with NaN or infinity are let in (``"propagate"``), make
            a step that changes nothing but two counters (``"skip"``), or raise.
        max_nonfinite: with ``"skip"`` or ``"raise"``, raise after so many in a row.
        clip_norm: the largest global norm of the gradients, over all groups.
        clip_value: the largest size of an element of a gradient.
        accumulate: micro-batches to a step; a gradient of None counts as zero then.
        monitor: note norms, for ``opt.metrics()``.
        seed: of stochastic rounding.
    """

    groups: Sequence[dict[str, Any]]
    mask: Any
    maximize: bool
    precision: Precision
    nonfinite: Nonfinite
    max_nonfinite: int | None
    clip_norm: float | None
    clip_value: float | None
    accumulate: int
    monitor: bool
    seed: int
