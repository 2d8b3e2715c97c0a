# SPDX-License-Identifier: Apache-2.0
"""The public functions on files; the suffix of the name chooses the format."""

import io
from typing import Any, Literal

from .._compat import is_eager
from .._select import Rename, Where
from .._typing import Model, PyTree
from ..errors import CheckpointError, message
from ._agreement import Agreement
from ._sharded import save_sharded
from .format._layout import Seal
from .interop._formats import (
    Format,
    Target,
    flat_format,
    own_only,
    suffix_of,
    write,
)
from .interop._orbax import save_orbax
from .io._input import Readable, name_of
from .io._place import is_remote, place_of
from .io._sharded import open_checkpoint
from .tools._inspect import Inspection, inspect_file, inspect_flat
from .tree._file import load_file, verify_file
from .tree._protocol import Staged
from .tree._restore import Restore
from .tree._selection import Selection
from .tree._snapshot import Snapshot
from .tree._source import flat_source, own_source
from .tree._values import as_jax


def save(
    path: Target,
    tree: PyTree,
    *,
    verify: bool = False,
    digest: Literal["sha256"] | None = None,
    key: bytes | None = None,
    sharded: bool = False,
    timeout: float = 600.0,
    backend: Literal["brainopt", "orbax"] = "brainopt",
) -> None:
    """Save a node, several nodes, or any plain data to one file.

    The file is replaced as a whole: after any failure the old one is complete, after
    ``save`` returned the new one is, and it survives a power failure. What cannot be
    stored exactly is refused, by path, before the file is touched.

    Args:
        path: the file. ``.npz`` and ``.safetensors`` hold flat dicts of arrays, and
            where their own readers do not look what `restore` compares of nodes; any
            other suffix is brainopt's own format, which holds all of ``tree``. ``~`` is
            the home folder. An address as ``s3://bucket/run.bopt`` is written as one
            object through fsspec (the extra ``cloud``). A binary file that is open gets
            brainopt's own format; after a failure its content is undefined.
        tree: nested dicts, lists and tuples of arrays, PRNG keys, None, bool, int,
            float, complex, str, bytes, and stateful objects (see `Stateful`); or one
            of these alone.
        verify: read the new file back before it takes the place of the old one.
        digest: ``"sha256"`` keeps that hash of each array beside its checksums, which
            are made to find accidents; it is checked whenever the array is read.
        key: a secret of 1 to 64 bytes. Whoever reads the file with the same key is
            sure that nobody without it has written or changed it; who has none can
            read it all the same. It implies ``digest``.
        sharded: write a folder, in which each process has a file with the pieces of
            arrays that its devices hold; no process and no device has to hold a whole
            array. Every process of the run calls it, with the same path on a disk that
            all of them see. `load`, `restore`, `verify`, `inspect` and `diff` take the
            folder as they take a file, on any mesh and any number of processes.
        timeout: seconds, in (0, inf), that a process waits for the others.
        backend: ``"orbax"`` writes a folder by Orbax (the extra ``orbax``), in which
            each process writes its pieces; all that reads files takes the folder.
            Orbax keeps no checksums of numbers, so a flipped bit is read as another
            number. It removes a folder of that name before the new one is complete,
            and waits for processes by its own rules.

    Raises:
        CheckpointError: something in ``tree`` cannot be stored, in this process or in
            another one; or the processes save different trees.
        CheckpointIOError: the system refused; the message says whether the old file or
            the new one is in place.
        DistributedError: a process did not come in time; it names which.

    Example:
        >>> import os, tempfile, jax.numpy as jnp
        >>> from brainopt import checkpoint
        >>> path = os.path.join(tempfile.mkdtemp(), "run.ckpt")
        >>> checkpoint.save(path, {"w": jnp.ones(3), "epoch": 3})
        >>> checkpoint.load(path)
        {'w': array([1., 1., 1.], dtype=float32), 'epoch': 3}
    """
    if digest not in (None, "sha256"):
        raise ValueError(f"digest must be None or 'sha256', not {digest!r}")
    if backend not in ("brainopt", "orbax"):
        raise ValueError(f"backend must be 'brainopt' or 'orbax', not {backend!r}")
    if backend == "orbax":
        if digest is not None or key is not None or verify or sharded:
            raise ValueError("backend='orbax' takes no verify, digest, key or sharded")
        save_orbax(_folder(path), tree, timeout)
        return
    # A tag covers the manifest alone; by the digests in it, it covers the arrays.
    seal = Seal(digest is not None or key is not None, _checked(key))
    if sharded:
        save_sharded(_folder(path), tree, timeout=timeout, verify=verify, seal=seal)
        return
    if hasattr(path, "write"):
        if verify:
            raise ValueError("verify=True needs a path, to read the file back")
    elif seal.digest:
        own_only(path, "keeps neither a digest nor a tag")
    write(path, Snapshot(tree), verify, seal=seal)


def dumps(
    tree: PyTree,
    *,
    digest: Literal["sha256"] | None = None,
    key: bytes | None = None,
) -> bytes:
    """Write what `save` writes into bytes, which `loads` and `restore` read.

    Args:
        tree: as for `save`.
        digest: as for `save`.
        key: as for `save`.

    Raises:
        CheckpointError: something in ``tree`` cannot be stored.

    Example:
        >>> from brainopt import checkpoint
        >>> checkpoint.loads(checkpoint.dumps({"epoch": 3}))
        {'epoch': 3}
    """
    file = io.BytesIO()
    save(file, tree, digest=digest, key=key)
    return file.getvalue()


def loads(data: bytes | bytearray | memoryview, **options: Any) -> Any:
    """Load plain data from bytes that `dumps` wrote.

    Args:
        data: the bytes of a whole file of brainopt's own format.
        options: as for `load`.

    Raises:
        CheckpointCorruptError: the bytes are damaged, cut, or no checkpoint.
        CheckpointVersionError: a newer brainopt wrote them.
    """
    return load(data, **options)


def load(
    path: Readable,
    *,
    arrays: Literal["numpy", "jax"] = "numpy",
    cast: bool = False,
    key: bytes | None = None,
) -> Any:
    """Load plain data from a file, without any target.

    Args:
        path: the file, an address, bytes, or an open binary file.
        arrays: ``"numpy"`` gives NumPy arrays of exactly the stored dtype, and
            ``"jax"`` copies them into JAX arrays. Typed PRNG keys are JAX key arrays
            in both.
        cast: with ``arrays="jax"``, let 64-bit numbers become 32-bit where
            ``jax_enable_x64`` is off, instead of refusing.
        key: the key that the file was saved with, to be sure that nobody else has
            written or changed it.

    Returns:
        The data as it was saved; a saved node is its state, ``{path: array}``.

    Raises:
        CheckpointCorruptError: the file is damaged, cut, or no checkpoint.
        CheckpointVersionError: a newer brainopt wrote it.
        CheckpointMismatchError: it holds 64-bit numbers that JAX would narrow.
        CheckpointIOError: the system refused.
    """
    if arrays not in ("numpy", "jax"):
        raise ValueError(f"arrays must be 'numpy' or 'jax', not {arrays!r}")
    format = _format_of(path, key)
    if format is None:
        return load_file(path, arrays, cast, key=_checked(key))
    flat = format.load(path).arrays
    return as_jax(flat, name_of(path), str, cast) if arrays == "jax" else flat


def restore(
    path: Readable,
    nodes: Model,
    *,
    strict: bool = True,
    cast: bool = False,
    only: Where | None = None,
    skip: Where | None = None,
    rename: Rename | None = None,
    key: bytes | None = None,
    timeout: float = 600.0,
) -> Any:
    """Restore nodes from a file: all of them, or none.

    Names, shapes, dtypes and metadata of all nodes are compared first. If anything
    differs, one error lists all of it and nothing has changed; otherwise all
    variables of all nodes change at once. Of an array that is divided over devices
    each process reads what its devices hold. Where arrays span processes, all of them
    call it, and they change their nodes only if each of them can.

    Args:
        path: the file, an address, bytes, or an open binary file.
        nodes: one stateful object, or a dict of stateful objects and plain defaults,
            as it was given to `save`.
        strict: whether paths that are missing or unexpected, and metadata that
            differ, and globs that match nothing, are errors. A shape or a unit that
            differs always is one. An array in a plain attribute whose numbers differ
            from when the file was saved is an error too, else a warning.
        cast: let a stored dtype become that of its variable, as float64 does where
            ``jax_enable_x64`` is off, instead of refusing.
        only: the paths to restore, such as ``"net.layers.*"``; the rest of the nodes
            keeps its values. As everywhere: a path (and all below it), a glob,
            ``"re:…"``, ``"matrices"``, a callable ``(path, value)``, a tree of bools,
            or a list of these.
        skip: the paths to leave as they are, in the same grammar.
        rename: from the names in the file to those of the nodes: a dict or pairs,
            where a name includes all that is below it and ``"re:…"`` replaces what
            it matches, or a function.
        key: the key that the file was saved with, as for `load`.
        timeout: seconds, in (0, inf), that a process waits for the others.

    Returns:
        The plain values of the file, as in ``{"epoch": 3}``, and the defaults that
        the file does not know.

    Raises:
        CheckpointMismatchError: the file does not fit the nodes. The lines of its
            message are in its attribute ``differences``, all of them.
        CheckpointCorruptError: the file is damaged, cut, or no checkpoint.
        CheckpointVersionError: a newer brainopt wrote it.
        CheckpointIOError: the system refused.
    """
    values, _ = restore_and_compare(
        path,
        nodes,
        strict=strict,
        cast=cast,
        only=only,
        skip=skip,
        rename=rename,
        key=key,
        timeout=timeout,
    )
    return values


def restore_and_compare(
    path: Readable,
    nodes: Model,
    *,
    strict: bool = True,
    cast: bool = False,
    only: Where | None = None,
    skip: Where | None = None,
    rename: Rename | None = None,
    key: bytes | None = None,
    timeout: float = 600.0,
) -> tuple[Any, dict[str, Staged]]:
    """Restore as `restore` does, and return what each node was given.

    The methods that report what a file brought call it. The arguments are those of
    `restore`.

    Returns:
        The result of `restore`, and by the path of each node its `Staged`, which lists
        what the file or the node lacked, and the numbers that the file replaced.
    """
    if not is_eager():
        raise CheckpointError(
            message(
                "A checkpoint is restored while a function is traced.",
                help="restore outside of jit, grad and scan: inside, the numbers would "
                "become constants of the program.",
            )
        )
    selection = Selection(only, skip, rename)
    with Agreement(name_of(path), nodes, timeout) as agreement:
        format = _format_of(path, key)
        if format is not None:
            # Files of others have no manifest to read first: all arrays come at once.
            source = flat_source(name_of(path), *format.load(path))
            restore = Restore(source, nodes, selection, strict, cast)
            restore.prepare()
        else:
            with open_checkpoint(path, _checked(key)) as reader:
                source = own_source(reader)
                restore = Restore(source, nodes, selection, strict, cast)
                restore.prepare()
        # All that can fail in this process is done, and the file is closed: the commit
        # only writes values that are here.
        try:
            agreement.reach()
        except BaseException:
            restore.discard()
            raise
        return restore.commit(), restore.staged


def verify(path: Readable, *, key: bytes | None = None) -> None:
    """Read a whole file and check every byte of it, holding little in memory.

    Args:
        path: the file. A ``.safetensors`` file has no checksums: of it only the
            layout can be checked. A file with digests takes the memory of one array.
        key: the key that the file was saved with, as for `load`.

    Raises:
        CheckpointCorruptError: a byte differs from the one that was written.
        CheckpointVersionError: a newer brainopt wrote it.
        CheckpointIOError: the system refused.
    """
    format = _format_of(path, key)
    if format is None:
        verify_file(path, _checked(key))
    else:
        format.load(path)


def inspect(path: Readable) -> Inspection:
    """List the contents of a file from its header and manifest; no array is read.

    Only ``.npz`` and ``.safetensors`` files are read as a whole.

    Args:
        path: the file.

    Returns:
        Its version and library, the metadata of its nodes, and its entries. Printed,
        it is a table.

    Raises:
        CheckpointCorruptError: header, manifest or footer is damaged.
        CheckpointVersionError: a newer brainopt wrote it.
        CheckpointIOError: the system refused.
    """
    format = flat_format(path)
    if format is None:
        return inspect_file(path)
    return inspect_flat(path, suffix_of(path), *format.load(path))


def _folder(path: Target) -> str:
    name = "" if hasattr(path, "write") else place_of(path)  # type: ignore[arg-type]
    if not name or is_remote(name):
        raise CheckpointError(
            message(
                f"No folder can be saved to {name or 'an open file'}.",
                help="give the name of a folder on a disk that all processes see.",
            )
        )
    return name


def _format_of(path: Readable, key: bytes | None) -> Format | None:
    if key is not None:
        own_only(path, "has no tag to prove")
    return flat_format(path)


def _checked(key: bytes | None) -> bytes | None:
    if key is not None and not (type(key) is bytes and 1 <= len(key) <= 64):
        raise ValueError("key must be None or 1 to 64 bytes")
    return key
