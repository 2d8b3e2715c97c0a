# SPDX-License-Identifier: Apache-2.0
"""The files around the code agree with it and with each other."""

import configparser
import re
from pathlib import Path

import pytest

import brainopt as bo

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
STATUS = r"proposed|accepted|replaced by \d+"
COMMANDS = (
    "README.md",
    "CONTRIBUTING.md",
    ".pre-commit-config.yaml",
    ".github/workflows/ci.yml",
    ".github/pull_request_template.md",
    ".ci/run",
)


def _text(name):
    return (ROOT / name).read_text("utf-8")


def _metadata():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser["metadata"]


def _cited(field):
    found = re.search(rf"^{field}: (\S+)$", _text("CITATION.cff"), re.MULTILINE)
    return found and found[1].strip('"')


@pytest.mark.parametrize("name", COMMANDS)
def test_every_make_target_that_is_named_is_there(name):
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    pattern = r"(?:`|entry: |run: |^)make (?:--silent )?([a-z-]+)"

    named = re.findall(pattern, _text(name), re.MULTILINE)

    assert named or name == ".github/workflows/ci.yml"
    assert set(named) <= targets


def test_make_help_names_every_target_a_user_calls():
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", _text("Makefile"), re.MULTILINE))
    help_text = " ".join(re.findall(r'^\t@echo "(.*)"$', _text("Makefile"), re.M))

    assert [t for t in phony.split() if f"make {t}" not in help_text] == ["help"]


def test_ci_runs_every_python_that_the_package_names():
    (versions,) = re.findall(r"python: \[(.*)\]", _text(".github/workflows/ci.yml"))
    named = re.findall(r"Python :: (3\.\d+)$", _metadata()["classifiers"], re.M)

    assert set(named) <= set(re.findall(r"[\d.]+", versions))


def test_the_citation_and_the_package_name_one_version_and_one_address():
    urls = dict(
        re.findall(r"^\s*(\w+) = (\S+)$", _metadata().get("project_urls", ""), re.M)
    )

    assert _cited("version") == bo.__version__
    assert _cited("repository-code") == urls.get("Source")


def test_the_index_of_decisions_has_each_with_its_title_a_date_and_a_status():
    row = rf"^\| \[(.*)\]\((0.*\.md)\) \| \d{{4}}-\d\d-\d\d \| (?:{STATUS}) \|$"
    listed = re.findall(row, (DECISIONS / "index.md").read_text("utf-8"), re.MULTILINE)

    pages = [
        (page.read_text("utf-8").splitlines()[0].removeprefix("# "), page.name)
        for page in sorted(DECISIONS.glob("0*.md"))
    ]

    assert listed == pages
