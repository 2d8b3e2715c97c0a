# SPDX-License-Identifier: Apache-2.0
"""Hosts: the state of other frameworks as Variables."""

from __future__ import annotations

import abc
import importlib.metadata
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from .._typing import Foreign, Model, PyTree
from .._warnings import warn_user
from ..errors import HostError, HostWarning, first_line, message
from ..runtime import pending_trackers
from ._collectors import Items, VarCollector
from ._foreign import ForeignTrainVar, ForeignVariable
from ._parts import is_atom
from ._variable import TrainVar, Variable
from .functions._reachable import used_by

GROUP = "brainopt.hosts"
"""The entry-point group: ``package = module:HostClass``."""


class Found(VarCollector):
    """The Variables that a host found in a model.

    Attributes:
        unseen: trainable values that the framework itself does not collect.
    """

    def __init__(
        self, items: Items[Variable] = (), paths: Mapping[Variable, str] | None = None
    ):
        super().__init__(items, paths)
        self.unseen: dict[str, Variable] = {}

    def name_after(self, model: Model) -> Self:
        """Give each Variable without a display name one; return self."""
        for path, variable in (*self.items(), *self.unseen.items()):
            if variable._name is None:
                kind = type(model).__name__
                variable._name = f"{kind}.{path}" if path else kind
        return self


class Host(abc.ABC):
    """Abstract: finds the Variables of models that another framework made.

    A host is asked only when its package is already imported, so that brainopt
    imports no framework by itself.

    Attributes:
        package: the top-level module whose import activates the host.
        families: top-level modules whose classes it knows; default: the package.
        minimum: the oldest version that works, as in ``"2.7"``.
        tracks: whether `wake` adds a tracker, see `brainopt.runtime.Tracker`.
        title: the name of the framework in errors; default: the package.
        advice: what to do instead, said where a Variable of this host is used inside a
            brainopt transform. Only a host with a tracker is understood there.
    """

    package: ClassVar[str]
    families: ClassVar[tuple[str, ...]] = ()
    minimum: ClassVar[str] = ""
    tracks: ClassVar[bool] = False
    title: ClassVar[str] = ""
    advice: ClassVar[str] = (
        "read and write it outside, and use the functional core inside: "
        "`opt.init(params)` and `opt.apply(params, state, grads)`."
    )

    def wake(self) -> None:
        """Prepare, once, when the package has been imported; may raise."""
        return None

    @abc.abstractmethod
    def find(self, obj: Model) -> Mapping[str, Variable] | None:
        """Return ``{path: Variable}`` of a model; ``{"": Variable}`` of one parameter.

        None stands for an object that is not of this host. Paths are attribute names,
        list positions and dict keys joined by dots; the Variables come from
        `variable`.
        """

    def trainable(self, owner: Foreign) -> bool:
        """Whether optimizers train this parameter."""
        return True

    def read(self, owner: Foreign) -> Any:
        """Return the value of a parameter, an array or a pytree of arrays."""
        return owner.value

    def write(self, owner: Foreign, value: PyTree) -> None:
        """Change the value of a parameter."""
        owner.value = value

    def reset(self, model: Foreign, batch_size: int | None) -> None:
        """Set the state of a model back, by the function of its framework."""
        framework = self.title or self.package
        raise HostError(
            message(
                f"{framework} has no function that sets the state of a "
                f"{type(model).__name__} back.",
                help="write its first values yourself.",
            )
        )

    def constants(self, obj: Model) -> dict[str, Any]:
        """Return the arrays of a model that are no parameters, by path."""
        return {}

    def untracked(self, value: Model) -> bool:
        """Whether ``value`` holds parameters that a compiled function would not see.

        Without a tracker that is every model of the framework.
        """
        if self.tracks:
            return False
        families = frozenset(self.families or (self.package,))
        return bool(families & _roots(type(value))) and self.find(value) is not None

    def refuse(self, function: Callable, args: tuple, kwargs: dict) -> str:
        """Return why ``bo.jit`` cannot compile this call, or nothing.

        A compiled function would hold the weights of an untracked model as constants.
        """
        for name, value in used_by(function, args, kwargs):
            if self.untracked(value):
                framework = self.title or self.package
                return message(
                    f"bo.jit cannot compile what uses the {framework} "
                    f"{type(value).__name__} {name!r}: it would not see its weights "
                    f"change, nor change them.",
                    help=self.advice,
                )
        return ""

    def resolve(self, key: str) -> Any:
        """Return the parameter that the framework itself calls ``key``, or None."""
        return None

    def variable(self, owner: Foreign) -> ForeignVariable:
        """Return the Variable of a parameter, the same one as long as it exists."""
        # By id, since parameters may compare by value; an old id may name a new object.
        held = _variables.get(id(owner))
        if held is None or held.owner is not owner:
            held = self._make(owner)
            _variables[id(owner)] = held
        return held

    def _make(self, owner: Foreign) -> ForeignVariable:
        kind = ForeignTrainVar if self.trainable(owner) else ForeignVariable
        return kind(self, owner)


_variables: weakref.WeakValueDictionary[int, ForeignVariable] = (
    weakref.WeakValueDictionary()
)


class _Registration:
    """A host and its state: pending, active, or failed with one line."""

    def __init__(self, host: Host):
        self.host = host
        self.families = frozenset(host.families or (host.package,))
        self.asleep = True
        self.failure = ""
        self._waking = threading.RLock()  # another thread waits, `wake` may ask

    def active(self) -> bool:
        if self.host.package not in sys.modules:
            return False
        with self._waking:
            if self.asleep:
                self.asleep = False
                self.failure = self._wake()
                if self.failure:
                    warn_user(self.failure, HostWarning)
        return True

    def _wake(self) -> str:
        package, minimum = self.host.package, self.host.minimum
        found = str(getattr(sys.modules[package], "__version__", ""))
        if minimum and found and _version(found) < _version(minimum):
            return f"brainopt needs {package} >= {minimum}; installed is {found}."
        try:
            self.host.wake()
        except (Exception, SystemExit) as error:
            return f"brainopt cannot attach to {package} {found}: {first_line(error)}"
        return ""


_registered: list[_Registration] = []


def register_host(host: Host) -> None:
    """Add a host; later ones are asked first.

    Args:
        host: asked once its package is imported.

    Raises:
        TypeError: it is no `Host`; a class of hosts is none.
    """
    if not isinstance(host, Host):
        kind = host.__name__ if isinstance(host, type) else type(host).__name__
        raise TypeError(
            message(f"{kind} is no host.", help=f"register_host({kind}()).")
        )
    registration = _Registration(host)
    _registered.insert(0, registration)
    if host.tracks:
        pending_trackers[host.package] = registration.active


def _version(text: str) -> tuple[int, ...]:
    return (*map(int, re.findall(r"\d+", text)[:3]), 0, 0)[:3]


_offered: list[importlib.metadata.EntryPoint] | None = None


def wake_entry_points() -> bool:
    """Register the hosts that installed packages offer for the imported frameworks.

    Returns:
        whether there were any; each is registered once.
    """
    global _offered
    known = {registration.host.package for registration in _registered}
    if _offered is None:
        _offered = list(importlib.metadata.entry_points(group=GROUP))
    due = [p for p in _offered if p.name in sys.modules and p.name not in known]
    for point in due:
        register_host(_host_of(point))
    return bool(due)


def _host_of(point: importlib.metadata.EntryPoint) -> Host:
    try:
        host = point.load()()
        if not isinstance(host, Host) or host.package != point.name:
            raise TypeError(f"{point.value} makes no bo.Host of package {point.name}")
    except (Exception, SystemExit) as error:  # whatever it runs, others go on
        return _Broken(point.name, error)
    return host


class _Broken(Host):
    """A host that could not be made."""

    tracks = True  # it knows no model

    def __init__(self, package: str, error: BaseException):
        self.package = package  # type: ignore[misc]
        self._error = error

    def wake(self) -> None:
        raise self._error

    def find(self, obj: Model) -> None:
        return None


_roots_of: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


def _roots(kind: type) -> frozenset[str]:
    if kind not in _roots_of:
        # Of all bases: the class of a user derives from one of the framework.
        modules = (cls.__module__ or "" for cls in kind.__mro__)
        _roots_of[kind] = frozenset(m.partition(".")[0] for m in modules)
    return _roots_of[kind]


def hosts_of(obj: Model) -> Iterator[Host]:
    """Yield the working hosts that know the family of ``obj``.

    Raises:
        HostError: the framework of ``obj`` is broken or too old.
    """
    roots = _roots(type(obj))
    for registration in list(_registered):
        if registration.families & roots and registration.active():
            if registration.failure:
                raise HostError(registration.failure)
            yield registration.host


def registered() -> Iterator[Host]:
    """Yield the hosts whose package is imported and works."""
    for registration in list(_registered):
        if registration.active() and not registration.failure:
            yield registration.host


def find(obj: Model) -> Found | None:
    """Return the Variables of a foreign object, or None if no host knows it.

    A mapping is shown to the hosts of its first value.
    """
    sample = obj
    if isinstance(obj, Mapping):
        sample = next(iter(obj.values()), None)
    found = _found(obj, sample)
    # Only now: the metadata of all installed packages takes long to read.
    if found is None and not _is_ours(sample) and wake_entry_points():
        found = _found(obj, sample)
    return found


def _found(obj: Model, sample: Model) -> Found | None:
    for host in hosts_of(sample):
        found = host.find(obj)
        if found is not None:
            if not isinstance(found, Found):
                _check(host, found)
                found = Found(found) if "" in found else Found(found).name_after(obj)
            return found
    return None


def _check(host: Host, found: object) -> None:
    pairs = found.items() if isinstance(found, Mapping) else [("", found)]
    wrong = [
        f"{key!r}: a {type(item).__name__}"
        for key, item in pairs
        if not isinstance(key, str) or not isinstance(item, Variable)
    ]
    if wrong:
        raise HostError(
            message(
                f"The host of {host.package} found items that are no Variables:",
                wrong,
                "its `find` returns {'layer.w': self.variable(owner)}; of one "
                "parameter {'': ...}; None of what is not its own.",
            )
        )


def wrap(obj: Model) -> Any:
    """Return the Variable of a single foreign parameter; anything else as it is."""
    if isinstance(obj, Variable | dict | list | tuple):
        return obj
    found = find(obj)
    return found[""] if found is not None and "" in found else obj


def trained_in(model: Model) -> Iterator[tuple[str, str, Variable]] | None:
    """Return ``(key, path, Variable)`` of what a foreign object offers for training.

    None stands for an object that no host knows. A single parameter, and those in a
    dict, or in a collector without a trainable one, are offered whatever their kind.
    Trainable values that the framework does not collect are warned of.
    """
    found = find(model)
    if found is None:
        return None
    if found.unseen:
        warn_user(unseen(found, model), HostWarning)
    paths = found.paths
    named = "" in found or type(model) is dict
    if isinstance(model, Mapping):
        named = named or not any(isinstance(v, TrainVar) for v in found.values())
    return (
        (key, paths.get(variable, key), variable)
        for key, variable in found.items()
        if named or isinstance(variable, TrainVar)
    )


def reset(model: Foreign, batch_size: int | None) -> None:
    """Set the state of a foreign model back, by the function of its framework."""
    for host in hosts_of(model):
        if host.find(model) is not None:
            host.reset(model, batch_size)
            return


def _is_ours(obj: Model) -> bool:
    plain = is_atom(obj) or isinstance(obj, dict | list | tuple)
    return plain or "brainopt" in _roots(type(obj))


def unseen(found: Found, model: Model) -> str:
    """Return what to say of trainable values that the framework does not collect."""
    kind = type(model)
    return message(
        f"The framework of this {kind.__name__} does not collect these trainable "
        f"values, so they are not trained:",
        found.unseen,
        "keep them in a container of the framework (for brainpy bm.NodeList, "
        "bm.VarList), or name them too: `train_vars=[net, net.layers]`.",
    )
