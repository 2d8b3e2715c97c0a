# SPDX-License-Identifier: Apache-2.0
"""Names of arguments: suggestions for unknown ones, and their refusal."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

from .._typing import Values
from ..errors import message

# Names of the same arguments in torch, optax, Keras and others.
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
    "decay_steps": "T_max",
    "num_steps": "total_steps",
    "init_value": "lr",
    "peak_value": "max_lr",
    "end_value": "eta_min",
    "warmup_epochs": "warmup_steps",
    "clipnorm": "bo.optim.clip_by_norm(grads, n)",
}
_NEEDLESS = ("foreach", "fused", "capturable", "differentiable")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name, or nothing.

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


def refuse_slip(obj: Any, name: str, fields: Iterable[str]) -> None:
    """Raise `AttributeError` for a new attribute whose name looks like a field's."""
    # Python accepts ``opt.weight_deacy = 0`` silently, and training goes on with decay.
    known = name in vars(obj) or name[0] == "_" or hasattr(type(obj), name)
    if not known and (hint := suggest(name, fields)):
        raise AttributeError(
            f"{type(obj).__name__!r} object has no attribute {name!r}; {hint}"
        )


def bind(
    kind: type, signature: inspect.Signature, args: tuple, kwargs: Values
) -> dict[str, Any]:
    """Return the arguments of a constructor by name.

    Raises:
        TypeError: naming unknown arguments, and likely ones.
    """
    # `Signature.bind` would name the first unknown argument alone, and no likely one.
    known = signature.parameters
    listed = [
        f"{name}: {suggest(name, known)}".removesuffix(": ")
        for name in kwargs
        if name not in known
    ]
    if listed:
        raise TypeError(
            message(
                f"{kind.__name__} takes no such arguments:",
                listed,
                f"it takes {', '.join(known)}.",
            )
        )
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        first = ", ".join(list(known)[:2])
        order = ", ".join(f"{name}=…" for name in list(known)[:2])
        raise TypeError(
            message(
                f"{kind.__name__}: {error}.",
                help=f"the order is {kind.__name__}({first}, …); by name it is "
                f"{kind.__name__}({order}).",
            )
        ) from None
    bound.apply_defaults()
    return bound.arguments
