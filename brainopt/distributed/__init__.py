# SPDX-License-Identifier: Apache-2.0
"""Many processes: the start of a run, and meetings that cannot hang."""

from ._compare import compare as compare
from ._compare import differences as differences
from ._compare import shared_parts as shared_parts
from ._initialize import initialize as initialize
from ._meeting import decide as decide
from ._meeting import exchange as exchange
from ._meeting import spans as spans
