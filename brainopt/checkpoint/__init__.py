# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: files that are complete or were never there."""

from ._async import AsyncSaver as AsyncSaver
from ._convert import convert as convert
from ._diff import diff as diff
from ._doors import inspect as inspect
from ._doors import load as load
from ._doors import restore as restore
from ._doors import save as save
from ._doors import verify as verify
from ._foreign import load_foreign as load_foreign
from ._foreign_optimizers import from_brainpy as from_brainpy
from ._foreign_optimizers import optimizer_state as optimizer_state
from ._inspect import Entry as Entry
from ._inspect import Inspection as Inspection
from ._manager import Manager as Manager
from ._paths import flat_paths as flat_paths
from ._protocol import Staged as Staged
from ._protocol import Stateful as Stateful
from ._selection import renamed as renamed
