# SPDX-License-Identifier: Apache-2.0
"""Sharding: variables, moments and batches divided over the devices of a mesh."""

from ._batch import batch as batch
from ._check import check as check
from ._rules import AxisNames as AxisNames
from ._shard import shard as shard
from ._zero import Offload as Offload
from ._zero import zero as zero
