# SPDX-License-Identifier: Apache-2.0
"""The pictures of the floors and the roads show the code as it stands."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.drawing import floors

ROOT = Path(__file__).parents[1]
TEXT = "{http://www.w3.org/2000/svg}text"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    command = [sys.executable, "-m", "docs.drawing", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def _texts(file):
    return [text.text or "" for text in ElementTree.parse(file).iter(TEXT)]


def test_the_picture_of_the_floors_has_every_folder_with_code(drawn):
    folders = {file.parent for file in (ROOT / "brainopt").rglob("*.py")}

    shown = set(_texts(drawn[0] / "floors.svg"))

    assert {f"{f.name}/" for f in folders - {ROOT / "brainopt"}} <= shown


def test_every_road_names_its_files_and_is_in_the_table(drawn):
    rows = re.findall(r"^\| `(.*)` \| (\d+) \| (\d+) \|$", drawn[1], re.MULTILINE)
    texts = _texts(drawn[0] / "roads.svg")

    assert len(rows) == 4
    for call, functions, files in rows:
        assert call in texts
        assert f"{functions} functions in {files} files" in texts
    assert sum("·" in text for text in texts) == sum(int(row[2]) for row in rows)


def test_a_compiled_step_passes_six_functions_at_most(drawn):
    (figures,) = re.findall(r"third call` \| (\d+) \| (\d+) \|", drawn[1])

    assert int(figures[0]) <= 6 and int(figures[1]) <= 5


def test_a_level_is_the_longest_chain_below_and_one_arrow_of_a_circle_is_upward():
    arrows = Counter({("c", "b"): 3, ("b", "a"): 2, ("c", "a"): 1, ("a", "c"): 1})
    level = floors.levels("abcd", arrows)

    assert level == {"a": 0, "b": 1, "c": 2, "d": 0}
    assert floors.upward(arrows, level) == {("a", "c")}
    assert floors.direct(arrows, level) == {("c", "b"), ("b", "a")}
