# SPDX-License-Identifier: Apache-2.0
"""Saving beside the training: the snapshot now, the file on another thread."""

import _thread
import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable

from .._typing import PyTree
from ..errors import printable
from .interop._formats import write
from .io._closing import Closing
from .io._place import is_remote, place_of
from .tree._snapshot import Snapshot

_failed: dict[object, tuple[str, BaseException]] = {}
_jobs: set["_Job"] = set()
_ended = threading.Event()
_NICENESS = 19


@atexit.register
def _at_exit() -> None:
    # Python ends other threads in the middle of a write; the last save is waited for.
    for job in list(_jobs):
        job.wait()
    _ended.set()
    for name, error in _failed.values():
        print(f"brainopt: saving {printable(name)} failed: {error}", file=sys.stderr)  # noqa: T201


class AsyncSaver(Closing):
    """A saver that lets the caller go on while the file is written.

    The state is taken in one instant, on the thread of the caller, before `save`
    returns. JAX arrays are held by reference, so a training step that donates its
    state through `brainopt.jit` goes on unharmed; NumPy arrays are copied. One save
    is in flight at a time. An error of a save is raised by the next `save`, once the
    new one is on its way, or by `wait` or `close`; if there was none of these it is
    printed when the interpreter ends.

    Example:
        >>> import os, tempfile, jax.numpy as jnp
        >>> from brainopt import checkpoint
        >>> path = os.path.join(tempfile.mkdtemp(), "run.ckpt")
        >>> with checkpoint.AsyncSaver() as saver:
        ...     saver.save(path, {"w": jnp.ones(3), "epoch": 3})
        >>> checkpoint.load(path)["epoch"]
        3
    """

    def __init__(self) -> None:
        self._job: _Job | None = None
        self._lock = threading.RLock()
        self._key = object()  # an id would be taken by another saver later

    def save(
        self, path: str | os.PathLike[str], tree: PyTree, *, verify: bool = False
    ) -> None:
        """Take a snapshot of ``tree`` and write it to a file on another thread.

        Args:
            path: the file; its suffix chooses the format, as in `save`.
            tree: as for `brainopt.checkpoint.save`.
            verify: read the new file back before it takes the place of the old one.

        Raises:
            CheckpointError: something cannot be stored; or the save before failed,
                and this one has begun all the same.
        """
        with self._lock:
            self.finish()
            # On this thread: afterwards the caller may change everything.
            snapshot = Snapshot(tree, own=True)
            name = place_of(path)
            name = name if is_remote(name) else os.path.abspath(name)
            self.start(name, lambda: write(name, snapshot, verify, helper=False))

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run any other piece of saving on the thread, one at a time.

        Raises:
            CheckpointError: that of the save before; this one has begun all the same.
        """
        with self._lock:
            self.finish()
            # The error of the save before is raised after this one has begun: a full
            # disk once must not cost the next checkpoint too.
            _, error = _failed.pop(self._key, ("", None))
            job = _Job(self._key, name, work)
            try:
                self._job = job
                job.start()
            except BaseException:  # Ctrl-C, before the thread was there or after
                job.cancel()
                raise
        if error is not None:
            raise error

    @property
    def saving(self) -> bool:
        """Whether a save is in flight."""
        job = self._job
        return job is not None and job.running

    def finish(self) -> None:
        """Wait for the save in flight, and keep its error for the next call."""
        with self._lock:
            if self._job is not None:
                self._job.wait()
                self._job = None

    def wait(self) -> None:
        """Wait for the save in flight, and raise its error if it has failed."""
        with self._lock:
            self.finish()
            _, error = _failed.pop(self._key, ("", None))
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for the save in flight; the same as `wait`."""
        self.wait()


class _Job:
    """One piece of saving, which is done once or, if cancelled in time, never."""

    def __init__(self, key: object, name: str, work: Callable[[], None]) -> None:
        self._key, self._name, self._work = key, name, work
        self._turn = threading.Lock()  # taken by whoever does or cancels the work
        # Held until the end. A bare lock survives Ctrl-C, where a `join` that is cut
        # short takes a living thread for a dead one, and an `Event` may stay locked.
        self._unfinished = threading.Lock()
        self._unfinished.acquire()
        self._process = os.getpid()

    @property
    def running(self) -> bool:
        # A forked process has no thread of its parent.
        return self._process == os.getpid() and self._unfinished.locked()

    def start(self) -> None:
        """Run on a thread, or at once where none is to be had any more."""
        _jobs.add(self)
        if not _ended.is_set():
            with contextlib.suppress(RuntimeError):
                # Ctrl-C within `Thread.start` may leave a thread that never goes on.
                _thread.start_new_thread(self._beside, ())
                return
        self._run()

    def wait(self) -> None:
        if self.running:
            with self._unfinished:
                pass

    def cancel(self) -> None:
        if self._turn.acquire(blocking=False):
            self._end()

    def _beside(self) -> None:
        _yield_to_training()
        self._run()

    def _run(self) -> None:
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._work()
        except BaseException as error:
            _failed[self._key] = self._name, error
        finally:
            self._end()

    def _end(self) -> None:
        _jobs.discard(self)
        self._unfinished.release()


def _yield_to_training() -> None:
    # On Linux a thread has a niceness of its own; elsewhere the call changes nothing.
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        except OSError:
            return
