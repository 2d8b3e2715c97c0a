# SPDX-License-Identifier: Apache-2.0
"""Optimizers whose state lives in Variables, and the schedules of their rates."""

from .._command_line import missing as _missing
from ._optimizer import Optimizer as Optimizer
from .algorithms._adabelief import AdaBelief as AdaBelief
from .algorithms._adadelta import Adadelta as Adadelta
from .algorithms._adafactor import Adafactor as Adafactor
from .algorithms._adagrad import Adagrad as Adagrad
from .algorithms._adam import Adam as Adam
from .algorithms._adamax import Adamax as Adamax
from .algorithms._adamw import AdamW as AdamW
from .algorithms._adan import Adan as Adan
from .algorithms._asgd import ASGD as ASGD
from .algorithms._layerwise import LARS as LARS
from .algorithms._layerwise import Lamb as Lamb
from .algorithms._lbfgs import LBFGS as LBFGS
from .algorithms._lion import Lion as Lion
from .algorithms._momentum import Momentum as Momentum
from .algorithms._momentum import MomentumNesterov as MomentumNesterov
from .algorithms._muon import Muon as Muon
from .algorithms._muon import orthogonalize as orthogonalize
from .algorithms._nadam import NAdam as NAdam
from .algorithms._radam import RAdam as RAdam
from .algorithms._rls import RLS as RLS
from .algorithms._rmsprop import RMSProp as RMSProp
from .algorithms._rprop import Rprop as Rprop
from .algorithms._schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
from .algorithms._sgd import SGD as SGD
from .algorithms._sm3 import SM3 as SM3
from .algorithms._sparse_adam import SparseAdam as SparseAdam
from .algorithms._yogi import Yogi as Yogi
from .engine._gradients import all_finite as all_finite
from .engine._gradients import centralize as centralize
from .engine._gradients import clip_by_global_norm as clip_by_global_norm
from .engine._gradients import clip_by_norm as clip_by_norm
from .engine._gradients import clip_by_value as clip_by_value
from .engine._gradients import global_norm as global_norm
from .engine._loss_scale import LossScale as LossScale
from .engine._rows import Rows as Rows
from .engine._tree import abs2 as abs2
from .engine._tree import zeros as zeros
from .hyperparameters._fields import Number as Number
from .hyperparameters._fields import argument as argument
from .hyperparameters._fields import choice as choice
from .hyperparameters._fields import decay_rate as decay_rate
from .hyperparameters._fields import flag as flag
from .hyperparameters._fields import number as number
from .hyperparameters._fields import option as option
from .hyperparameters._names import CLASSES as _CLASSES
from .hyperparameters._names import MEANT as _MEANT
from .schedules._annealing import CosineAnnealingLR as CosineAnnealingLR
from .schedules._annealing import (
    CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts,
)
from .schedules._annealing import CyclicLR as CyclicLR
from .schedules._annealing import OneCycleLR as OneCycleLR
from .schedules._decay import ExponentialDecayLR as ExponentialDecayLR
from .schedules._decay import ExponentialLR as ExponentialLR
from .schedules._decay import InverseTimeDecayLR as InverseTimeDecayLR
from .schedules._decay import MultiStepLR as MultiStepLR
from .schedules._decay import PiecewiseConstantLR as PiecewiseConstantLR
from .schedules._decay import PolynomialDecayLR as PolynomialDecayLR
from .schedules._decay import StepLR as StepLR
from .schedules._fields import counted_by as counted_by
from .schedules._functions import LambdaLR as LambdaLR
from .schedules._functions import MultiplicativeLR as MultiplicativeLR
from .schedules._plateau import ReduceLROnPlateau as ReduceLROnPlateau
from .schedules._schedule import Constant as Constant
from .schedules._schedule import Schedule as Schedule
from .schedules._sequences import ChainedLR as ChainedLR
from .schedules._sequences import SequentialLR as SequentialLR
from .schedules._warmup import LinearLR as LinearLR
from .schedules._warmup import NoamLR as NoamLR
from .schedules._warmup import Warmup as Warmup
from .schedules._warmup import WarmupStableDecay as WarmupStableDecay
from .wrappers._ema import EMA as EMA
from .wrappers._like import like as like
from .wrappers._lookahead import Lookahead as Lookahead
from .wrappers._optax import Optax as Optax
from .wrappers._sam import SAM as SAM


def __getattr__(name: str):
    if name in _CLASSES:
        return globals()[_CLASSES[name]]
    raise _missing(__name__, name, _MEANT.get(name, ""))
