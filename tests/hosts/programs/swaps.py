# SPDX-License-Identifier: Apache-2.0
"""A program with an optimizer of its framework, and the same one with ours."""

import warnings

import numpy as np

from brainopt.errors import HostWarning
from brainopt.optim.porting import _swaps


def assert_equal_numbers(train, theirs, ours, mend=None, rtol=2e-5):
    """Compare the losses of a program that is trained twice.

    The first attempt has the class and the arguments of the original. It gives the
    same numbers, or a warning names the argument that does.

    Args:
        train: takes a function that makes an optimizer; builds the program anew, trains
            it for some steps, and returns its losses.
        theirs: makes the optimizer of the framework.
        ours: makes that of the same name; takes what ``mend`` says.
        mend: the argument, and its value, that give the same numbers; None if they are
            the same without.
        rtol: relative difference of losses.
    """
    expected = np.asarray(train(theirs))
    assert np.isfinite(expected).all() and np.ptp(expected) > 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _swaps._told.clear()
        found = train(ours)
    said = [str(w.message) for w in seen if issubclass(w.category, HostWarning)]
    if mend is None:
        assert not said
    else:
        ((name, value),) = mend.items()
        assert any(f"{name}={value!r}" in text for text in said), said
        found = train(lambda *args: ours(*args, **mend))
    np.testing.assert_allclose(found, expected, rtol=rtol)
