# SPDX-License-Identifier: Apache-2.0
"""Numbers and options that a class declares once: arguments, attributes, ranges."""
