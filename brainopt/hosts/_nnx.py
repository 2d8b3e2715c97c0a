# SPDX-License-Identifier: Apache-2.0
"""The host of flax.nnx.

nnx tells nobody what a model reads, so its variables are Variables outside transforms
only. Inside ``nnx.jit`` the functional core of an optimizer does the work; a state that
was split off is a pytree, and trains in ``bo.jit`` as others do.
"""

from __future__ import annotations

from typing import Any

import jax

from .._typing import Foreign, Model, PyTree
from ..core import Found, Host, is_constant

_ADVICE = (
    "split the model and use the functional core inside nnx.jit: `params = "
    "nnx.state(model, nnx.Param)`, `params, state = opt.apply(params, state, grads)`, "
    "`nnx.update(model, params)`, with `state = opt.init(params)` once; or attach its "
    "parameters: `graphdef, params, rest = nnx.split(model, nnx.Param, ...)`, `net = "
    "bo.attach(params)`, and `nnx.merge(graphdef, net.model, rest)` for the model "
    "inside `bo.jit` and `bo.grad`; docs/guide/hosts.md says how to keep a rest that "
    "changes."
)


class NnxHost(Host):
    """Finds the variables of nnx modules."""

    package = "flax"
    families = ("flax",)
    minimum = "0.11"
    title = "nnx"
    advice = _ADVICE

    def wake(self) -> None:
        """Keep the classes of nnx, which may be imported now."""
        from flax import nnx

        self._nnx = nnx
        # Optimizers, metrics and Rngs are no Modules, and hold variables, too.
        self._holders = getattr(nnx, "Pytree", nnx.Object)
        self._by_method = hasattr(nnx.Variable, "get_raw_value")  # flax from 0.12.1 on

    def find(self, obj: Model) -> Found | None:
        """Return the variables of a module, or of a single one."""
        nnx = self._nnx
        if isinstance(obj, nnx.Variable):
            return Found({"": self.variable(obj)})
        if not isinstance(obj, self._holders):
            return None
        found = Found()
        for path, variable in nnx.iter_graph(obj):
            if isinstance(variable, nnx.Variable):
                found[".".join(map(str, path))] = self.variable(variable)
        return found.name_after(obj)

    def constants(self, obj: Model) -> dict[str, Any]:
        """Return the arrays in plain attributes of the modules."""
        found = {}
        for path, module in self._nnx.iter_graph(obj):
            if isinstance(module, self._holders):
                for key, value in vars(module).items():
                    if is_constant(value):
                        found[".".join(map(str, (*path, key)))] = value
        return found

    def trainable(self, owner: Foreign) -> bool:
        """Whether it is a Param."""
        return isinstance(owner, self._nnx.Param)

    def read(self, owner: Foreign) -> Any:
        """Return the stored value, past the hooks of ``get_value``."""
        # A mutable array (`jax.Ref`) is read and written in place: the model holds it.
        raw = owner.get_raw_value() if self._by_method else owner.raw_value
        return raw[...] if isinstance(raw, jax.Ref) else raw

    def write(self, owner: Foreign, value: PyTree) -> None:
        """Change the stored value."""
        raw = owner.get_raw_value() if self._by_method else owner.raw_value
        if isinstance(raw, jax.Ref):
            raw[...] = value
        elif self._by_method:
            owner.set_raw_value(value)
        else:
            owner.raw_value = value

    def untracked(self, value: PyTree) -> bool:
        """Whether it is a module or a variable."""
        return isinstance(value, (self._holders, self._nnx.Variable))
