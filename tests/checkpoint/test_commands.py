# SPDX-License-Identifier: Apache-2.0
"""Commands on folders, the tree of inspect, JSON everywhere, and terminals."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from brainopt import checkpoint
from brainopt.__main__ import main
from brainopt.checkpoint.commands import _output
from brainopt.checkpoint.io._read import Reader
from tests.checkpoint.fake import FakeNode
from tests.checkpoint.trees import same

W = np.arange(6, dtype="f4").reshape(2, 3)


@pytest.fixture
def file(tmp_path):
    """A file of a net and an epoch."""
    checkpoint.save(tmp_path / "f", {"net": FakeNode({"W": W}, lr=0.5), "epoch": 3})
    return str(tmp_path / "f")


@pytest.fixture
def run_folder(tmp_path):
    """A folder of three steps, the last of them damaged."""
    folder = tmp_path / "run"
    with checkpoint.Manager(folder, keep=None, async_=False) as manager:
        for step, loss in enumerate([0.5, 0.1, 0.3]):
            node = FakeNode({"W": W + step})
            manager.save(step, {"net": node}, {"loss": loss})
    data = bytearray((folder / "step-2.bopt").read_bytes())
    data[100] ^= 1
    (folder / "step-2.bopt").write_bytes(data[:-1])
    return folder


def test_list_tells_steps_metrics_best_and_damage(run_folder, capsys):
    assert main(["list", str(run_folder), "--best", "loss"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "saved", "bytes", "loss"]
    assert lines[1].split()[0] == "0" and lines[1].split()[-1] == "0.5"
    assert lines[2].split()[-2:] == ["0.1", "best"]
    assert "bytes, not" in lines[3] or "damaged" in lines[3]


def test_list_is_json_and_1_without_steps(run_folder, tmp_path, capsys):
    main(["list", str(run_folder), "--best", "loss:max", "--json"])
    told = json.loads(capsys.readouterr().out)["steps"]
    assert [entry["metrics"] for entry in told[:2]] == [{"loss": 0.5}, {"loss": 0.1}]
    assert [entry["best"] for entry in told] == [True, False, False]
    (tmp_path / "empty").mkdir()
    assert main(["list", str(tmp_path / "empty")]) == 1


def test_list_refuses_what_is_no_folder(tmp_path, file, capsys):
    assert main(["list", str(tmp_path / "typo")]) == main(["list", file]) == 2
    told = capsys.readouterr().err
    assert "typo could not be read: No such file" in told and "Not a dir" in told


def test_verify_takes_folders_and_names_each_step(run_folder, capsys):
    assert main(["verify", str(run_folder)]) == 2
    told = capsys.readouterr()
    assert told.out.count("intact") == 2 and "step-2.bopt is no" in told.err
    assert main(["verify", str(run_folder), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert [entry["intact"] for entry in told] == [True, True, False]


def test_inspect_and_diff_take_the_newest_step_of_a_folder(run_folder, capsys):
    (run_folder / "step-2.bopt").unlink()
    assert main(["inspect", str(run_folder)]) == 0
    assert "step-1.bopt: format 1" in capsys.readouterr().out
    assert main(["diff", str(run_folder / "step-1.bopt"), str(run_folder)]) == 0
    assert main(["inspect", str(run_folder.parent)]) == 2


def test_inspect_is_a_tree_with_subtotals_and_folded_histories(tmp_path, capsys):
    tree = {
        "net": {"a": {"W": W, "b": W[0]}, "c": W},
        "losses": [0.5] * 80,
        "epoch": 3,
    }
    checkpoint.save(tmp_path / "f", tree)
    assert main(["inspect", str(tmp_path / "f")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert ["net", "60"] in lines and ["net.a", "36"] in lines
    assert ["…", "80", "plain", "values", "0"] in lines
    assert lines[-1] == ["total", "84", "values", "60"] and len(lines) == 9
    assert main(["inspect", str(tmp_path / "f"), "--depth", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert ["net", "3", "values", "60"] in lines and len(lines) == 4
    main(["inspect", str(tmp_path / "f"), "--all"])
    assert len(capsys.readouterr().out.splitlines()) > 80


def test_stats_stand_in_columns_with_counts_of_what_is_not_finite(tmp_path, capsys):
    bad = np.array([1.0, np.nan, np.nan, np.inf], "f4")
    checkpoint.save(tmp_path / "f", {"bad": bad, "big": np.arange(4, dtype=">i2")})
    assert main(["inspect", str(tmp_path / "f"), "--stats"]) == 0
    head, *rows = [s.split() for s in capsys.readouterr().out.splitlines()[1:]]
    assert head[-6:] == ["min", "max", "mean", "norm", "nan", "inf"]
    assert rows[0][-6:] == ["1", "1", "1", "1", "2", "1"]
    assert rows[1][-6:-3] == ["0", "3", "1.5"]


@pytest.mark.parametrize(
    "words, key, value",
    [
        (["diff", "{}", "{}"], "same", True),
        (["convert", "{}", "{}.npz", "--only", "net"], "values", 1),
        (["doctor"], "python", None),
    ],
)
def test_every_command_prints_json(file, words, key, value, capsys):
    assert main([*(word.format(file) for word in words), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert key in told and value in (None, told[key])


def test_a_match_that_fits_nothing_is_1(file, capsys):
    assert main(["inspect", file, "--match", "nett"]) == 1
    assert "has nothing of nett" in capsys.readouterr().out
    assert main(["inspect", file, "--match", "nett", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["entries"] == []


def test_list_shows_metrics_in_six_digits(tmp_path, capsys):
    with checkpoint.Manager(tmp_path / "run", async_=False) as manager:
        manager.save(0, {"x": 1}, {"loss": 0.3 - 0.1, "right": 7})
    assert main(["list", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.split()[-2:] == ["0.2", "7"]


def test_diff_folds_long_histories_unless_asked(tmp_path, capsys):
    history = [{"loss": i / 80} for i in range(80)]
    checkpoint.save(tmp_path / "a", {"W": [W] * 20, "few": [1, 2], "h": history})
    checkpoint.save(tmp_path / "b", {"W": [W + 1] * 20, "few": [1, 3], "h": [{}]})
    later = [{"loss": i / 40} for i in range(80)]
    checkpoint.save(tmp_path / "c", {"W": [W] * 20, "few": [1, 2], "h": later})
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert main(["diff", a, b]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "h: 80 values only in the first" in lines and "few.1: 2 and 3" in lines
    assert sum(line.startswith("W.") for line in lines) == 20 and len(lines) == 23
    assert main(["diff", a, c]) == 1
    assert capsys.readouterr().out == (
        "h: 79 values differ, h.1.loss: 0.0125 and 0.025, …\n"
    )
    for option in ("--all", "--json"):
        main(["diff", a, c, option])
        assert "h.79.loss" in capsys.readouterr().out


def test_convert_takes_and_leaves_paths(tmp_path):
    tree = {"net": {"W": W, "b": W[0]}, "epoch": 3}
    a, b = str(tmp_path / "a"), tmp_path / "b.safetensors"
    checkpoint.save(a, tree)
    assert main(["convert", a, str(b), "--only", "net", "--skip", "*.b"]) == 0
    assert same(checkpoint.load(b), {"net.W": W})
    assert main(["convert", a, str(b), "--only", "ned"]) == 2


def test_convert_refuses_a_suffix_that_names_no_format(file, tmp_path, capsys):
    target = tmp_path / "p.xyz"
    assert main(["convert", file, str(target)]) == 2
    assert ".xyz names no format" in capsys.readouterr().err and not target.exists()


def test_brainopt_alone_prints_the_help(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out
    assert "COMMAND" in told and "list" in told and "exit codes" in told


def cli(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "brainopt", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_misspelt_command_is_told_what_it_may_mean():
    done = cli("inspec", "f")
    assert done.returncode == 2 and "did you mean 'inspect'?" in done.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        ("inspect f --mach net", "'--mach' is no option; did you mean '--match'?"),
        ("convert f g --onyl=net", "'--onyl' is no option; did you mean '--only'?"),
        ("completion bash --json", "unrecognized arguments: --json"),
    ],
)
def test_a_misspelt_option_is_told_what_it_may_mean(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told and f"usage: brainopt {words.split()[0]}" in told


@pytest.mark.parametrize("words", ["--help", "inspect {}", "verify {}", "list {}"])
def test_looking_at_files_needs_no_jax(file, words):
    code = "import sys\nfrom brainopt.__main__ import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "assert 'jax' not in sys.modules, 'jax'"
    argv = [sys.executable, "-c", f"import sys; sys.argv[0] = 'brainopt'\n{code}"]
    words = [word.format(file) for word in words.split()]
    done = subprocess.run([*argv, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", ["--help", "inspect {}", "verify {}", "list {}"])
def test_the_module_starts_without_jax(file, words):
    words = [word.format(file) for word in words.split()]
    argv = [sys.executable, "-X", "importtime", "-m", "brainopt", *words]
    told = subprocess.run(argv, capture_output=True, text=True).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "brainopt" in imported and "jax" not in imported


def test_inspect_folds_a_history_of_dicts_unless_asked(tmp_path, capsys):
    history = [{"loss": 1.0 / i, "epoch": i} for i in range(1, 81)]
    checkpoint.save(tmp_path / "f", {"W": W, "history": history})
    assert main(["inspect", str(tmp_path / "f")]) == 0
    told = capsys.readouterr().out
    assert "160 plain values" in told and len(told.splitlines()) < 8
    main(["inspect", "--all", str(tmp_path / "f")])
    assert "history.79.loss" in capsys.readouterr().out


def test_an_inspection_folds_long_histories(tmp_path):
    tree = {"W": W, "few": [1, 2], "h": [{"loss": 0.5, "acc": i} for i in range(80)]}
    checkpoint.save(tmp_path / "f", tree)
    told = checkpoint.inspect(tmp_path / "f")
    rows = [line.split() for line in str(told).splitlines()[1:]]
    assert [row[0] for row in rows] == ["W", "few.0", "few.1", "h.…"]
    assert rows[-1][1:] == ["160", "plain", "values", "0"]
    assert told._repr_html_().count("<tr>") == 5 and len(told.entries) == 163


def test_a_pipe_gets_no_colour_and_no_progress(file):
    done = cli("verify", file)
    assert "\x1b" not in done.stdout + done.stderr and done.returncode == 0


@pytest.mark.parametrize("no_colour, coloured", [("", True), ("1", False)])
def test_a_terminal_gets_colour_unless_told_otherwise(monkeypatch, no_colour, coloured):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm")
    assert ("\x1b[31m" in _output.styled("x", "red")) is coloured


def test_a_long_task_shows_its_progress_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(_output, "_PATIENCE", -1.0)
    progress = _output.Progress("f", 200)
    progress._last -= 1
    progress.add(50)
    progress.close()
    assert capsys.readouterr().err == "\rf: 25 %\r\x1b[K"


def test_a_long_verify_shows_how_much_of_the_file_was_read(
    tmp_path, monkeypatch, capsys
):
    checkpoint.save(tmp_path / "f", {"W": np.zeros(16 << 20, "f4")})  # 64 MiB
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(_output, "_PATIENCE", -1.0)
    monkeypatch.setattr(_output, "_INTERVAL", -1.0)
    read, begun = Reader._read_pieces, []

    def counted(self, work):
        begun.append(sum(piece.nbytes for piece, _ in work))
        return read(self, work)

    add, seen = _output.Progress.add, []

    def noted(self, amount):
        add(self, amount)
        seen.append((self._done, sum(begun)))

    monkeypatch.setattr(Reader, "_read_pieces", counted)
    monkeypatch.setattr(_output.Progress, "add", noted)
    assert main(["verify", str(tmp_path / "f")]) == 0
    shown = re.findall(r"(\d+) %", capsys.readouterr().err)
    assert len(shown) == len(begun) > 3 and int(shown[-1]) == 99
    assert all(done <= read for done, read in seen) and seen[0][1] < 32 << 20


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_option(shell, capsys):
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("list", "inspect", "convert", "skip", "depth"))
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=told, text=True).returncode == 0
