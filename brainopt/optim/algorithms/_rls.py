# SPDX-License-Identifier: Apache-2.0
"""Recursive least squares, for readouts that are linear in their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ... import runtime
from ..._typing import Array, ArrayLike, Arrays, Model
from ...core import VarCollector, Variable
from ...errors import GradientError, VariableError, message
from ...runtime import depend_on
from .._parameters import TrainedVariables
from .._swapping import refuse_load, refuse_state, refuse_step
from ..engine._missed import next_step
from ..engine._precision import wide
from ..engine._squares import shrunk
from ..hyperparameters._fields import number
from ..hyperparameters._has_hyperparams import HasHyperparams
from ..hyperparameters._numbers import check


class RLS(HasHyperparams):
    r"""Recursive least squares of linear readouts :math:`y = x^\top W`.

    .. math::
        k_t &= P_{t-1} x_t / (\lambda + x_t^\top P_{t-1} x_t) \\
        e_t &= W_{t-1}^\top x_t - \text{target}_t, \qquad
        W_t = W_{t-1} - k_t e_t^\top \\
        P_t &= (P_{t-1} - k_t x_t^\top P_{t-1}) / \lambda, \qquad P_0 = I / \alpha

    After every update :math:`W_t` minimizes the sum of all squared errors so far, each
    weighted by :math:`\lambda` to the power of its age, plus
    :math:`\alpha \lambda^t \|W - W_0\|^2`. So an update needs the inputs of the
    readout and its error, not a gradient. Readouts of the same inputs share one
    :math:`P`, a Variable that is updated in place under `jit`.

    Args:
        train_vars: the weights, of shape ``(inputs, outputs)`` or ``(inputs,)``; see
            `Optimizer` for the ways to name them. Real, with equal ``inputs``.
        alpha: :math:`\alpha` in (0, inf): the ridge; a smaller one learns faster.
        forgetting: :math:`\lambda` in (0, 1]; 1 forgets nothing.
            ``opt.forgetting = 0.99`` changes it without compiling.
        name: a display name.

    Attributes:
        P: the Variable of shape ``(inputs, inputs)``, float32 or wider.
        step: the Variable that counts the updates.

    Raises:
        HyperparameterError: ``alpha`` or ``forgetting`` is out of range.
        VariableError: a variable has another shape, or is complex.

    Example:
        >>> import brainopt as bo
        >>> w = bo.TrainVar(jnp.zeros(2))
        >>> opt = bo.optim.RLS(w, alpha=1e-3)
        >>> for x, y in (([1.0, 0.0], 2.0), ([1.0, 1.0], 5.0)):
        ...     x = jnp.array(x)
        ...     opt.update(x, x @ w.value - y)
        >>> w.value.round(1).tolist()
        [2.0, 3.0]

    Source: Haykin 2002, Adaptive filter theory, table 9.1; Sussillo & Abbott 2009,
    Generating coherent patterns of activity from chaotic neural networks (FORCE),
    equations 4 and 5, where :math:`\lambda = 1`.
    """

    forgetting = number(range="(0, 1]")
    _borrowed = frozenset({"_trained"})

    def __init__(
        self,
        train_vars: Model,
        alpha: float = 1.0,
        forgetting: float = 1.0,
        name: str | None = None,
    ):
        ranges = {"alpha": "(0, inf)", "forgetting": "(0, 1]"}
        numbers = {"alpha": float(alpha), "forgetting": float(forgetting)}
        # Together, so that one error lists both; alpha is used below alone.
        check(numbers, (), ranges, "RLS")
        self._keep_numbers({"forgetting": numbers["forgetting"]})
        super().__init__(name)
        self._trained = TrainedVariables()
        self._trained.add(train_vars)
        self._trained.require("RLS")
        inputs, dtype = _inputs_of(self._trained.values())
        self.P = Variable(jnp.eye(inputs, dtype=dtype) / alpha)
        self.step = Variable(jnp.zeros((), jnp.int32))

    @property
    def vars_to_train(self) -> VarCollector:
        """The weights, by structural path."""
        return self._trained.collector()

    def update(
        self, inputs: ArrayLike, errors: ArrayLike | Mapping[str, ArrayLike]
    ) -> None:
        """Update the weights by one sample.

        Args:
            inputs: what the readouts are given, of shape ``(inputs,)``.
            errors: prediction minus target, with the weights as they are: of shape
                ``(outputs,)`` or ``()``; for several variables a dict by path.

        Raises:
            GradientError: a name or a shape does not fit; nothing has changed.
        """
        depend_on(self._revision)
        refuse_step("RLS", self._trained)
        sample, given = self._checked(inputs, errors)
        with runtime.exclusive():
            self._move(sample, given)

    def _prepare_save(self) -> None:
        refuse_state("RLS", self._trained)

    def _prepare_load(
        self,
        state: dict[str, Any],
        path: str,
        context: Mapping[str, Any],
        staged: Any,
    ) -> None:
        refuse_load("RLS", self._trained)

    def _move(self, sample: Array, given: Arrays) -> None:
        variables = self._trained.variables
        p = self.P.value
        # The sample as `by` times the true one, which is 1 where squares are finite.
        x, by = shrunk(sample.astype(p.dtype))
        forgetting = self.numbers.value[0].astype(p.dtype)
        # The gain k is px / scale. P is symmetric, so xᵀP = (P x)ᵀ and one product
        # serves for the gain, the scale and the new P.
        px = p @ x
        scale = forgetting * by * by + x @ px
        new = []
        for path, variable in variables.items():
            move = jnp.tensordot(px / scale, by * given[path].astype(p.dtype), 0)
            new.append((variable.value - move).astype(variable.dtype))
        # px pxᵀ is symmetric to the bit, so P stays so.
        new_p = (p - jnp.outer(px, px) / scale) / forgetting
        targets = [*variables.values(), self.P, self.step]
        runtime.commit(targets, [*new, new_p, next_step(self.step.value)])

    def _checked(
        self, inputs: ArrayLike, errors: ArrayLike | Mapping[str, ArrayLike]
    ) -> tuple[Array, Arrays]:
        """Return arrays that fit, by path."""
        variables = self._trained.variables
        if not isinstance(errors, Mapping):
            errors = dict.fromkeys(list(variables)[:1], errors)
        x = jnp.asarray(inputs)
        given = {name: jnp.asarray(error) for name, error in errors.items()}
        problems = [f"missing: {path}" for path in variables if path not in given]
        problems += [f"unexpected: {name}" for name in given if name not in variables]
        if x.shape != self.P.shape[:1]:
            problems.append(f"inputs of shape {x.shape}, not {self.P.shape[:1]}")
        for path, variable in variables.items():
            if path in given and given[path].shape != variable.shape[1:]:
                problems.append(
                    f"{path}: errors of shape {given[path].shape} for a variable of "
                    f"shape {variable.shape}"
                )
        if problems:
            raise GradientError(
                message(
                    "The sample does not fit the variables of this RLS:",
                    problems,
                    "pass one sample: its inputs, and prediction minus target of each "
                    "variable by path; take a batch by bo.for_loop.",
                )
            )
        return x, given


def _inputs_of(weights: dict[str, Any]) -> tuple[int, Any]:
    """Return the common number of inputs of weights, and the dtype of P."""
    counts = {path: w.shape[0] if w.ndim else 0 for path, w in weights.items()}
    first = next(iter(counts.values()))
    problems = [
        f"{path}: shape {w.shape}, dtype {w.dtype}"
        for path, w in weights.items()
        if w.ndim not in (1, 2) or counts[path] != first or jnp.iscomplexobj(w)
    ]
    if problems:
        raise VariableError(
            message(
                "RLS takes real weights of shape (inputs,) or (inputs, outputs) that "
                "share their inputs:",
                problems,
                "give readouts of other inputs an RLS of their own.",
            )
        )
    return first, wide(jnp.result_type(*weights.values()))
