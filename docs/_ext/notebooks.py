# SPDX-License-Identifier: Apache-2.0
"""Write the notebooks: the text of a page, with a first cell that installs brainopt."""

import re
from pathlib import Path

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell
from pages import EXAMPLES, SCRIPT

# Pages that come as notebooks too, and the extra that they need.
NOTEBOOKS = {
    "start/quickstart": "examples",
    "start/from-brainpy": "brainpy",
}
ROLE = re.compile(r"\{[\w:]+\}`(?:([^`<]+?) *<[^`]*>|~?([^`]+))`")
DIRECTIVE = re.compile(r"^(```+|:::+)\{.*?^\1 *\n", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE | re.DOTALL)


def notebook(text: str, extra: str):
    """Return the page ``text`` as a notebook of nbformat."""
    text = SCRIPT.sub(_written_script, text)
    text = DIRECTIVE.sub("", COMMENT.sub("", text))
    text = ROLE.sub(lambda match: f"`{match[1] or match[2]}`", text)
    book = jupytext.reads(text, fmt="md")
    for cell in book.cells:
        cell.metadata.clear()
    install = [
        new_markdown_cell(
            "Once, on a machine without brainopt. Nothing has been released yet, so "
            "give the path of a copy of the repository (on Colab, upload one first):"
        ),
        new_code_cell(f'%pip install --quiet "./brainopt[{extra}]"'),
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


def _written_script(match):
    source = (EXAMPLES / match["name"]).read_text("utf-8")
    return f"```python\n%%writefile {match['name']}\n{source}```"


def _write(app, exception):
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "notebooks"
    folder.mkdir(exist_ok=True)
    for page, extra in NOTEBOOKS.items():
        text = (Path(app.srcdir) / f"{page}.md").read_text("utf-8")
        book = notebook(text, extra)
        jupytext.write(book, folder / f"{Path(page).name}.ipynb", fmt="ipynb")


def setup(app):
    """Write the notebooks beside the built pages."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
