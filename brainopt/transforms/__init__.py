# SPDX-License-Identifier: Apache-2.0
"""JAX's transforms for functions that read and write Variables."""

from ._branches import cond as cond
from ._grad import grad as grad
from ._grad import value_and_grad as value_and_grad
from ._jit import jit as jit
from ._loops import for_loop as for_loop
from ._loops import scan as scan
