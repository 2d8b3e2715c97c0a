# SPDX-License-Identifier: Apache-2.0
"""The one process that writes into a folder of checkpoints.

The writer holds a record lock on a file in the folder, which the system releases when
the process ends, however it ends. The file names the holder. All Managers of one
process on one folder share a writer. They must: a process loses its record lock as soon
as it closes any descriptor of the file. The writer also has the steps whose files are
not there yet.
"""

import json
import os
import socket
import threading
import time
import weakref

from ...errors import CheckpointError, CheckpointIOError, message
from . import _os
from ._folder import Folder

NAME = ".writer.lock"

_writers: weakref.WeakValueDictionary[tuple[str, int], "Writer"] = (
    weakref.WeakValueDictionary()
)
_opening = threading.Lock()


class Writer:
    """The right to write into a folder; `writer_of` gives it.

    Attributes:
        lock: held while steps to be written or removed are chosen.
        pending: steps that are being written.
    """

    def __init__(self, folder: Folder) -> None:
        self.lock = threading.RLock()
        self.pending: set[int] = set()
        if folder.remote:  # an object storage has no locks
            return
        path = folder.file(NAME)
        try:
            fd = _os.fs.open_lock(path)
            try:
                if not _os.fs.lock_for_process(fd):
                    raise _refusal(folder, _os.fs.read_some(fd))
                _os.fs.rewrite(fd, _own_entry())
            except BaseException:
                _os.fs.close(fd)
                raise
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointIOError.of(path, error, "could not be written") from error
        # Runs when the last Manager is gone. A forked child has the finalizer, too, and
        # is told by the number of its process.
        weakref.finalize(self, _release, fd, os.getpid())


def writer_of(folder: Folder) -> Writer:
    """Return the writer of this process, which becomes that of the folder.

    Raises:
        CheckpointError: another process writes there; says which.
        CheckpointIOError: the system refused.
    """
    key = os.path.realpath(folder.name) if not folder.remote else folder.name
    with _opening:
        # A forked child finds the writer of its parent, which is not its own.
        writer = _writers.get((key, os.getpid()))
        if writer is None:
            writer = Writer(folder)
            _writers[key, os.getpid()] = writer
        return writer


def _release(fd: int, pid: int) -> None:
    if pid == os.getpid():
        _os.fs.close(fd)


def _own_entry() -> bytes:
    entry = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    return json.dumps(entry).encode()


def _refusal(folder: Folder, data: bytes) -> CheckpointError:
    try:
        entry = json.loads(data)
        holder = f"process {entry['pid']} on {entry['host']} since {entry['time']}"
    except (ValueError, KeyError, TypeError):
        holder = "a process that left no name"
    return CheckpointError(
        message(
            f"Another Manager writes into {folder.name}: {holder}.",
            help="give each run a folder of its own, or end the other one; a Manager "
            "gives its folder up with `close()`.",
        )
    )
