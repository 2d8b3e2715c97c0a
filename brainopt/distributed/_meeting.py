# SPDX-License-Identifier: Apache-2.0
"""Meetings of processes that end within a limit and name who is missing.

A collective on devices hangs for ever when one process does not come. So processes
meet in the key-value store of jax.distributed, which has a limit, and process 0 alone
decides whether a meeting took place:

1. Each process writes what it brings under ``meeting/round/process``.
2. Process 0 waits for all of them, until its limit. If all are there it writes that the
   round is taken, and reads once more whether nobody has left meanwhile.
3. It makes its conclusion, and writes one verdict: that, or who is missing.
4. The others wait for the verdict, and take it whatever it says.

What must never happen is that processes count the rounds of a name differently for
ever. Process 0 ends a round with its verdict. One that comes to a round that ended
without it goes on to the next; one that leaves before the verdict takes back what it
brought, and comes to the same round again. Nor may a process leave with "nothing was
changed" while process 0 concludes: who leaves first takes back and then asks whether
the round is taken, process 0 first takes it and then asks who is there, so one of the
two sees the other.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable

import jax

from .._compat import key_value_store
from ..errors import DistributedError, first_line, message

_rounds: Counter[str] = Counter()
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_TAKEN, _ENDED = "taken", "ended"


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
    return json.loads(decide(name, brought, json.dumps, timeout))


def decide(
    name: str,
    brought: str,
    conclude: Callable[[list[str]], str],
    timeout: float = 600.0,
) -> str:
    """Meet all processes under a name, and let process 0 decide for all of them.

    Args:
        name: what the meeting is about; the same in every process.
        brought: a short text for process 0.
        conclude: called in process 0 alone, once all are there, with what each of them
            brought; what it returns is the result in every process.
        timeout: seconds, in (0, inf), to wait for the others. Who came in time waits as
            long again for the conclusion.

    Raises:
        DistributedError: somebody did not come in time, which it names, or process 0
            could not conclude.
    """
    if jax.process_count() == 1:
        return conclude([brought])
    deadline = time.monotonic() + timeout
    with _locks[name]:
        if jax.process_index() == 0:
            return _lead(name, brought, conclude, timeout, deadline)
        return _follow(name, brought, timeout, deadline)


def _lead(
    name: str,
    brought: str,
    conclude: Callable[[list[str]], str],
    timeout: float,
    deadline: float,
) -> str:
    store, place = key_value_store(), _place(name)
    texts: dict[int, str] = {0: brought}
    for process in range(1, jax.process_count()):
        text = _wait(f"{place}/{process}", deadline)
        if text is not None:
            texts[process] = text
    if len(texts) == jax.process_count():
        store.key_value_set(f"{place}/{_TAKEN}", "")
        left = {key.rpartition("/")[2] for key, _ in store.key_value_dir_get(place)}
        texts = {p: text for p, text in texts.items() if p == 0 or str(p) in left}
    verdict = {"present": sorted(texts), "text": "", "failed": ""}
    try:
        if len(texts) == jax.process_count():
            # Stays so if a Ctrl-C ends `conclude`; the others must not wait for it.
            verdict["failed"] = "it was interrupted"
            verdict["text"] = conclude([texts[p] for p in sorted(texts)])
            verdict["failed"] = ""
    except Exception as error:
        verdict["failed"] = first_line(error)
        raise
    finally:
        # Whatever happened: the others count this round as they read its verdict.
        store.key_value_set(f"{place}/{_ENDED}", json.dumps(verdict))
        _rounds[name] += 1
    _refuse(name, verdict, timeout)
    _forget(store, name)
    return verdict["text"]


def _follow(name: str, brought: str, timeout: float, deadline: float) -> str:
    store, own = key_value_store(), jax.process_index()
    while True:
        place = _place(name)
        store.key_value_set(f"{place}/{own}", brought, allow_overwrite=True)
        ended = _wait(f"{place}/{_ENDED}", deadline)
        if ended is None:
            store.key_value_delete(f"{place}/{own}")
            taken = _wait(f"{place}/{_TAKEN}", 0.0) is not None
            ended = _wait(f"{place}/{_ENDED}", deadline + timeout if taken else 0.0)
        if ended is None:
            raise DistributedError(_missing(name, [0], timeout))
        _rounds[name] += 1
        verdict = json.loads(ended)
        # Another round follows: this text was taken back, or came too late to be read.
        if own not in verdict["present"]:
            continue  # that round was over before this process came
        _refuse(name, verdict, timeout)
        return verdict["text"]


def _place(name: str) -> str:
    # A name may be the path of a file; one must not be the beginning of another.
    return f"brainopt/{hashlib.sha256(name.encode()).hexdigest()}/{_rounds[name]}"


def _wait(key: str, deadline: float) -> str | None:
    # At least a moment: with the limit passed, a key that is there is still read.
    left = max(1, int(1000 * (deadline - time.monotonic())))
    try:
        return key_value_store().blocking_key_value_get(key, left)
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        if "DEADLINE_EXCEEDED" in str(error):
            return None
        raise DistributedError(
            message("The coordinator of the processes is lost.")
        ) from error


def _refuse(name: str, verdict: dict, timeout: float) -> None:
    missing = sorted({*range(jax.process_count())} - {*verdict["present"]})
    if missing:
        raise DistributedError(_missing(name, missing, timeout))
    if verdict["failed"]:
        fact = f"{name}: process 0 failed: {verdict['failed']}"
        raise DistributedError(message(fact))


def _forget(store, name: str) -> None:
    # Everybody has taken the verdict of the round before the one that has just ended.
    before = _rounds[name] - 2
    if before >= 0:
        place = _place(name).rpartition("/")[0]
        store.key_value_delete(f"{place}/{before}/")


def _missing(name: str, processes: list[int], timeout: float) -> str:
    return message(
        f"{name}: not every process came within {timeout:g} s:",
        [f"process {process} is missing" for process in processes],
        "call it in every process; nothing was changed.",
    )
