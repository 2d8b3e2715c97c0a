# SPDX-License-Identifier: Apache-2.0
"""Variables, boxes with a value that changes in place, and views of a part of one."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import jax

from .._display import treescope_object
from .._typing import DTypeLike, Index, PyTree
from ..errors import TraceContextError, VariableError, message
from ..runtime import (
    Cell,
    Expired,
    Frozen,
    create,
    create_outside,
    exclusive,
    read,
    top,
    write,
)
from . import _device
from ._names import path_of
from ._operators import ArrayLike, unwrap
from ._paths import entries
from ._value import (
    check_axis_names,
    check_batch_axis,
    describe,
    fit,
    fresh,
    initial,
)


def _register(cls: type[Variable]) -> None:
    def flatten(variable: Variable) -> tuple[tuple[PyTree], tuple[Any, ...]]:
        return (variable.value,), variable._static()

    def flatten_with_keys(variable: Variable) -> tuple[Any, tuple[Any, ...]]:
        children, aux = flatten(variable)
        return ((jax.tree_util.GetAttrKey("value"), children[0]),), aux

    def unflatten(aux: tuple[Any, ...], children: Iterable[PyTree]) -> Variable:
        return cls._from_static(aux, *children)

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


class Variable(Cell, ArrayLike):
    """A value that functions read and write, and that transforms thread.

    ``value`` may be an array or a pytree of arrays. Arithmetic, indexing and ``jnp``
    functions take a Variable as they take an array and give plain arrays; ``+=`` and
    item assignment write it in place. Inside ``bo.jit``, ``bo.grad`` and the other
    transforms reads and writes need no declaration.

    Args:
        value: the data (array, nested list of numbers, number, bool, pytree of
            arrays), or a *shape*: an int or a tuple of ints gives zeros. A list and
            a NumPy scalar are always data.
        dtype: dtype of the stored array; default: that of the data, float for a
            shape.
        batch_axis: the one axis whose size may change on assignment.
        axis_names: a name for each axis; with ``batch_axis`` the batch name may be
            left out and becomes ``"batch"``.
        name: shown in errors and by ``repr``; never part of a path.

    Raises:
        VariableError: the value is neither a shape nor data, or ``batch_axis`` or
            ``axis_names`` do not fit it.

    Example:
        >>> import brainopt as bo
        >>> v = bo.Variable([1.0, 2.0])
        >>> v += 1
        >>> v.value.tolist()
        [2.0, 3.0]

    Differs: brainpy reads a list of ints as a shape and a bool as the shape ``(1,)``,
    keeps lists as lists and Python numbers weakly typed.
    """

    _name: str | None
    __slots__ = ("_batch_axis", "_first", "_name", "axis_names")

    _first: Any
    """The first value, a shape where that is zero; missing where it is not kept."""

    _has_numbers = False
    """Whether a state dict holds its elements as numbers by name, each for itself."""

    def __init__(
        self,
        value: PyTree,
        dtype: DTypeLike | None = None,
        batch_axis: int | None = None,
        *,
        axis_names: Sequence[str] | None = None,
        name: str | None = None,
    ):
        self._name = name
        is_shape = type(value) in (int, tuple)
        value = initial(unwrap(value), dtype)
        if is_shape and isinstance(value, jax.Array):
            # Zeros need not be kept to be made again.
            self._first = jax.ShapeDtypeStruct(value.shape, value.dtype)
        self._batch_axis = check_batch_axis(value, batch_axis)
        self.axis_names = check_axis_names(value, self._batch_axis, axis_names)
        create(self, value)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # A subclass without ``__slots__`` has attributes, which are a part of what the
        # tree structure has to keep.
        cls._has_dict = cls.__dictoffset__ != 0
        _register(cls)

    _fields: ClassVar[tuple[str, ...]] = ("_batch_axis", "axis_names")
    """Slots that describe the value: hashable, and kept by copies and pytrees."""

    _has_dict: ClassVar[bool] = False

    def _static(self) -> tuple[Any, ...]:
        fields = tuple(getattr(self, field) for field in self._fields)
        return (*fields, Frozen(dict(vars(self)))) if self._has_dict else fields

    @classmethod
    def _from_static(cls, static: tuple[Any, ...], value: Any) -> Self:
        # JAX unflattens with placeholders too, so nothing is checked here.
        new = cls.__new__(cls)
        new._name = None
        new._describe(static)
        create(new, value)
        return new

    def _describe(self, static: tuple[Any, ...]) -> None:
        for field, item in zip(self._fields, static, strict=False):
            setattr(self, field, item)
        if self._has_dict:
            vars(self).update(static[-1].value)

    @classmethod
    def outside(cls, value: PyTree, name: str | None = None) -> Self:
        """Return a Variable that outlasts the trace that is running now.

        Args:
            value: a concrete array; no tracer.
            name: a display name.
        """
        new = cls.__new__(cls)
        new._name = name
        new._batch_axis = new.axis_names = None
        create_outside(new, value)
        return new

    @property
    def value(self) -> jax.Array:
        """The current value; assignment keeps structure, shape and dtype.

        A pytree comes in new objects around the same arrays, so a value that is used up
        where it is read, as `eqx.nn.State`, stays good in the Variable.

        Raises:
            VariableError: the assigned value does not fit.
            TraceContextError: see `brainopt.errors.TraceContextError`.
        """
        return fresh(read(self))

    @value.setter
    def value(self, new: PyTree) -> None:
        write(self, self._fit(new))

    @property
    def data(self) -> jax.Array:
        """The same as ``value``."""
        return self.value

    def update(self, value: PyTree) -> None:
        """Assign ``value``; the same as ``self.value = value``."""
        self.value = value

    def to(self, place: _device.Place) -> Self:
        """Move the value to a device or sharding, and keep it there; returns self.

        Args:
            place: as for `brainopt.Node.to`.

        Raises:
            DeviceError: there is no such device, or the value cannot be divided so.
        """
        _device.move([self], place)
        return self

    @property
    def name(self) -> str | None:
        """The display name: as given, or ``Class.attribute`` of the owning node."""
        return self._name

    @property
    def label(self) -> str:
        """The name of this Variable in errors: as given, or its path."""
        kind, name = type(self).__name__, self._name
        # One that has a dot was given by a Node, and is that of its class alone.
        if name and "." in name:
            name = path_of(self) or name
        return f"{kind} '{name}'" if name else f"An unnamed {kind}"

    @property
    def batch_axis(self) -> int | None:
        """The one axis whose size may change on assignment; fixed from the start."""
        return self._batch_axis

    @batch_axis.setter
    def batch_axis(self, axis: int | None) -> None:
        # Programs that write the Variable were compiled for it.
        raise VariableError(
            message(
                f"The batch_axis of {self.label} is fixed.",
                help="give it at construction: bo.Variable(value, batch_axis=0).",
            )
        )

    @property
    def batch_size(self) -> int | None:
        """The size of the batch axis, or None where there is none."""
        return None if self.batch_axis is None else self.value.shape[self.batch_axis]

    @property
    def size_without_batch(self) -> tuple[int, ...]:
        """The shape without the batch axis."""
        shape = self.value.shape
        if self.batch_axis is None:
            return shape
        axis = self.batch_axis % len(shape)
        return shape[:axis] + shape[axis + 1 :]

    def _entries(self, value: Any) -> list[tuple[str, Any]]:
        """Return what a state dict holds of a value, by path from this Variable."""
        return entries(value)

    def _out_of_range(self, tail: str, value: Any) -> str:
        """Return why an entry of the right kind is refused; mostly nothing."""
        return ""

    def _from_entries(self, old: Any, given: dict[str, Any]) -> Any:
        """Return the value of these entries; ``old`` is the value before."""
        if isinstance(old, jax.Array):
            return given[""]
        return jax.tree.unflatten(jax.tree.structure(old), list(given.values()))

    def _fit(self, new: Any) -> Any:
        return fit(new, self.value, self._batch_axis, self)

    def __repr__(self) -> str:
        try:
            value = self._committed() if top() is None else self.value
        except TraceContextError:  # jax's leak checker shows what has just ended
            value = Expired("")
        if type(value) is Expired:
            return f"{type(self).__name__}(<ended with its trace>)"
        name = f"{self._name!r}, " if self._name else ""
        return f"{type(self).__name__}({name}{describe(value)})"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    def __treescope_repr__(self, path: str | None, render: Any) -> Any:
        # Not by `value`, which would count as a read of the function being traced.
        value = self._committed()
        shown = {"value": "ended with its trace" if type(value) is Expired else value}
        if self._name:
            shown["name"] = self._name
        return treescope_object(type(self), shown, path, render)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "name": self._name,
            "static": self._static(),
            "first": getattr(self, "_first", None),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._name = state["name"]
        self._describe(state["static"])
        if state["first"] is not None:
            self._first = state["first"]
        create(self, state["value"])


class TrainVar(Variable):
    """A Variable that optimizers train; what ``train_vars()`` collects."""

    __slots__ = ()


_register(Variable)


class VariableView(ArrayLike):
    """A live window on part of a Variable; not collected by ``vars()``.

    Args:
        target: the Variable.
        index: what ``target.value[index]`` takes.

    Example:
        >>> import brainopt as bo
        >>> v = bo.Variable([1.0, 2.0, 3.0])
        >>> view = bo.VariableView(v, slice(0, 2))
        >>> view *= 2
        >>> v.value.tolist()
        [2.0, 4.0, 3.0]
    """

    __slots__ = ("index", "target")

    def __init__(self, target: Variable, index: Index):
        if not isinstance(target, Variable):
            raise TypeError(f"{type(target).__name__} is no Variable.")
        self.target = target
        self.index = index

    @property
    def label(self) -> str:
        """The name of this view in errors."""
        return f"{self.target.label}[{self.index!r}]"

    @property
    def value(self) -> jax.Array:
        """The viewed part; assignment keeps its shape and dtype."""
        return self.target.value[self.index]

    @value.setter
    def value(self, new: PyTree) -> None:
        # The whole Variable is written: a trace sees Variables, not parts of them.
        fitted = fit(new, self.value, None, self)
        with exclusive():
            self.target.value = self.target.value.at[self.index].set(fitted)

    def __repr__(self) -> str:
        return f"VariableView({self.label}, {describe(self.value)})"
