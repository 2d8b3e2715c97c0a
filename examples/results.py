# SPDX-License-Identifier: Apache-2.0
"""Run the examples at full length and write the table of ``docs/results.md``.

    make results                          # all of it: about an hour on two cores
    make results ARGS=randman             # only the rows whose name begins so
    make results ARGS=--table             # the table again from what was measured

Every run is a process of its own; what it found is kept in ``docs/results.json``. The
figures of the median seed of each row go to ``docs/_static/results``.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

EXAMPLES = Path(__file__).parent
DOCS = EXAMPLES.parent / "docs"
RECORD, PAGE, PICTURES = (
    DOCS / "results.json",
    DOCS / "results.md",
    DOCS / "_static/results",
)
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"


class Row(NamedTuple):
    """One row of the table: a program, its options, its seeds, and what is shown."""

    name: str
    program: str
    options: tuple[str, ...]
    seeds: range
    shown: str
    published: str
    needs: str = "brainopt"


ROWS = [
    Row("yinyang", "yinyang_snn", (), range(1, 21), "test accuracy",
        "0.987 ± 0.003, artificial network"),
    Row("yinyang-tau", "yinyang_snn", ("--learn-tau", "--steps", "300"), range(1, 4),
        "test accuracy", "0.987 ± 0.003, artificial network"),
    Row("randman", "randman_snn", (), range(1, 6), "test accuracy",
        "0.963 in 13–20 min"),
    Row("store-recall", "store_recall", (), range(10, 20), "test recall error",
        "< 0.05 within 200 updates"),
    Row("store-recall-lif", "store_recall", ("--lif",), range(10, 13),
        "test recall error", "–"),
    Row("dale-decision", "dale_rnn", (), range(5), "accuracy", "0.85, training stops"),
    Row("dale-comparison", "dale_rnn", ("--task", "comparison"), range(5),
        "worst condition", "0.85, training stops"),
    Row("fit-hh", "fit_hh", (), range(1), "largest relative error", "–"),
    Row("fit-hh-noise", "fit_hh", ("--noise", "1", "--repetitions", "20"), range(1),
        "repetitions within 2 standard errors", "19 of 20 expected"),
    Row("fit-hh-jaxley", "fit_hh", ("--jaxley",), range(1),
        "largest relative error", "–", "jaxley"),
    Row("force", "force_reservoir", (), range(21, 26), "normalized error", "–"),
    Row("population", "population_training", (), range(1),
        "time / 16 single runs", "–"),
]  # fmt: skip


def run(row, seed, figure):
    """Run a program once; return what it found and spent."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "results.json"
        command = [sys.executable, str(EXAMPLES / f"{row.program}.py"), *row.options]
        command += ["--seed", str(seed), "--results", str(record)]
        command += ["--checkpoint", f"{folder}/run.bo", "--figure", str(figure)]
        subprocess.run(command, check=True, cwd=EXAMPLES.parent)
        found = json.loads(record.read_text(encoding="utf-8"))
    return {"results": found["results"], "spent": found["spent"]}


def measure(rows):
    """Run all seeds of ``rows`` and keep each as soon as it is done."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if importlib.util.find_spec(row.needs) is None:
            print(f"--- {row.name} is left out: {row.needs} is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            shown = {}
            for seed in row.seeds:
                print(f"--- {row.name}, seed {seed}", flush=True)
                found = run(row, seed, f"{folder}/{seed}.png")
                shown[seed] = found["results"][row.shown]
                keep(row, seed, found)
            median = sorted(shown, key=shown.__getitem__)[(len(shown) - 1) // 2]
            shutil.copy(f"{folder}/{median}.png", PICTURES / f"{row.name}.png")


def keep(row, seed, found):
    """Add one run to what was measured."""
    record = read_record()
    runs = record.setdefault(row.name, {})
    runs[str(seed)] = found | {"versions": versions()}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    RECORD.write_text(text, encoding="utf-8")


def read_record():
    """Return what was measured, ``{row: {seed: …}}``."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def versions():
    """Return the versions and the machine of a run."""
    names = ("brainopt", "jax", "numpy")
    found = {name: version(name) for name in names}
    return found | {"python": platform.python_version(), "cores": os.cpu_count()}


def write_table():
    """Write the table into the page, between its two marks."""
    record = read_record()
    lines = [
        "| command | figure | published | median | lowest – highest | runs "
        "| s | CPU s | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    used = {}
    for row in ROWS:
        runs = record.get(row.name)
        if not runs:
            continue
        shown = np.array([r["results"][row.shown] for r in runs.values()], float)
        spent = {
            name: np.median([r["spent"][name] for r in runs.values()])
            for name in ("wall seconds", "CPU seconds", "peak memory (MB)")
        }
        for r in runs.values():
            used[json.dumps(r["versions"])] = r["versions"]
        spread = f"{shown.min():.4g} – {shown.max():.4g}" if len(shown) > 1 else ""
        times = " | ".join(f"{value:.0f}" for value in spent.values())
        command = " ".join([row.program, *row.options])
        lines.append(
            f"| `{command}` | {row.shown} | {row.published} | {np.median(shown):.4g} "
            f"| {spread} | {len(shown)} | {times} |"
        )
    told = [", ".join(f"{k} {v}" for k, v in found.items()) for found in used.values()]
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    body = "\n".join(
        [BEGIN, "", *lines, "", f"Measured with {'; '.join(told)}.", "", END]
    )
    PAGE.write_text(before + body + after, encoding="utf-8")
    print(f"wrote {PAGE}")


def main(argv=None):
    """Measure the rows that are asked for, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="beginnings of names; none means all")
    again = "write the table again from what was measured"
    parser.add_argument("--table", action="store_true", help=again)
    args = parser.parse_args(argv)
    if not args.table:
        chosen = tuple(args.rows) or ("",)
        measure([row for row in ROWS if row.name.startswith(chosen)])
    write_table()


if __name__ == "__main__":
    main()
