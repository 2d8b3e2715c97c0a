# SPDX-License-Identifier: Apache-2.0
"""Derivatives of functions that read and write Variables."""
