# SPDX-License-Identifier: Apache-2.0
"""One published algorithm a file."""
