# SPDX-License-Identifier: Apache-2.0
"""Published algorithms: one to a file, or a few that share their formula."""
