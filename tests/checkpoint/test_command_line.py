# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, and its exit codes 0, 1 and 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.__main__ import main
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same

W = np.arange(6, dtype="f4").reshape(2, 3)


@pytest.fixture
def file(tmp_path):
    """A file of a net and an epoch."""
    checkpoint.save(tmp_path / "f", {"net": FakeNode({"W": W}, lr=0.5), "epoch": 3})
    return str(tmp_path / "f")


def test_inspect_prints_paths_dtypes_and_metadata(file, capsys):
    assert main(["inspect", file]) == 0
    told = capsys.readouterr().out
    assert "net.W" in told and "float32 (2, 3)" in told and "lr=0.5" in told


@pytest.mark.parametrize("glob", ["net", "net.*", "n?t"])
def test_inspect_prints_json_with_numbers_and_by_glob(file, capsys, glob):
    assert main(["inspect", file, "--json", "--stats", "--match", glob]) == 0
    told = json.loads(capsys.readouterr().out)
    (entry,) = told["entries"]
    assert told["version"] == 1 and told["nodes"]["net"]["lr"] == 0.5
    assert entry["path"] == "net.W" and entry["shape"] == [2, 3]
    assert (entry["min"], entry["max"], entry["mean"]) == (0, 5, 2.5)


def test_verify_is_0_for_intact_and_2_for_damaged_files(file, capsys):
    assert main(["verify", file]) == 0
    data = bytearray(Path(file).read_bytes())
    data[70] ^= 1
    Path(file).write_bytes(data)
    assert main(["verify", file]) == 2
    assert "no intact checkpoint" in capsys.readouterr().err


def test_diff_is_0_for_the_same_and_1_for_other_numbers(file, tmp_path, capsys):
    other = str(tmp_path / "g")
    nodes = {"net": FakeNode({"W": W + np.float32(1e-3)}, lr=0.5), "epoch": 3}
    checkpoint.save(other, nodes)
    assert main(["diff", file, file]) == 0
    assert main(["diff", file, other]) == 1
    assert "net.W: 6 of 6 numbers differ, by up to 0.001" in capsys.readouterr().out
    assert main(["diff", file, other, "--atol", "0.01"]) == 0
    assert main(["diff", file, other, "--atol", "0.01", "--exact"]) == 1


def test_diff_tells_paths_shapes_values_and_metadata(file, tmp_path, capsys):
    other = str(tmp_path / "g")
    net = FakeNode({"W": W.T.copy(), "b": W}, lr=0.25)
    checkpoint.save(other, {"net": net, "epoch": 4})
    assert main(["diff", file, other]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "net.W: (2, 3) float32 and (3, 2) float32",
        "epoch: 3 and 4",
        "net.b: only in the second",
        "net.lr: 0.5 and 0.25",
    ]


@pytest.mark.parametrize(
    "command", ["inspect F", "verify F", "diff F F", "convert F G"]
)
def test_an_unreadable_file_is_2(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    Path("F").write_bytes(b"\x80\x04.")
    assert main(command.split()) == 2
    assert not Path("G").exists()


def test_convert_chooses_the_format_by_suffix(tmp_path):
    checkpoint.save(tmp_path / "a.npz", {"model.W": W})
    a, b, c = (str(tmp_path / name) for name in ("a.npz", "b.safetensors", "c"))
    assert main(["convert", a, b, "--map", "model=mine"]) == 0
    assert main(["convert", b, c, "--map", "mine=net"]) == 0
    assert same(checkpoint.load(tmp_path / "c"), {"net.W": W})
    node = FakeNode({"W": W * 0})
    checkpoint.restore(tmp_path / "c", {"net": node})
    assert same(node.state_dict(), {"W": W})


def test_convert_flattens_what_brainpy_nests(tmp_path):
    checkpoint.save(tmp_path / "a", {"Dense0": {"Dense0.W": W, "Dense0.b": W[0]}})
    paths = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["convert", *paths, "--map", "Dense0=net.layers.0"]) == 0
    expected = {"net.layers.0.W": W, "net.layers.0.b": W[0]}
    assert same(checkpoint.load(tmp_path / "b"), expected)


def test_convert_refuses_two_values_of_one_name(tmp_path, capsys):
    checkpoint.save(tmp_path / "a", {"x": {"W": W}, "y": {"W": W}})
    paths = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["convert", *paths, "--map", "x=y"]) == 2
    assert "Two values would be called y.W" in capsys.readouterr().err


def test_convert_gives_an_optimizer_its_state(tmp_path):
    state = {"W.exp_avg": W, "W.exp_avg_sq": W * 2, "W.step": np.float32(5)}
    checkpoint.save(tmp_path / "a", state)
    paths = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["convert", *paths, "--optimizer", "opt"]) == 0
    expected = {"step": np.asarray(5, "i4"), "slots.W.m": W, "slots.W.v": W * 2}
    assert same(checkpoint.load(tmp_path / "b")["opt"], expected)


def test_doctor_names_versions_and_devices(capsys):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert main(["doctor"]) == 0
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    told = capsys.readouterr().out
    assert "brainopt" in told and "jaxlib" in told and "devices: " in told
    assert "no compilation cache: JAX_COMPILATION_CACHE_DIR=" in told
    assert "checksums: isal" in told or "pip install 'brainopt[fast]'" in told


def test_the_module_runs(file):
    done = subprocess.run(
        [sys.executable, "-m", "brainopt", "verify", file],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "intact" in done.stdout


def test_inspect_prints_strict_json_of_any_value(tmp_path, capsys):
    values = {"n": 3**9000, "nan": float("nan"), "b": b"\0", "c": 1j, "none": None}
    node = FakeNode({"W": np.array([np.nan, 1], "f4")}, limits={2: (None, -np.inf)})
    checkpoint.save(tmp_path / "f", {"net": node, **values})
    assert main(["inspect", str(tmp_path / "f"), "--json", "--stats"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {entry["path"] for entry in told["entries"]} == {"net.W", *values}
    assert told["nodes"]["net"]["limits"] == {"2": [None, "-inf"]}
    assert main(["inspect", str(tmp_path / "f")]) == 0


def test_diff_sees_what_one_dotted_path_hides(tmp_path, capsys):
    checkpoint.save(tmp_path / "a", {"a.b": 1, "a": {"b": 2}, "e": {}})
    checkpoint.save(tmp_path / "b", {"a.b": 3, "a": {"b": 2}, "e": []})
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().out.splitlines() == ["a.b: 1 and 3", "e: {} and []"]


def test_convert_keeps_the_nodes_of_an_own_file(file, tmp_path):
    assert main(["convert", file, str(tmp_path / "g")]) == 0
    assert main(["diff", file, str(tmp_path / "g")]) == 0
    assert checkpoint.inspect(tmp_path / "g").nodes["net"]["lr"] == 0.5


def test_convert_renames_the_parameters_of_an_optimizer(tmp_path, capsys):
    checkpoint.save(tmp_path / "a", {"optim.state.l.weight.momentum_buffer": W})
    paths = str(tmp_path / "a"), str(tmp_path / "b")
    words = ["convert", *paths, "--optimizer", "opt", "--map", "l.weight=l.W"]
    assert main(words) == 2
    assert "has none" in capsys.readouterr().err and not (tmp_path / "b").exists()
    assert main([*words, "--step", "9"]) == 0
    expected = {"step": np.asarray(9, "i4"), "slots.l.W.b": W}
    assert same(checkpoint.load(tmp_path / "b"), {"opt": expected})


@pytest.mark.hosts("orbax")
@pytest.mark.parametrize("command", ["diff D D", "convert D G"])
def test_a_folder_that_orbax_cannot_read_is_2(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("D").mkdir()
    (Path("D") / "_METADATA").write_text("{")
    assert main(command.split()) == 2


def test_doctor_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "hosts: none" in told and "pip install 'brainopt[brainpy]'" in told


@pytest.mark.parametrize(
    ("one", "two", "options"),
    [
        (0.0, -0.0, []),
        (jax.random.key(0, impl="rbg"), jax.random.key(0, impl="unsafe_rbg"), []),
        (np.array([1000]), np.array([1001]), ["--rtol", "0.1"]),
    ],
)
def test_diff_sees_what_counts_as_equal_elsewhere(tmp_path, one, two, options):
    files = [str(tmp_path / "one"), str(tmp_path / "two")]
    for path, value in zip(files, (one, two), strict=True):
        checkpoint.save(path, {"x": value})
    assert main(["diff", *files, *options]) == 1
    assert main(["diff", files[0], files[0], *options]) == 0


@pytest.mark.parametrize("case", ["ascii", "pipe", "full"])
def test_the_output_changes_no_exit_code(tmp_path, case):
    checkpoint.save(tmp_path / "one", {"é": 1})
    checkpoint.save(tmp_path / "two", {"é": 2})
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full" if case == "full" else os.devnull, "w") as sink:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "brainopt",
                "diff",
                tmp_path / "one",
                tmp_path / "two",
            ],
            cwd=Path(__file__).parents[2],
            env=os.environ | ({"PYTHONIOENCODING": "ascii"} if case == "ascii" else {}),
            stdout=write if case == "pipe" else sink,
            stderr=subprocess.PIPE,
            text=True,
        )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if case == "full" else 1)


def test_stats_of_two_arrays_of_one_dotted_path_are_refused(tmp_path):
    checkpoint.save(tmp_path / "f", {"a.b": np.ones(1), "a": {"b": np.zeros(1)}})
    assert main(["inspect", str(tmp_path / "f")]) == 0
    assert main(["inspect", str(tmp_path / "f"), "--stats"]) == 2
