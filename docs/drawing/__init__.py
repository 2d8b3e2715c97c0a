# SPDX-License-Identifier: Apache-2.0
"""Pictures of the library, drawn from the code as it stands."""
