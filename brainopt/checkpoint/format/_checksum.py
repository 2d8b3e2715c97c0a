# SPDX-License-Identifier: Apache-2.0
"""The crc32 of zlib, from the fastest library that is there.

It is most of the work of loading a checkpoint. isal (the extra ``fast``) takes the same
numbers with the carry-less multiplication of the processor. It is used only once it has
agreed with zlib here, at every alignment: files must not depend on it.
"""

import zlib
from collections.abc import Callable

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None


def _agrees(fast: Callable[[bytes | memoryview], int]) -> bool:
    # Carry-less multiplication works on 16 and more bytes at once, with other code for
    # what is before and after; 64 starts meet each case.
    data = memoryview(bytes(range(256)) * 5)
    return all(fast(data[n:]) == zlib.crc32(data[n:]) for n in range(64))


crc32: Callable[[bytes | memoryview], int]
if isal_zlib is not None and _agrees(isal_zlib.crc32):
    LIBRARY, crc32 = "isal", isal_zlib.crc32
else:
    LIBRARY, crc32 = "zlib", zlib.crc32
