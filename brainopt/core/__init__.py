# SPDX-License-Identifier: Apache-2.0
"""Variables, Nodes, and everything both are made of.

Users are promised what `brainopt` exports; the other names are for the other wings.
"""

from .._dtypes import is_weak as is_weak
from .._dtypes import keeps_kind as keeps_kind
from .._typing import Place as Place
from .._typing import PlaceRules as PlaceRules
from ._average import Average as Average
from ._collectors import Collector as Collector
from ._collectors import NodeCollector as NodeCollector
from ._collectors import VarCollector as VarCollector
from ._constants import arrays_below as arrays_below
from ._constants import constants as constants
from ._constants import fingerprints as fingerprints
from ._constants import is_constant as is_constant
from ._containers import NodeDict as NodeDict
from ._containers import NodeList as NodeList
from ._containers import VarDict as VarDict
from ._containers import VarList as VarList
from ._device import move as move
from ._device import move_each as move_each
from ._files import load_states as load_states
from ._files import save_states as save_states
from ._files import use_checkpoints as use_checkpoints
from ._foreign import ForeignTrainVar as ForeignTrainVar
from ._foreign import ForeignVariable as ForeignVariable
from ._hidden import warn_of_hidden as warn_of_hidden
from ._host import Found as Found
from ._host import Host as Host
from ._host import find as find
from ._host import register_host as register_host
from ._host import registered as registered
from ._host import unseen as unseen
from ._host import wake_entry_points as wake_entry_points
from ._host import wrap as wrap
from ._node import Node as Node
from ._operators import ArrayLike as ArrayLike
from ._operators import unwrap as unwrap
from ._random import RandomState as RandomState
from ._reset import reset as reset
from ._state import LoadResult as LoadResult
from ._state import Staged as Staged
from ._state import load_state_dict as load_state_dict
from ._state import stage as stage
from ._state import state_dicts as state_dicts
from ._state import units as units
from ._summary import Summary as Summary
from ._summary import summary as summary
from ._units import gradient_in as gradient_in
from ._value import entries as entries
from ._value import initial as initial
from ._value import plain as plain
from ._variable import TrainVar as TrainVar
from ._variable import Variable as Variable
from ._variable import VariableView as VariableView
from ._walk import branches as branches
from ._walk import collect_vars as collect_vars
from ._walk import join as join
from ._walk import train_vars_of as train_vars_of
from ._walk import tree_paths as tree_paths
from .functions._reachable import within as within
from .functions._transformed import Transformed as Transformed
from .functions._transformed import as_transform as as_transform
from .functions._trees import Recipe as Recipe
from .functions._trees import describe as describe
