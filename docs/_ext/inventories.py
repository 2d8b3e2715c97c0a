# SPDX-License-Identifier: Apache-2.0
"""Where the names of jax, numpy, optax and flax are documented.

Sphinx links to other projects by inventories, which it would fetch from their sites at
each build. These are lists of our own, with the names that our pages mention, so that
the site builds without a network; `tests/docs/test_inventories.py` asks the installed
packages whether the names exist.
"""

import zlib
from pathlib import Path

# package: (site, [(names, page of a name as "{}")])
LISTS = {
    "jax": (
        "https://docs.jax.dev/en/latest/",
        [
            (
                "jax.jit jax.grad jax.value_and_grad jax.vmap jax.disable_jit "
                "jax.make_jaxpr jax.eval_shape jax.checkpoint jax.custom_jvp "
                "jax.custom_vjp jax.device_put jax.Array jax.hessian jax.jacfwd "
                "jax.jacrev jax.jvp jax.vjp jax.shard_map jax.make_mesh "
                "jax.ShapeDtypeStruct jax.pure_callback jax.debug_nans "
                "jax.log_compiles jax.default_device jax.enable_x64 "
                "jax.debug.print jax.debug.callback jax.debug.breakpoint "
                "jax.lax.scan jax.lax.cond jax.lax.switch jax.lax.while_loop "
                "jax.lax.stop_gradient jax.lax.psum jax.lax.with_sharding_constraint "
                "jax.nn.relu jax.nn.sigmoid jax.nn.softmax jax.nn.log_softmax "
                "jax.random.key jax.random.split jax.random.normal "
                "jax.profiler.trace jax.profiler.TraceAnnotation "
                "jax.test_util.check_grads jax.distributed.initialize "
                "jax.tree.map jax.tree.leaves jax.tree.structure "
                "jax.numpy.asarray jax.numpy.copy jax.numpy.where jax.numpy.zeros "
                "jax.numpy.ones",
                "_autosummary/{}.html",
            ),
            (
                "jax.sharding.Mesh jax.sharding.NamedSharding jax.sharding.Sharding "
                "jax.sharding.PartitionSpec jax.sharding.SingleDeviceSharding",
                "jax.sharding.html#{}",
            ),
        ],
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        [
            (
                "numpy.ndarray numpy.asarray numpy.array numpy.savez numpy.load "
                "numpy.fromfile numpy.dtype numpy.float32",
                "reference/generated/{}.html",
            )
        ],
    ),
    "optax": (
        "https://optax.readthedocs.io/en/latest/",
        [
            (
                "optax.adamw optax.adam optax.adan optax.sgd optax.lion optax.lbfgs "
                "optax.adafactor optax.adagrad optax.rmsprop optax.sm3 optax.yogi "
                "optax.lamb optax.lars optax.radam optax.nadam optax.adabelief "
                "optax.apply_updates optax.GradientTransformation optax.chain "
                "optax.MultiSteps optax.apply_if_finite optax.clip "
                "optax.clip_by_global_norm "
                "optax.schedules.warmup_cosine_decay_schedule "
                "optax.schedules.cosine_decay_schedule "
                "optax.schedules.inject_hyperparams",
                "api/generated/{}.html",
            ),
        ],
    ),
    "flax": (
        "https://flax.readthedocs.io/en/latest/",
        [
            (
                "flax.nnx.jit flax.nnx.grad flax.nnx.scan flax.nnx.vmap",
                "api_reference/flax.nnx/transforms.html#{}",
            ),
            (
                "flax.nnx.split flax.nnx.merge flax.nnx.update flax.nnx.state",
                "api_reference/flax.nnx/graph.html#{}",
            ),
            ("flax.nnx.Module", "api_reference/flax.nnx/module.html#{}"),
            ("flax.nnx.Rngs", "api_reference/flax.nnx/rnglib.html#{}"),
            (
                "flax.nnx.Param flax.nnx.Variable",
                "api_reference/flax.nnx/variables.html#{}",
            ),
            (
                "flax.nnx.Optimizer",
                "api_reference/flax.nnx/training/optimizer.html#{}",
            ),
        ],
    ),
}


def names(package: str) -> list[str]:
    """Return the names that the inventory of ``package`` holds."""
    return [name for group, _ in LISTS[package][1] for name in group.split()]


def write(folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for each package; return ``intersphinx_mapping``."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, (_, groups) in LISTS.items():
        lines = [
            f"{name} py:{kind} 1 {page.format(name)} -\n"
            for group, page in groups
            for name in group.split()
            for kind in ("class", "function")
        ]
        head = (
            "# Sphinx inventory version 2\n"
            f"# Project: {package}\n# Version: \n"
            "# The remainder of this file is compressed using zlib.\n"
        )
        body = zlib.compress("".join(lines).encode())
        (folder / f"{package}.inv").write_bytes(head.encode() + body)
    return {
        package: (site, str(folder / f"{package}.inv"))
        for package, (site, _) in LISTS.items()
    }
