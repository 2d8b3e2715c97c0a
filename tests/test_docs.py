# SPDX-License-Identifier: Apache-2.0
"""The README and the docs tell the truth: blocks run, links lead somewhere.

The ``python`` blocks of a page share a namespace and run in order, in an empty folder.
A comment above a block may let it be skipped, and only where it could not run:
``<!-- skip -->`` while a package that the page imports is not installed,
``<!-- skip: hosts -->`` where that package is a framework that `make test-hosts`
installs, and ``<!-- skip: gpu -->`` where there is no GPU.

The commands of an ``sh`` block below ``<!-- run -->`` are called after the python
blocks of its page, in the same folder.
"""

import ast
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import jax
import pytest

from brainopt.__main__ import main

ROOT = Path(__file__).parents[1]
STANDARD = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = [p for p in map(ROOT.joinpath, STANDARD) if p.exists()]
PAGES += sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
BLOCK = re.compile(
    r"^(?:<!-- *(?P<skip>skip(?:: *(?:gpu|hosts))?) *-->\n+)?"
    r"(?P<indent> *)```python *\n(?P<code>.*?)^(?P=indent)``` *$",
    re.MULTILINE | re.DOTALL,
)
COMMANDS = re.compile(
    r"^<!-- run -->\n```sh\n(?P<lines>.*?)^``` *$", re.MULTILINE | re.DOTALL
)
ANY_SKIP = re.compile(r"<!-- *skip.*?-->")
LINK = re.compile(r"\]\(<?(?!\w+:|#)([^)\s#>]+)")
CODE = re.compile(r"^ *```.*?^ *``` *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def _blocks(page):
    """Yield (line number, code, skip marker) of each python block."""
    text = page.read_text("utf-8")
    for match in BLOCK.finditer(text):
        lines = match["code"].splitlines()
        code = "\n".join(line.removeprefix(match["indent"]) for line in lines)
        yield text.count("\n", 0, match.start("code")), code, match["skip"] or ""


def _not_installed(code):
    nodes = list(ast.walk(ast.parse(code)))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    return {root for root in roots if importlib.util.find_spec(root) is None}


def _id(page):
    return str(page.relative_to(ROOT))


def _needs_a_framework(page):
    return any("hosts" in skip for _, _, skip in _blocks(page))


def _run(page, frameworks):
    names, lacking = {"__name__": "__main__"}, set()
    for line, code, skip in _blocks(page):
        lacking |= _not_installed(code) if skip else set()
        if skip and (lacking or ("hosts" in skip and not frameworks)):
            continue
        if "gpu" in skip and jax.default_backend() != "gpu":
            continue
        padded = "\n" * line + code  # so that a traceback shows the line of the page
        with jax.numpy_rank_promotion("allow"):  # as a reader has it
            exec(compile(padded, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    _run(page, frameworks=False)


WITH_COMMANDS = [p for p in PAGES if "<!-- run -->" in p.read_text("utf-8")]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=_id)
def test_the_commands_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _run(page, frameworks=False)
    blocks = COMMANDS.findall(page.read_text("utf-8"))

    for line in "".join(blocks).splitlines():
        name, *words = shlex.split(line, comments=True)
        assert name == "brainopt"
        # diff(1) ends with 1 where there is a difference.
        assert main(words) == (1 if words[0] == "diff" else 0), line
        assert capsys.readouterr().out

    assert blocks


WITH_FRAMEWORKS = [page for page in PAGES if _needs_a_framework(page)]


@pytest.mark.hosts
@pytest.mark.parametrize("page", WITH_FRAMEWORKS, ids=_id)
def test_the_blocks_that_need_a_framework_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    _run(page, frameworks=True)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_skip_stands_above_a_block(page):
    text = page.read_text("utf-8")

    used = [skip for _, _, skip in _blocks(page) if skip]

    assert len(ANY_SKIP.findall(text)) == len(used)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_the_links_of_a_page_lead_somewhere(page):
    prose = CODE.sub("", page.read_text("utf-8"))

    broken = [link for link in LINK.findall(prose) if not (page.parent / link).exists()]

    assert not broken
