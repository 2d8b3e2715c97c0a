# SPDX-License-Identifier: Apache-2.0
"""The base of SAM and Lookahead: a Node with an optimizer inside."""

from __future__ import annotations

from typing import Any, Self

from ..._typing import Array, Model, ScalarOrSchedule
from ...core import Place, VarCollector, move
from ...errors import message
from ...sharding import AxisNames, Offload
from .._optimizer import Optimizer
from .._parameters import TrainedVariables
from ..hyperparameters._has_hyperparams import HasHyperparams


class OptimizerWrapper(HasHyperparams):
    """Abstract: a Node that takes its steps through an optimizer.

    Attributes:
        optimizer: takes the steps; its settings are set on it.
    """

    _borrowed = frozenset({"_trained"})

    def __init__(self, optimizer: Any, name: str | None = None):
        if not isinstance(optimizer, Optimizer | OptimizerWrapper):
            raise TypeError(
                message(
                    f"{type(self).__name__} wraps an optimizer, not a "
                    f"{type(optimizer).__name__}.",
                    help=f"{type(self).__name__}(bo.optim.SGD(0.1, net)).",
                )
            )
        super().__init__(name)
        self.optimizer: Any = optimizer
        # The same object: what either of them registers later is known to both.
        self._trained: TrainedVariables = optimizer._trained

    @property
    def vars_to_train(self) -> VarCollector:
        """The variables that the optimizer inside trains, by structural path."""
        return self.optimizer.vars_to_train

    def scale_loss(self, loss: Array) -> Any:
        """Return the loss times the loss scale; see `Optimizer.scale_loss`."""
        return self.optimizer.scale_loss(loss)

    def flush(self) -> None:
        """Take the step of an incomplete window; see `Optimizer.flush`."""
        self.optimizer.flush()

    @property
    def lr(self) -> Any:
        """The schedule of the optimizer inside; assign as to ``optimizer.lr``."""
        return self.optimizer.lr

    @lr.setter
    def lr(self, value: ScalarOrSchedule) -> None:
        self.optimizer.lr = value

    @property
    def current_lr(self) -> Any:
        """The learning rate of the next update, a 0-d array."""
        return self.optimizer.current_lr

    def get_last_lr(self) -> list[float]:
        """Return the rate of each group; see `Optimizer.get_last_lr`."""
        return self.optimizer.get_last_lr()

    @property
    def frozen(self) -> tuple[str, ...]:
        """The paths that are frozen."""
        return self.optimizer.frozen

    @property
    def maximize(self) -> bool:
        """Whether the optimizer inside climbs."""
        return self.optimizer.maximize

    @property
    def zero(self) -> AxisNames:
        """The axes of the mesh that divide the state; see `Optimizer`."""
        return self.optimizer.zero

    @property
    def offload(self) -> Offload:
        """The memory of the state; see `Optimizer`."""
        return self.optimizer.offload

    def _taken(self) -> Any:
        """Return the number of steps that the optimizer inside has done."""
        inside = self.optimizer
        return (
            inside._taken()
            if isinstance(inside, OptimizerWrapper)
            else inside.step.value
        )

    def register_train_vars(self, train_vars: Model) -> None:
        """Train more variables; see `Optimizer.register_train_vars`."""
        self.optimizer.register_train_vars(train_vars)

    def to(self, device: Place, *, params: bool = True) -> Self:
        """Move it, the optimizer inside and what is trained; see `Optimizer.to`."""
        trained = self._trained.variables.values() if params else ()
        move([*self._movable(), *trained], device)
        return self
