# SPDX-License-Identifier: Apache-2.0
"""The one equality of this wing."""

from collections.abc import Mapping

import numpy as np

from ..._typing import PyTree


def equal(one: PyTree, two: PyTree) -> bool:
    """Whether two plain values are the same.

    Arrays are equal by dtype, shape and bytes, an int and a float of one value are
    equal, and NaN equals NaN.
    """
    # By bytes: exact for NaN and -0.0, and possible for every dtype.
    if hasattr(one, "__array__") or hasattr(two, "__array__"):
        one, two = np.asarray(one), np.asarray(two)
        alike = one.dtype == two.dtype and one.shape == two.shape
        return alike and one.tobytes() == two.tobytes()
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple) and type(one) is type(two):
        return len(one) == len(two) and all(map(equal, one, two))
    # A setting of 1 and one of 1.0 mean the same; True and 1 do not.
    if {type(one), type(two)} == {int, float}:
        return one == two
    return type(one) is type(two) and bool(one == two or (one != one and two != two))
