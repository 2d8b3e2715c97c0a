# SPDX-License-Identifier: Apache-2.0
"""Optimizers whose state lives in Variables, and the schedules of their rates."""

from ._adam import Adam as Adam
from ._adam import AdamW as AdamW
from ._optimizer import Optimizer as Optimizer
from ._schedule import Constant as Constant
from ._schedule import CosineAnnealingLR as CosineAnnealingLR
from ._schedule import Schedule as Schedule
from ._sgd import SGD as SGD
