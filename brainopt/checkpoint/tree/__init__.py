# SPDX-License-Identifier: Apache-2.0
"""Pytrees taken apart into records, and put together from them."""
