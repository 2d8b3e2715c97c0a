# SPDX-License-Identifier: Apache-2.0
"""Optimizers made like one of another framework that exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..._typing import Model
from ...errors import HyperparameterError, message
from .._optimizer import Optimizer
from ..schedules._decay import (
    ExponentialDecayLR,
    ExponentialLR,
    InverseTimeDecayLR,
    PolynomialDecayLR,
    StepLR,
)


@dataclasses.dataclass(frozen=True)
class _Twin:
    """The name of the class here, its arguments by those there, and what is fixed."""

    cls: str
    names: Mapping[str, str]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _twin(cls: str, names: str, **fixed: Any) -> _Twin:
    pairs = (name.partition(":") for name in names.split())
    return _Twin(cls, {there: here or there for there, _, here in pairs}, fixed)


_OURS = Optimizer.__module__.rpartition(".")[0] + "."
_BP = {"dialect": "brainpy"}
_CLIPS = " grad_clip_norm:clip_norm grad_clip_value:clip_value weight_decay"
_TORCH = {"dialect": "torch"}
_TWINS: dict[str, dict[str, _Twin]] = {
    "brainpy": {
        "Adam": _twin("AdamW", "beta1 beta2 eps", decay_by="none", **_BP),
        "AdamW": _twin("AdamW", "beta1 beta2 eps weight_decay amsgrad", **_BP),
        "SGD": _twin("SGD", ""),
        "Momentum": _twin("Momentum", "momentum"),
        "MomentumNesterov": _twin("MomentumNesterov", "momentum"),
        "Adagrad": _twin("Adagrad", "epsilon"),
        "Adadelta": _twin("Adadelta", "epsilon rho"),
        "RMSProp": _twin("RMSProp", "epsilon rho"),
        "LARS": _twin("LARS", "momentum weight_decay tc eps"),
        "Adan": _twin("Adan", "betas eps weight_decay no_prox"),
    },
    "braintools": {
        "Adam": _twin("Adam", "betas eps amsgrad" + _CLIPS),
        "AdamW": _twin("AdamW", "betas eps" + _CLIPS),
        "SGD": _twin("SGD", "momentum nesterov" + _CLIPS),
        "Momentum": _twin("SGD", "momentum" + _CLIPS),
        "MomentumNesterov": _twin("SGD", "momentum" + _CLIPS, nesterov=True),
        "RMSprop": _twin("RMSProp", "alpha:rho eps:epsilon momentum centered" + _CLIPS),
        "Lion": _twin("Lion", "betas" + _CLIPS),
        "Lamb": _twin("Lamb", "betas eps" + _CLIPS),
        "Lars": _twin("LARS", "momentum trust_coefficient:tc eps" + _CLIPS),
        "Nadam": _twin("NAdam", "betas eps momentum_decay" + _CLIPS),
        "Adagrad": _twin("Adagrad", "eps:epsilon lr_decay" + _CLIPS),
        "Adadelta": _twin("Adadelta", "rho eps:epsilon" + _CLIPS),
        "Adamax": _twin("Adamax", "betas eps" + _CLIPS),
        "RAdam": _twin("RAdam", "betas eps" + _CLIPS),
        "AdaBelief": _twin("AdaBelief", "betas eps" + _CLIPS),
        "Yogi": _twin("Yogi", "betas eps" + _CLIPS),
        "SM3": _twin("SM3", "momentum" + _CLIPS),
    },
    "torch": {
        "SGD": _twin("SGD", "momentum dampening nesterov weight_decay maximize"),
        "Adam": _twin("Adam", "betas eps weight_decay amsgrad maximize", **_TORCH),
        "AdamW": _twin("AdamW", "betas eps weight_decay amsgrad maximize", **_TORCH),
    },
}
_SCHEDULES: dict[str, tuple[Any, str]] = {
    "StepLR": (StepLR, "lr step_size gamma"),
    "ExponentialLR": (ExponentialLR, "lr gamma"),
    "ExponentialDecayLR": (ExponentialDecayLR, "lr decay_steps decay_rate"),
    "InverseTimeDecayLR": (
        InverseTimeDecayLR,
        "lr decay_steps decay_rate staircase",
    ),
    "PolynomialDecayLR": (PolynomialDecayLR, "lr decay_steps final_lr power"),
}
"""Those of brainpy that compute the same rate."""


def like(optimizer: Any, train_vars: Model = None) -> Optimizer:
    """Return an optimizer that takes the steps of one of another framework.

    Its moments and its step count start anew; to go on with those of a run, load its
    file (see `checkpoint.restore`).

    Args:
        optimizer: of brainpy, braintools or torch, a transformation of optax, or an
            `nnx.Optimizer`.
        train_vars: what to train; None for the variables of ``optimizer`` where they
            can be trained here, which those of torch cannot.

    Raises:
        HyperparameterError: listing what of it is not known here.

    Example:
        >>> import brainopt as bo, optax
        >>> bo.optim.like(optax.adam(1e-3)).tx.init is not None
        True
    """
    tx = getattr(optimizer, "tx", optimizer)
    root = type(optimizer).__module__.partition(".")[0]
    if root not in _TWINS and callable(getattr(tx, "init", None)):
        return _class("Optax")(tx, train_vars)
    kind = type(optimizer).__name__
    twin = _TWINS.get(root, {}).get(kind)
    if twin is None:
        raise _unknown(kind, [f"the class {kind} of {root}"])
    problems: list[str] = []
    given = _arguments(optimizer, root, twin, problems)
    lr = _READ_RATES[root](optimizer, problems)
    if root == "brainpy":
        given |= _decay_of_brainpy(optimizer, kind, lr, problems)
    if problems:
        raise _unknown(kind, problems)
    if train_vars is None and root != "torch":
        train_vars = _variables(optimizer)
    new = _class(twin.cls)(lr, **given)
    vars(new)["_given"] = None  # nothing differs, so that there is nothing to warn of
    new.register_train_vars(train_vars)
    return new


def _class(name: str) -> Any:
    # By name: a file above all algorithms would be the top of the longest chain.
    known = [Optimizer]
    for cls in known:
        known += [c for c in cls.__subclasses__() if c.__module__.startswith(_OURS)]
    return next(cls for cls in known if cls.__name__ == name)


def _arguments(
    optimizer: Any, root: str, twin: _Twin, problems: list[str]
) -> dict[str, Any]:
    source = optimizer.defaults if root == "torch" else vars(optimizer)
    given = dict(twin.fixed)
    for there, here in twin.names.items():
        if there not in source:
            problems.append(f"its {there}")
        elif source[there] is not None:
            given[here] = _plain(source[there])
    if root == "torch" and len(optimizer.param_groups) > 1:
        problems.append("its parameter groups")
    if root == "braintools" and float(source.get("initial_accumulator_value", 0)):
        problems.append("its initial_accumulator_value")
    return given


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, bool | str):
        return value
    return float(np.asarray(getattr(value, "value", value)))


def _decay_of_brainpy(
    optimizer: Any, kind: str, lr: Any, problems: list[str]
) -> dict[str, Any]:
    # brainpy shrinks the parameter by the decay itself, whatever the rate.
    decay = optimizer.weight_decay
    if kind in ("AdamW", "LARS", "Adan"):
        return {}
    if kind == "Adam":
        return {"weight_decay": float(decay or 0)}
    if not decay:
        return {}
    if kind == "SGD" and isinstance(lr, float):
        return {"weight_decay": float(decay) / lr}
    problems.append(f"its weight_decay={decay}, which shrinks the parameter by itself")
    return {}


def _rate_of_brainpy(optimizer: Any, problems: list[str]) -> Any:
    schedule = optimizer.lr
    kind = type(schedule).__name__
    if kind == "Constant":
        return _plain(schedule.lr)
    if kind not in _SCHEDULES:
        problems.append(f"its schedule {kind}, which computes other rates here")
        return 0.0
    cls, names = _SCHEDULES[kind]
    counts = {
        name: int(np.asarray(getattr(schedule, name).value))
        for name in ("last_epoch", "last_call")
        if hasattr(schedule, name) and name in cls._declared.arguments
    }
    return cls(**{n: _plain(getattr(schedule, n)) for n in names.split()}, **counts)


def _rate_of_braintools(optimizer: Any, problems: list[str]) -> Any:
    kind = type(optimizer._lr_scheduler).__name__
    if kind != "ConstantLR":
        problems.append(f"its schedule {kind}, which is advanced by hand there")
    if len(optimizer.param_groups) > 1:
        problems.append("its parameter groups")
    return _plain(optimizer.current_lr)


def _rate_of_torch(optimizer: Any, problems: list[str]) -> Any:
    return _plain(optimizer.param_groups[0]["lr"])


_READ_RATES: dict[str, Callable[[Any, list[str]], Any]] = {
    "brainpy": _rate_of_brainpy,
    "braintools": _rate_of_braintools,
    "torch": _rate_of_torch,
}


def _variables(optimizer: Any) -> Any:
    held = getattr(optimizer, "vars_to_train", None)  # of brainpy
    if held is None:
        held = optimizer.param_states.to_dict()
    return dict(held) or None


def _unknown(kind: str, problems: list[str]) -> HyperparameterError:
    return HyperparameterError(
        message(
            f"This {kind} has no equal here, for:",
            problems,
            "make one by hand; docs: from BrainPy, from optax, torch and braintools.",
        )
    )
