# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions of a counted step."""
