# SPDX-License-Identifier: Apache-2.0
"""All uses of undocumented names of jax and Python."""

import _signal
import _thread
import contextlib
import functools
import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.core
import jax.numpy as jnp

try:
    # The public home, jax.extend.core, imports all of jax.extend: a tenth of our own
    # import, for one function.
    from jax._src.core import get_opaque_trace_state
except ImportError:
    from jax.extend.core import get_opaque_trace_state


config: Any = jax.config
"""jax's settings; their names are added at import, so no checker knows them."""


thread_count = _thread._count
"""Return the number of threads that Python started beside the main one.

``threading.active_count`` counts them too, at five times the cost.
"""


# Those of the module ``signal`` make enums of their results, in half a microsecond.
get_signal = _signal.getsignal
set_signal = _signal.signal
valid_signals = _signal.valid_signals


def current_trace():
    """Return a token that is equal for equal JAX traces (of any thread)."""
    return get_opaque_trace_state(convention="nnx")


EAGER = current_trace()

CUSTOM_RULES = os.path.join("jax", "_src", "custom_derivatives.py")
"""The end of the path of the file that runs rules of jax.custom_jvp and custom_vjp."""


def is_differentiated(x: Any) -> bool:
    """Whether ``x`` is a value on its way to a derivative."""
    return type(x).__name__ in ("JVPTracer", "LinearizeTracer")


def is_eager() -> bool:
    """Whether no JAX transformation is tracing in this thread."""
    return get_opaque_trace_state(convention="nnx") == EAGER


def is_plain() -> bool:
    """Whether this thread is eager and no setting changes how code is compiled.

    The settings are ``jax_disable_jit``, ``jax_debug_nans`` and ``jax_debug_infs``.
    """
    return is_eager() and not (
        config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs
    )


def leave_traces() -> None:
    """Make this thread eager again, after an error in a call that was made eagerly.

    JAX leaves a trace in the ``__exit__`` of a ``with`` block, written in Python. A
    signal handler that raises there would have every later operation traced.
    """


def give_up_trace() -> None:
    """Let go of what the running trace of a `jax.jit` holds, since an error ends it.

    JAX does so for a trace that succeeds. One that fails would keep the arrays it
    closed over for ever: their tracers have finalizers that refer to the trace.
    """


def _quick():
    # Every compiled step asks, so a look at jax's own state is worth its fragility.
    context = importlib.import_module("jax._src.core").trace_ctx
    settings = importlib.import_module("jax._src.config")
    disable_jit, nans, infs = (
        getattr(settings, name) for name in ("disable_jit", "debug_nans", "debug_infs")
    )
    eager = context.trace

    def quick_is_eager() -> bool:
        return context.trace is eager

    def quick_is_plain() -> bool:
        return context.trace is eager and not (
            disable_jit.value or nans.value or infs.value
        )

    def leave_traces() -> None:
        if not context.is_top_level():
            context.reset()

    def give_up_trace() -> None:
        if type(context.trace).__name__ == "DynamicJaxprTrace":
            context.trace.invalidate()

    # Caught below: a jax that keeps its state elsewhere gets the slower functions.
    if quick_is_plain() != is_plain():
        raise AttributeError("jax keeps its state elsewhere")
    return quick_is_eager, quick_is_plain, leave_traces, give_up_trace


if not TYPE_CHECKING:
    with contextlib.suppress(ImportError, AttributeError):
        is_eager, is_plain, leave_traces, give_up_trace = _quick()


def _filtering():
    """Return what registers a folder of frames to hide, and what hides them."""
    try:
        module = importlib.import_module("jax._src.traceback_util")
        return module.register_exclusion, module.filter_traceback
    except (ImportError, AttributeError):
        return (lambda path: None), (lambda traceback: traceback)


_exclude, _filter = _filtering()
_exclude(os.path.dirname(__file__))


def hide_library_frames(error: BaseException) -> None:
    """Take the frames of jax and of this package out of the traceback of an error.

    ``JAX_TRACEBACK_FILTERING`` says whether, as for jax's own functions.
    """
    if config.jax_traceback_filtering not in ("off", "tracebackhide"):
        error.__traceback__ = error.__traceback__ and _filter(error.__traceback__)


def is_staging() -> bool:
    """Whether a trace is running that becomes code, as that of `jax.jit`.

    `jax.grad` and `jax.vmap` in eager code compute each operation at once. Where a
    newer jax keeps traces elsewhere the answer is True outside of eager code.
    """
    if is_eager():
        return False
    trace: Any = getattr(current_trace(), "_trace_ref", lambda: None)()
    # These record nothing: they hand each operation to the trace around them at once.
    while type(trace).__name__ in ("BatchTrace", "JVPTrace", "LinearizeTrace"):
        trace = trace.parent_trace
    return type(trace).__name__ != "EvalTrace"


def progress_bars() -> Any:
    """Return the module ``tqdm.auto``, or None where it is not installed."""
    try:
        return importlib.import_module("tqdm.auto")
    except ImportError:
        return None


def is_library_file(path: str) -> bool:
    """Whether a source file belongs to this package, to jax or to Python itself."""
    return path.startswith(_LIBRARIES)


_LIBRARIES = (
    *(os.path.dirname(file) + os.sep for file in (__file__, jax.__file__)),
    os.path.dirname(contextlib.__file__) + os.sep + "contextlib",
    os.path.dirname(contextlib.__file__) + os.sep + "functools",
)


def check_traceback(error: BaseException):
    """Return where the operation was called that a check of checkify refused."""
    info = getattr(error, "traceback_info", None)
    return error.__traceback__ if info is None else info.as_python_traceback()


def is_key_array(value: object) -> bool:
    """Whether ``value`` is an array of typed PRNG keys (``jax.random.key``)."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def key_impl(keys: jax.Array) -> str:
    """Return the name of the PRNG implementation of an array of typed keys."""
    return str(jax.random.key_impl(keys))


def key_data(keys: jax.Array) -> jax.Array:
    """Return the data of typed keys; where it is concrete, the array they hold."""
    data = getattr(keys, "_base_array", None)
    return jax.random.key_data(keys) if data is None else data


def as_keys(data: jax.Array | jax.ShapeDtypeStruct, dtype: Any) -> Any:
    """Return key data as typed keys of ``dtype``.

    Concrete keys are made without a computation, also in the midst of a trace.
    """
    impl = dtype._impl
    if isinstance(data, jax.Array) and not isinstance(data, jax.core.Tracer):
        return _key_class()(impl, data)
    if isinstance(data, jax.ShapeDtypeStruct):
        shape = data.shape[: len(data.shape) - len(impl.key_shape)]
        return jax.ShapeDtypeStruct(shape, dtype)
    return jax.random.wrap_key_data(data, impl=impl)


@functools.cache
def _key_class():
    with jax.ensure_compile_time_eval():  # the first call may come inside a trace
        return type(jax.random.key(0))


def is_of_current_trace(value: object) -> bool:
    """Whether ``value`` is a tracer of the innermost trace, not of one around it.

    Inside ``jax.vmap`` that tells a value that differs between the lanes.
    """
    return is_of_trace(value, current_trace())


def is_of_trace(value: object, token: object) -> bool:
    """Whether ``value`` is a tracer of the trace that `current_trace` gave a token of.

    Where a newer jax keeps traces elsewhere the answer is False, and jax itself
    complains.
    """
    trace = getattr(value, "_trace", None)
    held = getattr(token, "_trace_ref", None)
    return trace is not None and held is not None and held() is trace


def take_for_arrays(kind: type, value_of: Callable[[Any], jax.Array]) -> None:
    """Make the primitives of JAX take an object of a class for an array of it.

    `jax.numpy` asks for ``__jax_array__``; `jax.lax` refuses what has it, and looks
    only in these tables. A jax without them, or older than their use by eager
    primitives (0.8), goes on refusing.
    """
    try:
        types = importlib.import_module("jax._src.core").pytype_aval_mappings
        dtypes = importlib.import_module("jax._src.dtypes")
        register = dtypes.register_canonicalize_value_handler
    except (ImportError, AttributeError):
        return
    types[kind] = lambda x: jax.typeof(value_of(x))
    register(kind, lambda x: dtypes.canonicalize_value(value_of(x)))


def varying_axes(value: jax.Array) -> frozenset:
    """Return the mesh axes along which ``value`` differs inside ``shard_map``."""
    kind = jax.typeof(value)
    kind = getattr(kind, "manual_axis_type", kind)
    return getattr(kind, "varying", None) or getattr(kind, "vma", None) or frozenset()


def put_uncommitted() -> Callable[..., Any] | None:
    """Return what puts an array on devices without committing it to them.

    It takes the aval, the sharding, a list of NumPy arrays, one of devices, and False.
    `jax.device_put` ends there after ten times as long. None if a newer jax has none.
    """
    try:
        module = importlib.import_module("jax._src.interpreters.pxla")
        return module.batched_device_put
    except (ImportError, AttributeError):
        return None


def key_value_store():
    """Return the key-value store of jax.distributed; it has no public door."""
    return importlib.import_module("jax._src.distributed").global_state.client
