# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in one table: printed, and written as JSON and Markdown.

``python -m tests.benchmarks [NAME ...]`` runs every ``bench_*.py`` of this folder, or
those whose name contains one of the words. Exits with 1 if a bar is missed.
"""

import importlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

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
HEAD = ("measure", "ours", "reference", "ratio", "required", "", "peers / reference")


def versions():
    """Return what the figures depend on."""
    found = {"python": platform.python_version(), "cpus": str(os.cpu_count())}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def run(words):
    """Run the chosen benchmarks and return their rows."""
    rows = []
    for path in sorted(HERE.glob("bench_*.py")):
        if words and not any(word in path.stem for word in words):
            continue
        module = importlib.import_module(f"{__package__}.{path.stem}")
        for row in module.main():
            print(*filter(None, _cells(row)), sep="  ", flush=True)
            rows.append({"benchmark": path.stem, **row})
    return rows


def _number(x):
    if not isinstance(x, int | float):
        return str(x)
    if x == float("inf"):
        return ""
    return f"{x:.4g}" if abs(x) < 1e5 else f"{x:.3e}"


def _cells(row):
    has_bar = row["required"] < float("inf")
    verdict = ("pass" if row["pass"] else "FAIL") if has_bar else ""
    numbers = [_number(row[k]) for k in ("ours", "reference", "ratio", "required")]
    peers = (f"{k} {_number(v)}" for k, v in row.get("peers", {}).items())
    return row["name"], *numbers, verdict, ", ".join(peers)


def table(rows):
    """Return the rows as a Markdown table."""
    lines = [HEAD, ("---",) * len(HEAD), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main(words):
    """Run, print and write; return the exit status."""
    rows, made_with = run(words), versions()
    text = table(rows)
    text += "\n" + ", ".join(f"{k} {v}" for k, v in made_with.items()) + "\n"
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.md").write_text(text, "utf-8")
    data = {"versions": made_with, "rows": rows}
    (OUT / "bench.json").write_text(json.dumps(data, indent=2), "utf-8")
    print(f"\n{text}\nwritten to {OUT}")
    return 0 if all(row["pass"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
