# SPDX-License-Identifier: Apache-2.0
"""JAX's transforms for functions that read and write Variables."""

from ._abstract import eval_shape as eval_shape
from ._abstract import make_jaxpr as make_jaxpr
from ._checkify import checkify as checkify
from ._jit import jit as jit
from ._lift import Run as Run
from ._lift import lift as lift
from ._records import record as record
from ._remat import remat as remat
from ._shard_map import shard_map as shard_map
from ._vmap import vmap as vmap
from ._with_records import with_records as with_records
from .control_flow._branches import cond as cond
from .control_flow._branches import ifelse as ifelse
from .control_flow._branches import switch as switch
from .control_flow._loops import for_loop as for_loop
from .control_flow._loops import scan as scan
from .control_flow._while import bounded_while_loop as bounded_while_loop
from .control_flow._while import while_loop as while_loop
from .gradients._grad import grad as grad
from .gradients._grad import value_and_grad as value_and_grad
from .gradients._jacobian import hessian as hessian
from .gradients._jacobian import jacfwd as jacfwd
from .gradients._jacobian import jacobian as jacobian
from .gradients._jacobian import jacrev as jacrev
from .gradients._linear import jvp as jvp
from .gradients._linear import vjp as vjp
from .gradients._vector_grad import vector_grad as vector_grad
from .programs._compilations import assert_compiles_at_most as assert_compiles_at_most
