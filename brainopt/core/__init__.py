# SPDX-License-Identifier: Apache-2.0
"""Variables, Nodes, and everything both are made of."""

from ._collectors import Collector as Collector
from ._collectors import NodeCollector as NodeCollector
from ._collectors import VarCollector as VarCollector
from ._containers import NodeDict as NodeDict
from ._containers import NodeList as NodeList
from ._containers import VarDict as VarDict
from ._containers import VarList as VarList
from ._host import Host as Host
from ._host import register_host as register_host
from ._node import Node as Node
from ._random import RandomState as RandomState
from ._state import LoadResult as LoadResult
from ._summary import Summary as Summary
from ._summary import summary as summary
from ._variable import TrainVar as TrainVar
from ._variable import Variable as Variable
from ._view import VariableView as VariableView
