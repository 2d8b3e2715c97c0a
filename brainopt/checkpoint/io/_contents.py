# SPDX-License-Identifier: Apache-2.0
"""The interface of an opened checkpoint, of one file or of a folder of files."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import CheckpointCorruptError, CheckpointIOError, message
from ..format._records import Malformed, Record, named, walk
from ._boxes import Box
from ._closing import Closing


class Contents(Closing):
    """An open checkpoint, proven but for the bytes of its arrays.

    Attributes:
        path: its name.
        size: its bytes.
        version: that of its format.
        metadata: the metadata map of the file.
        records: its tree in preorder.
    """

    path: str
    size: int
    version: int
    metadata: dict[str, Any]
    records: list[Record]

    @abstractmethod
    def close(self) -> None:
        """Close its files."""

    @abstractmethod
    def read(self, wanted: Iterable[int]) -> dict[int, np.ndarray]:
        """Read and verify the payload of some records.

        Args:
            wanted: positions in ``records``, in any order.

        Returns:
            By position: arrays of the stored dtype and shape in little-endian order,
            uint32 key data for PRNG keys, and uint8 for long texts and numbers.
        """

    @abstractmethod
    def read_into(self, index: int, wanted: Sequence[tuple[Box, np.ndarray]]) -> None:
        """Read and verify parts of one array, and little beyond them.

        Args:
            index: its position in ``records``.
            wanted: boxes of it, and for each an array of its shape to be filled.
        """

    @abstractmethod
    def verify(self, progress: Callable[[int], None] = lambda nbytes: None) -> None:
        """Read and check every byte, holding a few chunks at a time.

        Args:
            progress: called with the number of bytes that were checked, by several
                threads.

        Raises:
            CheckpointCorruptError: a byte differs from the one that was written.
        """

    def damaged(self, reason: str) -> CheckpointCorruptError:
        """Return the error for damage of this checkpoint."""
        return CheckpointCorruptError(
            message(
                f"{self.path} is no intact checkpoint:",
                [reason],
                "take another copy of it, or the checkpoint before it.",
            )
        )

    def walk(self) -> Iterator[tuple[tuple, Record]]:
        """Yield each record with its path."""
        try:
            yield from walk(self.records)
        except Malformed as reason:
            raise self.damaged(str(reason)) from None

    def name_of(self, index: int) -> str:
        """Write the path of a record as users do."""
        name, _, _ = next(itertools.islice(self.named(), index, None))
        return name or "the value itself"

    def named(self) -> Iterator[tuple[str, bool, Record]]:
        """Yield each record with its path, and whether it is metadata."""
        return named(self.walk())

    def _refusal(self, error: OSError) -> CheckpointIOError:
        return CheckpointIOError.of(self.path, error, "could not be read")
