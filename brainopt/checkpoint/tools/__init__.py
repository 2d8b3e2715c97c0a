# SPDX-License-Identifier: Apache-2.0
"""Reading, comparing and converting files."""
