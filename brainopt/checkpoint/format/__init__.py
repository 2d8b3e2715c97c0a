# SPDX-License-Identifier: Apache-2.0
"""Records of a checkpoint as bytes, and bytes as records."""
