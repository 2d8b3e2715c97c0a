# SPDX-License-Identifier: Apache-2.0
"""Memory of the host that a CPU device of JAX can use as it is."""

import math

import numpy as np

_PAGE, _ALIGN, _HUGE_PAGE = 4096, 64, 1 << 21
_LARGE = 4 * _HUGE_PAGE


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Take memory for an array.

    JAX copies what does not begin at a multiple of 64 bytes. A large array begins at a
    huge page: the system clears memory when it is first written, 2 MiB at once in a
    huge page and 4 KiB at a time elsewhere.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _PAGE:
        return np.empty(shape, dtype)
    align = _HUGE_PAGE if nbytes >= _LARGE else _ALIGN
    memory = np.empty(nbytes + align, np.uint8)
    start = -memory.ctypes.data % align
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def copied(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array in memory of its own."""
    if array.nbytes < _PAGE:
        return np.array(array, order="C")
    copy = empty(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy
