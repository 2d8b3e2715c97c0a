# SPDX-License-Identifier: Apache-2.0
"""The bar of a loop: how often it is drawn, where, and what it says."""

import sys
import time

import jax
import jax.numpy as jnp
import pytest

import brainopt as bo
from brainopt.transforms.control_flow import _progress


def _run_with_a_bar(length):
    bo.jit(lambda: bo.for_loop(lambda: None, length=length, progress_bar=True))()
    jax.effects_barrier()


@pytest.mark.parametrize("length", [20, 1003])
def test_the_progress_bar_reaches_its_end(length, terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    _run_with_a_bar(length)

    bars = terminal().split("\r")

    assert f"{length}/{length}" in bars[-1]
    assert "s left" in bars[1]
    assert len(bars) <= 23


@pytest.mark.parametrize(
    ("interval", "shown"),
    [(50, ["50/120", "100/120", "120/120"]), (1000, ["120/120"])],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_bar_is_drawn_as_often_as_asked(
    interval, shown, compiled, terminal, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    def run():
        return bo.for_loop(lambda x: x, jnp.arange(120), progress_bar=interval)

    out = (bo.jit(run) if compiled else run)()
    jax.effects_barrier()

    assert [bar.split()[1] for bar in terminal().split("\r")[1:]] == shown
    assert out.tolist() == list(range(120))


def test_the_bar_is_that_of_tqdm_where_it_is_installed(terminal):
    pytest.importorskip("tqdm")

    _run_with_a_bar(40)

    shown = terminal()
    assert "100%" in shown and "40/40" in shown


@pytest.mark.parametrize("slow", [True, False])
def test_a_bar_announces_a_compilation_of_seconds(slow, terminal, monkeypatch):
    monkeypatch.setattr(_progress, "_PATIENCE", 0.05 if slow else 60.0)

    def leaky(x):
        time.sleep(0.2 * slow)  # while it is traced
        return x

    bo.jit(lambda: bo.for_loop(leaky, jnp.ones(5), progress_bar=True))()
    jax.effects_barrier()

    shown = terminal()
    assert ("leaky` …" in shown) is slow
    assert shown.count("compiling `") <= 2 and "5/5" in shown


@pytest.mark.parametrize("has_tqdm", [False, True])
def test_the_bar_is_silent_where_nobody_looks(has_tqdm, capfd, monkeypatch):
    if has_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    _run_with_a_bar(20)

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("given", ["invalid", [1, 2], -1, 1.0], ids=repr)
@pytest.mark.parametrize("loop", [bo.for_loop, lambda f, xs, **kw: bo.scan(
    lambda c, x: (c, f(x)), None, xs, **kw)], ids=["for_loop", "scan"])  # fmt: skip
def test_a_progress_bar_is_a_bool_or_a_number(loop, given):
    with pytest.raises(TypeError, match="progress_bar="):
        loop(lambda x: x, jnp.ones(3), progress_bar=given)
