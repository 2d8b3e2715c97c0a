# SPDX-License-Identifier: Apache-2.0
"""Saving beside the training: the snapshot now, the file on another thread."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ._doors import write
from ._snapshot import Snapshot

_failed: dict[object, tuple[str, BaseException]] = {}
_NICENESS = 19


@atexit.register
def _report() -> None:
    for name, error in _failed.values():
        print(f"brainopt: saving {name} failed: {error}", file=sys.stderr)  # noqa: T201


class AsyncSaver:
    """A saver that lets the caller go on while the file is written.

    The state is taken in one instant, on the thread of the caller, before `save`
    returns. JAX arrays are held by reference, so a training step that donates its
    state through `brainopt.jit` goes on unharmed; NumPy arrays are copied. One save
    is in flight at a time. An error of a save is raised by the next `save`, `wait`
    or `close`, and printed when the interpreter ends if there was none.

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
        self._thread: threading.Thread | None = None
        self._key = object()  # an id would be taken by another saver later

    def save(
        self, path: str | os.PathLike[str], tree: Any, *, verify: bool = False
    ) -> None:
        """Take a snapshot of ``tree`` and write it to a file on another thread.

        Args:
            path: the file; its suffix chooses the format, as in `save`.
            tree: as for `brainopt.checkpoint.save`.
            verify: read the new file back before it takes the place of the old one.

        Raises:
            CheckpointError: something cannot be stored, or the save before failed.
        """
        self.wait()
        snapshot = Snapshot(tree, own=True)
        name = os.path.abspath(os.fspath(path))
        self.start(name, lambda: write(name, snapshot, verify, helper=False))

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run any other piece of saving on the thread, one at a time."""
        self.wait()
        thread = threading.Thread(
            target=self._run, args=(name, work), name="brainopt-save"
        )
        self._thread = thread
        thread.start()

    @property
    def saving(self) -> bool:
        """Whether a save is in flight."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the save in flight, and raise its error if it has failed."""
        thread = self._thread
        if thread is not None:
            thread.join()
            self._thread = None
        _, error = _failed.pop(self._key, ("", None))
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for the save in flight; the same as `wait`."""
        self.wait()

    def __enter__(self) -> "AsyncSaver":
        """Give the saver itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the save in flight."""
        self.close()

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            _yield_to_training()
            work()
        except BaseException as error:
            _failed[self._key] = name, error


def _yield_to_training() -> None:
    # On Linux a thread has a niceness of its own; elsewhere the call changes nothing.
    if sys.platform == "linux":
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        except OSError:
            return
