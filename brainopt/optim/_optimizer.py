# SPDX-License-Identifier: Apache-2.0
"""The abstract optimizer: what every optimizer needs stands here, once."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from .._compat import is_eager
from ..core import Node, VarCollector, Variable, _trace
from ..core._device import Place
from ..core._walk import collect_vars
from ..errors import StateDictError, TraceContextError, message
from ._numbers import Numbered, Numbers, Setting, View, scalar
from ._schedule import Constant, Schedule, as_schedule
from ._trained import Trained

_LAST_STEP = jnp.iinfo(jnp.int32).max
_UNSAVED = ("_revision", "_compiled", "_name")


class Group(Numbered, Node):
    """Settings shared by some of the variables: the numbers and the schedule."""

    def __init__(self, numbers: Numbers, schedule: Schedule):
        self.numbers = numbers
        self.schedule = schedule


class Optimizer(Node, abc.ABC):
    """Abstract: owns the step, the slots and the schedule, and takes the steps.

    A final optimizer sets its options, calls this constructor last, and gives two pure
    functions: `init_slots`, the arrays kept for one parameter, and `rule`, one step of
    one parameter. Everything else is done here.

    Args:
        lr: the learning rate: a number, array, Variable, schedule, or callable of the
            step.
        train_vars: what to train: a Node (its `TrainVar`s), a collector, a Variable,
            a foreign model, or a list or dict of these.
        name: a display name.
        numbers: the other numbers of the formula; ``opt.beta1 = 0.8`` changes one,
            and compiled steps follow without compiling again.

    Attributes:
        step: the updates done, an int32 Variable that stops at 2³¹-1.
        slots: ``{path: {name: Variable}}``.
        groups: the settings; one group here.
    """

    decays: ClassVar[tuple[str, ...]] = ()
    """The numbers that are decay rates in [0, 1)."""
    options: ClassVar[tuple[str, ...]] = ()
    """The attributes that are fixed at construction."""
    _borrowed = frozenset({"_trained"})

    def __init__(
        self, lr: Any, train_vars: Any = None, name: str | None = None, **numbers: Any
    ):
        kind = type(self).__name__
        values = {key: scalar(value, key) for key, value in numbers.items()}
        decays = [key for key in self.decays if key in values]
        group = Group(Numbers(values, decays, kind), as_schedule(lr))
        super().__init__(name)
        self.step = Variable(jnp.zeros((), jnp.int32))
        self.groups = [group]
        self.slots: dict[str, dict[str, Variable]] = {}
        self._trained = Trained()
        if train_vars is not None:
            self.register_train_vars(train_vars)

    @abc.abstractmethod
    def init_slots(self, param: Any) -> dict[str, Any]:
        """Return the arrays to keep for one parameter, by name."""

    @abc.abstractmethod
    def rule(
        self, grad: Any, param: Any, slots: dict[str, Any], hyper: View, step: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the parameter and its slots after one step; a pure function.

        Args:
            grad: the gradient, in the dtype of computation (float32 or wider).
            param: the parameter, in the same dtype.
            slots: its slots.
            hyper: ``hyper.lr`` and the other numbers, as 0-d arrays.
            step: the number of this step, from 1.
        """

    # --- what is trained

    def register_train_vars(self, train_vars: Any = None) -> None:
        """Add variables to train; those already there keep their slots.

        Args:
            train_vars: as in the constructor.

        Raises:
            PathError: two different Variables stand under one path.
            VariableError: a Variable is not of a floating or complex dtype.
        """
        if train_vars is None:
            return
        late = bool(self.slots) and int(self.step.value) > 0
        for path in self._trained.add(train_vars):
            value = self._trained.variables[path].value
            for leaf_path, leaf in _leaves({path: value}):
                self._add_slots(leaf_path, leaf)
                if late:
                    self.slots[leaf_path]["late"] = Variable(jnp.array(self.step.value))
            self._settle_beside(value)
        self._changed()

    register_vars = register_train_vars

    @property
    def vars_to_train(self) -> VarCollector:
        """The variables it trains, by structural path."""
        return self._trained.collector()

    def _add_slots(self, path: str, param: Any) -> None:
        self.slots[path] = {
            name: Variable(value, name=f"{path}.{name}")
            for name, value in self.init_slots(param).items()
        }

    def _settle_beside(self, value: Any) -> None:
        # Scalars that sit elsewhere than the parameters would come back from the first
        # step on the parameters' device, and the second step would compile again.
        leaf = jax.tree.leaves(value)[0]
        if isinstance(leaf, jax.core.Tracer) or not leaf.committed:
            return
        own = self._own().values()
        if any(getattr(v.value, "committed", True) is False for v in own):
            super().to(leaf.sharding)

    # --- the object: one writer

    def check_grads(self, grads: Any) -> None:
        """Compare gradients with the variables by name, shape and dtype.

        Raises:
            GradientError: listing everything that does not fit.
        """
        self._trained.match(grads, type(self).__name__)

    def update(self, grads: Any) -> None:
        """Take one step: change the variables, the slots and the step in place.

        Args:
            grads: ``{path: gradient}`` as `bo.grad` returns it; a list or a single
                gradient where a list or a single Variable was registered. A variable
                whose gradient is None is skipped: no decay, no step of its slots.

        Raises:
            GradientError: the gradients do not fit; nothing has changed.
        """
        grads = self._trained.match(grads, type(self).__name__)
        self._skip_none(grads)
        state = self._state()
        params = self._trained.values()
        if _trace.top() is None and is_eager() and not jax.config.jax_disable_jit:
            new_params, new_state = self._jitted()(params, state, grads)
        else:
            new_params, new_state = self.apply(params, state, grads)
        self._commit(new_params, new_state)

    def _skip_none(self, grads: dict[str, Any]) -> None:
        for path, grad in _leaves(grads, none=True):
            if grad is None and "late" not in self.slots[path]:
                with jax.ensure_compile_time_eval():
                    zero = jnp.zeros((), jnp.int32)
                self.slots[path]["late"] = Variable.outside(zero, f"{path}.late")

    def _commit(self, params: dict[str, Any], state: dict[str, Any]) -> None:
        targets = [self._trained.variables[path] for path in params]
        values = list(params.values())
        for path, variable in self._own().items():
            if not isinstance(variable, Setting):
                targets.append(variable)
                values.append(state[path])
        for path, slots in self.slots.items():
            targets += slots.values()
            values += [state["slots"][path][name] for name in slots]
        _trace.commit(targets, values)

    def _jitted(self) -> Any:
        compiled = self.__dict__.get("_compiled")
        if compiled is None or compiled[0] != self._revised().count:
            function = jax.jit(functools.partial(type(self).apply, self))
            compiled = self._revised().count, function
            self.__dict__["_compiled"] = compiled
        return compiled[1]

    # --- the functional core

    def init(self, params: Any) -> dict[str, Any]:
        """Return the first state for a pytree of parameters; a pure function.

        Returns:
            the step and the settings by path, and ``"slots"``: ``{path: {name: array}}``.
        """
        own = {path: variable.value for path, variable in self._own().items()}
        slots = {path: self.init_slots(leaf) for path, leaf in _leaves(params)}
        return {**own, "slots": slots}

    def apply(self, params: Any, state: dict[str, Any], grads: Any) -> tuple[Any, dict]:
        """Return parameters and state after one step; a pure function.

        Args:
            params: any pytree of arrays.
            state: from `init`, or from the step before.
            grads: the same structure as ``params``; None skips a parameter.
        """
        self._revised().seen()
        own = self._own()
        bindings = [(variable, state[path]) for path, variable in own.items()]
        slots = dict(state["slots"])
        by_path = dict(_leaves(grads, none=True))
        new_params = []
        with _trace.Frame(bindings) as frame:
            step = jnp.minimum(self.step.value, _LAST_STEP - 1) + 1
            hyper = self._hyper(self.step.value)
            for path, param in _leaves(params):
                new, slots[path] = self._one(
                    path, by_path[path], param, slots[path], hyper, step
                )
                new_params.append(new)
            self.step.value = step
            new_own = {path: frame.values[variable] for path, variable in own.items()}
        tree = jax.tree.structure(params)
        return jax.tree.unflatten(tree, new_params), {**new_own, "slots": slots}

    def _one(self, path, grad, param, slots, hyper, step) -> tuple[Any, dict[str, Any]]:
        if grad is None:
            return param, {**slots, "late": slots["late"] + 1}
        own = {name: value for name, value in slots.items() if name != "late"}
        if "late" in slots:
            step = step - slots["late"]
        wide = jnp.promote_types(param.dtype, jnp.float32)
        new, new_slots = self.rule(
            grad.astype(wide), param.astype(wide), own, hyper(wide), step
        )
        kept = {name: new_slots[name].astype(own[name].dtype) for name in own}
        return new.astype(param.dtype), {**slots, **kept}

    def _hyper(self, step: Any) -> Any:
        group = self.groups[0]
        lr = group.schedule.at(step)
        views: dict[Any, View] = {}

        def of(dtype):
            real = jnp.finfo(dtype).dtype
            if real not in views:
                views[real] = group.numbers.view(real, lr=jnp.asarray(lr).astype(real))
            return views[real]

        return of

    def _own(self) -> dict[str, Variable]:
        """The Variables it owns besides the slots, by path."""
        attributes = {
            k: v for k, v in self._owned_attributes() if k not in ("", "slots")
        }
        return collect_vars(attributes).unique()

    def _state(self) -> dict[str, Any]:
        own = {path: variable.value for path, variable in self._own().items()}
        slots = {
            path: {name: variable.value for name, variable in slots.items()}
            for path, slots in self.slots.items()
        }
        return {**own, "slots": slots}

    # --- settings

    @property
    def lr(self) -> Schedule:
        """The schedule; assign a number, Variable, schedule or callable.

        A number in the place of a number takes effect at the next step without
        compiling; another kind of schedule compiles once.
        """
        return self.groups[0].schedule

    @lr.setter
    def lr(self, lr: Any) -> None:
        schedule = self.groups[0].schedule
        if isinstance(schedule, Constant) and type(as_schedule(lr)) is Constant:
            schedule.set_value(lr)
            return
        if _trace.top() is not None:
            raise TraceContextError(
                message("A schedule cannot be replaced inside a transformed function.")
            )
        self.groups[0].schedule = as_schedule(lr)
        self._changed()

    @property
    def current_lr(self) -> Any:
        """The learning rate of the next update, a 0-d array."""
        return jnp.asarray(self.groups[0].schedule.at(self.step.value))

    def __getattr__(self, name: str) -> Any:
        groups = self.__dict__.get("groups")
        if groups and name in groups[0].numbers.names:
            return groups[0].numbers.number(name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        groups = self.__dict__.get("groups")
        if groups and name in groups[0].numbers.names:
            for group in groups:
                group.numbers.set_number(name, value)
        elif name in self.options and groups:
            raise AttributeError(f"{name} of {type(self).__name__} is fixed.")
        else:
            super().__setattr__(name, value)

    def _revised(self) -> _trace.Revision:
        return self.__dict__.setdefault("_revision", _trace.Revision())

    def _changed(self) -> None:
        self._revised().changed()

    # --- as a node

    def to(self, device: Place, *, params: bool = True) -> Self:
        """Move what it owns, and with ``params`` the variables it trains.

        Args:
            device: a Device, a Sharding, or a string as ``"cuda:0"``.
            params: whether the trained variables move too.

        Raises:
            DeviceError: this process has no such device; nothing has moved.
        """
        self.__dict__["_move_params"] = params
        try:
            return super().to(device)
        finally:
            del self.__dict__["_move_params"]

    def _movable(self) -> list[Variable]:
        own = super()._movable()
        if self.__dict__.get("_move_params"):
            own += self._trained.variables.values()
        return own

    def stage_state_dict(self, state_dict: Any, **options: Any) -> Any:
        """Compare a state dict with the Variables without writing anything."""
        for key in state_dict:
            path, _, name = key.removeprefix("slots.").rpartition(".")
            if name == "late" and path in self.slots and name not in self.slots[path]:
                self.slots[path][name] = Variable(jnp.zeros((), jnp.int32))
        return super().stage_state_dict(state_dict, **options)

    def checkpoint_meta(self) -> dict[str, Any]:
        """Return class, options, names of the numbers, and kinds of the schedules."""
        return {
            "class": type(self).__name__,
            "options": {name: getattr(self, name) for name in self.options},
            "numbers": list(self.groups[0].numbers.names),
            "schedules": [type(group.schedule).__name__ for group in self.groups],
        }

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in self.__dict__.items() if k not in _UNSAVED)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._pytree_attributes())

    def __repr__(self) -> str:
        numbers = self.groups[0].numbers
        shown = [f"lr={self.groups[0].schedule!r}"]
        shown += [f"{name}={float(numbers.number(name)):g}" for name in numbers.names]
        return f"{type(self).__name__}({', '.join(shown)})"


def zeros(param: Any, dtype: Any = None, *, real: bool = False) -> Any:
    """Return a slot of zeros for ``param``: float32 or wider unless ``dtype`` says.

    Args:
        param: whose shape and sharding it takes.
        dtype: of the slot.
        real: whether a complex parameter gets a real slot.
    """
    if dtype is None:
        dtype = jnp.promote_types(param.dtype, jnp.float32)
        dtype = jnp.finfo(dtype).dtype if real else dtype
    return jnp.zeros_like(param, dtype=dtype)


def abs2(x: Any) -> Any:
    """Return |x|², real for complex ``x``."""
    return (x * x.conj()).real if jnp.iscomplexobj(x) else x * x


def _leaves(tree: Any, none: bool = False) -> list[tuple[str, Any]]:
    is_leaf = (lambda x: x is None) if none else None
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    named = [
        (jax.tree_util.keystr(keys, simple=True, separator=".") or "param", leaf)
        for keys, leaf in flat
    ]
    if len({name for name, _ in named}) < len(named):
        raise StateDictError(message("Two parameters have the same path."))
    return named
