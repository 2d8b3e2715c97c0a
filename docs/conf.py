# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds these pages; ``make docs`` calls it with warnings as errors."""

from importlib.metadata import version as version_of

project = "brainopt"
author = "The brainopt developers"
copyright = f"2026, {author}"
version = release = version_of("brainopt")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

# The tests run every block of every page; the build need not run them again.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Links out of docs/ (README, CHANGELOG, examples/) are checked by tests/test_docs.py.
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Slots", "params_style"), "Source", "Differs"]

html_theme = "sphinx_book_theme"
html_title = "brainopt"
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
