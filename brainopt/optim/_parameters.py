# SPDX-License-Identifier: Apache-2.0
"""The variables that an optimizer trains, and gradients matched to them.

Gradients are paired with variables by name, never by position: JAX sorts the keys of a
dict, so that two orders of the same names are common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._compat import is_eager
from .._typing import Gradients, Model, PyTree
from ..core import (
    ForeignVariable,
    Node,
    VarCollector,
    Variable,
    branches,
    entries,
    gradient_in,
    join,
    plain,
    train_vars_of,
    warn_of_hidden,
)
from ..errors import GradientError, PathError, VariableError, message
from ..runtime import read, snapshot
from ._aliases import aliases_in
from ._matches import Matches
from .engine._rows import Rows, fit_rows, is_sparse
from .engine._tree import is_like, named

_NEW = " Those of new variables need `opt.register_train_vars(node)` first."
_MATCHES = "_matches_now"
_HELP = "pass the same `train_vars` to the optimizer and to `bo.grad`."


class TrainedVariables(Node):
    """Variables by structural path, each once, and the keys users call them by.

    Attributes:
        variables: ``{path: Variable}``.
        paths: the path for each key that a variable was registered with.
        aliases: the path for each other path of a variable or of a node.
        has_ambiguous_names: whether some name may mean two variables; see `_by_path`.
    """

    def __init__(self):
        self.variables: dict[str, Variable] = {}
        self.paths: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.has_ambiguous_names = False

    def add(self, source: Model) -> list[str]:
        """Add the variables that `train_vars_of` finds; return the new paths.

        Raises:
            PathError: two different Variables have one path.
            VariableError: a Variable is not of a floating or complex dtype.
        """
        warn_of_hidden(source)
        found = self.find(source)
        known = {variable: path for path, variable in self.variables.items()}
        new: dict[str, Variable] = {}
        keys: dict[str, str] = {}
        clashes = []
        merged = dict(self.variables)
        for key, variable in found.items():
            if not jax.tree.leaves(read(variable)):
                continue  # as in an nnx.Param(None) there is nothing to train
            # One Variable has one path, the first it was found under; its other keys
            # lead to it. So a shared weight is stepped once.
            path = known.setdefault(variable, str(found.paths.get(variable, key)))
            held = merged.setdefault(path, variable)
            if held is not variable:
                clashes.append(f"{path}: {held.label} and {variable.label}")
            if path not in self.variables:
                new[path] = variable
            keys[key] = path
        if clashes:
            raise PathError(
                message(
                    "Two different Variables under one path:",
                    clashes,
                    "give parts names of their own: train_vars={'a': a, 'b': b}.",
                )
            )
        # Nothing was assigned so far: after an error all is as before.
        _check_dtypes(new)
        self.variables = self.variables | new
        self.paths = self.paths | keys
        self.aliases = self.aliases | dict(aliases_in(source))
        theirs = self._own_names(self.variables)
        self.has_ambiguous_names |= any(
            reading.get(path, path) != path
            for path in self.variables
            for reading in (self.paths, theirs)
        )
        return list(new)

    def knows(self, name: str) -> bool:
        """Whether ``name`` is a path, or a key that was registered."""
        return name in self.variables or name in self.paths

    find = staticmethod(train_vars_of)

    def collector(self) -> VarCollector:
        """Return the variables by path."""
        return VarCollector(self.variables.items())

    def values(self) -> dict[str, Any]:
        """Return ``{path: value}``."""
        variables = tuple(self.variables.values())
        return dict(zip(self.variables, snapshot(variables), strict=True))

    def require(self, owner: str) -> None:
        """Raise `GradientError` if there is nothing to train."""
        if not self.variables:
            raise GradientError(
                message(
                    f"This {owner} has no variables to train.",
                    help="pass `train_vars`, or call opt.register_train_vars(...); of "
                    "a Node it takes the `TrainVar`s.",
                )
            )

    def match(
        self,
        grads: Gradients,
        owner: str,
        frozen: Iterable[str] = (),
        rows: bool = False,
    ) -> dict[str, Any]:
        """Return ``{path: gradient}``, checked against the variables.

        Args:
            grads: a dict by path or by the key a variable was registered with; a list
                in the order of a registered list; a tree like the model; or one
                gradient for one variable. ``None`` skips a variable.
            owner: the optimizer, for errors.
            frozen: paths whose gradient may be missing.
            rows: whether `Rows` are allowed.

        Raises:
            GradientError: listing every name, shape and dtype that does not fit; or
                there is no variable to train.
        """
        self.require(owner)
        matches = self._matches()
        if (matched := matches.again(grads)) is not None:
            return matched
        # Two names may mean one shared variable; its gradient counts once.
        flat = dict(_flatten(grads, self))
        given: dict[str, Any] = {}
        for name, path in zip(flat, self._by_path(flat), strict=True):
            given.setdefault(name if path is None else path, flat[name])
        problems = [
            f"unexpected: {name}"
            for name, gradient in given.items()
            if name not in self.variables and gradient is not None  # a hole of equinox
        ]
        matched, is_usual = {}, True
        for path, variable in self.variables.items():
            if path not in given and path not in frozen:
                problems.append(f"missing: {path}")
                continue
            gradient = given.get(path)
            if is_like(gradient, matches.kinds[path]):
                matched[path] = gradient
                continue
            is_usual = False
            matched[path], unfit = _fit(gradient, read(variable), path, rows)
            problems += unfit
        if problems:
            raise GradientError(
                message(
                    f"The gradients do not fit the variables of this {owner}:",
                    problems,
                    _HELP + _NEW * any("unexpected" in line for line in problems),
                )
            )
        if is_usual:
            matches.note(grads, matched)
        return matched

    def _matches(self) -> Matches:
        """Return what is remembered of the present variables."""
        matches = vars(self).get(_MATCHES)
        if matches is None or matches.variables is not self.variables:
            matches = vars(self)[_MATCHES] = Matches(self.variables)
        return matches

    def _pytree_attributes(self) -> Iterator[tuple[str, Any]]:
        # Otherwise the first eager step would change the structure of an optimizer.
        return ((k, v) for k, v in super()._pytree_attributes() if k != _MATCHES)

    def _by_path(self, names: Iterable[str]) -> list[str | None]:
        """Return the path that each name means, None where it means nothing here.

        A name is a path, a key that was registered, or the name that a framework gave.
        Where one of these readings fits all of the names, it holds.

        Raises:
            GradientError: the readings differ.
        """
        # The short way serves where each name has one meaning, whatever the reading.
        own = {path: path for path in self.variables}
        known = own | self.paths
        if not self.has_ambiguous_names and all(map(known.__contains__, names)):
            return [known[name] for name in names]
        readings = [own, self.paths, self._own_names(names)]
        # A reading that fits all names holds. If several do they must agree by name,
        # and if none does each name is taken by any reading that has it.
        whole = [r for r in readings if all(map(r.__contains__, names))]
        found, unclear = [], []
        for name in names:
            meant = {r[name] for r in whole or readings if name in r}
            found.append(min(meant, default=None))
            if len(meant) > 1:
                unclear.append(f"{name}: {' or '.join(sorted(meant))}")
        if unclear:
            raise GradientError(
                message(
                    "These gradients have names that are paths of some variables and "
                    "names, given by a framework, of others:",
                    unclear,
                    "give the parts names of their own: train_vars={'a': a, 'b': b}.",
                )
            )
        return found

    def _own_names(self, names: Iterable[str]) -> dict[str, str]:
        """Return the paths of those names that a framework gave to variables."""
        foreign = {
            id(variable.owner): (variable.host, path)
            for path, variable in self.variables.items()
            if isinstance(variable, ForeignVariable)
        }
        hosts = {host for host, _ in foreign.values()}
        owners = ((name, host.resolve(name)) for name in names for host in hosts)
        return {name: foreign[id(o)][1] for name, o in owners if id(o) in foreign}


def _check_dtypes(variables: dict[str, Variable]) -> None:
    unfit = [
        f"{path}: {leaf.dtype if isinstance(leaf, jax.Array) else type(leaf).__name__}"
        for path, variable in variables.items()
        for leaf in jax.tree.leaves(read(variable))
        if not isinstance(leaf, jax.Array)
        or not jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    if unfit:
        raise VariableError(
            message(
                "Only Variables of a floating or complex dtype can be trained:", unfit
            )
        )


def _flatten(grads: Gradients, trained: TrainedVariables) -> list[tuple[str, Any]]:
    # With a single variable the gradient may come bare, or as a tree like its value.
    if len(trained.variables) == 1:
        ((path, variable),) = trained.variables.items()
        if is_like(grads, trained._matches().kinds[path]):
            return [(path, grads)]
        value = read(variable)
        if not isinstance(value, jax.Array) and _outline(grads) == _outline(value):
            return [(path, grads)]
        if not isinstance(grads, dict | list | tuple):
            alone = named(grads)
            if len(alone) == 1 and trained.knows(alone[0][0]):
                return alone
            return [(path, grads)]
    # As `bo.grad` returns them; boxes and trees around arrays are walked below.
    if (
        isinstance(grads, dict)
        and grads.keys() <= trained.variables.keys()
        and all(isinstance(gradient, jax.Array) for gradient in grads.values())
    ):
        return list(grads.items())
    if branches(grads) is None:
        raise GradientError(
            message(
                f"Gradients for {len(trained.variables)} variables came as one "
                f"{type(grads).__name__}.",
                help="give a dict {path: gradient}, as `bo.grad(loss, train_vars)(…)` "
                "returns it when it is called.",
            )
        )
    return _descend("", grads, trained.knows)


def _descend(
    path: str, tree: Any, known: Callable[[str], bool]
) -> list[tuple[str, Any]]:
    """Return the subtrees under known paths, and the leaves under all others."""
    parts = None if known(path) else branches(tree)
    if parts is None:
        return [(path, tree)]
    below = (_descend(join(path, name), part, known) for name, part in parts)
    return [pair for pairs in below for pair in pairs]


def _outline(tree: Any) -> Any:
    return jax.tree.structure(tree, is_leaf=lambda x: x is None)


def _fit(gradient: Any, value: Any, path: str, rows: bool) -> tuple[Any, list[str]]:
    # A value may be a tree itself; None for all of it skips each of its leaves.
    leaves, tree = entries(value), jax.tree.structure(value)
    if gradient is None:
        return jax.tree.unflatten(tree, [None] * len(leaves)), []
    if is_sparse(gradient) or isinstance(gradient, Rows):
        return fit_rows(gradient, value, path, rows)
    gradient, wrong = gradient_in(plain(gradient), value)
    if wrong:
        return None, [f"{path}: {line}" for line in wrong]
    parts, structure = jax.tree.flatten(gradient, is_leaf=lambda x: x is None)
    if structure != tree:
        return None, [f"{path}: gradient of structure {structure}, variable {tree}"]
    problems = []
    for i, ((below, leaf), part) in enumerate(zip(leaves, parts, strict=True)):
        if part is None:
            continue
        if problem := _misfit(part, leaf):
            problems.append(f"{join(path, below)}: {problem}")
        elif not isinstance(part, jax.Array):
            parts[i] = jnp.asarray(part)
    return jax.tree.unflatten(tree, parts), problems


def _misfit(part: Any, leaf: Any) -> str:
    if not isinstance(part, jax.Array | np.ndarray | np.generic | float):
        return f"a {type(part).__name__} is no gradient"
    if isinstance(part, Tracer) and is_eager():
        return "a tracer of a transform that has ended"
    if (shape := np.shape(part)) != leaf.shape:
        return f"gradient of shape {shape} for a variable of shape {leaf.shape}"
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return f"a gradient of {leaf.dtype}, which cannot be trained; give None"
    kind = jnp.complexfloating if _is_complex(leaf) else jnp.floating
    if not jnp.issubdtype(jnp.result_type(part), kind):
        return f"gradient of dtype {jnp.result_type(part)} for a {leaf.dtype} variable"
    return ""


def _is_complex(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def check_fit(
    owner: str, params: PyTree, slots: PyTree, grads: Gradients, rows: bool
) -> None:
    """Raise `GradientError` if gradients or slots do not fit a tree of parameters."""
    given, known = dict(named(grads, none=True)), dict(named(params))
    # None where there is no parameter either is a hole, as those of equinox.
    problems = [
        f"unexpected: {path}"
        for path, grad in given.items()
        if grad is not None and path not in known
    ]
    problems += [f"missing: {path}" for path in known if path not in given]
    for path, leaf in known.items():
        problems += _fit(given.get(path), leaf, path, rows)[1]
        if path not in slots:
            problems.append(f"{path}: not in the state")
    if problems:
        raise GradientError(
            message(
                f"These do not fit the parameters of this {owner}:",
                problems,
                "give gradients in the structure of the parameters, and the state "
                "that `init` made for them.",
            )
        )
