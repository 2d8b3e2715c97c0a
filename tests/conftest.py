# SPDX-License-Identifier: Apache-2.0
"""Strict settings for every test, and the few fixtures that all wings share.

jax reads its environment when it is imported, so the first lines stand before it.
"""

import os

_FLAG = "--xla_force_host_platform_device_count"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=8".strip()
if not os.environ.get("BRAINOPT_TEST_GPU"):
    os.environ["JAX_PLATFORMS"] = "cpu"

# ruff: noqa: E402
import _thread
import functools
import gc
import importlib.util

import jax
import pytest

from brainopt.transforms.programs import _program

jax.config.update("jax_numpy_rank_promotion", "raise")

ROWS = 3
"""How many rows of a table the quick suite runs; the others are marked ``more``."""

_threads_of_the_runner = _thread._count()


def _has_gpu() -> bool:
    return bool(os.environ.get("BRAINOPT_TEST_GPU")) and jax.default_backend() == "gpu"


def _missing(packages) -> list[str]:
    return [p for p in packages if importlib.util.find_spec(p) is None]


def pytest_runtest_setup(item):
    """Skip, with a reason, what this machine cannot run."""
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.skip("needs a GPU and BRAINOPT_TEST_GPU=1")
    for marker in item.iter_markers("hosts"):
        if missing := _missing(marker.args):
            pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items):
    """Mark what the quick suite leaves out, and what a framework may warn of."""
    tables = {}
    for item in items:
        if item.get_closest_marker("hosts"):
            # The warnings of a foreign framework are that framework's business.
            item.add_marker(pytest.mark.filterwarnings("default"))
        if not _is_elsewhere(item):
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for rows in tables.values():
        # Rows spread over the table: neighbours resemble each other.
        kept = {i * len(rows) // ROWS for i in range(ROWS)}
        for i, item in enumerate(rows):
            if i not in kept:
                item.add_marker(pytest.mark.more)


def _is_elsewhere(item):
    return any(map(item.get_closest_marker, ("long", "more", "hosts", "site", "gpu")))


@pytest.fixture(autouse=True, scope="module")
def _forget():
    """Spare the garbage collector what earlier modules left, some gigabytes."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _rank_promotion_of_hosts(request):
    """Allow rank promotion where a foreign framework computes."""
    if request.node.get_closest_marker("hosts"):
        with jax.numpy_rank_promotion("allow"):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Let a step take the road of a process whose threads are those of the test."""

    def count() -> int:
        return max(0, _thread._count() - _threads_of_the_runner)

    monkeypatch.setattr(_program, "thread_count", count)


@pytest.fixture
def strict_promotion():
    """Make mixed dtypes an error; a module asks for it with ``usefixtures``."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def x64():
    """Compute in float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def counted():
    """Wrap a function so that ``.traces`` counts the runs of its Python body.

    Under jit a body runs once a trace, so the count shows every recompilation.
    """

    def wrap(fn):
        @functools.wraps(fn)
        def body(*args, **kwargs):
            body.traces += 1
            return fn(*args, **kwargs)

        body.traces = 0
        return body

    return wrap
