# SPDX-License-Identifier: Apache-2.0
"""Turn the Markdown of a page into what Sphinx executes, and into a notebook.

The pages are plain Markdown, which reads well in an editor and on a code host. Before
Sphinx reads one, its ``python`` blocks become the cells of a notebook that myst-nb
executes, and the pages of the reference get the entries of their names. Comments above
a block say more:

``<!-- skip -->``, ``<!-- skip: hosts -->``, ``<!-- skip: gpu -->``
    the block is shown and not executed where a package that it imports, or the GPU,
    is not there; the same rule as in the tests.
``<!-- fold -->``
    the source of the block is folded, its output shown.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
BLOCK = re.compile(
    r"^(?:<!-- *(?P<mark>[a-z:, ]+?) *-->\n+)?```python *\n(?P<code>.*?)^``` *$",
    re.MULTILINE | re.DOTALL,
)
HEADER = """---
file_format: mystnb
kernelspec:
  name: python3
---
"""


def executable(text: str) -> str:
    """Return the page with its python blocks as cells that myst-nb executes."""
    lacking: set[str] = set()

    def cell(match):
        mark, code = match["mark"] or "", match["code"]
        if mark.startswith("skip"):
            lacking.update(_not_installed(code))
            if lacking or "gpu" in mark:
                return match[0]
        tags = ":tags: [hide-input]\n" if "fold" in mark else ""
        return f"```{{code-cell}} ipython3\n{tags}{code}```"

    text = BLOCK.sub(cell, text)
    return HEADER + text if "{code-cell}" in text else text


def _not_installed(code):
    nodes = list(ast.walk(ast.parse(code)))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    return {root for root in roots if importlib.util.find_spec(root) is None}


def _on_source_read(app, docname, source):
    source[0] = executable(source[0])


def setup(app):
    """Connect the rewriting to Sphinx."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True}
