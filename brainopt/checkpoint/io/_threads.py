# SPDX-License-Identifier: Apache-2.0
"""Independent pieces of work on several cores, with the error of a single one."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter

THREADS = min(4, os.cpu_count() or 1)  # more of them wait for the memory


def each(act: Callable[..., object], work: Iterable[tuple]) -> None:
    """Call ``act(*piece)`` for each piece, on this thread and helpers beside it.

    Pieces are begun in their order, and none is begun once one has failed.

    Raises:
        Exception: that of the first piece, in their order, that failed.
    """
    # `popleft` and `append` are single steps of the interpreter and need no lock. After
    # a failure later pieces are dropped; those begun before it may fail too, and the
    # error that is raised is the one that a loop would have met first.
    todo, failures = deque(enumerate(work)), []

    def drain() -> None:
        while todo:
            try:
                number, piece = todo.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                act(*piece)
            except Exception as error:
                todo.clear()
                failures.append((number, error))

    with ThreadPoolExecutor(THREADS, "brainopt") as helpers:
        try:
            for _ in range(THREADS - 1):
                helpers.submit(drain)
        except RuntimeError:  # the interpreter is ending: no more threads
            pass
        try:
            drain()
        finally:
            todo.clear()
    try:
        if failures:
            raise min(failures, key=itemgetter(0))[1]
    finally:
        failures.clear()  # they refer to this frame
