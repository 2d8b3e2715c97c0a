# SPDX-License-Identifier: Apache-2.0
"""Work on several threads ends, and fails, as it would on one."""

import threading
import time

import pytest

from brainopt import checkpoint
from brainopt.checkpoint.io import _read, _threads
from brainopt.errors import CheckpointCorruptError


@pytest.fixture(autouse=True)
def several(monkeypatch):
    monkeypatch.setattr(_threads, "THREADS", 4)


@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_each_piece_is_done_once(count):
    done = []
    _threads.each(lambda *piece: done.append(piece), ((n, -n) for n in range(count)))
    assert sorted(done) == [(n, -n) for n in range(count)]


def test_pieces_are_done_beside_each_other():
    barrier = threading.Barrier(4, timeout=30)
    _threads.each(barrier.wait, [()] * 4)


def test_the_first_failure_in_order_is_raised():
    late = threading.Event()

    def fail(number):
        if number == 1:
            late.wait(30)
        if number in (1, 2):
            late.set()
            raise ValueError(number)

    for _ in range(50):
        late.clear()
        with pytest.raises(ValueError, match="1"):
            _threads.each(fail, ((n,) for n in range(100)))


def test_none_is_begun_after_a_failure():
    begun = []

    def act(number):
        begun.append(number)
        if number == 0:
            raise ValueError
        time.sleep(0.01)

    with pytest.raises(ValueError):
        _threads.each(act, ((n,) for n in range(1000)))
    assert len(begun) < 100


def test_an_interrupt_stops_the_helpers_and_comes_through():
    begun = []

    def act(number):
        begun.append(number)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        _threads.each(act, ((n,) for n in range(5000)))
    assert len(begun) < 5000
    assert not [t for t in threading.enumerate() if t.name.startswith("brainopt")]


def test_without_new_threads_the_caller_does_it_all(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    _threads.each(done.append, ((n,) for n in range(9)))
    assert done == list(range(9))


def test_the_first_damage_in_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(_read, "_THREADED", 0)
    names = "abcdefgh"
    checkpoint.save(tmp_path / "f", {name: bytes(3 << 20) for name in names})
    whole = (tmp_path / "f").read_bytes()
    damaged = bytearray(whole)
    for name in names[2:]:
        damaged[(3 << 20) * names.index(name) + (2 << 20)] ^= 1
    (tmp_path / "f").write_bytes(damaged)
    for _ in range(20):
        with pytest.raises(CheckpointCorruptError, match="c: its bytes are damaged"):
            checkpoint.load(tmp_path / "f")
