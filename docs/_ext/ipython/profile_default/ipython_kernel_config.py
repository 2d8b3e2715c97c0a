# SPDX-License-Identifier: Apache-2.0
"""How the pages are executed: pictures as drawings, in the colours of the site."""

c = get_config()  # noqa: F821
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.rc = {"figure.figsize": (6.4, 2.8), "figure.facecolor": "white"}
c.HistoryManager.enabled = False
