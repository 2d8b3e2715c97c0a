# SPDX-License-Identifier: Apache-2.0
"""For users of torch, optax, BrainPy and braintools: their names and spellings."""
