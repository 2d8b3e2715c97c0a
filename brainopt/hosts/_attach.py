# SPDX-License-Identifier: Apache-2.0
"""Attaching: one report of what can be trained and saved in a foreign model."""

from __future__ import annotations

from typing import Any, Self

import jax

from .._typing import FilePath, Model, StateDict
from .._warnings import warn_user
from ..core import (
    ForeignTrainVar,
    ForeignVariable,
    Found,
    LoadResult,
    Place,
    PlaceRules,
    Staged,
    TrainVar,
    VarCollector,
    Variable,
    collect_vars,
    constants,
    find,
    fingerprints,
    load_state_dict,
    load_states,
    move,
    reset,
    save_states,
    stage,
    state_dicts,
    units,
    unseen,
    walked_once,
    wrap,
)
from ..errors import HostError, HostWarning, message
from ._brainstate import random_state
from ._trees import Tree


class Attached(VarCollector):
    """The Variables of a foreign model by path; what `attach` returns.

    It is a collector like ``node.vars()``. An optimizer and ``bo.grad`` take its
    `TrainVar`s; a checkpoint saves and restores all of it, like a Node.

    Attributes:
        unseen: trainable values that the framework itself does not collect, by path.
    """

    def __init__(self, model: Any, found: Any, tree: Tree | None = None):
        super().__init__(found)
        self._model = model
        self._tree = tree
        self.unseen = VarCollector(getattr(found, "unseen", ()))

    _walked_once = walked_once
    _reads_parts = True  # see `checkpoint.Stateful`

    # As a key of `axes` it stands for the model; a dict has no hash.
    __hash__ = object.__hash__  # type: ignore[assignment]

    def _like(self, items: Any) -> Any:
        # A part of the model is no model, so it has neither `model` nor `kinds`.
        return VarCollector(items, self.paths)

    @property
    def model(self) -> Any:
        """The model; of a pytree, a new one with the current values.

        Inside ``bo.jit`` and ``bo.grad`` a pytree is read like any Variable.
        """
        return self._model if self._tree is None else self._tree.build()

    def to_train(self) -> VarCollector:
        """Return the Variables that an optimizer trains."""
        return self.subset(TrainVar)

    train_vars = to_train

    def to(self, device: Place | PlaceRules) -> Self:
        """Move all values, those that nothing trains and the random state too.

        Args:
            device: a Device, a name as ``"cuda:1"``, a Sharding, a Mesh, a spec of the
                mesh where the values are; or rules: choices by name to any of these.

        Raises:
            DeviceError: there is no such device, or a value cannot be divided so.
            PathError: a rule chooses no Variable. After an error nothing has moved.
        """
        move(list(self.values()), device, lambda: self)
        return self

    def reset(self, batch_size: int | None = None) -> None:
        """Set the state of the model back, by the function of its framework.

        As `brainopt.Node.reset`. For brainpy it calls ``brainpy.reset_state``, for
        brainstate ``brainstate.nn.reset_all_states``.
        """
        reset(self, batch_size)

    def _models(self) -> list[Any]:
        return [] if self._tree is not None else [self._model]

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each Variable, as its framework calls it."""
        return {
            path: type(getattr(variable, "owner", variable)).__name__
            for path, variable in self.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return ``{path: array}``, all values from one instant."""
        return self._state_dict_with()[0]

    def _state_dict_with(self, *others: Any) -> list[dict[str, Any]]:
        """Return the state dicts of this and others, all values from one instant."""
        return state_dicts([self, *others])

    def load_state_dict(
        self,
        state_dict: StateDict,
        warn: bool = True,
        *,
        strict: bool = True,
        cast: bool = False,
    ) -> LoadResult:
        """Write a state dict into the model; as `brainopt.Node.load_state_dict`."""
        return load_state_dict(self, state_dict, warn, "v2", strict, cast)

    def save_states(self, filename: FilePath, **setting: Any) -> None:
        """Save the model to a file; as `brainopt.Node.save_states`."""
        save_states(self, filename, **setting)

    def load_states(
        self,
        filename: FilePath,
        verbose: bool = False,
        *,
        strict: bool = True,
        cast: bool = False,
    ) -> LoadResult:
        """Load a file into the model; as `brainopt.Node.load_states`."""
        return load_states(self, filename, verbose, strict=strict, cast=cast)

    def _checkpoint_meta(self) -> dict[str, Any]:
        """Return class, units of quantities, and checksums of constants."""
        meta = {"class": type(self._model).__name__, **units(self)}
        return meta | ({} if self._tree else fingerprints(self._model))

    def _stage_state_dict(
        self, state: StateDict, *, strict: bool = True, cast: bool = False
    ) -> Staged:
        """Compare a state with the model, and change nothing."""
        return stage(self, state, cast, Staged())

    def __repr__(self) -> str:
        name, trained = type(self._model).__name__, len(self.to_train())
        width = max(map(len, self), default=0)
        lines = [f"{name}: {len(self)} Variables, {trained} of them to train"]
        for path, kind in self.kinds.items():
            mark = "  trained" if isinstance(self[path], TrainVar) else ""
            lines.append(f"  {path:{width}}  {kind}{mark}")
        lines += [f"  {path}: not collected by the framework" for path in self.unseen]
        fixed = {} if self._tree else constants(self._model)
        lines += [
            f"  {path}: constant, {x.dtype} {x.shape}" for path, x in fixed.items()
        ]
        return "\n".join(lines)

    def __reduce__(self):
        return VarCollector, (list(self.items()), self.paths)


def attach(model: Model) -> Attached:
    """Return the Variables of a model that another framework made, by path.

    Every ``train_vars=`` takes the model itself as well; `attach` is for looking at
    it, for checkpoints, and for models that are pytrees.

    ============================== ==================================================
    model                          Variables
    ============================== ==================================================
    brainpy, brainstate            its states; the random state they all share is at
                                   ``"random"``
    flax.nnx                       its variables, outside of transforms
    equinox, jaxley, haiku, dicts  new ones, with the arrays of the tree; read
                                   ``attached.model`` for the model with their values
    ============================== ==================================================

    Args:
        model: a model, a collector of parameters, a single parameter, or any pytree
            of arrays.

    Raises:
        HostError: the framework is too old or broken; nothing is there to attach;
            Variables, Nodes or several models are there already; or a state that was
            split off has more than parameters.

    Example:
        >>> import brainopt as bo
        >>> net = bo.attach({"w": jnp.array([1.0, 2.0])})
        >>> opt = bo.optim.SGD(0.5, net)
        >>> opt.update(bo.grad(lambda: (net.model["w"] ** 2).sum(), net)())
        >>> net.model["w"].tolist()
        [0.0, 0.0]
    """
    found = find(model)
    if found is None:
        if isinstance(model, Attached):
            return model
        _refuse_held(model)
        _refuse_mixed(model)
        tree = Tree(model)
        return Attached(model, tree.found, tree)
    if not found and not found.unseen:
        raise HostError(
            message(
                f"There is no Variable in this {type(model).__name__} to attach to.",
                help="build its layers first.",
            )
        )
    if found.unseen:
        warn_user(unseen(found, model), HostWarning)
    found = _by_path(found)
    # A run that is resumed needs it, though the model does not own it.
    shared: Variable | None = random_state(model, found)
    if shared is not None:
        found["random"] = shared
    return Attached(model, found)


def _by_path(found: Found) -> Found:
    """Return what was found by structural paths, whatever the framework calls it."""
    paths = found.paths
    named = Found({paths.get(v, key) or "param": v for key, v in found.items()})
    named.unseen = found.unseen
    return named


def _refuse_held(model: Any) -> None:
    """Raise HostError where a pytree would be copies of Variables."""
    held = collect_vars(model)
    if held:
        raise HostError(
            message(
                f"This {type(model).__name__} holds Variables, which a pytree copies:",
                list(held),
                "train_vars= takes it as it is; a checkpoint takes a Node as it is, "
                "and several models by name: {'a': bo.attach(a), 'b': bo.attach(b)}.",
            )
        )


def _refuse_mixed(model: Any) -> None:
    """Raise HostError where other state would be trained and its changes be lost."""
    flat, _ = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda x: isinstance(wrap(x), ForeignVariable)
    )
    held = [(keys, wrap(leaf)) for keys, leaf in flat]
    others = [
        jax.tree_util.keystr(keys, simple=True, separator=".")
        for keys, item in held
        if isinstance(item, ForeignVariable) and not isinstance(item, TrainVar)
    ]
    trained = [item for _, item in held if isinstance(item, ForeignTrainVar)]
    if others and trained:
        raise HostError(
            message(
                f"This {type(model).__name__} holds more than parameters, and what a "
                f"model changes of it would be lost:",
                others,
                trained[0].host.advice,
            )
        )
