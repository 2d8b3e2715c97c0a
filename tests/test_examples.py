# SPDX-License-Identifier: Apache-2.0
"""Every example runs with few steps, draws, resumes, and reaches what it promises."""

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import brainopt as bo

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

# The options of a short run of each program, and the line after which it is killed.
SHORT = {
    "yinyang_snn": (["--steps", "4", "--hidden", "30"], "step    2"),
    "randman_snn": (["--steps", "3", "--hidden", "20"], "step    1"),
    "store_recall": (["--steps", "20"], "step   10"),
    "fit_hh": (["--steps", "50"], "step   25"),
    "dale_rnn": (["--steps", "3"], "step    1"),
    "force_reservoir": (["--steps", "3"], "step    1"),
    "population_training": (["--steps", "10"], "step    5"),
}
# Options with which a program keeps more state, or state of other shapes.
VARIANTS = {
    "yinyang_snn --learn-tau": (["--steps", "4", "--hidden", "30"], "step    2"),
    "store_recall --lif": (["--steps", "20"], "step   10"),
    "dale_rnn --task comparison": (["--steps", "3"], "step    1"),
}
SLOW = {"dale_rnn", "population_training", "randman_snn", "store_recall"}
ATTACHED = {
    "attach_brainpy": (["--steps", "20"], "step   10"),
    "attach_brainstate": (["--steps", "20"], "step   10"),
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Return a function that runs the ``main`` of an example in an empty folder."""
    import jax

    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)

    def run(name, *argv):
        if "--figure" not in argv:
            argv = (*argv, "--figure", "")
        with jax.numpy_rank_promotion("allow"):
            return import_module(name).main(list(argv))

    return run


def _start(folder, command, *arguments):
    name, *options = command.split()
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *options, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(process):
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def _final_state(output):
    return next(line for line in output.splitlines() if line.startswith("final state"))


# --- every program


def _slow(value, slow):
    return pytest.param(value, marks=[pytest.mark.long] if value in slow else [])


def _killed(name):
    marks = [] if name == "yinyang_snn" else [pytest.mark.long]
    if name in ATTACHED:
        marks.append(pytest.mark.hosts(name.removeprefix("attach_")))
    return pytest.param(name, marks=marks)


@pytest.mark.more
@pytest.mark.parametrize("command", [*map(_killed, SHORT | VARIANTS | ATTACHED)])
def test_a_killed_run_resumes_to_the_same_bits(command, tmp_path):
    options, line = (SHORT | VARIANTS | ATTACHED)[command]
    options = [*options, "--figure", ""]
    (tmp_path / "killed").mkdir()
    whole = _finish(_start(tmp_path, command, *options))

    process = _start(tmp_path / "killed", command, *options)
    for text in process.stdout:
        if text.startswith(line):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    resumed = _finish(_start(tmp_path / "killed", command, *options, "--resume"))

    assert f"resumed {command.split()[0].removesuffix('_snn')}.bo after step" in resumed
    assert _final_state(resumed) == _final_state(whole)


def test_every_program_that_resumes_is_killed_in_a_test():
    text = {path.stem: path.read_text("utf-8") for path in EXAMPLES.glob("*.py")}
    found = {stem for stem, code in text.items() if "program.options(" in code}

    assert found == {*SHORT, *ATTACHED}


@pytest.mark.more
@pytest.mark.parametrize("name", [_slow(n, SLOW) for n in SHORT])
def test_a_short_run_draws_its_figure(name, example, tmp_path):
    pytest.importorskip("matplotlib")
    steps = {"store_recall": "2", "fit_hh": "3"}.get(name, "1")
    small = [x for x in SHORT[name][0] if x not in ("--steps", SHORT[name][0][1])]

    results = example(name, *small, "--steps", steps, "--figure", "figure.png")

    assert results.get("weights that break Dale's law", 0) == 0
    assert (tmp_path / "figure.png").stat().st_size > 20_000


@pytest.mark.parametrize("name", [*SHORT, "data_parallel"])
def test_help_explains_every_option(name, example, capsys):
    with pytest.raises(SystemExit):
        example(name, "--help")

    text = capsys.readouterr().out.split("options:")[1]
    entries = text.split("\n  -")[1:]
    assert len(entries) >= 6
    unexplained = [e for e in entries if len(e.split("\n", 1)[-1].split()) < 2]
    assert not [e for e in unexplained if "  " not in e.strip()]


@pytest.mark.more
def test_resume_without_a_file_says_so(example, capsys):
    example("fit_hh", "--steps", "1", "--resume", "--checkpoint", "typo.bo")

    assert "no checkpoint typo.bo yet" in capsys.readouterr().out


@pytest.mark.more
def test_resume_from_the_file_of_another_program_ends_with_what_differs(example):
    other = bo.Node()
    other.w = bo.Variable([1.0])
    bo.checkpoint.save("other.bo", {"run": other, "history": {}})

    with pytest.raises(SystemExit, match=r"(?s)other\.bo does not fit.*g_na"):
        example("fit_hh", "--steps", "1", "--resume", "--checkpoint", "other.bo")


@pytest.mark.more
def test_data_parallel_resumes_keeps_results_and_draws(example, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    options = ["--resume", "--checkpoint", "runs", "--results", "found.json"]

    whole = example("data_parallel", "--steps", "12", "--checkpoint", "whole")
    example("data_parallel", "--steps", "4", *options)
    assert "no checkpoint in runs yet" in capsys.readouterr().out
    resumed = example("data_parallel", "--steps", "12", *options, "--figure", "f.png")

    assert "resumed after step 4" in capsys.readouterr().out and resumed == whole
    assert (
        json.loads(Path("found.json").read_text())["results"]["last loss"] == whole[-1]
    )
    assert (tmp_path / "f.png").stat().st_size > 10_000


@pytest.mark.parametrize("steps, marker", [(1, "o"), (9, "o"), (10, "None")])
def test_a_curve_of_few_steps_is_seen_and_has_whole_ticks(monkeypatch, steps, marker):
    figures = pytest.importorskip("matplotlib.figure")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    axes = figures.Figure().subplots()

    import_module("program").course(axes, np.ones(steps), first=3)

    (line,) = axes.lines
    assert line.get_xdata().tolist() == list(range(3, 3 + steps))
    assert line.get_marker() == marker
    assert all(tick == round(tick) for tick in axes.get_xticks())


# --- single programs


@pytest.mark.more
def test_yinyang_runs_on_another_device(tmp_path):
    options = ["--steps", "2", "--hidden", "30", "--device", "cpu:1", "--figure", ""]

    output = _finish(_start(tmp_path, "yinyang_snn", *options))

    assert "test accuracy" in output


@pytest.mark.more
@pytest.mark.parametrize("seed", [_slow(s, {"505", "1"}) for s in ("404", "505", "1")])
def test_yinyang_finds_all_classes_with_seeds_that_were_stuck(example, seed):
    results = example("yinyang_snn", "--steps", "12", "--hidden", "100", "--seed", seed)

    assert results["test accuracy"] >= 0.93


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_yinyang_reaches_its_accuracy(example, seed):
    assert example("yinyang_snn", "--seed", str(seed))["test accuracy"] >= 0.97


@pytest.mark.long
def test_randman_reaches_the_published_accuracy(example):
    assert example("randman_snn")["test accuracy"] >= 0.963


@pytest.mark.long
def test_store_recall_is_solved_by_adaptation(example):
    with_adaptation = example("store_recall")
    without = example("store_recall", "--lif", "--steps", "60")

    assert with_adaptation["test recall error"] < 0.05
    assert with_adaptation["temporaries of an update (MB)"] < 100
    assert without["test recall error"] > 0.3


@pytest.mark.long
def test_dale_rnn_learns_the_decision(example):
    results = example("dale_rnn")

    assert results["accuracy"] >= 0.92
    assert results["weights that break Dale's law"] == 0


@pytest.mark.long
def test_dale_rnn_learns_the_comparison(example):
    assert example("dale_rnn", "--task", "comparison")["worst condition"] >= 0.85


@pytest.mark.more
def test_fit_hh_finds_the_true_conductances(example):
    results = example("fit_hh")

    assert abs(results["g_Na / true"] - 1) < 1e-4
    assert abs(results["g_K / true"] - 1) < 1e-4


@pytest.mark.long
def test_fit_hh_knows_its_errors(example):
    results = example("fit_hh", "--noise", "1", "--repetitions", "20")

    assert results["g_Na within 2 standard errors"] >= 18
    assert results["g_K within 2 standard errors"] >= 18


@pytest.mark.hosts("jaxley")
def test_fit_hh_finds_those_of_a_jaxley_cell(example):
    results = example("fit_hh", "--jaxley")

    assert abs(results["g_Na / true"] - 1) < 1e-4
    assert abs(results["g_K / true"] - 1) < 1e-4


@pytest.mark.long
def test_force_follows_the_target_after_learning(example):
    assert example("force_reservoir", "--seed", "2")["normalized error"] < 0.1


@pytest.mark.more
def test_population_training_agrees_with_single_runs(example):
    results = example("population_training", "--steps", "2")

    assert results["members equal to the bit"] == 16


@pytest.mark.parametrize("name", ["fast_sigmoid", "triangle", "arctan"])
def test_a_surrogate_is_a_step_with_a_smooth_derivative(name, monkeypatch):
    import jax
    import jax.numpy as jnp

    monkeypatch.syspath_prepend(str(EXAMPLES))
    spike = getattr(import_module("surrogates"), name)
    x = np.array([-0.7, -0.1, 0.0, 0.2, 1.4], np.float32)
    written = {
        "fast_sigmoid": 1 / (1 + 3 * np.abs(x)) ** 2,
        "triangle": 3 * np.maximum(0, 1 - np.abs(x)),
        "arctan": 1.5 / (1 + (np.pi * 1.5 * x) ** 2),
    }

    slope = bo.Variable(3.0)
    derivative = jax.vmap(jax.grad(lambda v: spike(v, slope.value)))(jnp.asarray(x))

    assert spike(x).tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(derivative, written[name], rtol=1e-6)


@pytest.mark.hosts("brainpy")
def test_attach_brainpy_gives_equal_losses_by_every_way(example):
    from importlib.metadata import version

    if version("brainpy") < "2.8":
        pytest.skip("BPTT of brainpy 2.7 fails by itself")
    results = example("attach_brainpy", "--steps", "8")

    assert results["largest difference of losses between the ways"] < 1e-5
    assert results["largest relative difference of its losses to BrainPy's"] < 1e-4


@pytest.mark.hosts("brainstate")
def test_attach_brainstate_gives_equal_losses_by_both_ways(example):
    results = example("attach_brainstate", "--steps", "8")

    assert results["largest difference of losses between the ways"] < 1e-5


def test_a_missing_framework_is_named_with_its_extra(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))

    with pytest.raises(SystemExit, match=r"pip install '\.\[brainpy\]'"):
        import_module("program").require("not_installed", "brainpy")


@pytest.mark.parametrize("name", ATTACHED)
def test_help_is_given_where_the_framework_is_missing(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    monkeypatch.delitem(sys.modules, name, raising=False)

    with pytest.raises(SystemExit) as ended:
        import_module(name)

    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "--steps STEPS" in told and "pip install '.[" in told
