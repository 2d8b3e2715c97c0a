# SPDX-License-Identifier: Apache-2.0
"""Counts of compilations: of one function, and within a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from ...core import describe
from ...errors import CompilationError, message


class Compilations:
    """The count of compilations of one function.

    Args:
        function: the function that is compiled.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.count = 0

    def add(self) -> None:
        """Count one."""
        self.count += 1
        # Blocks nest: each counts what happens inside, in its own thread.
        for block in _blocks.active:
            block.append(describe(self.function))

    def take_back(self) -> None:
        """Count one less: what was traced last is not compiled, but made again."""
        self.count -= 1
        name = describe(self.function)
        for block in _blocks.active:
            if name in block:
                block.remove(name)


class _Blocks(threading.local):
    def __init__(self):
        self.active: list[list[str]] = []


_blocks = _Blocks()


@contextlib.contextmanager
def assert_compiles_at_most(count: int) -> Iterator[None]:
    """Raise if functions of `jit` are compiled more often in a block, as in tests.

    Args:
        count: how many compilations are allowed in this thread, of all functions
            together.

    Raises:
        CompilationError: there were more; lists the functions. It is an AssertionError.

    Example:
        >>> import brainopt as bo
        >>> step = bo.jit(lambda x: x + 1)
        >>> with bo.assert_compiles_at_most(1):
        ...     _ = step(1.0), step(2.0)
    """
    compiled: list[str] = []
    _blocks.active.append(compiled)
    try:
        yield
    finally:
        _blocks.active.remove(compiled)
    if len(compiled) > count:
        each = [f"{name}: {compiled.count(name)}" for name in dict.fromkeys(compiled)]
        raise CompilationError(
            message(
                f"{len(compiled)} compilations, where at most {count} are allowed:",
                each,
                "look for arguments whose shape, dtype or static value changes, and "
                "for attributes of Nodes that change from call to call.",
            )
        )
