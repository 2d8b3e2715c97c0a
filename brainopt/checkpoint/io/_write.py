# SPDX-License-Identifier: Apache-2.0
"""Atomic writing: a new file in the place of the old one, or no change at all.

**How it works.**

1. A temporary is created in the same folder (a rename is one step within a file system
   only) under a name that nobody has, and locked.
2. The bytes are written to it and forced to the medium. If the rename reached the
   medium before them, a power failure would leave an empty file.
3. `check` may read the temporary back.
4. One rename gives it the name of the old file. Readers find the old file or the new
   one; those that have the old one open go on reading it.
5. The folder is forced to the medium, and with it the rename.

Before step 4 the old file is untouched; after it the new one is complete. An error in
step 5 says so. A temporary whose process was killed has no lock any more, and the next
save in the folder removes it (`sweep`).

**What must never happen.** The old file opened for writing. A rename before its bytes
are on the medium. A sweep of a temporary that somebody is writing. An error that says
"untouched" after the rename.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator

from ..._warnings import warn_user
from ...errors import CheckpointError, CheckpointIOError, CheckpointWarning, message
from . import _os
from ._place import is_remote, place_of, put

# Errors of file systems that lack a feature: shares, FUSE, NFS with ACLs.
_MISSING = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY}
_NO_FOLDER_SYNC = frozenset({*_MISSING, errno.EBADF})
_NO_MODES = frozenset({*_MISSING, errno.EPERM, errno.EACCES, errno.EROFS})
_warned: set[str] = set()

_TEMPORARY = re.compile(r"\.bopt-[0-9a-f]{12}\.tmp")


def replace_file(
    path: str | os.PathLike[str],
    fill: Callable[[int], None],
    check: Callable[[str], object] | None = None,
) -> None:
    """Write a file so that its name always leads to a complete one.

    A symbolic link stays, and the file it points to is replaced. The mode of the
    old file is kept.

    Args:
        path: the file to write.
        fill: writes the content to the descriptor it is given.
        check: called with the finished temporary before it takes the name.

    Raises:
        CheckpointIOError: the system refused. The old file is as it was, unless the
            message says that the new one is in place and only its durability is
            not confirmed.
        CheckpointError: the path is a folder or a device.
    """
    name = place_of(path)
    if is_remote(name):
        _replace_remote(name, fill, check)
        return
    # The end of a chain of links: a rename over a link would replace the link.
    target = os.path.realpath(name)
    folder = os.path.dirname(target)
    renamed = False
    try:
        mode = _replaceable(target, name)
        sweep(folder)
        temporary = _Temporary(folder)
        try:
            temporary.open()
            # Before the content, which would else be open to all for a while.
            if mode is not None:
                with _tolerated(_NO_MODES, "keep the mode of a file"):
                    _os.fs.set_mode(temporary.fd, mode)
            fill(temporary.fd)
            _os.fs.fsync(temporary.fd)
            if check is not None:
                check(temporary.path)
            # Held open and locked up to the rename, where the system allows it.
            if not _os.fs.renames_open_files:
                temporary.close()
            _os.fs.replace(temporary.path, target)
            renamed = True
        # Also Ctrl-C and a full disk: no temporary stays behind.
        except BaseException:
            temporary.discard()
            raise
        finally:
            temporary.close()
        with _tolerated(_NO_FOLDER_SYNC, "force a folder to the medium"):
            _os.fs.sync_folder(folder)
    except CheckpointError:
        raise
    except OSError as error:
        raise _refusal(name, error, renamed) from error
    except MemoryError as error:
        full = OSError(errno.ENOMEM, "no memory")
        raise _refusal(name, full, renamed) from error


def _replace_remote(
    name: str, fill: Callable[[int], None], check: Callable[[str], object] | None
) -> None:
    """Write a file of this machine, then copy it to its address as one object."""
    # Complete and checked here first: an upload that is cut must not be an object.
    local = os.path.join(tempfile.gettempdir(), f"bopt-{secrets.token_hex(8)}")
    try:
        replace_file(local, fill, check)
        put(local, name)
    finally:
        with contextlib.suppress(OSError):
            _os.fs.unlink(local)


@contextlib.contextmanager
def _tolerated(errnos: frozenset[int], what: str) -> Iterator[None]:
    """Ignore errors of file systems that cannot do ``what``, with one warning."""
    try:
        yield
    except OSError as error:
        if error.errno not in errnos:
            raise
        if what not in _warned:
            _warned.add(what)
            text = f"This file system cannot {what} ({error.strerror})."
            warn_user(f"{text} The files are complete.", CheckpointWarning)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte, however many calls the system makes of it."""
    view = memoryview(data)
    while len(view):
        view = view[_os.fs.write(fd, view) :]


def sweep(folder: str) -> None:
    """Remove the temporaries in a folder whose writers have ended."""
    try:
        names = _os.fs.listdir(folder)
    except OSError:
        return
    for name in names:
        if _TEMPORARY.fullmatch(name):
            try:
                _sweep_one(os.path.join(folder, name))
            except OSError:
                continue


def _sweep_one(path: str) -> None:
    # Its writer holds the lock until the process ends. On systems without locks nothing
    # is ever swept.
    fd = _os.fs.open_swept(path)
    try:
        if _os.fs.can_lock(fd):
            _os.fs.unlink(path)
    finally:
        _os.fs.close(fd)


def _replaceable(target: str, path: str) -> int | None:
    try:
        found = _os.fs.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode):
        return found.st_mode
    what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
    raise CheckpointError(
        message(
            f"{path} is {what}, and stays untouched.",
            help="give the name of a file.",
        )
    )


class _Temporary:
    """A new file in a folder, which no sweep removes while it is open."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._open = False
        self.path, self.fd = "", -1

    def open(self) -> None:
        """Create it and lock it; the caller discards it after an error."""
        while True:
            name = f".bopt-{secrets.token_hex(6)}.tmp"
            self.path = os.path.join(self._folder, name)
            try:
                self.fd = _os.fs.open_new(self.path)
            except FileExistsError:
                continue
            self._open = True
            # Between creation and lock a sweep may have removed it as left over.
            if _os.fs.lock(self.fd) and _os.fs.fstat(self.fd).st_nlink:
                return
            self.close()

    def close(self) -> None:
        """Close the file, once."""
        if self._open:
            self._open = False
            _os.fs.close(self.fd)

    def discard(self) -> None:
        """Remove the file, if it still has its own name."""
        if not _os.fs.renames_open_files:
            self.close()
        with contextlib.suppress(OSError):
            _os.fs.unlink(self.path)


def _refusal(path: str, error: OSError, renamed: bool) -> CheckpointIOError:
    if renamed:
        what = "was written, but its durability is not confirmed"
        mend = "the new file is complete; save again to be safe from a power failure."
    else:
        what = "could not be written"
        mend = "the file that had this name before is untouched."
    return CheckpointIOError.of(path, error, what, mend)
