# SPDX-License-Identifier: Apache-2.0
"""A package, so that no installed package of the same name hides these tests."""
