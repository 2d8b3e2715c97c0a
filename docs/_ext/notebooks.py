# SPDX-License-Identifier: Apache-2.0
"""Write the notebooks: pages and programs, with a cell that installs brainopt."""

import ast
import re
from importlib.metadata import version
from pathlib import Path

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell
from pages import EXAMPLES

# Pages that come as notebooks too, and the extra that they need.
NOTEBOOKS = {
    "start/quickstart": "examples",
    "start/from-brainpy": "brainpy",
}
# Example programs that do, and the options of a short run.
PROGRAMS = {
    "yinyang_snn": ["--steps", "20"],
    "dale_rnn": ["--steps", "4"],
    "fit_hh": [],
}
WHEEL = f"brainopt-{version('brainopt')}-py3-none-any.whl"
INSTALL = """\
Once, on a machine without brainopt. Nothing has been released yet, so the file comes
from a copy of the repository: `pip wheel --no-deps .` makes it there. Upload it beside
this notebook (on Colab into the folder of files at the left), or give the path of the
copy itself."""
ROLE = re.compile(r"\{[\w:]+\}`(?:([^`<]+?) *<[^`]*>|~?([^`]+))`")
DIRECTIVE = re.compile(r"^(```+|:::+)\{.*?^\1 *\n", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE | re.DOTALL)


def notebook(text: str, extra: str):
    """Return the page ``text`` as a notebook of nbformat."""
    text = DIRECTIVE.sub("", COMMENT.sub("", text))
    text = ROLE.sub(lambda match: f"`{match[1] or match[2]}`", text)
    book = jupytext.reads(text, fmt="md")
    return _finished(book, extra)


def program_notebook(name: str):
    """Return an example program as a notebook: its code cell by cell, then a run."""
    source = (EXAMPLES / f"{name}.py").read_text("utf-8")
    about, *body = ast.parse(source).body
    # Without the licence and the docstring, which becomes the first cell, and without
    # the guard, which would read the options of the kernel.
    code = "\n".join(source.splitlines()[about.end_lineno : body[-1].lineno - 1])
    book = jupytext.reads(code.strip(), fmt="py:light")
    for cell in book.cells:
        cell.source = re.sub(r"^-+ ", "## ", cell.source)
    title, _, rest = ast.get_docstring(ast.parse(source)).partition("\n")
    beside = [f"{m}.py" for m in re.findall(r"^(?:import|from) (\w+)", code, re.M)]
    files = [SCRIPT_CELL.format(n, _read(n)) for n in beside if (EXAMPLES / n).exists()]
    options = [*PROGRAMS[name], "--figure", "figure.png"]
    run = f"from IPython.display import Image\n\nresults = main({options})"
    book.cells = [
        new_markdown_cell(f"# {title}\n{rest}"),
        *map(new_code_cell, files),
        *book.cells,
        new_code_cell(run),
        new_code_cell('Image("figure.png")'),
    ]
    return _finished(book, "examples")


SCRIPT_CELL = "%%writefile {}\n{}"


def _read(name):
    return (EXAMPLES / name).read_text("utf-8").rstrip("\n")


def _finished(book, extra):
    for cell in book.cells:
        cell.metadata.clear()
    install = [
        new_markdown_cell(INSTALL),
        new_code_cell(
            f'BRAINOPT = "{WHEEL}"\n%pip install --quiet "{{BRAINOPT}}[{extra}]"'
        ),
    ]
    book.cells[1:1] = install
    book.metadata = {
        "kernelspec": {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    }
    return book


def books(docs: Path):
    """Yield (name, notebook) of all."""
    for page, extra in NOTEBOOKS.items():
        text = (docs / f"{page}.md").read_text("utf-8")
        yield Path(page).name, notebook(text, extra)
    for name in PROGRAMS:
        yield name, program_notebook(name)


def _write(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "notebooks"
    folder.mkdir(exist_ok=True)
    for name, book in books(Path(app.srcdir)):
        jupytext.write(book, folder / f"{name}.ipynb", fmt="ipynb")


def setup(app):
    """Write the notebooks beside the built pages."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
