# SPDX-License-Identifier: Apache-2.0
"""Models of other frameworks, seen as Variables."""

from ..core import register_host
from ._attach import Attached as Attached
from ._attach import attach as attach
from ._brainstate import BrainstateHost, OldBrainpyHost

for _host in (OldBrainpyHost(), BrainstateHost()):
    register_host(_host)
