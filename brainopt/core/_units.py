# SPDX-License-Identifier: Apache-2.0
"""Quantities: arrays with a physical unit, as those of brainunit.

A Variable keeps its unit. What is written in another unit of the same dimension is
converted; anything else is refused with both units. The unit is a part of the path of
an entry (``tau.ms``), so that no state dict and no file can mix two units up; one in
another unit of the dimension is converted there, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import PyTree, StateDict
from ..errors import VariableError, message


def is_quantity(value: PyTree) -> bool:
    """Whether a value is an array with a unit."""
    return is_quantity_type(type(value))


def is_quantity_type(kind: type) -> bool:
    """Whether it is a class of quantities."""
    # By its attributes: no package of units has to be imported.
    return hasattr(kind, "unit") and hasattr(kind, "mantissa")


def with_mantissa(quantity: PyTree, mantissa: PyTree) -> Any:
    """Return a quantity of the same unit with another number."""
    return jax.tree.unflatten(jax.tree.structure(quantity), [mantissa])


def converted(new: PyTree, old: PyTree) -> tuple[Any, list[str]]:
    """Return ``new`` in the units of ``old``, and what does not fit.

    A value of another structure comes back as it is: its units are not compared.
    """
    return _leaf_by_leaf(_converted, new, old)


def in_own_units(state: StateDict, own: StateDict) -> Mapping[str, Any]:
    """Return a state dict whose quantities have the units that they have here.

    Args:
        state: numbers by path, which ends in the unit.
        own: the quantities here, by path without the unit.

    Returns:
        The state, where an entry in another unit of the same dimension has become one
        in the unit here. Any other stays as it is, and fits nothing.
    """
    wanted = {path: q for path, q in own.items() if f"{path}.{q.unit}" not in state}
    if not wanted:
        return state
    found = {}
    for key, value in state.items():
        path, _, name = key.rpartition(".")
        factor = _factor(name, wanted[path]) if path in wanted else None
        number = value if factor is None else np.asarray(value)
        if factor is None or not jnp.issubdtype(number.dtype, jnp.inexact):
            found[key] = value
            continue
        wide = np.result_type(number.dtype, np.float64)
        scaled = (number.astype(wide) * factor).astype(number.dtype)
        found[f"{path}.{wanted[path].unit}"] = scaled
    return found


def _factor(name: str, quantity: Any) -> float | None:
    """Return what turns numbers in a named unit into those of a quantity."""
    package = sys.modules.get(type(quantity).__module__.partition(".")[0])
    parse = getattr(package, "parse_unit", None)
    if parse is None:
        return None
    try:
        unit = parse(name)
    except ValueError:
        return None
    if not unit.has_same_dim(quantity.unit):
        return None
    return float(type(quantity)(1.0, unit=unit).in_unit(quantity.unit).mantissa)


def quotient(number: Any, above: PyTree, below: Sequence[PyTree]) -> Any:
    """Return a derivative of ``above`` by ``below`` with the unit that it has.

    Args:
        number: the derivative of the one number by the others.
        above: a quantity, or an array.
        below: likewise, one for each derivation.
    """
    measured = [x for x in (above, *below) if is_quantity(x)]
    if not measured:
        return number
    kind: Any = type(measured[0])
    unit: Any = getattr(above, "unit", None)
    for x in filter(is_quantity, below):
        unit = x.unit.reverse() if unit is None else unit / x.unit
    if unit.dim.is_dimensionless:
        return number * unit.magnitude
    return kind(number, unit=unit)


def gradient_in(gradient: PyTree, value: PyTree) -> tuple[Any, list[str]]:
    """Return a gradient in the units of a value, and what does not fit.

    The gradient of `brainopt.grad` for a parameter in ms has the unit ms, by the
    structure of the parameter; that of `brainunit.autograd.grad` has 1/ms. Both are the
    same number, and both are taken.
    """
    if isinstance(value, jax.Array):
        return gradient, []
    return _leaf_by_leaf(_gradient_in, gradient, value)


def _leaf_by_leaf(
    convert: Callable[[Any, Any], tuple[Any, str]], new: PyTree, old: PyTree
) -> tuple[Any, list[str]]:
    """Return ``new`` with each part converted for that of ``old``, and the problems."""
    were, tree = jax.tree_util.tree_flatten_with_path(old, is_leaf=is_quantity)
    try:
        leaves = tree.flatten_up_to(new)
    except (ValueError, TypeError):
        return new, []
    problems = []
    for i, (leaf, (keys, was)) in enumerate(zip(leaves, were, strict=True)):
        leaves[i], problem = convert(leaf, was)
        path = jax.tree_util.keystr(keys, simple=True, separator=".")
        if problem:
            problems.append(f"{path}: {problem}" if path else problem)
    return jax.tree.unflatten(tree, leaves), problems


def _gradient_in(part: Any, was: Any) -> tuple[Any, str]:
    if not is_quantity(was):
        return part, ""
    if not is_quantity(part):
        # None skips a parameter, and an empty tree has no number that could be wrong.
        has_number = part is not None and jax.tree.leaves(part)
        problem = f"gradient without a unit for a variable in {was.unit}"
        return part, problem if has_number else ""
    inverse = was.unit.reverse()
    if part.unit.has_same_dim(was.unit):
        return part.in_unit(was.unit), ""
    if part.unit.has_same_dim(inverse):
        return with_mantissa(was, part.in_unit(inverse).mantissa), ""
    problem = f"gradient in {part.unit} for a variable in {was.unit}, of a loss "
    return part, problem + "without a unit"


def mantissa_in(new: Any, old: Any, owner: Any) -> Any:
    """Return the number of ``new`` in the unit of ``old``.

    Raises:
        VariableError: the two have no unit in common.
    """
    new, problem = _converted(new, old)
    if problem:
        raise VariableError(wrong_units(owner.label, [problem]))
    return new.mantissa


def wrong_units(label: str, problems: list[str]) -> str:
    """Return the message for a value in a unit that a Variable cannot take."""
    return message(
        f"{label} cannot take this value:",
        problems,
        "assign a quantity of the same dimension; other units of it are converted.",
    )


def _converted(new: Any, old: Any) -> tuple[Any, str]:
    if not (is_quantity(old) or is_quantity(new)):
        return new, ""
    if not is_quantity(old):
        return new, f"{new.unit} for a number without a unit"
    if not is_quantity(new):
        return new, f"a number without a unit for {old.unit}"
    if not new.unit.has_same_dim(old.unit):
        return new, f"{new.unit} for {old.unit}"
    if new.unit == old.unit:
        return new, ""
    return new.in_unit(old.unit), ""
