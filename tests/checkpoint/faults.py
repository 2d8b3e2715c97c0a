# SPDX-License-Identifier: Apache-2.0
"""A file system that fails on command, and one that remembers what it was told.

The model behind `crash_states` is the loosest that POSIX allows: until an fsync, any
prefix of the writes to a file may have reached the medium, the length may have
reached it without the data, and of the names changed in a folder since its last
fsync any prefix may stand.
"""

import itertools
import os

from brainopt.checkpoint.io._os import FileSystem


class FailingFileSystem(FileSystem):
    """Raise an error at the n-th call of one kind.

    Args:
        kind: the name of the method that fails.
        n: which call of it, from 1.
        error: what it raises, or ``"short"`` for a write of half the bytes.
    """

    def __init__(self, kind, n, error):
        self.kind, self.n, self.error = kind, n, error
        self.count = 0

    def __getattribute__(self, name):
        own = object.__getattribute__(self, name)
        if name.startswith("_") or not callable(own) or name != self.kind:
            return own

        def call(*args):
            self.count += 1
            if self.count != self.n:
                return own(*args)
            if self.error == "short":
                return FileSystem.write(self, args[0], args[1][: len(args[1]) // 2])
            raise self.error

        return call

    @property
    def happened(self):
        """Whether the call that was to fail took place."""
        return self.count >= self.n


class RecordingFileSystem(FileSystem):
    """Remember every call that changes the medium, in order."""

    def __init__(self):
        self.log = []
        self._paths = {}

    def open_new(self, path):
        fd = super().open_new(path)
        self._paths[fd] = path
        self.log.append(("create", path))
        return fd

    def write(self, fd, data):
        done = super().write(fd, data)
        self.log.append(("write", self._paths[fd], bytes(data[:done])))
        return done

    def fsync(self, fd):
        super().fsync(fd)
        if fd in self._paths:
            self.log.append(("fsync", self._paths[fd]))

    def close(self, fd):
        self._paths.pop(fd, None)
        super().close(fd)

    def replace(self, source, target):
        super().replace(source, target)
        self.log.append(("replace", source, target))

    def unlink(self, path):
        super().unlink(path)
        self.log.append(("unlink", path))

    def sync_folder(self, folder):
        super().sync_folder(folder)
        self.log.append(("sync", folder))


def crash_states(log, before):
    """Yield every set of files that a power failure during ``log`` may leave.

    Args:
        log: the calls of a `RecordingFileSystem`.
        before: the files before the first call, ``{path: bytes}``.

    Yields:
        How many calls had returned, and the files, ``{path: bytes}``.
    """
    seen = set()
    for done in range(len(log) + 1):
        for files in _states(log[:done], before):
            key = (done == len(log), tuple(sorted(files.items())))
            if key not in seen:
                seen.add(key)
                yield done, files


def _states(log, before):
    content, durable, names = {}, {}, [dict.fromkeys(before)]
    for path, data in before.items():
        content[path] = durable[path] = data
    inode = {path: path for path in before}
    names = [dict(inode)]
    for call in log:
        if call[0] == "create":
            content[call[1]], durable[call[1]] = b"", b""
            inode[call[1]] = call[1]
            names.append(dict(inode))
        elif call[0] == "write":
            content[call[1]] += call[2]
        elif call[0] == "fsync":
            durable[call[1]] = content[call[1]]
        elif call[0] == "replace":
            inode[call[2]] = inode.pop(call[1])
            names.append(dict(inode))
        elif call[0] == "unlink":
            del inode[call[1]]
            names.append(dict(inode))
        elif call[0] == "sync":
            names = [dict(inode)]
    for table in names:
        choices = [_contents(durable[i], content[i]) for i in table.values()]
        for chosen in itertools.product(*choices):
            yield dict(zip(table, chosen, strict=True))


def _contents(durable, written):
    if durable == written:
        return [durable]
    rest = len(written) - len(durable)
    cuts = {0, 1, *(rest * i // 8 for i in range(8)), max(rest - 1, 0), rest}
    kept = [written[: len(durable) + cut] for cut in sorted(cuts)]
    holes = [part + bytes(len(written) - len(part)) for part in kept[:-1]]
    return kept + holes


def lay_out(files, folder):
    """Write one crash state into an empty folder."""
    for path, data in files.items():
        with open(os.path.join(folder, os.path.basename(path)), "wb") as file:
            file.write(data)
