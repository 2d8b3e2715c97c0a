# SPDX-License-Identifier: Apache-2.0
"""Programs: one compiled form of a function, and the road of its values.

The page of this room, in ``__init__.py``, says how it works and what must never happen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import jax

from ... import runtime
from ..._compat import thread_count
from ..._typing import PyTree
from ...runtime import Cell, Deferred, Effects, changes, foreign_storage, storage
from .._lift import Sealed, merge, result_of
from .._packed import is_state, pack, unpack
from .._prints import HeldPrints, release_prints
from . import _placement
from ._compilations import Compilations
from ._constants import Constants
from ._encoding import Encoding, is_encoded, is_plain
from ._given import Given
from ._named import named_as
from ._packing import packing_of
from ._questions import call_key, is_donatable, key_positions, unshared
from ._retrace import DeepState, UnknownVariables


class Program:
    """One compiled form of a function: the Variables it threads, and the code.

    Variables whose value is one array of fixed shape are donated when written; the
    others (``batch_axis``, pytrees) and those only read are not. A donating
    computation takes the old values with it, so a signal handler that raises must not
    run before the new ones are stored. The usual call is one call into C, from the
    inputs to the storage. Trees that JAX would rebuild by Python leave the computation
    encoded. Everything else that runs Python there (the first call of a shape, effects,
    setters of another framework) runs in a block of `Deferred`.

    Args:
        function: what to compile.
        effects: the Variables it writes, and the effects of the transforms inside.
        known: Variables that it reads.
        options: options of `jax.jit`.
        discovery_only: whether the first trace only looks for Variables.
        compilations: counts them; default: those of this program alone.
        constants: large arrays that it closes over.
    """

    def __init__(
        self,
        function: Callable,
        effects: Effects,
        known: Iterable[Cell],
        options: dict[str, Any],
        discovery_only: bool = False,
        compilations: Compilations | None = None,
        constants: Constants | None = None,
    ):
        self.discovery_only = discovery_only
        self.compilations = compilations or Compilations(function)
        self.function, self.effects, self.options = function, effects, options
        self.revisions: dict[runtime.Revision, int] = {}
        self.facts, self.watches = runtime.Facts(), runtime.Watches()
        self.encoding, self.constants = Encoding(), constants or Constants()
        self.broken = self._looking = self._searched = False
        self.checked = self._current = self._moves = self._placed_at = -1
        self._aligned = self._decodes = "out_shardings" in options
        self._compiled: set[Any] = set()
        self._deferred: Deferred | None = None
        donated = tuple(filter(is_donatable, effects.written))
        self._halfway = len(donated) < len(effects.written)
        self.packing = packing_of(effects, known, donated, self._aligned)
        self.donated = self.packing.order
        self._extra = (*self.packing.offsets, *self.constants.inputs)
        self.written = tuple(dict.fromkeys((*self.donated, *effects.written)))
        self.taken = frozenset(self.donated)
        known = dict.fromkeys((*self.written, *known))
        self.kept = tuple(v for v in known if v not in self.taken)
        self.native = all(v._native or v._direct for v in (*self.donated, *self.kept))
        alone = all(v._native for v in (*self.donated, *self.kept))
        self.foreign: tuple[Any, ...] = tuple(v for v in self.written if not v._native)
        self.storage: Any = storage if alone else foreign_storage
        self.resident = self.packing.resident(self.written, self) if alone else None
        self._keys = key_positions(self.donated) if alone else ()
        # Whether Python runs in each call between computation and storing.
        self._guarded = not all(v.stores_in_c for v in self.foreign)
        self._places = _placement.places(self.written)
        self._given = Given(function, self._places)
        aligned, free = _placement.options_of_jit(
            options, self.written, self._places, self.resident and self.encoding
        )
        traced, pure = (named_as(function, f) for f in (self._traced, self._pure))
        self.donating = jax.jit(traced, donate_argnums=0, **aligned)
        self.keeping = jax.jit(pure, **aligned)
        self.plain = self.keeping if free is None else jax.jit(pure, **free)

    def extended(self, news: UnknownVariables) -> Program:
        """Return a program that threads what this one and ``news`` know."""
        effects = merge(self.effects, news.effects)
        effects.inner = news.effects.inner
        constants = Constants(news.constants, self._inputs(), self.constants)
        return self._like(effects, [*self.kept, *news.known], constants)

    def renewed(self) -> Program:
        """Return the same program without code: a failed trace leaves the slow road."""
        return self._like(self.effects, self.kept, self.constants)

    def _like(self, effects: Effects, known: Iterable[Cell], constants: Constants):
        same = self.options, False, self.compilations
        return Program(self.function, effects, known, *same, constants)

    def stale(self) -> bool:
        """Whether the code is broken, or something baked into it has changed since.

        Where no list or dict was read, `checked` becomes the count of `changes`; as
        long as both are equal, nobody has to ask.
        """
        facts, count = self.facts, changes.count
        if self._current == count and facts.same_items():
            return False
        if self.broken or any(r.count != n for r, n in self.revisions.items()):
            return True
        if facts.count != count or not facts.same_items():
            if not facts.hold():
                return True
            runtime.warn_of_constants(self.written)
        if self._placed_at != (moves := storage.moves):
            if self._places != _placement.places(self.written):
                return True
            self._placed_at = moves
        self._current = count
        self.checked = -1 if facts.safe or facts.views else count
        return False

    def lapsed(self) -> bool:
        """Whether no later change can make this code valid again."""
        return self.broken or any(n < r.since for r, n in self.revisions.items())

    def lasting(self) -> bool:
        """Whether every Variable outlives the trace that is running now."""
        return not runtime.created_in_frames((*self.donated, *self.kept))

    def learned(self) -> Effects:
        """Return what a surrounding function should remember of this one."""
        return Effects(self.written, self.effects.inner, self.kept)

    def _pure(self, donated, kept, args: tuple, kwargs: dict):
        end = len(self.kept) + len(self.packing.offsets)
        if extra := kept[end:]:
            given = donated, kept[:end], args, kwargs
            return self.constants.as_inputs(self._pure, extra, given)
        if any(map(is_state, jax.tree.leaves((args, kwargs), is_leaf=is_state))):
            raise DeepState
        # Until the trace has succeeded: an exception leaves code of it in `jax.jit`.
        self._forget()
        donated, is_packed = self.packing.slices(donated, kept[len(self.kept) :])
        values = (*map(self.encoding.decode, donated), *kept[: len(self.kept)])
        values = tuple(map(runtime.on_device, values))
        bindings = zip(self.donated + self.kept, values, strict=True)
        facts = runtime.Facts()
        frame = Sealed(bindings, self.effects, self.discovery_only, facts)
        with frame:
            out = self._encoded(pack(result_of(self.function, args, kwargs)))
            effects = frame.effects()
            if (
                frame.skipped_work
                or frame.missing
                or not set(effects.written) <= set(self.written)
            ):
                runtime.give_up()
                raise UnknownVariables(
                    effects, [v for v in frame.missing if v not in frame.created_here]
                )
            results = self._stored(frame.values, is_packed), out
            runtime.when_undone(self._forget)
        self.effects.inner = effects.inner
        self.revisions.update(frame.revisions)
        self.watches.add(frame.watches)
        facts.add(self.facts)  # of another shape of the arguments
        facts.close()
        self.facts = facts
        self.broken = False
        self.compilations.add()
        return results

    def _forget(self) -> None:
        self.broken, self.checked, self._current = True, -1, -1

    def _traced(self, *args):
        """Trace what donates its first argument."""
        if self._looking or self._deferred is not None:
            with runtime.remembering():
                return self._pure(*args)
        # `launch` did not foresee this. JAX will compile and run the code in Python, so
        # the rest of the call is no place for a signal handler.
        with runtime.remembering(), HeldPrints(UnknownVariables, DeepState):
            out = self._pure(*args)
        self._deferred, self._moves = Deferred().__enter__(), -1
        return out

    def _stored(self, values: dict[Cell, Any], is_packed: bool) -> tuple[Any, ...]:
        """Return the values to store, encoded where Python would rebuild them."""
        new = [values[v] for v in self.written]
        new = self.packing.results(new) if is_packed else new
        if all(map(is_plain, new)):
            return tuple(new)
        if self.resident is None:
            self._guarded = True
            return tuple(new)
        self.resident.decode = self.encoding.decode_all
        return tuple(x if is_plain(x) else self.encoding.encode(x) for x in new)

    def _encoded(self, out: PyTree) -> Any:
        if is_plain(out):
            return out
        if self._aligned:
            self._guarded = True
            return out
        self._decodes = True
        return self.encoding.encode(out)

    def decoded(self, out: PyTree) -> Any:
        """Return the result of the function as it was meant."""
        if is_encoded(out):
            return unpack(self.encoding.decode(out))
        return unpack(out) if self._aligned else out

    def launch(self, args: tuple, kwargs: dict) -> Any:
        """Run at top level, donating what nobody else holds."""
        if self.foreign and any(v.fallible for v in self.foreign):
            return self.keep(args, kwargs, wait=False)
        if thread_count() or self._moves != storage.moves:
            out = self._launch_locked(args, kwargs)
        else:
            # No other thread looks, and code for this call exists; everything that
            # the usual step runs in Python stands here, in one function.
            resident = self.resident
            try:
                if resident is None:
                    out = self._launch_mixed(args, kwargs)
                else:
                    # Written back or not active: somebody may hold the values now, so
                    # their references are counted again.
                    if resident.box[0] is resident.written_back or self._halfway:
                        resident.activate()
                        resident.take(self._donated_inputs(), len(self.donated))
                    elif resident.box[0] is resident.partly:
                        resident.take_again(self._other_inputs)
                    # Without a flush: the pending values are those of this program, and
                    # none of them is kept (for `_halfway` they are written below).
                    kept = self._extra
                    if self.kept:
                        kept = (*map(storage.get, self.kept), *kept)
                    out = resident.run(
                        self.donating, (resident.box[0], kept, args, kwargs)
                    )
                    if self._halfway:
                        storage.flush()
            finally:
                if self._deferred is not None:
                    self._end_deferral()
        self.watches.runs += 1  # here, since a call would cost as much as the rest
        if self.watches.runs >= self.watches.due:
            self.watches.look()
        return self.decoded(out) if self._decodes else out

    def _end_deferral(self) -> None:
        if (deferred := self._deferred) is not None:
            self._deferred = None
            deferred.__exit__()

    def _launch_locked(self, args: tuple, kwargs: dict) -> Any:
        """Run so that other threads see the state before the step or after it."""
        new = self._compile(args, kwargs)
        with storage.lock:
            before, storage.in_flight = storage.in_flight, self.taken
            try:
                with Deferred() if new or self._guarded else contextlib.nullcontext():
                    return self._run_locked(args, kwargs)
            finally:
                storage.in_flight = before

    def _run_locked(self, args: tuple, kwargs: dict) -> Any:
        if self.resident is None:
            return self._launch_mixed(args, kwargs)
        self.resident.activate()
        out = self.resident.run(self.donating, self._arguments(args, kwargs))
        storage.release()
        return out

    def _launch_mixed(self, args: tuple, kwargs: dict) -> Any:
        storage.release()
        arguments = self._arguments(args, kwargs)
        return foreign_storage.run_and_commit(self.donating, arguments, self.written)

    def _arguments(self, args: tuple, kwargs: dict) -> tuple:
        return self._donated_inputs(), self._kept(), args, kwargs

    def _compile(self, args: tuple, kwargs: dict) -> bool:
        """Compile for a call if needed; return whether JAX has not run the code yet."""
        # Outside the lock, so that no other thread waits for the compiler. Where there
        # is no other thread, `jax.jit` may look by itself whether there is code.
        storage.flush()
        moves = storage.moves
        if self._moves != moves:
            self._compiled.clear()
        key = call_key((self._kept(), args, kwargs))
        if key in self._compiled:
            return False
        traced = self.traced(args, kwargs)
        traced.lower().compile()
        self._given.compare(args, kwargs)
        self._guarded |= bool(traced.jaxpr.effects)  # JAX runs each call in Python
        self._compiled.add(key)
        # -1 sends later calls here again, and so into a block of `Deferred`.
        self._moves = -1 if self._guarded or self._given.together else moves
        return True

    def _kept(self) -> tuple:
        return (*map(self.storage.get, self.kept), *self._extra)

    def _donated_inputs(self) -> tuple:
        return self.packing.join(self._other_inputs(0))

    def _other_inputs(self, start: int) -> tuple:
        """Return the inputs from ``start`` on, none of them packed."""
        keys = tuple(key - start for key in self._keys)
        values = unshared(self.storage, self.donated[start:], keys)
        return self.encoding.encode_at(keys, values)

    def keep(self, args: tuple, kwargs: dict, wait: bool) -> Any:
        """Run at top level without donation; write when it succeeded."""
        inputs = self.donated + self.kept
        self._given.compare(args, kwargs)
        self._search(self.keeping, args, kwargs)
        while True:
            values = self.storage.snapshot(inputs)
            n = len(self.donated)
            donated = self.encoding.encode_at(self._keys, tuple(values[:n]))
            kept = (*values[n:], *self._extra)
            new, out = self.keeping(donated, kept, args, kwargs)
            if wait:
                jax.block_until_ready((out, new))
            new = self.encoding.decode_all(new)
            # Another thread may have taken a step meanwhile; then this one starts over.
            if self.storage.commit_if_unchanged(inputs, values, self.written, new):
                self.watches.count_run()
                return self.decoded(out)

    def inline(self, args: tuple, kwargs: dict) -> Any:
        """Run inside another trace; write when it succeeded."""
        with runtime.cache_of(None):  # a program takes all of its Variables in
            self._search(self.plain, args, kwargs)
            values, out = self.plain(*self._inputs(), args, kwargs)
        # JAX may have traced this before, and then no frame saw what it depends on.
        runtime.depend_on_counts(self.revisions)
        runtime.depend_on_facts(self.facts)
        runtime.watch(self.watches.found)
        runtime.commit(self.written, self.encoding.decode_all(values))
        return self.decoded(out)

    def traced(self, args: tuple, kwargs: dict) -> Any:
        """Return the traced code; inputs are (donated, kept, args, kwargs)."""
        self._looking = True
        try:
            donated, kept = self._inputs()
            joined = self.packing.join(donated), kept
            return self._search(self.donating, args, kwargs, joined)
        finally:
            self._looking = False

    def _search(self, code: Any, args: tuple, kwargs: dict, inputs: Any = None) -> Any:
        """Trace; raise if constants are found that are to be inputs."""
        if inputs is None and self._searched:
            return None
        inputs, before = inputs or self._inputs(), self.facts
        traced, self._searched = code.trace(*inputs, args, kwargs), True
        found = self.constants.missing(traced, inputs)
        cut = code is self.donating and self.packing.cuts_much(traced.jaxpr.jaxpr)
        if found or cut:
            if self.facts is not before:  # JAX may have had this trace
                self.compilations.take_back()
            effects = merge(self.effects, Effects(offsets=cut))
            raise UnknownVariables(effects, (), found)
        release_prints()
        return traced

    def shapes(self, args: tuple, kwargs: dict) -> Any:
        """Return the shapes and dtypes of the result."""
        return self.decoded(self.plain.eval_shape(*self._inputs(), args, kwargs)[1])

    def _inputs(self) -> tuple[tuple, tuple]:
        donated = tuple(map(runtime.read, self.donated))
        donated = self.encoding.encode_at(self._keys, donated)
        return donated, (*map(runtime.read, self.kept), *self._extra)
