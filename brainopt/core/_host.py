# SPDX-License-Identifier: Apache-2.0
"""Hosts: how the state of another framework is seen as Variables."""

from __future__ import annotations

import abc
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

from ._variable import Variable


class Host(abc.ABC):
    """Abstract: finds the Variables of models that another framework made.

    A host is asked only when its package is already imported, so that brainopt
    imports no framework by itself.

    Attributes:
        package: the top-level module whose presence wakes the host.
    """

    package: ClassVar[str]

    @abc.abstractmethod
    def find(self, obj: Any) -> dict[str, Variable] | None:
        """Return ``{path: Variable}`` of ``obj``, or None if it is not of this host."""


_hosts: list[Host] = []


def register_host(host: Host) -> None:
    """Add a host; later ones are asked first."""
    _hosts.insert(0, host)


def awake() -> Iterator[Host]:
    """Yield the hosts whose package is imported."""
    return (host for host in _hosts if host.package in sys.modules)


def find(obj: Any) -> dict[str, Variable] | None:
    """Return the Variables of a foreign object, or None if no host knows it."""
    for host in awake():
        found = host.find(obj)
        if found is not None:
            return found
    return None
