# SPDX-License-Identifier: Apache-2.0
"""Every call that the checkpoint wing makes to the operating system.

The rooms of this wing hold no ``open`` and no ``os.write`` of their own. They go
through the one `FileSystem` below, so that a test can fail the n-th call for every
n, or record the calls and replay every state that a lost power supply may leave.
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Sequence

try:
    import fcntl
except ImportError:  # Windows has no flock: temporaries there are never swept
    fcntl = None

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
# How many buffers one call fills; POSIX promises 16.
_MAX_BUFFERS = 1024 if sys.platform in ("linux", "darwin") else 16


class FileSystem:
    """The file calls of this wing, each of them one system call."""

    renames_open_files = os.name != "nt"
    """Whether a file may take another name while it is open and locked."""

    def open_new(self, path: str) -> int:
        """Create a file that nobody else can have, and open it for writing."""
        # O_EXCL and O_NOFOLLOW: a name that somebody else made, or a link that leads
        # elsewhere, is an error and is not written to.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)

    def open_read(self, path: str) -> int:
        """Open for reading, without waiting for the writer of a FIFO or a device."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        return os.open(path, flags)

    def open_swept(self, path: str) -> int:
        """Open a temporary that may be abandoned, to try its lock."""
        flags = os.O_RDWR | getattr(os, "O_NONBLOCK", 0)
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """Append bytes; may write fewer than given."""
        return os.write(fd, data)

    def read_at(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Fill buffers from an offset; may read less than asked."""
        if hasattr(os, "preadv"):
            return os.preadv(fd, buffers[:_MAX_BUFFERS], offset)
        os.lseek(fd, offset, os.SEEK_SET)
        total = 0
        for buffer in buffers:
            data = os.read(fd, len(buffer))
            buffer[: len(data)] = data
            total += len(data)
            if len(data) < len(buffer):
                break
        return total

    def fsync(self, fd: int) -> None:
        """Wait until a file or a folder is on the medium."""
        # On macOS fsync stops at the cache of the drive.
        if sys.platform == "darwin" and fcntl is not None:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor, which also releases its lock."""
        os.close(fd)

    def lock(self, fd: int) -> bool:
        """Take the lock of a file without waiting; False where another has it."""
        if fcntl is None:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def open_lock(self, path: str) -> int:
        """Open the lock file of the writer of a folder."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags, 0o666)

    def lock_for_process(self, fd: int) -> bool:
        """Lock a file for this process, not for its children; False if it is taken."""
        if fcntl is None:
            return True
        # A record lock belongs to the process: a forked child does not inherit it, as
        # it would one of `flock`, and so cannot keep the folder after its parent.
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def rewrite(self, fd: int, data: bytes) -> None:
        """Replace the few bytes of a file that no reader depends on."""
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, data)

    def read_some(self, fd: int) -> bytes:
        """Read the first bytes of a file."""
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, 1000)

    def can_lock(self, fd: int) -> bool:
        """Whether the lock of a temporary is free, so that its writer has ended."""
        if fcntl is None:
            return False
        # Any error means "do not remove": a temporary too many does no harm.
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def set_mode(self, fd: int, mode: int) -> None:
        """Give a new file the permissions of the one it replaces."""
        if hasattr(os, "fchmod"):
            os.fchmod(fd, stat.S_IMODE(mode))

    def replace(self, source: str, target: str) -> None:
        """Put a file in the place of another in one step."""
        for wait in (0.01, 0.1, 0.5) if os.name == "nt" else ():
            try:
                return os.replace(source, target)
            except PermissionError:  # on Windows, where a reader has the target open
                time.sleep(wait)
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        os.unlink(path)

    def stat(self, path: str) -> os.stat_result:
        """Return the status of the file that a name leads to."""
        return os.stat(path)

    def fstat(self, fd: int) -> os.stat_result:
        """Return the status of an open file."""
        return os.fstat(fd)

    def listdir(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder)

    def make_folder(self, folder: str) -> None:
        """Create a folder and the folders above it, if they are not there."""
        os.makedirs(folder, exist_ok=True)

    def remove_folder(self, folder: str) -> None:
        """Remove an empty folder."""
        os.rmdir(folder)

    def sync_folder(self, folder: str) -> None:
        """Wait until the names in a folder are on the medium."""
        if os.name == "nt":  # Windows cannot open a folder; its rename is journalled
            return
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            self.fsync(fd)
        finally:
            self.close(fd)


fs = FileSystem()
