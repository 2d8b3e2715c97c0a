# SPDX-License-Identifier: Apache-2.0
"""The abstract optimizer: an object around the functional core, the one writer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import runtime
from .._compat import config, is_eager
from ..core import Place, VarCollector, Variable, join, move
from ..errors import HyperparameterError, message
from ._closure import Loss
from ._core import HyperCache
from ._hyperparameters import HasHyperparams, HyperparamVector
from ._parameters import TrainedVariables
from ._report import Report, report
from ._rollback import Snapshot, Trial, missed
from ._settings import Settings
from ._transformation import as_optax
from .engine._tree import named
from .settings._groups import split
from .settings._options import Common, plain

_UNSAVED = ("_revision", "_cache", "_external", "_name")


class Optimizer(Settings):
    """Abstract: owns the step, the slots and the schedule, and takes the steps.

    A final optimizer names its decay rates, calls this constructor, and gives two pure
    functions: `init_slots`, the arrays kept for one parameter, and `rule`, one step of
    one parameter. Everything else is done here and in the parts below.

    Args:
        lr: the learning rate: a number, array, Variable, schedule, or callable of the
            step.
        train_vars: what to train: a Node (each `TrainVar`), a collector, a Variable,
            a foreign model, a list or dict of these, or a list of parameter groups.
        name: a display name.
        numbers: the other numbers of the formula, or schedules in their place;
            ``opt.beta1 = 0.8`` changes one, and compiled steps follow without
            compiling again.
        options: what is fixed at construction; groups may have their own.
        common: see `Common`.

    Attributes:
        step: the updates done, an int32 Variable that stops at 2³¹-1.
        slots: ``{path: {name: Variable}}``.
        groups: the settings; the first holds for all that no rule matches.
    """

    def __init__(
        self,
        lr: Any,
        train_vars: Any = None,
        name: str | None = None,
        numbers: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **common: Unpack[Common],
    ):
        if name is not None:
            self.name = name
        self._trained = TrainedVariables()
        self._hooks: dict[str, list[Callable]] = {"before": [], "after": []}
        super().__init__(lr, numbers or {}, options or {}, **common)
        self.register_train_vars(train_vars)
        if train_vars is not None:
            self._warn_of_unmatched_rules(self._trained.values(), 4)

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
        groups = split(train_vars)
        with self._or_nothing():
            if groups is None:
                self._take_in(train_vars)
            for i, (params, settings) in enumerate(groups or ()):
                self._add_group(params, settings, i)

    register_vars = register_trainable_weights = register_train_vars

    @contextlib.contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Take back what was registered in the block if it fails."""
        trained = self._trained
        kept = (
            trained.variables,
            trained.paths,
            trained.has_ambiguous_names,
            self.groups,
        )
        slots = {path: dict(held) for path, held in self.slots.items()}
        member = dict(self._member)
        try:
            yield
        except BaseException:
            (
                trained.variables,
                trained.paths,
                trained.has_ambiguous_names,
                self.groups,
            ) = kept
            self.slots, self._member = slots, member
            raise

    def _take_in(self, train_vars: Any, index: int | None = None) -> None:
        late = bool(self.slots) and int(self.step.value) > 0
        views = HyperCache(self, self.step.value)
        for path in self._trained.add(train_vars):
            value = self._trained.variables[path].value
            for leaf_path, leaf in named({path: value}):
                if index is not None:
                    self._member[leaf_path] = index
                self.groups[self.group_of(leaf_path, leaf)].fit(leaf_path, leaf)
                slots = self._slots_of(leaf_path, leaf, views)
                self.slots[leaf_path] = {
                    name: Variable(value, name=f"{leaf_path}.{name}")
                    for name, value in slots.items()
                }
                if late:
                    self.slots[leaf_path]["missed_steps"] = Variable(
                        jnp.array(self.step.value)
                    )
            self._settle_beside(value)
        self.revision.changed()

    @property
    def vars_to_train(self) -> VarCollector:
        """The variables it trains, by structural path."""
        return self._trained.collector()

    def _settle_beside(self, value: Any) -> None:
        # Scalars that sit elsewhere than the parameters would come back from the first
        # step on the parameters' device, and the second step would compile again.
        leaf = jax.tree.leaves(value)[0]
        if isinstance(leaf, Tracer) or not leaf.committed:
            return
        own = list(self._own().values())
        if any(getattr(v.value, "committed", True) is False for v in own):
            move(own, leaf.sharding)

    # --- one writer

    def check_grads(self, grads: Any) -> None:
        """Compare gradients with the variables by name, shape and dtype.

        Raises:
            GradientError: listing everything that does not fit.
        """
        self._match(grads)

    def _match(self, grads: Any) -> dict[str, Any]:
        owner = type(self).__name__
        return self._trained.match(grads, owner, self.frozen, self.takes_rows)

    def update(self, grads: Any, *, weight: Any = None) -> None:
        """Take one step: change the variables, the slots and the step in place.

        Args:
            grads: ``{path: gradient}`` as `bo.grad` returns it; a list or a single
                gradient where a list or a single Variable was registered. A variable
                whose gradient is None is skipped: no decay, no step of its slots.
                Those of complex variables as `bo.grad` and `jax.grad` return them.
            weight: of this micro-batch, with ``accumulate=``; default 1.

        Raises:
            GradientError: the gradients do not fit, and nothing has changed; or they
                were not finite too often, see ``nonfinite=``; or there is no variable
                to train.

        Differs: a complex gradient is ∂L/∂x - i ∂L/∂y, the convention of jax, and the
        step goes downhill along its conjugate. torch keeps the conjugate in ``.grad``
        and optax asks for it; pass ``g.conj()`` for such a ``g``.
        """
        if weight is not None and self.accumulator is None:
            raise HyperparameterError(
                message("A weight needs micro-batches.", help="give `accumulate=`.")
            )
        if self.guard is not None:
            self.guard.before()
        for hook in self._hooks["before"]:
            changed = hook(self, grads)
            grads = grads if changed is None else changed
        grads = self._match(grads)
        self._note_skipped(grads)
        own, advance = self._ready()
        params = self._trained.values()
        # Inside a trace what is not asked for is not read, and so is no input of it.
        read = own if advance != self._advance else {}
        new_params, written, slots = advance(params, self._state(read), grads, weight)
        self._commit(own, new_params, written, slots)
        if self.guard is not None:
            self.guard.watch()
        for hook in self._hooks["after"]:
            hook(self)

    def _step_by(self, closure: Callable[[], Any]) -> Any:
        self._trained.require(type(self).__name__)
        out, grads = Loss(closure, self._trained).gradients()
        self.update(grads)
        return out

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: gradients are values here, so none is left over.

        It is there so that a training loop written for torch keeps running.
        """

    def _note_skipped(self, grads: dict[str, Any]) -> None:
        for path, grad in named(grads, none=True):
            if grad is None and "missed_steps" not in self.slots[path]:
                with jax.ensure_compile_time_eval():
                    zero = jnp.zeros((), jnp.int32)
                self.slots[path]["missed_steps"] = Variable.outside(
                    zero, f"{path}.missed_steps"
                )

    def _ready(self) -> tuple[dict[str, Variable], Callable]:
        """The Variables it owns besides the slots, and the function to call."""
        cache = self.__dict__.get("_cache")
        if cache is None or [n.revision.count for n in cache[0]] != cache[1]:
            nodes = [n for n in self.nodes().values() if isinstance(n, HasHyperparams)]
            counts = [node.revision.count for node in nodes]
            cache = nodes, counts, self._own(), jax.jit(_fresh(self._advance))
            vars(self)["_cache"] = cache
        plain = runtime.top() is not None or not is_eager()
        if plain or config.jax_disable_jit:
            return cache[2], self._advance
        # What a callable reads would else be a constant of the compiled function.
        return {**cache[2], **self._external_reads}, cache[3]

    def _state(self, own: dict[str, Variable]) -> dict[str, Any]:
        state = {path: variable.value for path, variable in own.items()}
        slots = {
            path: {name: variable.value for name, variable in slots.items()}
            for path, slots in self.slots.items()
        }
        return {**state, "slots": slots}

    def _commit(self, own, params, written, slots) -> None:
        targets = [self._trained.variables[path] for path in params]
        targets += [own[path] for path in written]
        values = [*params.values(), *written.values()]
        for path, held in self.slots.items():
            targets += held.values()
            values += [slots[path][name] for name in held]
        runtime.commit(targets, values)

    # --- hooks, going back, tables

    def before_update(self, hook: Callable[[Any, Any], Any]) -> Callable[[], None]:
        """Call ``hook(opt, grads)`` before each update; it may return new gradients.

        Returns:
            a function that takes the hook out again.
        """
        return self._hook("before", hook)

    def after_update(self, hook: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``hook(opt)`` after each update; returns a function to take it out."""
        return self._hook("after", hook)

    def _hook(self, when: str, hook: Callable) -> Callable[[], None]:
        if not callable(hook):
            raise TypeError(f"A hook is a function, not {hook!r}.")
        self._hooks[when].append(hook)
        self.revision.changed()

        def remove() -> None:
            if hook in self._hooks[when]:
                self._hooks[when].remove(hook)
                self.revision.changed()

        return remove

    def snapshot(self) -> Snapshot:
        """Return its state and the trained variables as they are now."""
        variables = self._trained.variables.values()
        return Snapshot(
            [*self.vars().unique().values(), *variables],
            lambda values: missed(self.slots, self._trained, self.step, values),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot: all of it at once."""
        snapshot.restore()

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

    def as_optax(self) -> Any:
        """Return it as an optax ``GradientTransformation``.

        The state is that of `init`; the updates are for ``optax.apply_updates``. It
        takes complex gradients conjugated, as optax does.
        """
        return as_optax(self)

    def summary(self) -> Report:
        """Return a table of its variables, groups, settings and bytes."""
        return report(self)

    # --- as a node

    def to(self, device: Place, *, params: bool = True) -> Self:
        """Move what it owns, and with ``params`` the variables it trains.

        Args:
            device: a Device, a Sharding, or a string as ``"cuda:0"``.
            params: whether the trained variables move too.

        Raises:
            DeviceError: this process has no such device; nothing has moved.
        """
        trained = self._trained.variables.values() if params else ()
        move([*self._movable(), *trained], device)
        return self

    def foresee(self, state: dict[str, Any], path: str) -> None:
        """Make a state from before or after a missed step fit; see `Node.foresee`."""
        for name, slots in self.slots.items():
            key = join(path, "slots", name, "missed_steps")
            others = [join(path, "slots", name, slot) for slot in slots]
            if key in state:
                self._count_missed(name)
                continue
            whole = [join(path, "step"), *(other for other in others if other != key)]
            if "missed_steps" in slots and all(other in state for other in whole):
                state[key] = jnp.zeros((), jnp.int32)

    def checkpoint_meta(self) -> dict[str, Any]:
        """Return class, settings that are fixed, and kinds of the schedules.

        Dtypes, functions and classes stand there by name.
        """
        return {
            "class": type(self).__name__,
            "options": {k: plain(v) for k, v in self.groups[0].options.items()},
            "numbers": list(self.groups[0].numbers.names),
            "schedules": [type(group.schedule).__name__ for group in self.groups],
            "precision": self.precision,
            "frozen": list(self.frozen),
        }

    def checkpoint_notes(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Return the hyperparameters in a state dict of it by name, to be inspected."""
        notes: dict[str, float] = {}
        for path, variable in self.vars().items():
            if isinstance(variable, HyperparamVector) and path in state:
                values = map(str, np.asarray(state[path]))  # shortest, as 0.001
                prefix = path.removesuffix("numbers")
                pairs = zip(variable.names, values, strict=False)
                notes |= {f"{prefix}{name}": float(text) for name, text in pairs}
        return notes

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in self.__dict__.items() if k not in _UNSAVED)


def _fresh(function: Callable) -> Callable:
    """A function object of its own: JAX keeps traces by function."""
    return lambda *args: function(*args)
