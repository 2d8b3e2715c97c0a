# SPDX-License-Identifier: Apache-2.0
"""The public names of `brainopt`; the package takes them from here."""

import importlib as _importlib

from .core import Average as Average
from .core import Host as Host
from .core import Node as Node
from .core import NodeDict as NodeDict
from .core import NodeList as NodeList
from .core import RandomState as RandomState
from .core import TrainVar as TrainVar
from .core import VarDict as VarDict
from .core import Variable as Variable
from .core import VariableView as VariableView
from .core import VarList as VarList
from .core import register_host as register_host
from .core import summary as summary
from .core import use_checkpoints as _use_checkpoints
from .hosts import attach as attach
from .transforms import assert_compiles_at_most as assert_compiles_at_most
from .transforms import bounded_while_loop as bounded_while_loop
from .transforms import checkify as checkify
from .transforms import cond as cond
from .transforms import eval_shape as eval_shape
from .transforms import for_loop as for_loop
from .transforms import grad as grad
from .transforms import hessian as hessian
from .transforms import ifelse as ifelse
from .transforms import jacfwd as jacfwd
from .transforms import jacobian as jacobian
from .transforms import jacrev as jacrev
from .transforms import jit as jit
from .transforms import jvp as jvp
from .transforms import lift as lift
from .transforms import make_jaxpr as make_jaxpr
from .transforms import record as record
from .transforms import remat as remat
from .transforms import scan as scan
from .transforms import shard_map as shard_map
from .transforms import switch as switch
from .transforms import value_and_grad as value_and_grad
from .transforms import vector_grad as vector_grad
from .transforms import vjp as vjp
from .transforms import vmap as vmap
from .transforms import while_loop as while_loop
from .transforms import with_records as with_records

_use_checkpoints(lambda: _importlib.import_module("brainopt.checkpoint"))
