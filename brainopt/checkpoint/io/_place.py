# SPDX-License-Identifier: Apache-2.0
"""Places of files: on this machine, or in a storage that fsspec reaches."""

import os
import re
from typing import Any

from ...errors import CheckpointError, CheckpointIOError, first_line, message

Path = str | os.PathLike[str]

# Two letters at least before the colon: ``C://`` is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")
_BROKEN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


def place_of(path: Path) -> str:
    """Write a path as text: ``~`` becomes the home folder, an address stays one.

    Raises:
        CheckpointError: it is no name of a file, or an address that lost a slash.
    """
    try:
        name = os.fsdecode(os.fspath(path))
    except TypeError:
        raise CheckpointError(
            message(
                f"A {type(path).__name__} is no path.",
                help="give a str, a pathlib.Path, or an open binary file.",
            )
        ) from None
    if not name or "\0" in name:
        raise CheckpointError(message(f"{name!r} is no name of a file."))
    if name.startswith("file://"):
        return name.removeprefix("file://")
    if _ADDRESS.match(name):
        return name
    if _BROKEN.match(name):
        raise CheckpointError(
            message(
                f"{name} looks like an address that has lost a slash.",
                help="give it as a str: pathlib.Path makes one slash of two.",
            )
        )
    return os.path.expanduser(name)


def is_remote(name: str) -> bool:
    """Whether a name is the address of a storage, as ``s3://bucket/run``."""
    return _ADDRESS.match(name) is not None


class Storage:
    """A file system of fsspec, whose errors are all turned into `OSError`.

    Args:
        address: any address in it.

    Raises:
        CheckpointError: fsspec, or what it needs for this storage, is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            import fsspec  # pyright: ignore[reportMissingImports]

            self._files, self.path = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise CheckpointError(
                message(
                    f"{address} is an address, and nothing here can open it: "
                    f"{first_line(error)}.",
                    help="pip install 'brainopt[cloud]', and the package of the "
                    "storage, as s3fs or gcsfs; or give a folder of this machine.",
                )
            ) from None
        except ValueError as error:  # a protocol that fsspec does not know
            raise CheckpointError(message(f"{address}: {first_line(error)}.")) from None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._files, name)

        def call(*args: Any, **options: Any) -> Any:
            try:
                return method(*args, **options)
            except OSError:
                raise
            except Exception as error:  # of whichever client the storage has
                raise OSError(
                    0, f"{type(error).__name__}: {first_line(error)}"
                ) from error

        return call


def put(local: str, address: str) -> None:
    """Copy a finished file to an address, whose old content it replaces.

    An object storage shows the old object or the new one, and nothing between.

    Raises:
        CheckpointIOError: the storage refused, or keeps another number of bytes.
    """
    storage = Storage(address)
    try:
        storage.put_file(local, storage.path)
        storage.invalidate_cache()
        kept, size = storage.info(storage.path)["size"], os.path.getsize(local)
        if kept != size:
            raise OSError(0, f"it keeps {kept} bytes of {size}")
    except OSError as error:
        raise CheckpointIOError.of(address, error, "could not be written") from error
