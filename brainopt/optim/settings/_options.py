# SPDX-License-Identifier: Apache-2.0
"""The options that every optimizer takes."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import jax.numpy as jnp
import numpy as np

from ...errors import HyperparameterError, message
from ..engine._precision import Precision
from ..engine._stages import Nonfinite


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


_ELSEWHERE = {
    "learning_rate": "lr",
    "params": "train_vars",
    "b1": "beta1",
    "b2": "beta2",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "epsilon": "eps",
    "weight_decay_mask": "mask",
    "grad_clip_norm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "grad_clip_value": "clip_value",
    "clipvalue": "clip_value",
    "gradient_accumulation_steps": "accumulate",
    "use_ema": "bo.optim.EMA(train_vars)",
    "clipnorm": "bo.optim.clip_by_norm(grads, n)",
}
_NEEDLESS = ("foreach", "fused", "capturable", "differentiable")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return what a user may have meant by an unknown name, or nothing.

    Args:
        name: as the user, or a peer, calls it.
        known: the names that there are.
    """
    known = tuple(known)
    if name in _NEEDLESS:
        return "not needed here, every step is one compiled program"
    if name in _ELSEWHERE and (_ELSEWHERE[name] in known or "." in _ELSEWHERE[name]):
        return f"here it is {_ELSEWHERE[name]}"
    near = difflib.get_close_matches(name, known, 1, 0.85)
    return f"did you mean {near[0]}?" if near else ""


def refuse_unknown(kind: type, unknown: Iterable[str]) -> None:
    """Raise `TypeError` for arguments that an optimizer does not take."""
    own = [
        p.name
        for p in inspect.signature(kind).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    known = (*own, *Common.__annotations__)
    listed = [f"{n}: {suggest(n, known)}".removesuffix(": ") for n in unknown]
    if listed:
        raise TypeError(
            message(
                f"{kind.__name__} takes no such arguments:",
                listed,
                f"it takes {', '.join(known)}.",
            )
        )


def check_options(
    given: Mapping[str, Any], kind: Any, held: Mapping[str, Any]
) -> dict[str, Any]:
    """Return options as they are stored.

    Args:
        given: by name.
        kind: the class of the optimizer; its ``choices`` name what is allowed.
        held: the options of the first group; where one is a bool, only bools fit.

    Raises:
        HyperparameterError: listing every option that is none of its choices.
    """
    problems, found = [], {}
    for name, value in given.items():
        known = kind.choices.get(name)
        if known is None and isinstance(held.get(name), bool):
            known = FLAG
        found[name] = value
        if known == DTYPE:
            if value is not None:
                found[name], problem = _dtype(name, value)
                problems += problem
        elif known is not None:
            kinds = str if isinstance(known[0], str) else bool | int | np.bool_
            if not isinstance(value, kinds) or value not in known:
                text = ", ".join(map(repr, known))
                problems.append(f"{name}={value!r} is none of {text}")
            found[name] = bool(value) if known == FLAG else value
    if problems:
        raise HyperparameterError(
            message(f"These settings of {kind.__name__} are out of range:", problems)
        )
    return found


def _dtype(name: str, value: Any) -> tuple[Any, list[str]]:
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        return value, [f"{name}={value!r} is no dtype"]
    if not jnp.issubdtype(dtype, jnp.inexact):
        return value, [f"{name}={dtype.name} is no floating or complex dtype"]
    return dtype, []


def plain(value: Any) -> Any:
    """Return an option as files keep it: dtypes, functions and classes by name."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    try:
        return jnp.dtype(value).name
    except TypeError:
        return getattr(value, "__name__", type(value).__name__)


FLAG = (False, True)
"""The choices of an option that is on or off."""
DTYPE = ("dtype",)
"""The choices of an option that is a dtype, or None."""
