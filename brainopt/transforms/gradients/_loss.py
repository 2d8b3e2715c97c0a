# SPDX-License-Identifier: Apache-2.0
"""What a function returns that `grad` differentiates."""

from __future__ import annotations

from typing import Any

from ..._dtypes import is_numeric
from ...core import is_quantity
from ...errors import message


def check_loss(y: Any) -> None:
    """Raise TypeError if a loss is no number, as where its `return` is missing."""
    if is_numeric(y) or is_quantity(y):  # JAX refuses a quantity for its unit
        return
    returned = "nothing" if y is None else f"a {type(y).__name__}"
    raise TypeError(
        message(
            f"The loss returned {returned}, where a gradient needs one number.",
            help="end it with `return loss`; if it returns more than the loss, "
            "`return loss, aux` and pass `has_aux=True`.",
        )
    )
