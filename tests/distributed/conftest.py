# SPDX-License-Identifier: Apache-2.0
"""The one start of two processes that the quick tests share."""

import pytest

from tests.distributed import cases
from tests.distributed.launch import launch


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder in which the processes have saved."""
    return str(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="session")
def processes(folder):
    """What each of the processes has seen."""
    return launch(cases.__file__, "everything", folder, devices=2)
