# SPDX-License-Identifier: Apache-2.0
"""Names that users of other packages type: what they are called here."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Container, Iterable, Iterator
from typing import Any

from ..._typing import Values
from ...errors import message

# Arguments of the same meaning, taken as they come: optax's and Keras', braintools'.
_SAME = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "grad_clip_norm": "clip_norm",
    "grad_clip_value": "clip_value",
}
# Arguments whose value here says that nothing else is asked for.
_AS_HERE = {"cycle_momentum": False, "centralize": False, "verbose": False}
# Names of the same arguments in torch, optax, Keras and others.
_ELSEWHERE = {
    "learning_rate": "lr",
    "base_lr": "lr",
    "init_lr": "lr",
    "params": "train_vars",
    "b1": "beta1",
    "b2": "beta2",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "epsilon": "eps",
    "eps": "epsilon",
    "weight_decay_mask": "mask",
    "grad_clip_norm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "grad_clip_value": "clip_value",
    "clipvalue": "clip_value",
    "gradient_accumulation_steps": "accumulate",
    "use_ema": "bo.optim.EMA(train_vars)",
    "alpha": "rho",
    "memory_size": "history_size",
    "trust_coefficient": "tc",
    "decay_steps": "T_max",
    "num_steps": "total_steps",
    "init_value": "lr",
    "peak_value": "max_lr",
    "end_value": "eta_min",
    "warmup_epochs": "warmup_steps",
    "clipnorm": "bo.optim.clip_by_norm(grads, n)",
}
_NEEDLESS = ("foreach", "fused", "capturable", "differentiable", "verbose")
_CYCLED = (
    "the rate alone is cycled here; a momentum takes a schedule too, as "
    "SGD(lr, net, momentum=CyclicLR(0.85, 0.95))"
)
_TOLD = {
    "cycle_momentum": _CYCLED,
    "base_momentum": _CYCLED,
    "max_momentum": _CYCLED,
    "centralize": "bo.optim.centralize(grads) before the update",
    "epochs": "total_steps is epochs times steps_per_epoch",
    "steps_per_epoch": "total_steps is epochs times steps_per_epoch",
    "scale_fn": "write LambdaLR(lr, factor) for a curve of your own",
    "optimizer": "the schedule is made first and given to the optimizer, as its lr",
}
CLASSES = {
    "ExponentialDecay": "ExponentialDecayLR",
    "InverseTimeDecay": "InverseTimeDecayLR",
    "PolynomialDecay": "PolynomialDecayLR",
    "PiecewiseConstant": "PiecewiseConstantLR",
    "ChainedScheduler": "ChainedLR",
    "Nadam": "NAdam",
}
"""Optimizers and schedules of other names, with the same arguments and meaning."""
MEANT = {
    "ConstantLR": "a constant rate is a number; for a factor of the first updates "
    "write Warmup(lr, total_iters, start_factor=factor, mode='constant')",
    "PolynomialLR": "write PolynomialDecayLR(lr, total_iters, 0.0, power)",
    "WarmupCosineSchedule": "write Warmup(CosineAnnealingLR(lr, total_steps - "
    "warmup_steps, eta_min, clock='step'), warmup_steps)",
    "WarmupScheduler": "write Warmup(lr, warmup_steps)",
    "LinearWarmup": "write Warmup(lr, warmup_steps)",
    "PiecewiseConstantSchedule": "write PiecewiseConstantLR(boundaries, values)",
    "LinearSchedule": "write LinearLR(lr, start_factor, end_factor, total_iters)",
    "SWALR": "write SequentialLR of two schedules; EMA(net) averages the weights",
    "GradScaler": "it is loss_scale='dynamic' of an optimizer, see LossScale",
    "DynamicScale": "it is loss_scale='dynamic' of an optimizer, see LossScale",
    "LossScaleOptimizer": "it is loss_scale='dynamic' of an optimizer, see LossScale",
    "Lars": "it is LARS(lr, weight_decay=0.0, eps=1e-8)",
    "NAdamW": "write AdamW(..., nesterov=True)",
    "MultiSteps": "it is accumulate= of an optimizer",
    "ExponentialMovingAverage": "write EMA(net)",
    "clip_grad_norm_": "it is clip_norm= of an optimizer, or clip_by_global_norm",
    "clip_grad_value_": "it is clip_value= of an optimizer, or clip_by_value",
    "apply_updates": "opt.update(grads) changes the variables in place",
}
"""Classes and functions of other packages that are something else here."""
ATTRIBUTES = {
    "get_last_lr": "opt.get_last_lr() has the rates of the groups, schedule() its own",
    "get_lr": "opt.get_last_lr() has the rates of the groups, schedule() its own",
    "learning_rate": "here it is lr",
    "step": "updates are counted by the optimizer; step_epoch() counts an epoch",
    "set_epoch": "epochs are counted by step_epoch(); schedule.last_epoch is the count",
    "set_value": "schedule.lr = x sets the rate that it starts from",
    "step_count": "updates done are opt.step",
    "state": "moments are opt.slots, by the path of the variable",
    "opt_state": "moments are opt.slots, by the path of the variable",
    "param_states": "what is trained is opt.vars_to_train",
    "lr_scheduler": "the schedule is opt.lr",
    "add_scheduler": "a schedule is given as the rate: opt.lr = schedule",
    "hyperparams": "numbers are attributes, as opt.lr and opt.beta1",
}
"""Attributes of optimizers and schedules elsewhere."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name, or nothing.

    Args:
        name: as the user, or a peer, calls it.
        known: the names that there are.
    """
    known = tuple(known)
    if name in _TOLD:
        return _TOLD[name]
    if name in _NEEDLESS:
        return "not needed here, every step is one compiled program"
    if name in _ELSEWHERE and (_ELSEWHERE[name] in known or "." in _ELSEWHERE[name]):
        return f"here it is {_ELSEWHERE[name]}"
    near = difflib.get_close_matches(name, known, 1, 0.85)
    return f"did you mean {near[0]}?" if near else ""


def absent(obj: object, name: str) -> AttributeError:
    """Return the error for an attribute that there is not, with what is meant by it."""
    fact = f"{type(obj).__name__!r} object has no attribute {name!r}"
    hint = ATTRIBUTES.get(name)
    text = f"{fact}; {hint}" if hint else fact
    return AttributeError(text, name=name, obj=obj)


def _as_named(kind: type, kwargs: Values, known: Container[str]) -> Iterator[tuple]:
    """Yield arguments under the names that they have here."""
    for name, value in kwargs.items():
        if name not in known and name in _AS_HERE and value is _AS_HERE[name]:
            continue
        here = _SAME.get(name, name)
        if name in known or here not in known:
            here = name
        elif here in kwargs:
            raise TypeError(
                message(f"{kind.__name__}: {name} and {here} are one argument.")
            )
        yield here, value


def unknown_of(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return the names that are not known, each with a hint where there is one."""
    unknown = [name for name in names if name not in known]
    return [f"{name}: {suggest(name, known)}".removesuffix(": ") for name in unknown]


def refuse_slip(obj: object, name: str, fields: Iterable[str]) -> None:
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
    kwargs = dict(_as_named(kind, kwargs, known))
    if listed := unknown_of(kwargs, known):
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
