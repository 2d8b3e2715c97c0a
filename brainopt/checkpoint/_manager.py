# SPDX-License-Identifier: Apache-2.0
"""A folder of checkpoints: which to keep, which is best, and no step lost."""

import errno
import os
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np

from .._typing import Model
from .._warnings import warn_user
from ..errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointIOError,
    CheckpointWarning,
    first_line,
    message,
)
from ._async import AsyncSaver
from ._doors import load, restore, restore_and_compare
from ._index import Index, best_of
from ._resumed import Resumed, replaced
from ._sharded import ShardedSave
from ._steps import checked_metrics, chosen_step, step_number
from .io._closing import Closing
from .io._folder import Folder
from .io._write import sweep
from .io._writer import Writer, writer_of
from .tree._file import save_snapshot
from .tree._snapshot import Snapshot

_ATTEMPTS = 100


class Manager(Closing):
    """Checkpoints of a run in one folder, one file for each step.

    A step is in the folder when its file is complete; a writer that is killed at any
    moment leaves the steps before it. Which files are there is the truth; the index
    beside them is rebuilt from them when it is missing or old.

    Args:
        directory: the folder; it is created if it is not there. An address as
            ``s3://bucket/run`` is reached through fsspec (the extra ``cloud``). One
            process at a time may save into a folder, and any number may read it; an
            object storage has no locks, so there nothing guards it.
        keep: how many of the latest steps to keep, [1, ∞); None keeps all.
        keep_every: also keep each step that is a multiple of it, [1, ∞).
        best: a metric and ``"max"`` or ``"min"``; its best step is kept too.
        async_: write on another thread while the training goes on (see
            `AsyncSaver`).
        sharded: write a folder for each step (see `save`), all processes of the run
            together; process 0 alone removes steps. Both kinds of steps are read.

    Raises:
        ValueError: a setting is outside its range.
        CheckpointIOError: the system refuses the folder.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> from brainopt import checkpoint
        >>> with checkpoint.Manager(tempfile.mkdtemp(), keep=2) as manager:
        ...     for step in (0, 1, 10):
        ...         manager.save(step, {"w": jnp.ones(3) * step})
        >>> manager.steps()
        [1, 10]
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int | None = 5,
        keep_every: int | None = None,
        best: tuple[str, Literal["max", "min"]] | None = None,
        async_: bool = True,
        *,
        sharded: bool = False,
    ) -> None:
        for name, value in (("keep", keep), ("keep_every", keep_every)):
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be None or an int from 1, not {value!r}")
        if best is not None and (len(best) != 2 or best[1] not in ("max", "min")):
            raise ValueError(f"best must be (metric, 'max' or 'min'), not {best!r}")
        folder = Folder(directory)
        self.directory = folder.name
        self.keep = keep
        self.keep_every = keep_every
        self.best = best
        self._async = async_
        self._sharded = sharded
        self._compared = False
        self._saver = AsyncSaver()
        self._index = Index(folder)
        self._writer: Writer | None = None
        folder.create()
        if not folder.remote:
            sweep(self.directory)

    def __repr__(self) -> str:
        kept = ("keep", "keep_every", "best")
        settings = "".join(f", {name}={getattr(self, name)!r}" for name in kept)
        return f"Manager({self.directory!r}{settings})"

    def save(
        self,
        step: int,
        nodes: Model,
        metrics: dict[str, float] | None = None,
        *,
        overwrite: bool = False,
        verify: bool = False,
        timeout: float = 600.0,
    ) -> None:
        """Save a step, then remove those that need not be kept.

        Args:
            step: its number, [0, 2⁶³).
            nodes: as for `brainopt.checkpoint.save`.
            metrics: numbers that belong to the step.
            overwrite: save although this or a later step is there; then, once the
                new file is complete, the later steps are removed.
            verify: read the file back before it counts.
            timeout: seconds, in (0, inf), that a process waits for the others of a
                sharded save.

        Raises:
            CheckpointError: this or a later step is there, something cannot be
                stored, another process saves into the folder; or the save before
                failed, and this one has begun all the same. A save that is both
                sharded and ``async_`` fails as a whole at the next call.
            DistributedError: a process did not come in time; it names which.
        """
        self._saver.finish()  # its error is raised once this save is on its way
        number = step_number(step)
        extra = {"step": number, "metrics": checked_metrics(metrics or {})}
        if self._sharded:
            write = self._sharded_save(number, nodes, extra, overwrite, verify, timeout)
        else:
            write = self._file_save(number, nodes, extra, overwrite, verify)
        if self._async:
            self._saver.start(self._index.path(number), write)
        else:
            write()

    def _file_save(
        self, number: int, nodes: Any, extra: dict, overwrite: bool, verify: bool
    ) -> Callable[[], None]:
        writer = self._writer = self._writer or writer_of(self._index.folder)
        with writer.lock:
            later = self._later(number, overwrite)
            snapshot = Snapshot(nodes, own=self._async)
            writer.pending.add(number)

        def write() -> None:
            try:
                path = self._index.file(number)
                save_snapshot(path, snapshot, verify, extra, helper=not self._async)
                with writer.lock:
                    writer.pending.discard(number)
                    self._index.remove_folder(number)
                    self._prune([other for other in later if other > number])
            finally:
                writer.pending.discard(number)

        return write

    def _sharded_save(
        self,
        number: int,
        nodes: Any,
        extra: dict,
        overwrite: bool,
        verify: bool,
        timeout: float,
    ) -> Callable[[], None]:
        """Take the snapshot; its error is raised after the processes have met."""
        try:
            snapshot: Any = Snapshot(nodes, own=self._async, sharded=True)
        except CheckpointError as error:
            snapshot = error
        later: list[int] = []

        def ready() -> None:
            self._writer = self._writer or writer_of(self._index.folder)
            later.extend(self._later(number, overwrite))

        def after() -> None:
            assert self._writer is not None
            with self._writer.lock:
                self._index.remove_file(number)
                self._prune([other for other in later if other > number])

        save = ShardedSave(
            self._index.step_folder(number),
            snapshot,
            f"save to {self.directory}",
            timeout,
            extra,
            verify,
            helper=not self._async,
            ready=ready,
            after=after,
            guarded=True,
            compare=not self._compared,
        )

        def write() -> None:
            save.run()
            self._compared = True

        return write

    def _later(self, number: int, overwrite: bool) -> list[int]:
        """Return the steps that a save would have after it, which it may refuse."""
        writer = self._writer
        taken = {*self.steps(), *(writer.pending if writer is not None else ())}
        later = sorted(other for other in taken if other >= number)
        if later and not overwrite:
            raise CheckpointError(
                message(
                    f"Step {number} is not saved: {self.directory} has later or "
                    "equal steps:",
                    [str(other) for other in later],
                    "pass `overwrite=True` to save it and remove them.",
                )
            )
        return later

    def restore(
        self,
        nodes: Model = None,
        step: int | Literal["latest", "best"] | None = None,
        **options: Any,
    ) -> Any:
        """Restore a step into nodes, or load it as plain data.

        Args:
            nodes: as for `brainopt.checkpoint.restore`; None loads plain data.
            step: a number, ``"best"``, or ``"latest"``, which None means too. It may
                come first, as in ``restore("best")`` and ``restore(3, nodes)``.
            options: as for `brainopt.checkpoint.restore`, or `load` without nodes.

        Returns:
            The plain values of the file, or with ``nodes=None`` all of it.

        Raises:
            CheckpointCorruptError: the file is damaged. The step before it is named,
                and never taken in its place.
            CheckpointMismatchError: it does not fit; nothing has changed.
            CheckpointError: there is no such step.
        """
        if isinstance(nodes, int | str | np.integer):
            nodes, step = step, cast(Any, nodes)
        self._saver.wait()
        for _ in range(_ATTEMPTS):
            number = chosen_step(self._index, self.best, step)
            try:
                return self._restore(nodes, number, options)
            except CheckpointIOError as error:
                # Beside a writer that prunes, the newest step may go before it is read.
                moving = step in (None, "latest", "best")
                if not moving or error.errno != errno.ENOENT or number in self.steps():
                    raise
        raise CheckpointError(
            message(f"Steps of {self.directory} are removed before they can be read.")
        )

    def _restore(self, nodes: Model, number: int, options: dict[str, Any]) -> Any:
        path = self._index.path(number)
        try:
            if nodes is None:
                return load(path, **options)
            return restore(path, nodes, **options)
        except CheckpointCorruptError as error:
            before = [other for other in self.steps() if other < number]
            offer = (
                f"the step before it is {before[-1]}: pass `step={before[-1]}`."
                if before
                else "there is no step before it."
            )
            raise CheckpointCorruptError(f"{error}\n  {offer}") from error

    def resume(self, nodes: Model, **options: Any) -> Resumed | None:
        """Restore the newest step that is intact, for a run that goes on.

        Steps that are damaged or cannot be read are passed over, with a warning that
        names them. A step that does not fit the nodes is an error.

        Args:
            nodes: as for `brainopt.checkpoint.restore`.
            options: as for `brainopt.checkpoint.restore`.

        Returns:
            The step, its plain values, the steps passed over, and the numbers of
            optimizers that it replaced; None in a folder without steps.

        Raises:
            CheckpointCorruptError: there are steps, and none of them is intact.
            CheckpointMismatchError: it does not fit; nothing has changed.

        Example:
            >>> import tempfile
            >>> from brainopt import checkpoint
            >>> manager = checkpoint.Manager(tempfile.mkdtemp(), async_=False)
            >>> manager.resume({"epoch": 0}) is None
            True
            >>> manager.save(3, {"epoch": 1})
            >>> manager.resume({"epoch": 0})
            Resumed(step=3, values={'epoch': 1}, skipped={}, numbers={})
        """
        self._saver.wait()
        skipped: dict[int, str] = {}
        for number in reversed(self.steps()):
            try:
                values, staged = restore_and_compare(
                    self._index.path(number), nodes, **options
                )
            except (CheckpointCorruptError, CheckpointIOError) as error:
                skipped[number] = first_line(error)
                continue
            if skipped:
                lines = [f"{step}: {why}" for step, why in skipped.items()]
                fact = f"{self.directory} goes on from step {number}; passed over are:"
                warn_user(message(fact, lines), CheckpointWarning)
            return Resumed(number, values, skipped, replaced(staged))
        if not skipped:
            return None
        lines = [f"{step}: {why}" for step, why in skipped.items()]
        fact = f"No step of {self.directory} is intact:"
        raise CheckpointCorruptError(message(fact, lines))

    def steps(self) -> list[int]:
        """The complete steps, in the order of their numbers."""
        return self._index.steps()

    def metrics(self, step: int | Literal["latest", "best"] = "latest") -> dict:
        """The metrics that were saved with a step."""
        self._saver.wait()
        return self._index.metrics().get(chosen_step(self._index, self.best, step), {})

    def latest_step(self) -> int | None:
        """The largest step, or None in an empty folder."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step whose metric is best, or None where none has it."""
        if self.best is None:
            return None
        return best_of(self._index.metrics(), *self.best)

    def path(self, step: int) -> str:
        """The file of a step."""
        return self._index.path(step)

    def wait(self) -> None:
        """Wait for the save in flight, and raise its error if it has failed."""
        self._saver.wait()

    def close(self) -> None:
        """Wait for the save in flight, and let others save into the folder."""
        try:
            self._saver.close()
        finally:
            self._writer = None

    def _prune(self, later: list[int]) -> None:
        steps = [step for step in self.steps() if step not in later]
        metrics = self._index.metrics(steps)
        kept = set(steps if self.keep is None else steps[-self.keep :])
        if self.keep_every is not None:
            kept.update(step for step in steps if step % self.keep_every == 0)
        if self.best is not None:
            best = best_of(metrics, *self.best)
            kept.update(() if best is None else (best,))
        self._index.write({step: metrics[step] for step in kept})
        self._index.sweep()
        # Not those of a second look: a reader may list the folder too.
        for step in {*steps, *later} - kept:
            self._index.remove(step)
