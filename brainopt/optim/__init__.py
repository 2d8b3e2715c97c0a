# SPDX-License-Identifier: Apache-2.0
"""Optimizers whose state lives in Variables, and the schedules of their rates."""

from ._adam import Adam as Adam
from ._adamw import AdamW as AdamW
from ._annealing import CosineAnnealingLR as CosineAnnealingLR
from ._gradients import centralize as centralize
from ._gradients import clip_by_global_norm as clip_by_global_norm
from ._gradients import clip_by_norm as clip_by_norm
from ._gradients import clip_by_value as clip_by_value
from ._gradients import global_norm as global_norm
from ._optimizer import Optimizer as Optimizer
from ._options import Common as Common
from ._pure import abs2 as abs2
from ._pure import zeros as zeros
from ._rows import Rows as Rows
from ._schedule import Constant as Constant
from ._schedule import Schedule as Schedule
from ._sgd import SGD as SGD
