# SPDX-License-Identifier: Apache-2.0
"""The commands of ``brainopt``, one a file; each is imported when it is called."""
