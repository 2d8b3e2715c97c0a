# SPDX-License-Identifier: Apache-2.0
"""The calls of an optimizer that take a step: ``update``, ``flush``.

`Optimizer` takes these functions as its own.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .._typing import Array, Gradients, Scalar
from ..core import unwrap
from . import _nonfinite, _stepping
from ._ages import note_skipped
from ._cautions import count_call, note_turn
from ._hooks import changed_by_hooks, end_step
from ._models import models_of
from ._swapping import refuse_step
from .engine._precision import wide


def update(self: Any, grads: Gradients, *, weight: Scalar | None = None) -> None:
    """Take one step: change the variables, the slots and the step in place.

    Args:
        grads: ``{path: gradient}`` as `bo.grad` returns it; a list or a single
            gradient where a list or a single Variable was registered. A variable
            whose gradient is None is skipped: no decay, no step of its slots.
            Those of complex variables as `bo.grad` and `jax.grad` return them.
        weight: of this micro-batch, with ``accumulate=``; default 1.

    Raises:
        GradientError: the gradients do not fit, and nothing has changed; or they
            were not finite too often, see ``nonfinite=``; or there is no variable
            to train.

    Differs: a complex gradient is ∂L/∂x - i ∂L/∂y, the convention of jax, and the
    step goes downhill along its conjugate. torch keeps the conjugate in ``.grad``
    and optax asks for it; pass ``g.conj()`` for such a ``g``.
    """
    _stepping.check_weight(self, weight)
    begin_step(self)
    matched = self._match(changed_by_hooks(self, grads))
    note_skipped(self, matched)
    _stepping.update(self, matched, weight)
    vars(self)["step"].let_go()
    end_step(self, matched)


def begin_step(self: Any) -> None:
    """Refuse a step that would be wrong, and warn of what looks like a mistake."""
    refuse_step(type(self).__name__, self._trained)
    _nonfinite.before(self)
    note_turn(self)
    count_call(self)
    models_of(self).compare_if_changed(self)


def scale_loss(self: Any, loss: Array) -> Any:
    """Return the loss times the present loss scale; as it is without a scale.

    `update` expects the gradients of the result where there is ``loss_scale=``;
    ``opt.step(closure)`` scales by itself.
    """
    if self.loss_scale is None:
        return loss
    loss = jnp.asarray(unwrap(loss))
    dtype = wide(loss.dtype)
    return loss.astype(dtype) * self.counters["loss_scale"].value.astype(dtype)


def flush(self: Any) -> None:
    """Take the step of an incomplete window of micro-batches now.

    As at the end of an epoch whose batches are no multiple of ``accumulate``. The
    mean is that of the micro-batches so far; without any there is no step.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar([1.0])
        >>> opt = bo.optim.SGD(0.1, w, accumulate=4)
        >>> opt.update(jnp.ones(1))
        >>> opt.flush()
        >>> round(float(w[0]), 4), int(opt.step)
        (0.9, 1)
    """
    begin_step(self)
    _stepping.flush(self)
    end_step(self)
