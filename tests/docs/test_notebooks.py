# SPDX-License-Identifier: Apache-2.0
"""The notebooks of the site run from an empty folder, cell by cell."""

import ast
import sys
from pathlib import Path

import jax
import pytest

import brainopt as bo

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.site
jupytext = pytest.importorskip("jupytext", reason="needs the extra docs")


@pytest.fixture(scope="module")
def books():
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import notebooks

        return dict(notebooks.books(DOCS))
    finally:
        sys.path.remove(str(DOCS / "_ext"))


def _cells(book):
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


NAMES = ["quickstart", "from-brainpy", "yinyang_snn", "dale_rnn", "fit_hh"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_installs_first_and_has_valid_cells(books, name):
    first, *others = _cells(books[name])

    wheel = f"brainopt-{bo.__version__}-py3-none-any.whl"
    assert first.splitlines()[0] == f'BRAINOPT = "{wheel}"'
    assert first.splitlines()[1].startswith('%pip install --quiet "{BRAINOPT}[')
    assert "pip wheel --no-deps ." in books[name].cells[1].source
    assert books[name].cells[0].source.startswith("# ")
    for cell in others:
        ast.parse(cell.partition("\n")[2] if cell.startswith("%%writefile") else cell)


@pytest.mark.parametrize("name", ["quickstart", "fit_hh"])
def test_a_notebook_runs(books, name, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": "__main__", "Image": lambda path: Path(path).read_bytes()}

    for cell in _cells(books[name])[1:]:
        head, _, rest = cell.partition("\n")
        if head.startswith("%%writefile "):
            Path(head.split()[1]).write_text(rest, "utf-8")
            continue
        cell = cell.replace("from IPython.display import Image\n", "")
        with jax.numpy_rank_promotion("allow"):
            exec(compile(cell, name, "exec"), names)
    sys.modules.pop("program", None)

    assert name == "quickstart" or Path("figure.png").stat().st_size > 20_000
