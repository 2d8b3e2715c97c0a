# SPDX-License-Identifier: Apache-2.0
"""The trainable-state layer for brain models in JAX."""

from . import checkpoint as checkpoint
from . import errors as errors
from . import optim as optim
from ._version import __version__ as __version__
from .core import Host as Host
from .core import Node as Node
from .core import NodeDict as NodeDict
from .core import NodeList as NodeList
from .core import RandomState as RandomState
from .core import TrainVar as TrainVar
from .core import Variable as Variable
from .core import VariableView as VariableView
from .core import VarDict as VarDict
from .core import VarList as VarList
from .core import register_host as register_host
from .core import summary as summary
from .transforms import cond as cond
from .transforms import for_loop as for_loop
from .transforms import grad as grad
from .transforms import jit as jit
from .transforms import scan as scan
from .transforms import value_and_grad as value_and_grad
