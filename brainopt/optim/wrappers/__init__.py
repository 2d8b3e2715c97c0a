# SPDX-License-Identifier: Apache-2.0
"""Optimizers and averages around an optimizer."""
