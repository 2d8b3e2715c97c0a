# SPDX-License-Identifier: Apache-2.0
"""The functional core of every optimizer: `init` and `apply`.

One step of all parameters is: check and collect the gradients (`_parts`), then for
each parameter widen it, run the rule, constrain it and narrow it again. A step that is
not due (bad gradients, a micro-batch) is the other branch of one `jax.lax.cond`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._select import Choice, warn_of_unmatched
from ..core import Variable, collect_vars
from ..errors import HyperparameterError, message
from ..runtime import cache_of, depend_on
from ._hyperparameters import HasHyperparams, Hyper, SettingVariable
from ._parameters import check_fit, check_state
from .engine._dependencies import Reads
from .engine._precision import PRECISIONS, extra_slots, key_for, narrow, wide, widen
from .engine._rows import Rows, peel, wrap
from .engine._stages import Accumulator, Clip, Monitor, make_guard
from .engine._step_count import Step, Stepped
from .engine._tree import as_arrays, named, real, uphill, zeros
from .schedules._schedule import Schedule
from .settings._groups import Group
from .settings._options import refuse_unknown

_LAST_STEP = jnp.iinfo(jnp.int32).max
_OF_THE_CORE = frozenset({"missed_steps", "grad_sum", "master", "residual"})


class Core(Stepped, Reads, HasHyperparams, abc.ABC):
    """Abstract: settings and counters, and one step as a pure function."""

    decays: ClassVar[tuple[str, ...]] = ()
    """The numbers that are decay rates in [0, 1)."""
    ranges: ClassVar[dict[str, str]] = {}
    """Intervals of the numbers that are neither decay rates nor in [0, inf)."""
    takes_rows: ClassVar[bool] = False
    """Whether gradients may be `Rows`."""
    choices: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """What the options may be; `FLAG` for on or off, `DTYPE` for a dtype."""
    _borrowed = frozenset(
        {"_trained", "_member", "_names", "_hooks", "_cache", "_external", "frozen"}
    )

    def __init__(
        self,
        lr: Any,
        numbers: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        groups: Any = (),
        mask: Any = None,
        maximize: bool = False,
        precision: str = "plain",
        nonfinite: str = "propagate",
        max_nonfinite: int | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        monitor: bool = False,
        seed: int = 0,
        **unknown: Any,
    ):
        refuse_unknown(type(self), unknown)
        if isinstance(groups, Mapping | str) or not isinstance(groups, Iterable):
            raise HyperparameterError(
                message("groups= is a list of dicts, each with a 'match'.")
            )
        if precision not in PRECISIONS:
            raise HyperparameterError(
                message(f"precision={precision!r}.", help=f"one of {PRECISIONS}.")
            )
        self._names = tuple(numbers), tuple(options)
        self._check_mask(mask)
        first = self._group({"lr": lr, **numbers, **options})
        self.step = Step(jnp.zeros((), jnp.int32), name=f"{type(self).__name__}.step")
        self.groups = [first, *(self._rule(rule, first) for rule in groups)]
        self.slots: dict[str, dict[str, Variable]] = {}
        self.mask = None if mask is None else Choice(mask)
        self.maximize = bool(maximize)
        self.precision = precision
        self.seed = int(seed)
        self.guard = make_guard(nonfinite, max_nonfinite)
        clips = clip_norm is not None or clip_value is not None
        self.clip = Clip(clip_norm, clip_value) if clips else None
        self.accumulator = Accumulator(accumulate) if accumulate != 1 else None
        self.monitor = Monitor() if monitor else None
        self.frozen: tuple[str, ...] = ()
        self._member: dict[str, int] = {}
        for group in self.groups:
            self._count_by_step(group)

    def _group(self, settings: Mapping[str, Any], parent: Group | None = None) -> Group:
        return Group(type(self), settings, parent, self._names)

    def _check_mask(self, mask: Any) -> None:
        if mask is not None and "weight_decay" not in self._names[0]:
            raise HyperparameterError(
                message(f"{type(self).__name__} has no weight decay to mask.")
            )

    def _rule(self, rule: Mapping[str, Any], first: Group) -> Group:
        group = self._group(rule, first)
        if group.chosen is None:
            raise HyperparameterError(
                message(
                    f"A rule of this {type(self).__name__} has no 'match': {rule!r}.",
                    help="groups=[{'match': '*.bias', 'lr': 1e-3}]; groups of "
                    "variables go into train_vars, with 'params'.",
                )
            )
        return group

    def _warn_of_unmatched_rules(self, params: Any, stacklevel: int) -> None:
        rules = [("groups", group.chosen) for group in self.groups if group.chosen]
        if self.mask is not None:
            rules.append(("mask", self.mask))
        warn_of_unmatched(type(self).__name__, rules, named(params), stacklevel + 1)

    def _count_by_step(self, group: Group) -> None:
        for node in group.nodes().values():
            if isinstance(node, Schedule):
                node.count_by(self.step)

    @abc.abstractmethod
    def init_slots(self, param: Any, hyper: Hyper) -> dict[str, Any]:
        """Return the arrays to keep for one parameter, by name.

        Args:
            param: the parameter, in its own dtype; see `zeros`.
            hyper: as for `rule`.
        """

    @abc.abstractmethod
    def rule(
        self, grad: Any, param: Any, slots: dict[str, Any], hyper: Hyper, step: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the parameter and its slots after one step; a pure function.

        Args:
            grad: the gradient, in the dtype of computation (float32 or wider); of a
                complex parameter the direction uphill.
            param: the parameter, in the same dtype.
            slots: its slots.
            hyper: ``hyper.lr`` and the other numbers as 0-d arrays, and the options.
            step: the number of this step, from 1.
        """

    def init(self, params: Any) -> dict[str, Any]:
        """Return the first state for a pytree of parameters; a pure function.

        Returns:
            the counters at zero and the settings, by path, and ``"slots"``:
            ``{path: {name: array}}``.
        """
        params = as_arrays(params)
        self._warn_of_unmatched_rules(params, 3)
        return self._first_state(params)

    def _first_state(self, params: Any) -> dict[str, Any]:
        parts = ("step", "guard.", "accumulator.", "monitor.")
        state = {
            path: jnp.zeros_like(variable.value)
            if path.startswith(parts) and not isinstance(variable, SettingVariable)
            else jax.tree.map(jnp.copy, variable.value)  # it may be donated
            for path, variable in self._own().items()
        }
        views = HyperCache(self, self.step.value)
        slots = {
            path: self._slots_of(path, leaf, views) for path, leaf in named(params)
        }
        return {**state, "slots": slots}

    def apply(
        self, params: Any, state: dict[str, Any], grads: Any, weight: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return parameters and state after one step; a pure function.

        Args:
            params: any pytree of arrays.
            state: from `init`, or from the step before.
            grads: the same structure as ``params``; None skips a parameter. Complex
                ones as `jax.grad` has them.
            weight: of this micro-batch, when gradients are accumulated.

        Raises:
            GradientError: gradients or state do not fit the parameters.
        """
        params, slots = as_arrays(params), state.get("slots", {})
        check_fit(type(self).__name__, params, slots, grads, self.takes_rows)
        first = jax.eval_shape(self._first_state, params)
        check_state(type(self).__name__, first, state)
        grads = jax.tree.map(jnp.asarray, grads)
        params, own, slots = self._advance(params, state, grads, weight)
        return params, {**state, **own, "slots": slots}

    def _advance(self, params, state, grads, weight=None) -> tuple[Any, dict, dict]:
        """Return the parameters, the counters that were written, and the slots."""
        depend_on(self.revision)
        given, slots = dict(named(params)), state["slots"]
        (new, slots), written = self._noting(
            self._own(), state, lambda: self._step(given, slots, grads, weight)
        )
        leaves = [new[path] for path, _ in named(params)]
        return jax.tree.unflatten(jax.tree.structure(params), leaves), written, slots

    def _step(self, params, slots, grads, weight) -> tuple[dict, dict]:
        grads = {
            path: self._incoming(path, grad, params[path])
            for path, grad in named(grads, none=True)
            if grad is not None or path in params
        }
        gate, sums = None, {}
        if self.guard is not None:
            gate = self.guard.admit(peel(grads))
        if self.accumulator is not None:
            fine = jnp.ones((), bool) if gate is None else gate
            grads, sums, gate = self.accumulator.add(grads, slots, weight, fine)
            grads |= dict.fromkeys(path for path in grads if self._is_frozen(path))
        if self.monitor is not None:
            self.monitor.note(self.monitor.grad_norm, peel(grads))
        if self.clip is not None:
            grads = wrap(self.clip(peel(grads)), grads)
        count = self.step.value
        step = next_step(count)

        def take():
            return *self._step_all(
                params, slots, grads, HyperCache(self, count), step
            ), step

        if gate is None:
            new, new_slots, step = take()
        else:
            stay = params, slots, count
            new, new_slots, step = jax.lax.cond(gate, take, lambda: stay)
        for path, held in sums.items():
            new_slots[path] = {**new_slots[path], "grad_sum": held}
        self.step.value = step
        if self.monitor is not None:
            self.monitor.note(self.monitor.param_norm, params)
            change = {path: new[path] - param for path, param in params.items()}
            self.monitor.note(self.monitor.update_norm, change)
        return new, new_slots

    def _step_all(
        self, params: dict, slots: dict, grads: dict, views: HyperCache, step: Any
    ) -> tuple[dict, dict]:
        """Return all parameters and slots after one step; by default one by one."""
        new, new_slots = {}, {}
        for path, param in params.items():
            new[path], new_slots[path] = self._step_one(
                path, grads[path], param, slots[path], views, step
            )
        return new, new_slots

    def _step_one(self, path, grad, param, slots, views, step) -> tuple[Any, dict]:
        if grad is None:
            return param, skipped(slots)
        group, hyper = views(path, param)
        if "missed_steps" in slots:
            step, hyper = step - slots["missed_steps"], hyper.with_own_step()
        elif hyper in views.met and self.precision != "stochastic":
            program = views.met[hyper] or jax.jit(self._mover(group, hyper))
            views.met[hyper] = program
            with cache_of(None):
                return program(hyper.arrays(), grad, param, slots, step)
        else:
            views.met[hyper] = None
        key = None
        if self.precision == "stochastic":
            key = key_for(self.seed, views.count, path)
        return self._move(group, hyper, grad, param, slots, step, key)

    def _mover(self, group: Group, hyper: Hyper) -> Any:
        # Most variables differ in nothing but their shape. Tracing the rule once a
        # shape, not once a variable, halves the time of the first call. The variable
        # that came first has shown which numbers the rule asks for; they are passed.
        def move(arrays, grad, param, slots, step):
            view = hyper.with_arrays(arrays, step)
            return self._move(group, view, grad, param, slots, step, None)

        return move

    def _move(self, group, hyper, grad, param, slots, step, key) -> tuple[Any, dict]:
        own = {k: v for k, v in slots.items() if k not in _OF_THE_CORE}
        new, new_slots = self.rule(grad, widen(param, slots), own, hyper, step)
        new = group.constrain(new, hyper)
        new, extra = narrow(new, param.dtype, slots, key)
        kept = {name: new_slots[name].astype(own[name].dtype) for name in own}
        return new, {**slots, **kept, **extra}

    def _incoming(self, path: str, grad: Any, param: Any) -> Any:
        if grad is None or self._is_frozen(path):
            return None
        if isinstance(grad, Rows) and self.accumulator is not None:
            raise HyperparameterError(message("Row gradients cannot be accumulated."))
        grad = grad.astype(wide(param.dtype))
        if isinstance(grad, Rows):
            grad = grad.summed(param.shape[0])
        # jax.grad returns ∂L/∂x - i ∂L/∂y; uphill is its conjugate.
        grad = uphill(grad)
        return -grad if self.maximize else grad

    def _slots_of(self, path: str, param: Any, views: HyperCache) -> dict[str, Any]:
        _, hyper = views(path, param)
        slots = {**self.init_slots(param, hyper), **extra_slots(self.precision, param)}
        if self.accumulator is not None:
            slots["grad_sum"] = zeros(param)
        return slots

    def group_of(self, path: str, param: Any) -> int:
        """Return the index of the group whose settings a variable gets."""
        if path in self._member:
            return self._member[path]
        for i, group in enumerate(self.groups):
            if group.chosen is not None and group.chosen(path, param):
                return i
        return 0

    def schedule_of(self, index: int) -> Schedule:
        """Return the schedule of the learning rate of a group."""
        schedule = self.groups[index].schedule or self.groups[0].schedule
        assert schedule is not None
        return schedule

    def _is_frozen(self, path: str) -> bool:
        return path in self.frozen

    def _own(self) -> dict[str, Variable]:
        """The Variables it owns besides the slots, by path."""
        attributes = {
            k: v for k, v in self._owned_attributes() if k not in ("", "slots")
        }
        return collect_vars(attributes).unique()


class HyperCache:
    """The settings of each variable in one step, each combination built once.

    Args:
        core: the optimizer.
        count: the updates done.
    """

    def __init__(self, core: Core, count: Any):
        self.count = count
        self._core = core
        self.met: dict[Hyper, Any] = {}
        self._rates: dict[int, Any] = {}
        self._views: dict[Any, tuple[Hyper, Hyper]] = {}

    def rate(self, i: int) -> Any:
        """Return the learning rate of a group, before its ``lr_mult``."""
        schedule = self._core.schedule_of(i)
        if id(schedule) not in self._rates:
            self._rates[id(schedule)] = schedule.at(self.count)
        return self._rates[id(schedule)]

    def __call__(self, path: str, param: Any) -> tuple[Group, Hyper]:
        """Return the group of a variable and its settings in the right dtype."""
        core = self._core
        i = core.group_of(path, param)
        group = core.groups[i]
        exempt = core.mask is not None and not core.mask(path, param)
        dtype = real(wide(param.dtype))
        if (i, dtype) not in self._views:
            scales = group.options.get("decay_by") == "schedule"
            by = core.schedule_of(i) if scales else None
            view = group.view(self.rate(i), self.count, dtype, by)
            self._views[i, dtype] = view, view.without_decay()
        return group, self._views[i, dtype][exempt]


def next_step(count: Any) -> Any:
    """Return the number of the step that follows ``count`` steps; it saturates."""
    return jnp.minimum(count, _LAST_STEP - 1) + 1


def skipped(slots: dict[str, Any]) -> dict[str, Any]:
    """Return the slots of a parameter without a gradient: its step is not counted."""
    late = slots.get("missed_steps", jnp.zeros((), jnp.int32))
    return {**slots, "missed_steps": late + 1}
