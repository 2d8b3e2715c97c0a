# SPDX-License-Identifier: Apache-2.0
"""Joining the processes of one run, on jax.distributed."""

from __future__ import annotations

import os
from typing import Any

import jax

from ..errors import DistributedError, first_line, message

_COORDINATOR = "JAX_COORDINATOR_ADDRESS"
_COUNT, _ID = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
_HELP = (
    "start under SLURM, Open MPI or Kubernetes, whose variables jax reads; or give "
    "coordinator_address, num_processes and process_id, as arguments or as "
    f"{_COORDINATOR}, {_COUNT} and {_ID}."
)


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 300,
    **options: Any,
) -> int:
    """Join the processes of this run; call it before anything computes.

    Where nothing is given, jax finds the values under SLURM, Open MPI, Kubernetes and
    on TPU; the variables ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and
    ``JAX_PROCESS_ID`` say them elsewhere. Without any of these this is the only
    process, and the call does nothing. A second call does nothing either.

    Args:
        coordinator_address: ``host:port`` of process 0.
        num_processes: how many processes there are, in [1, inf).
        process_id: which of them this is, in [0, num_processes).
        timeout: seconds, in [1, inf), to wait for the others.
        options: further arguments of `jax.distributed.initialize`.

    Returns:
        The number of this process.

    Raises:
        DistributedError: the others did not come, or something has computed before.

    Example:
        >>> import brainopt as bo
        >>> bo.distributed.initialize()
        0
    """
    if jax.distributed.is_initialized():
        return jax.process_index()
    env = os.environ
    given: dict[str, Any] = {
        "coordinator_address": coordinator_address or env.get(_COORDINATOR),
        "num_processes": _number(num_processes, _COUNT),
        "process_id": _number(process_id, _ID),
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not (given or options or _in_a_cluster()):
        return 0
    try:
        jax.distributed.initialize(**given, initialization_timeout=timeout, **options)
    except (RuntimeError, ValueError) as error:
        raise DistributedError(
            message(
                "The processes of this run could not be joined:",
                [first_line(error)],
                _HELP,
            )
        ) from error
    return jax.process_index()


def _number(given: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if given is not None or text is None:
        return given
    if not text.isdigit():
        raise DistributedError(message(f"{variable}={text!r} is no number."))
    return int(text)


def _in_a_cluster() -> bool:
    """Whether jax will find the other processes by itself."""
    # More than one task: with a single one there is nobody to wait for.
    slurm = int(os.environ.get("SLURM_NTASKS", "1") or 1) > 1
    mpi = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1") or 1) > 1
    kubernetes = "JOB_COMPLETION_INDEX" in os.environ
    tpu = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return slurm or mpi or kubernetes or tpu
