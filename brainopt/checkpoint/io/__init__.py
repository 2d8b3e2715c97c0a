# SPDX-License-Identifier: Apache-2.0
"""Files, the operating system, and threads."""
