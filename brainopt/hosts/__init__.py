# SPDX-License-Identifier: Apache-2.0
"""Models of other frameworks, seen as Variables."""

from ..core import register_host
from ._attach import Attached as Attached
from ._attach import attach as attach
from ._brainstate import BrainstateHost, OldBrainpyHost
from ._nnx import NnxHost

for _host in (OldBrainpyHost(), BrainstateHost(), NnxHost()):
    register_host(_host)
