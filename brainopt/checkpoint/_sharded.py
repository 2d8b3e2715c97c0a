# SPDX-License-Identifier: Apache-2.0
"""Sharded saves by all processes: each writes a part, process 0 the manifest.

The processes meet twice, in the key-value store of jax.distributed and never in a
computation, so that none can hang:

1. Each says whether it has a snapshot, and what is in it. Process 0 compares, makes the
   folder ready, and names the save.
2. Each writes its part, and says whether it did. Process 0 looks for all parts in the
   folder and writes the manifest, which is the moment at which the save counts.

Every process leaves a meeting with the same verdict. What fails in one process, or does
not come, fails the save in all of them; then the manifest names what it named before.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax

from .._typing import PyTree
from ..distributed import decide, differences, shared_parts
from ..errors import CheckpointError, first_line, message
from .format._checksum import crc32
from .format._layout import NO_SEAL, Seal
from .format._records import Record, framed, pack
from .io._boxes import Box
from .io._parts import MANIFEST, PartsFolder, piece_key, with_parts
from .io._read import Reader
from .io._stream import write_records
from .io._write import replace_file, write_all
from .tree._leaves import ArrayLeaf, BytesLeaf
from .tree._snapshot import Snapshot
from .tree._spread import SpreadLeaf


class ShardedSave:
    """A save into a folder, in which every process of the run takes part.

    Args:
        path: the folder.
        snapshot: what to write; or why this process has none.
        name: that of the meetings, the same in every process.
        timeout: seconds, in (0, inf), to wait for the other processes.
        extra: optional entries of the metadata map.
        verify: read each file back before it takes its name.
        helper: whether a second thread may take checksums.
        seal: the proofs that each file keeps beyond its checksums.
        ready: called in process 0 before anything is written.
        after: called in process 0 once the save counts, before others go on.
        guarded: whether this run has the right to write there already.
        compare: whether the parts of arrays that several processes have are compared.
    """

    def __init__(
        self,
        path: str,
        snapshot: Snapshot | CheckpointError,
        name: str,
        timeout: float = 600.0,
        extra: Mapping[str, object] | None = None,
        verify: bool = False,
        helper: bool = True,
        seal: Seal = NO_SEAL,
        ready: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
        guarded: bool = False,
        compare: bool = True,
    ) -> None:
        self.path = path
        self._snapshot = snapshot
        self._name = name
        self._timeout = timeout
        self._extra = dict(extra or {})
        self._verify = verify
        self._helper = helper
        self._seal = seal
        self._ready, self._after = ready, after
        self._compare = compare
        self._folder = PartsFolder(path, guarded)
        self._save = ""

    def run(self) -> None:
        """Write, or raise with the folder as it was.

        Raises:
            CheckpointError: a process failed, or the processes save different trees.
            DistributedError: a process did not come in time; it names which.
        """
        done = False
        try:
            self._save = self._meet("begin", self._described, self._begin)
            self._meet("end", self._written, self._commit)
            done = True
        finally:
            # Process 0 wrote the manifest, or did not; others might see an old one.
            if not done and self._save and jax.process_index() == 0:
                self._folder.discard(self._save)
            self._folder.end()

    def _meet(
        self,
        stage: str,
        act: Callable[[], Any],
        conclude: Callable[[list[Any]], str],
    ) -> str:
        """Act, exchange reports, and return the verdict of process 0."""
        errors: list[Exception] = []

        # An error is reported and raised after the meeting. A process that raised
        # before it would leave the others waiting until their timeout.
        def report() -> dict[str, Any]:
            try:
                return {"brought": act(), "failed": ""}
            except (CheckpointError, OSError, MemoryError) as error:
                errors.append(error)
                return {"brought": None, "failed": first_line(error)}

        def verdict(texts: list[str]) -> str:
            reports = [json.loads(text) for text in texts]
            problems = [
                f"process {process}: {told['failed']}"
                for process, told in enumerate(reports)
                if told["failed"]
            ]
            try:
                brought = [told["brought"] for told in reports]
                result = "" if problems else conclude(brought)
            except (CheckpointError, OSError, MemoryError) as error:
                errors.append(error)
                result, problems = "", [f"process 0: {first_line(error)}"]
            return json.dumps({"problems": problems, "result": result})

        name = f"{self._name}, {stage}"
        told = json.loads(decide(name, json.dumps(report()), verdict, self._timeout))
        if errors:
            raise errors[0]
        if told["problems"]:
            fact = f"{self.path} was not saved:"
            help = "the checkpoint that was there before is untouched."
            raise CheckpointError(message(fact, told["problems"], help))
        return told["result"]

    def _described(self) -> tuple[str, dict[str, Any], dict[str, str]]:
        """Wait for all arrays; return a short sum of each record and of its data."""
        if isinstance(self._snapshot, CheckpointError):
            raise self._snapshot
        # Sums of 4 bytes, since all of them go through the key-value store.
        self._snapshot.block_until_ready()
        constants = self._snapshot.take_constants()
        sums = b"".join(crc32(text).to_bytes(4, "big") for _, text in self._texts())
        return base64.b85encode(sums).decode(), self._shared(), constants

    def _shared(self) -> dict[str, Any]:
        """Return checksums of what other processes have too, by path."""
        snapshot = self._snapshot
        assert isinstance(snapshot, Snapshot)
        if jax.process_count() == 1:
            return {}
        kinds = (ArrayLeaf, SpreadLeaf) if self._compare else (ArrayLeaf,)
        return {
            snapshot.name_of(index): shared_parts(leaf.value)
            for index, leaf in enumerate(snapshot.leaves)
            if isinstance(leaf, kinds)
        }

    def _texts(self) -> Iterator[tuple[str, bytes]]:
        """Yield what must be equal in every process, with its name."""
        snapshot = self._snapshot
        assert isinstance(snapshot, Snapshot)
        yield "the metrics or the number of the step", framed(self._extra)
        for index, (record, leaf) in enumerate(
            zip(snapshot.records, snapshot.leaves, strict=True)
        ):
            # Arrays by their form; the sharding too, for by it the pieces are dealt
            # out.
            text = pack(record)
            if isinstance(leaf, SpreadLeaf):
                text += repr(leaf.value.sharding).encode()
            elif isinstance(leaf, BytesLeaf):
                text += leaf.data
            yield snapshot.name_of(index), text

    def _begin(self, brought: list[tuple[str, dict[str, Any], dict[str, str]]]) -> str:
        sums = [base64.b85decode(text) for text, _, _ in brought]
        names = [name for name, _ in self._texts()]
        problems = differences([shared for _, shared, _ in brought])
        for process, other in enumerate(sums):
            for i in range(0, max(len(sums[0]), len(other)), 4):
                if sums[0][i : i + 4] != other[i : i + 4]:
                    name = names[i // 4] if i // 4 < len(names) else "more values"
                    problems.append(f"{name}: process {process}, unlike process 0")
        if problems:
            raise CheckpointError(
                message(
                    f"The processes save different trees, as {problems[0]}:",
                    problems,
                    "give the same nodes, plain values and shardings in every process.",
                )
            )
        assert isinstance(self._snapshot, Snapshot)
        self._snapshot.put_constants([constants for _, _, constants in brought])
        self._ready()
        return self._folder.begin()

    def _written(self) -> list[str]:
        """Write the part of this process; return its name and sha256."""
        path = self._folder.part(self._save, jax.process_index())
        pieces = self._own_pieces()
        records = [
            Record(None, "dict", length=len(pieces)),
            *(
                leaf.piece_record(piece_key(index, box), box)
                for index, leaf, box in pieces
            ),
        ]
        self._write_file(path, records, lambda i: self._piece(*pieces[i - 1]), {})
        with Reader(path) as part:
            return [os.path.basename(path), part.sha256.hex()]

    def _own_pieces(self) -> list[tuple[int, SpreadLeaf, Box]]:
        # What several processes have is dealt out among them in turn.
        own, found = jax.process_index(), []
        assert isinstance(self._snapshot, Snapshot)
        for index, leaf in enumerate(self._snapshot.leaves):
            if isinstance(leaf, SpreadLeaf):
                for turn, (box, holders) in enumerate(leaf.pieces()):
                    if holders[(index + turn) % len(holders)] == own:
                        found.append((index, leaf, box))
        return found

    def _piece(self, index: int, leaf: SpreadLeaf, box: Box) -> tuple[memoryview, bool]:
        assert isinstance(self._snapshot, Snapshot)
        return self._snapshot.fetch_piece(index, box)

    def _write_file(self, path, records, fetch, extra: Mapping[str, object]) -> None:
        assert isinstance(self._snapshot, Snapshot)
        metadata = {**self._snapshot.metadata(), **extra}
        replace_file(path, self._filled(records, fetch, metadata), self._check())

    def _filled(self, records, fetch, metadata) -> Callable[[int], None]:
        return lambda fd: write_records(
            partial(write_all, fd), records, fetch, metadata, self._helper, self._seal
        )

    def _check(self) -> Callable[[str], object] | None:
        key = self._seal.key
        return (lambda path: self._proven(path, key)) if self._verify else None

    @staticmethod
    def _proven(path: str, key: bytes | None) -> None:
        with Reader(path, key, of_folder=True) as reader:
            reader.verify()

    def _commit(self, brought: list[list[str]]) -> str:
        snapshot = self._snapshot
        assert isinstance(snapshot, Snapshot)
        # Process 0 opens every part by itself: on a folder that is not shared it would
        # else name files that only their writers have.
        parts = {name: bytes.fromhex(total) for name, total in brought}
        for process, (name, total) in enumerate(parts.items()):
            try:
                with Reader(self._folder.file(name)) as part:
                    there = part.sha256 == total
            except CheckpointError:
                there = False
            if not there:
                raise CheckpointError(
                    message(
                        f"Process 0 does not find the part of process {process} in "
                        f"{self.path}.",
                        help="all processes must see one folder, as on a shared disk.",
                    )
                )
        records = with_parts(parts, snapshot.records)
        first = len(records) - len(snapshot.records)
        fill = self._filled(
            records,
            lambda index: snapshot.fetch(index - first),
            {**snapshot.metadata(), **self._extra},
        )
        self._folder.commit(self._save, fill, self._check())
        self._after()
        return MANIFEST


def save_sharded(path: str, tree: PyTree, *, timeout: float, **options: Any) -> None:
    """Save a tree to a folder, together with all processes of the run."""
    path = os.path.abspath(path)
    try:
        snapshot: Snapshot | CheckpointError = Snapshot(tree, sharded=True)
    except CheckpointError as error:
        snapshot = error
    ShardedSave(path, snapshot, f"save {path}", timeout, **options).run()
