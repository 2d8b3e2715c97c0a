# SPDX-License-Identifier: Apache-2.0
"""Variables whose value is held by an object of another framework."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Foreign, PyTree
from ..errors import TraceContextError, message
from ..runtime import top
from ._variable import TrainVar, Variable

_LOOSE = (np.ndarray, np.generic, float, complex)


class ForeignVariable(Variable):
    """A Variable whose value is held by an object of another framework.

    Args:
        host: reads and writes it.
        owner: the object.
    """

    __slots__ = ("host", "owner")

    _native = False

    def __init__(self, host: Any, owner: Foreign):
        self.host = host
        self.owner = owner
        self._batch_axis = getattr(owner, "batch_axis", None)
        self.axis_names = getattr(owner, "axis_names", None)
        self._name = self._creation_trace = self._proxy = None

    @classmethod
    def _from_static(cls, static: tuple[Any, ...], value: PyTree) -> Any:
        # A copy does not live in the framework.
        kind = TrainVar if issubclass(cls, TrainVar) else Variable
        return kind._from_static(static, value)

    def __reduce__(self):
        raise TypeError(
            message(f"{self.label} belongs to {self.host.package} and is copied there.")
        )

    _direct = False

    @property
    def fallible(self) -> bool:
        """Whether Python code, which may fail, runs when its value is stored."""
        return True

    @property
    def stores_in_c(self) -> bool:
        """Whether storing its value is one call into C."""
        return False

    @property
    def label(self) -> str:
        """The name of this Variable in errors."""
        kind = f"{self.host.package} {type(self.owner).__name__}"
        return f"{kind} '{self._name}'" if self._name else f"An unnamed {kind}"

    def _committed(self) -> Any:
        return _read(self.host, self.owner)

    def _store(self, value: PyTree) -> None:
        self.host.write(self.owner, value)

    def _getter(self) -> Callable[[], Any]:
        return functools.partial(_read, self.host, self.owner)

    def _setter(self) -> Callable[[Any], None]:
        return functools.partial(self.host.write, self.owner)

    def _read(self) -> Any:
        if top() is not None:
            self.check_threaded()
        return self._committed()

    def _write(self, value: PyTree) -> None:
        if top() is not None:
            self.check_threaded()
        self._store(value)

    @property
    def _advice(self) -> str:
        return "" if self._direct else self.host.advice

    def check_threaded(self) -> None:
        """Raise TraceContextError inside a transform that cannot see its reads."""
        # Its host has no tracker, so the frame would take the value for a constant.
        if not self._direct:
            raise TraceContextError(
                message(
                    f"{self.label} is used inside a brainopt transform, which cannot "
                    f"see what {self.host.package} reads.",
                    help=self.host.advice,
                )
            )


class ForeignTrainVar(ForeignVariable, TrainVar):
    """A foreign parameter that optimizers train."""

    __slots__ = ()


def _read(host: Any, owner: Foreign) -> Any:
    """Return the value of a parameter, with arrays where it has numbers of NumPy."""
    value = host.read(owner)
    if isinstance(value, jax.Array):  # nearly always, and this is read at each step
        return value
    return jax.tree.map(lambda x: jnp.array(x) if isinstance(x, _LOOSE) else x, value)
