# SPDX-License-Identifier: Apache-2.0
"""Finding what went wrong: the first NaN, and gradients that are not the slope."""

from ._check_gradients import GradientCheck as GradientCheck
from ._check_gradients import check_gradients as check_gradients
from ._find_nan import NanReport as NanReport
from ._find_nan import find_nan as find_nan
