# SPDX-License-Identifier: Apache-2.0
"""Every example runs with few steps; the cheap ones reach what they promise."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """Import an example as the module it is."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _as_a_user_has_it():
    import jax

    with jax.numpy_rank_promotion("allow"):
        yield


def test_dale_rnn_keeps_the_signs_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    import matplotlib as mpl

    mpl.use("Agg")
    figure = tmp_path / "curve.png"

    _, broken = example("dale_rnn").main(steps=5, figure=str(figure))

    assert broken == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_dale_rnn_learns_the_decision():
    accuracy, broken = example("dale_rnn").main(figure="")

    assert accuracy >= 0.917 and broken == 0


def test_fit_hh_goes_towards_the_true_conductances():
    ratios = example("fit_hh").main(steps=40)

    assert all(abs(ratio - 1) < 0.2 for ratio in ratios)  # from 0.75 and 1.39


@pytest.mark.long
def test_fit_hh_finds_the_true_conductances():
    ratios = example("fit_hh").main()

    assert all(abs(ratio - 1) < 0.02 for ratio in ratios)


@pytest.mark.hosts("jaxley")
def test_fit_hh_runs_with_a_jaxley_cell_within_the_bounds():
    ratios = example("fit_hh").main(steps=3, jaxley=True)

    assert all(0.1 < ratio < 3.0 for ratio in ratios)


@pytest.mark.long
@pytest.mark.hosts("jaxley")
def test_fit_hh_finds_those_of_a_jaxley_cell():
    ratios = example("fit_hh").main(jaxley=True)

    assert all(abs(ratio - 1) < 0.02 for ratio in ratios)


@pytest.mark.hosts("brainpy")
def test_attach_brainpy_gives_equal_losses_by_every_way_and_resumes():
    from importlib.metadata import version

    if version("brainpy") < "2.8":
        pytest.skip("BPTT of brainpy 2.7 fails by itself")
    losses = example("attach_brainpy").main(steps=8)

    for way in ("bo.jit", "bp.BPTT"):
        np.testing.assert_allclose(losses[way], losses["bm.jit"], rtol=1e-5)
    assert losses["resumed"] == losses["bo.jit"][4:]


@pytest.mark.hosts("brainstate")
def test_attach_brainstate_gives_equal_losses_by_both_ways_and_resumes():
    losses = example("attach_brainstate").main(steps=8)

    ours, theirs = losses["by_brainopt"], losses["by_brainstate"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert losses["resumed"] == ours[4:]
