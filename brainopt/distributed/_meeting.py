# SPDX-License-Identifier: Apache-2.0
"""Meetings of processes that end within a limit and name who is missing.

A collective on devices hangs for ever when one process does not come. So processes
meet in the key-value store of jax.distributed, which has a limit, and process 0 alone
decides whether a meeting took place:

1. Each process writes what it brings under ``name/round/process``.
2. Process 0 waits for all of them, until its limit, and writes one verdict: everything
   that was brought, or who is missing.
3. The others wait for the verdict, and take it whatever it says.

What must never happen is that processes count the rounds of a name differently for
ever. Process 0 ends a round with its verdict. One that comes to a round that ended
without it goes on to the next; one that leaves before the verdict takes back what it
brought, and comes to the same round again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import jax

from .._compat import key_value_store
from ..errors import DistributedError, message

_rounds: Counter[str] = Counter()
_lock = threading.Lock()
_ENDED = "ended"


def spans(sharding: jax.sharding.Sharding) -> bool:
    """Whether a sharding has devices of more than one process."""
    return jax.process_count() > 1 and not sharding.is_fully_addressable


def exchange(name: str, brought: str = "", timeout: float = 600.0) -> list[str]:
    """Meet all processes under a name; return what each of them brought.

    With one process there is nobody to wait for.

    Args:
        name: what the meeting is about; the same in every process.
        brought: a short text (at most some MB in all) for the others.
        timeout: seconds, in (0, inf), to wait for the others.

    Returns:
        One text for each process, in their order.

    Raises:
        DistributedError: somebody did not come in time; it names who.
    """
    if jax.process_count() == 1:
        return [brought]
    deadline = time.monotonic() + timeout
    with _lock:
        if jax.process_index() == 0:
            return _lead(name, brought, timeout, deadline)
        return _follow(name, brought, timeout, deadline)


def _lead(name: str, brought: str, timeout: float, deadline: float) -> list[str]:
    store = key_value_store()
    place = f"brainopt/{name}/{_rounds[name]}"
    texts: dict[int, str] = {0: brought}
    for process in range(1, jax.process_count()):
        text = _wait(f"{place}/{process}", deadline)
        if text is not None:
            texts[process] = text
    store.key_value_set(f"{place}/{_ENDED}", json.dumps(texts))
    _rounds[name] += 1
    missing = [p for p in range(jax.process_count()) if p not in texts]
    if missing:
        raise DistributedError(_missing(name, missing, timeout))
    _forget(store, name)
    return [texts[process] for process in range(jax.process_count())]


def _follow(name: str, brought: str, timeout: float, deadline: float) -> list[str]:
    store = key_value_store()
    own = jax.process_index()
    while True:
        place = f"brainopt/{name}/{_rounds[name]}"
        store.key_value_set(f"{place}/{own}", brought, allow_overwrite=True)
        verdict = _wait(f"{place}/{_ENDED}", deadline)
        if verdict is None:
            store.key_value_delete(f"{place}/{own}")
            verdict = _wait(f"{place}/{_ENDED}", 0.0)
        if verdict is None:
            raise DistributedError(_missing(name, [0], timeout))
        _rounds[name] += 1
        texts = {int(process): text for process, text in json.loads(verdict).items()}
        if own not in texts:
            continue  # that round was over before this process came
        missing = [p for p in range(jax.process_count()) if p not in texts]
        if missing:
            raise DistributedError(_missing(name, missing, timeout))
        return [texts[process] for process in range(jax.process_count())]


def _wait(key: str, deadline: float) -> str | None:
    left = max(1, int(1000 * (deadline - time.monotonic())))
    try:
        return key_value_store().blocking_key_value_get(key, left)
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        if "DEADLINE_EXCEEDED" in str(error):
            return None
        raise DistributedError(
            message("The coordinator of the processes is lost.")
        ) from error


def _forget(store, name: str) -> None:
    # Everybody has taken the verdict of the round before the one that has just ended.
    before = _rounds[name] - 2
    if before >= 0:
        store.key_value_delete(f"brainopt/{name}/{before}/")


def _missing(name: str, processes: list[int], timeout: float) -> str:
    return message(
        f"{name}: not every process came within {timeout:g} s:",
        [f"process {process} is missing" for process in processes],
        "call it in every process; nothing was changed.",
    )
