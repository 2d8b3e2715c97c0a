# SPDX-License-Identifier: Apache-2.0
"""Functions that hold Variables: as trees, what they reach, and how they are copied."""
