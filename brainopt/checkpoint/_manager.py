# SPDX-License-Identifier: Apache-2.0
"""A folder of checkpoints: which to keep, which is best, and no step lost."""

import contextlib
import os
from types import TracebackType
from typing import Any, Literal

import msgpack

from ..errors import CheckpointCorruptError, CheckpointError, CheckpointIOError, message
from ._async import AsyncSaver
from ._doors import load, restore
from ._index import Index, best_of
from .io import _os
from .io._write import sweep
from .tree._file import save_snapshot
from .tree._snapshot import Snapshot

_MAX_METRICS_BYTES = 8192


class Manager:
    """Checkpoints of a run in one folder, one file for each step.

    A step is in the folder when its file is complete; a writer that is killed at any
    moment leaves the steps before it. Which files are there is the truth; the index
    beside them is rebuilt from them when it is missing or old.

    Args:
        directory: the folder; it is created if it is not there.
        keep: how many of the latest steps to keep, [1, ∞); None keeps all.
        keep_every: also keep each step that is a multiple of it, [1, ∞).
        best: a metric and ``"max"`` or ``"min"``; its best step is kept too.
        async_: write on another thread while the training goes on (see
            `AsyncSaver`).

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
    ) -> None:
        for name, value in (("keep", keep), ("keep_every", keep_every)):
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be None or an int from 1, not {value!r}")
        if best is not None and (len(best) != 2 or best[1] not in ("max", "min")):
            raise ValueError(f"best must be (metric, 'max' or 'min'), not {best!r}")
        self.directory = os.path.abspath(os.fspath(directory))
        self.keep = keep
        self.keep_every = keep_every
        self.best = best
        self._async = async_
        self._saver = AsyncSaver()
        self._index = Index(self.directory)
        try:
            _os.fs.make_folder(self.directory)
        except OSError as error:
            what = "cannot hold checkpoints"
            raise CheckpointIOError.of(self.directory, error, what) from error
        sweep(self.directory)

    def save(
        self,
        step: int,
        nodes: Any,
        metrics: dict[str, float] | None = None,
        *,
        overwrite: bool = False,
        verify: bool = False,
    ) -> None:
        """Save a step, then remove those that need not be kept.

        Args:
            step: its number, [0, 2⁶³).
            nodes: as for `brainopt.checkpoint.save`.
            metrics: numbers that belong to the step.
            overwrite: save although this or a later step is there; then, once the
                new file is complete, the later steps are removed.
            verify: read the file back before it counts.

        Raises:
            CheckpointError: this or a later step is there, something cannot be
                stored, or the save before failed.
        """
        self._saver.wait()
        if type(step) is not int or not 0 <= step < 1 << 63:
            raise ValueError(f"step must be an int from 0, not {step!r}")
        later = [other for other in self.steps() if other >= step]
        if later and not overwrite:
            raise CheckpointError(
                message(
                    f"Step {step} is not saved: {self.directory} has later or equal "
                    "steps:",
                    [str(other) for other in later],
                    "pass `overwrite=True` to save it and remove them.",
                )
            )
        extra = {"step": step, "metrics": _checked(metrics or {})}
        snapshot = Snapshot(nodes, own=self._async)
        later = [other for other in later if other > step]

        def write() -> None:
            path = self._index.path(step)
            save_snapshot(path, snapshot, verify, extra, helper=not self._async)
            self._prune(later)

        if self._async:
            self._saver.start(self._index.path(step), write)
        else:
            write()

    def restore(
        self,
        nodes: Any = None,
        step: Any = None,
        **options: Any,
    ) -> Any:
        """Restore a step into nodes, or load it as plain data.

        Args:
            nodes: as for `brainopt.checkpoint.restore`; None loads plain data.
            step: a number, ``"best"``, or ``"latest"``, which None means too. It may
                stand first, as in ``restore("best")`` and ``restore(3, nodes)``.
            options: as for `brainopt.checkpoint.restore`, or `load` without nodes.

        Returns:
            The plain values of the file, or with ``nodes=None`` all of it.

        Raises:
            CheckpointCorruptError: the file is damaged. The step before it is named,
                and never taken in its place.
            CheckpointMismatchError: it does not fit; nothing has changed.
            CheckpointError: there is no such step.
        """
        if isinstance(nodes, int | str):
            nodes, step = step, nodes
        self._saver.wait()
        number = self._number(step)
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

    def steps(self) -> list[int]:
        """The complete steps, in the order of their numbers."""
        return self._index.steps()

    def metrics(self, step: int | Literal["latest", "best"] = "latest") -> dict:
        """The metrics that were saved with a step."""
        self._saver.wait()
        return self._index.metrics().get(self._number(step), {})

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
        """Wait for the save in flight; the same as `wait`."""
        self._saver.close()

    def __enter__(self) -> "Manager":
        """Give the manager itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the save in flight."""
        self.close()

    def _no_best(self, steps: list[int]) -> str:
        fact = f"{self.directory} has no best step:"
        if self.best is None:
            mend = "construct the Manager with `best=(metric, 'max' or 'min')`."
            return message(fact, ["this Manager compares no metric"], mend)
        items = [f"no step was saved with the metric {self.best[0]!r}; there are:"]
        metrics = self._index.metrics()
        items += [
            f"{step}: {', '.join(metrics.get(step, ())) or '-'}" for step in steps
        ]
        return message(fact, items)

    def _number(self, step: int | str | None) -> int:
        steps = self.steps()
        found: int | str | None = step
        if step in (None, "latest"):
            found = self.latest_step()
        elif step == "best":
            found = self.best_step()
            if found is None:
                raise CheckpointError(self._no_best(steps))
        if type(found) is not int or found not in steps:
            raise CheckpointError(
                message(
                    f"{self.directory} has no step {'latest' if step is None else step}"
                    f"{': it has' if steps else ' and no other.'}",
                    [str(other) for other in steps],
                )
            )
        return found

    def _prune(self, later: list[int]) -> None:
        steps = [step for step in self.steps() if step not in later]
        kept = set(steps if self.keep is None else steps[-self.keep :])
        if self.keep_every is not None:
            kept.update(step for step in steps if step % self.keep_every == 0)
        if self.best is not None:
            metrics = self._index.metrics()
            known = {step: metrics[step] for step in steps if step in metrics}
            best = best_of(known, *self.best)
            kept.update(() if best is None else (best,))
        self._index.write(sorted(kept))
        # Not those of a second look: another process may save here too.
        for step in {*steps, *later} - kept:
            with contextlib.suppress(FileNotFoundError):
                _os.fs.unlink(self._index.path(step))


def _checked(metrics: dict[str, float]) -> dict[str, float]:
    wrong, checked = [], {}
    for name, value in metrics.items():
        try:
            checked[str(name)] = float(value)
        except (TypeError, ValueError, OverflowError):
            wrong.append(f"{name}: {type(value).__name__} is no number")
    if len(msgpack.packb(checked) or b"") > _MAX_METRICS_BYTES:
        wrong.append("more than 8 KiB in all")
    if wrong:
        raise CheckpointError(message("These metrics cannot be stored:", wrong))
    return checked
