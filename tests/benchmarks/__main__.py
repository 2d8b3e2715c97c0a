# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in one table: printed, and written as JSON and Markdown.

``python -m tests.benchmarks [NAME ...] [--runs N]`` runs every ``bench_*.py`` of this
folder, or those whose name contains one of the words. Of several runs each row shows
the one with the median ratio. Exits with 1 if a bar is not met, and not by noise. Rows
of a step over a number of Variables are drawn as a picture as well.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from .picture import picture
from .timing import cells

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs" / "_build" / "bench"
PACKAGES = (
    *(
        "brainopt",
        "jax",
        "jaxlib",
        "numpy",
        "msgpack",
        "optax",
        "brainpy",
        "brainstate",
    ),
    *("braintools", "flax", "orbax-checkpoint", "safetensors", "torch"),
)
HEAD = (
    *("measure", "ours", "reference", "ratio (middle half of the pairs)", "required"),
    *("", "peers / reference"),
)


def versions():
    """Return what the figures depend on."""
    found = {"python": platform.python_version(), "cpus": str(os.cpu_count())}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def run(words, runs):
    """Run the chosen benchmarks and return their rows, of each the middle run."""
    rows = []
    for path in sorted(HERE.glob("bench_*.py")):
        if words and not any(word in path.stem for word in words):
            continue
        module = importlib.import_module(f"{__package__}.{path.stem}")
        found = {}
        for _ in range(runs):
            for row in module.main():
                print(*filter(None, cells(row)), sep="  ", flush=True)
                found.setdefault(row["name"], []).append(row)
        rows += [{"benchmark": path.stem, **middle(same)} for same in found.values()]
    return rows


def middle(runs):
    """Return the run of a row that has the median ratio; of two the higher one."""
    return sorted(runs, key=lambda row: row["ratio"])[len(runs) // 2]


def table(rows):
    """Return the rows as a Markdown table."""
    lines = [HEAD, ("---",) * len(HEAD), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(argv=None):
    """Run, print and write; return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of benchmarks")
    parser.add_argument("--runs", type=int, default=1, help="runs of each (1)")
    args = parser.parse_args(argv)
    rows, made_with = run(args.names, max(args.runs, 1)), versions()
    text = table(rows)
    text += "\n" + ", ".join(f"{k} {v}" for k, v in made_with.items()) + "\n"
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.md").write_text(text, "utf-8")
    data = {"versions": made_with, "rows": rows}
    (OUT / "bench.json").write_text(json.dumps(data, indent=2), "utf-8")
    if points := [row for row in rows if "count" in row]:
        (OUT / "variables.svg").write_text(picture(points), "utf-8")
    print(f"\n{text}\nwritten to {OUT}")
    return 1 if any(row["verdict"] == "not met" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
