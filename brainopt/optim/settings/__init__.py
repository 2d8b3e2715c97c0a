# SPDX-License-Identifier: Apache-2.0
"""Settings: options, groups, and the choice of their variables."""
