# SPDX-License-Identifier: Apache-2.0
"""The abstract optimizer: an object that has settings, parameters and an engine.

It alone writes Variables. The step is in `engine`, the settings of a user are in
`settings`, the trained variables in `_parameters`; the methods here join them.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Self

import jax

from .._typing import (
    Gradients,
    Model,
    Place,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    StateDict,
    Where,
)
from ..core import Node, VarCollector, Variable, move
from ..sharding import AxisNames, Offload
from . import _freezing, _hooks, _registration, _report, _saving, _updating
from ._cautions import warn_of_nothing
from ._closure import step_by
from ._frozen import frozen_among
from ._functional import apply, init
from ._packing import check_pack, move_of, note_packs
from ._parameters import TrainedVariables
from ._rollback import Snapshot, Trial, missed, of_optimizer
from ._stepping import first_counters
from ._swapping import refuse_load, refuse_state
from .engine._precision import Precision
from .engine._stages import Monitored, Nonfinite
from .engine._step import Engine
from .hyperparameters._declared import Declared, Declaring, takes_fields
from .hyperparameters._fields import Rate, argument, fixed, rate
from .hyperparameters._has_hyperparams import REVISION, revision
from .hyperparameters._hyper import Hyper
from .hyperparameters._names import absent, bind, refuse_slip
from .porting import _torch
from .porting._transformation import as_optax
from .settings._resolve import Settings
from .settings._shared import (
    DOCS,
    Limit,
    Mask,
    Rules,
    Scaling,
    Switch,
    as_kept,
    as_set_now,
    check_shared,
    limits,
    make_groups,
    stages,
)
from .settings._unmatched import warn_of_unmatched_rules

# Made anew when it is needed, or of this process alone.
_UNSAVED = (
    REVISION,
    "_compiled",
    "_given",
    "_limit_reached",
    "_name",
    "_calls",
    "_models",
    "_told",
)


class Optimizer(Node, metaclass=Declaring):
    """Abstract: owns the step, the slots and the schedule, and takes the steps.

    A final optimizer declares its numbers and options, and gives two pure functions:
    `init_slots`, the arrays kept for one parameter, and `rule`, one step of one
    parameter.

    Attributes:
        step: the updates done, an int32 Variable that stops at 2³¹-1.
        slots: ``{path: {name: Variable}}``.
        groups: the settings; the first holds for all that no rule matches.
        counters: the counts of the stages, by name.
        frozen: the paths that are not trained.
    """

    lr: Rate = rate()
    trained: Model = argument(alias="train_vars", default=None, doc=DOCS["train_vars"])
    _: KW_ONLY
    groups: Rules = Rules()
    mask: Mask = Mask()
    maximize: Switch = Switch(False, "climb instead of descend")
    precision: Precision = fixed("plain", DOCS["precision"])
    nonfinite: Nonfinite = fixed("propagate", DOCS["nonfinite"])
    max_nonfinite: int | None = fixed(None, DOCS["max_nonfinite"])
    clip_norm: Limit = Limit(None, DOCS["clip_norm"], "(0, inf)")
    clip_value: Limit = Limit(None, DOCS["clip_value"], "(0, inf)")
    accumulate: Limit = Limit(1, DOCS["accumulate"], "[1, inf)")
    loss_scale: Scaling = fixed(None, DOCS["loss_scale"])
    monitor: Monitored = fixed(False, DOCS["monitor"])
    seed: int = fixed(0, "of stochastic rounding")
    zero: AxisNames = fixed(None, DOCS["zero"])
    offload: Offload = fixed(None, DOCS["offload"])
    pack: bool = fixed(False, DOCS["pack"])

    _elementwise: ClassVar[bool] = False
    _declared: ClassVar[Declared]
    _revision = revision
    _takes_rows: ClassVar[bool] = False
    _needs = "whole variables, unless its class says `_elementwise = True`"
    _is_additive: ClassVar[bool] = False
    """Whether `rule` uses the parameter for its decay, and to add a change to it."""
    _squares: ClassVar[int] = 16
    """How many squares of a gradient `rule` may sum; see `engine._squares`."""
    _apply = staticmethod(apply)
    _fits_a_line = True
    _resets = False
    _borrowed = frozenset({"_trained", "_members", "_hooks", "_compiled", "frozen"})

    @takes_fields
    def __init__(self, *args: Any, **kwargs: Any):
        kind = type(self)
        given = bind(kind, kind._declared.signature, args, kwargs)
        given |= {"groups": ()} if given["groups"] is None else {}
        check_shared(given)
        check_pack(kind, given["pack"])
        self._check_arguments(given)
        if given.get("name") is not None:
            self.name = given["name"]
        # Straight into the dict: the fields refuse a change after construction.
        vars(self).update(as_kept(given), _given=frozenset(kwargs))
        self.maximize, self.mask = given["maximize"], given["mask"]
        name = f"{kind.__name__}.step"
        vars(self)["step"] = _torch.Step(_torch.zero_count(), name=name)
        vars(self)["groups"] = make_groups(kind, given)
        if (numbers := limits(kind, given)) is not None:
            self.numbers = numbers
        self.slots: dict[str, dict[str, Variable]] = {}
        self.frozen: tuple[str, ...] = ()
        self._frozen_later: tuple[tuple[Where, bool], ...] = ()
        self.counters = first_counters(stages(self))
        self._trained = TrainedVariables()
        self._members: dict[str, int] = {}
        self._hooks: dict[str, list[Callable]] = {"before": [], "after": []}
        # The state without hooks gets its number now, so that taking the last hook out
        # goes back to the program that was compiled without any.
        self._revision.note("hooks", ((), ()))
        for group in self.groups.values():
            group.count_by(self.step)
        # The last step: slots need the settings, and schedules their counter.
        self.register_train_vars(given["train_vars"])
        if given["train_vars"] is not None:
            warn_of_unmatched_rules(self, self._trained.values())
            vars(self).setdefault("_told", set()).add("rules")
            warn_of_nothing(self, given["train_vars"])

    def _check_arguments(self, given: Mapping[str, Any]) -> None:
        """Hook that may refuse the arguments of the constructor together."""

    @abc.abstractmethod
    def init_slots(self, param: jax.Array, hyper: Hyper) -> dict[str, jax.Array]:
        """Return the arrays to keep for one parameter, by name.

        Args:
            param: the parameter, in its own dtype; see `zeros`.
            hyper: as for `rule`.
        """

    @abc.abstractmethod
    def rule(
        self,
        grad: jax.Array,
        param: jax.Array,
        slots: dict[str, jax.Array],
        hyper: Hyper,
        step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the parameter and its slots after one step; a pure function.

        Args:
            grad: the gradient, in the dtype of computation (float32 or wider); of a
                complex parameter the direction uphill.
            param: the parameter in the same dtype.
            slots: what `init_slots` returned, after the last step.
            hyper: ``hyper.lr`` and the other numbers as 0-d arrays, and the options.
            step: the number of this step, from 1.
        """

    @property
    def step(self) -> _torch.Step:
        """The updates done; ``opt.step(closure)`` takes one more."""
        step = vars(self)["step"]
        step.lead_to(self)
        return step

    @property
    def current_lr(self) -> jax.Array:
        """The learning rate of the next update, a 0-d array; setting it sets `lr`."""
        return self._settings.rate(0)

    @current_lr.setter
    def current_lr(self, value: ScalarOrSchedule) -> None:
        self._settings.set_rate(value)

    @property
    def vars_to_train(self) -> VarCollector:
        """The variables it trains, by structural path."""
        return self._trained.collector()

    def register_train_vars(self, train_vars: Model = None) -> None:
        """Add variables to train; those already there keep their slots.

        Args:
            train_vars: as in the constructor.

        Raises:
            PathError: two different Variables have one path.
            VariableError: a Variable is not of a floating or complex dtype.
        """
        if train_vars is not None:
            _registration.register(self, train_vars)

    register_vars = register_trainable_weights = register_train_vars

    def check_grads(self, grads: Gradients) -> None:
        """Compare gradients with the variables by name, shape and dtype.

        Raises:
            GradientError: listing everything that does not fit.
        """
        self._match(grads)

    def init(self, params: PyTree) -> dict[str, Any]:
        """Return the first state for a pytree of parameters; a pure function.

        Returns:
            the counters at zero and the settings, by path, ``"slots"``:
            ``{path: {name: array}}``, and ``"names"``, which has no arrays.
        """
        return init(self, params)

    def apply(
        self,
        params: PyTree,
        state: StateDict,
        grads: PyTree,
        weight: Scalar | None = None,
    ) -> tuple[PyTree, dict[str, Any]]:
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
        return apply(self, params, state, grads, weight)

    def freeze(self, *choices: Where, drop_slots: bool = False) -> list[str]:
        """Stop training some variables: no step, no decay, no change of their slots.

        Args:
            choices: paths, globs, … as for ``mask``; none means all. Before there are
                variables they hold for those that come, and for the parameters of
                `apply`; so does ``frozen=True`` of a group.
            drop_slots: free their slots; they start anew when unfrozen.

        Returns:
            the paths that are frozen now.

        Raises:
            PathError: a choice fits no variable.
        """
        return _freezing.freeze(self, choices, drop_slots)

    def unfreeze(self, *choices: Where) -> list[str]:
        """Train frozen variables again; no choice means all.

        Returns:
            the paths that are still frozen.
        """
        return _freezing.unfreeze(self, choices)

    def snapshot(self) -> Snapshot:
        """Return its state and the trained variables as they are now."""
        refuse_state(type(self).__name__, self._trained)
        variables = self._trained.variables.values()
        undo = as_set_now, _freezing.as_frozen_now, _hooks.as_hooked_now
        return Snapshot(
            [*self.vars().unique().values(), *variables],
            lambda values: missed(self.slots, self._trained, self.step, values),
            [make(self) for make in undo],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of its own, all at once; another one is refused."""
        refuse_load(type(self).__name__, self._trained)
        of_optimizer(snapshot, self.step, type(self).__name__).restore()

    def trial(self) -> Trial:
        """Return a context whose steps are undone unless ``trial.commit()`` is called.

        Example:
            >>> import brainopt as bo
            >>> w = bo.TrainVar([1.0])
            >>> opt = bo.optim.SGD(0.1, w)
            >>> with opt.trial() as trial:
            ...     opt.update(jnp.ones(1))
            >>> w.value.tolist(), int(opt.step)
            ([1.0], 0)
        """
        return Trial(self.snapshot())

    as_optax = as_optax
    before_update = _hooks.before_update
    after_update = _hooks.after_update
    update = _updating.update
    flush = _updating.flush
    scale_loss = _updating.scale_loss

    explain = _report.explain
    metrics = _report.metrics
    summary = _report.summary
    _repr_html_ = _report.as_html

    param_groups, get_last_lr = _torch.param_groups, _torch.get_last_lr
    defaults = _torch.defaults
    add_param_group = _torch.add_param_group
    zero_grad = _torch.zero_grad

    def to(self, device: Place, *, params: bool = True) -> Self:
        """Move its own Variables, and with ``params`` the variables it trains.

        Args:
            device: a Device, a Sharding, or a string as ``"cuda:0"``.
            params: whether the trained variables move too.

        Raises:
            DeviceError: this process has no such device; nothing has moved.
        """
        trained = self._trained.variables.values() if params else ()
        move([*self._movable(), *trained], device)
        return self

    @property
    def _settings(self) -> Settings:
        return Settings(vars(self)["groups"], self._members, self.step)

    def _engine(self, params: Mapping[str, Any] | None = None) -> Engine:
        """Return the engine of a step of parameters, with the present settings."""
        frozen = frozen_among(self, params or {})
        return Engine(self._move(), stages(self, frozen), frozen, self.maximize)

    def _shared_slots(self, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Hook that returns slots of all parameters together."""
        return {}

    def _may_compile(self) -> bool:
        """Hook that says whether an eager step may be one compiled program."""
        return True

    def _check_group(self, settings: Mapping[str, Any]) -> None:
        """Hook that may refuse the settings of a group."""

    def _parameters_changed(self) -> None:
        """Hook called after parameters were added, frozen or unfrozen."""

    def _match(self, grads: Any) -> dict[str, Any]:
        owner = type(self).__name__
        return self._trained.match(grads, owner, self.frozen, self._takes_rows)

    def _check_attribute(self, key: str, value: Any) -> None:
        refuse_slip(self, key, self._declared.fields)
        if key not in self._declared.fields:
            self._revision.note(key, value)

    _move, _note_packs, _step_by = move_of, note_packs, step_by
    _register_group = _registration.register_group
    _prepare_load, _context = _saving.prepare_load, _saving.context
    _prepare_save, _checkpoint_meta = _saving.prepare_save, _saving.meta
    _checkpoint_notes = _saving.notes

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in self.__dict__.items() if k not in _UNSAVED)

    __repr__ = _report.line

    def __getattr__(self, name: str) -> Any:
        raise absent(self, name)
