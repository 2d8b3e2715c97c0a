# SPDX-License-Identifier: Apache-2.0
"""One step of an optimizer as pure functions."""
