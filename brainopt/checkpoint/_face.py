# SPDX-License-Identifier: Apache-2.0
"""The public names of `brainopt.checkpoint`."""

from ._async import AsyncSaver as AsyncSaver
from ._doors import dumps as dumps
from ._doors import inspect as inspect
from ._doors import load as load
from ._doors import loads as loads
from ._doors import restore as restore
from ._doors import restore_and_compare as restore_and_compare
from ._doors import save as save
from ._doors import verify as verify
from ._manager import Manager as Manager
from ._resumed import Resumed as Resumed
from .interop._foreign import load_foreign as load_foreign
from .interop._optimizers import from_brainpy as from_brainpy
from .interop._optimizers import optimizer_state as optimizer_state
from .tools._convert import convert as convert
from .tools._diff import diff as diff
from .tools._inspect import Entry as Entry
from .tools._inspect import Inspection as Inspection
from .tree._paths import flat_paths as flat_paths
from .tree._protocol import Staged as Staged
from .tree._protocol import Stateful as Stateful
