# SPDX-License-Identifier: Apache-2.0
"""Loops and branches whose bodies read and write Variables."""
