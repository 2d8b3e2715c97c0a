# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds these pages; ``make docs`` calls it with warnings as errors.

The build needs no network: links to other projects go by our own inventories, and the
site brings its own formulas and fonts.
"""

import os
import shutil
import sys
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

HERE = Path(__file__).parent
BUILD = HERE / "_build"
sys.path.insert(0, str(HERE / "_ext"))

import inventories
import logo

about = metadata("brainopt")
project = "brainopt"
author = "The brainopt developers"
copyright = f"2026, {author}"
version = release = about["Version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "pages",
    "links",
    "reference",
    "notebooks",
]
exclude_patterns = ["_build", "_ext", "drawing"]

# Pages: each python block is executed once, in an empty folder, by a quiet jax.
nb_execution_mode = "cache"
nb_execution_cache_path = str(BUILD / "executed")
nb_execution_in_temp = True
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ["IPYTHONDIR"] = str(HERE / "_ext" / "ipython")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Links out of docs/ (README, CHANGELOG, examples/) are checked by tests/test_docs.py.
suppress_warnings = ["myst.xref_missing"]

# Reference
# The overloads tell type checkers what comes back; readers want the one signature.
_analyze = ModuleAnalyzer.analyze


def _without_overloads(analyzer):
    _analyze(analyzer)
    analyzer.overloads = {}


ModuleAnalyzer.analyze = _without_overloads
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Slots", "params_style"), "Source", "Differs"]
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
default_role = "py:obj"
intersphinx_mapping = inventories.write(BUILD / "inventories")

# Formulas: one file of MathJax that needs no other, from the package that brings it.
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}
_mathjax = find_spec("sphinx-mathjax-offline")
assert _mathjax is not None and _mathjax.origin is not None
_static = BUILD / "static"
(_static / "mathjax").mkdir(parents=True, exist_ok=True)
shutil.copy(Path(_mathjax.origin).parent / "static" / mathjax_path, _static / "mathjax")

# Looks
html_theme = "sphinx_book_theme"
html_title = "brainopt"
html_static_path = ["_static", str(_static)]
html_css_files = ["brainopt.css"]
html_logo = str(logo.draw(_static / "logo.svg"))
html_favicon = html_logo
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],
    "show_navbar_depth": 1,
}
# The button of the repository appears once the package names its address.
_links = dict(link.split(", ", 1) for link in about.get_all("Project-URL") or [])
if "Source" in _links:
    html_theme_options |= {
        "repository_url": _links["Source"],
        "use_repository_button": True,
    }
copybutton_exclude = ".linenos, .gp, .go"
