# SPDX-License-Identifier: Apache-2.0
"""The work of `bench_transforms` as users of other libraries write it.

Each function returns ``{library: callable}``; a callable does the work of that many
calls and blocks. A library that is not installed is left out.
"""

import importlib
import importlib.util

import jax
import jax.numpy as jnp

from .hand_written import coba, coba_weights, lif_loss, lif_params


def _installed(makers):
    """Return what the makers of the installed libraries make."""
    return {
        library: make()
        for library, (needs, make) in makers.items()
        if all(map(importlib.util.find_spec, needs))
    }


def adamw(count, size):
    """The step of AdamW with given gradients."""
    grads = {f"w{i}": jnp.full(size, 1e-2, jnp.float32) for i in range(count)}

    def ones():
        return {k: jnp.ones(size, jnp.float32) for k in grads}

    def optax():
        tx = importlib.import_module("optax").adamw(1e-3, weight_decay=1e-2)
        apply = importlib.import_module("optax").apply_updates

        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return apply(params, updates), state

        compiled = jax.jit(step, donate_argnums=(0, 1))
        params = ones()
        held = [params, tx.init(params)]

        def run(calls):
            for _ in range(calls):
                held[:] = compiled(*held, grads)
            jax.block_until_ready(held[0])

        return run

    def brainpy():
        bp = importlib.import_module("brainpy")
        weights = {k: bp.math.TrainVar(v) for k, v in ones().items()}
        opt = bp.optim.AdamW(1e-3, bp.math.VarDict(weights))
        return _repeated(bp.math.jit(opt.update), weights["w0"])

    def brainstate():
        state = importlib.import_module("brainstate")
        opt = importlib.import_module("braintools").optim.AdamW(1e-3)
        weights = {k: state.ParamState(v) for k, v in ones().items()}
        opt.register_trainable_weights(weights)
        return _repeated(state.transform.jit(opt.update), weights["w0"])

    def nnx():
        nnx = importlib.import_module("flax.nnx")
        tx = importlib.import_module("optax").adamw(1e-3, weight_decay=1e-2)

        class Model(nnx.Module):
            def __init__(self):
                for k, v in ones().items():
                    setattr(self, k, nnx.Param(v))

        model = Model()
        opt = nnx.Optimizer(model, tx, wrt=nnx.Param)
        given = jax.tree.map(
            lambda x: jnp.full_like(x, 1e-2), nnx.state(model, nnx.Param)
        )

        @nnx.jit
        def step(model, opt, grads):
            opt.update(model, grads)

        def run(calls):
            for _ in range(calls):
                step(model, opt, given)
            jax.block_until_ready(model.w0[...])

        return run

    def _repeated(step, first):
        def run(calls):
            for _ in range(calls):
                step(grads)
            jax.block_until_ready(first.value)

        return run

    return _installed(
        {
            "optax": (["optax"], optax),
            "brainpy": (["brainpy"], brainpy),
            "brainstate": (["brainstate", "braintools"], brainstate),
            "nnx": (["flax", "optax"], nnx),
        }
    )


def bptt(n_in, n, xs, target):
    """The training step of the recurrent network."""
    batch, start = xs.shape[1], lif_params(n_in, n)
    shapes = [(batch, n), (batch, n), (batch, 2)]

    def stateful(library, weight, hidden, loop):
        w = {k: weight(v) for k, v in start.items()}
        state = [hidden(jnp.zeros(shape)) for shape in shapes]

        def update(x):
            values = [v.value for v in state]
            new = lif_loss.cell({k: v.value for k, v in w.items()}, values, x)
            for variable, value in zip(state, new, strict=True):
                variable.value = value

        def loss(xs, target):
            for variable in state:
                variable.value = jnp.zeros_like(variable.value)
            loop(update, xs)
            return jnp.mean((state[-1].value - target) ** 2)

        gradient = library.grad(loss, w, return_value=True)

        @library.jit
        def step(xs, target):
            grads, value = gradient(xs, target)
            for k, g in grads.items():
                w[k].value = w[k].value - 1e-2 * g
            return value

        return _calls(lambda: step(xs, target))

    def brainpy():
        bm = importlib.import_module("brainpy.math")
        return stateful(bm, bm.TrainVar, bm.Variable, bm.for_loop)

    def brainstate():
        state = importlib.import_module("brainstate")
        loop = state.transform.for_loop
        return stateful(state.transform, state.ParamState, state.HiddenState, loop)

    def nnx():
        nnx = importlib.import_module("flax.nnx")

        class Net(nnx.Module):
            def __init__(self):
                for k, v in start.items():
                    setattr(self, k, nnx.Param(v))

        net = Net()

        @nnx.jit
        def step(net, xs, target):
            def loss(net):
                return lif_loss({k: getattr(net, k)[...] for k in start}, xs, target)

            value, grads = nnx.value_and_grad(loss)(net)
            weights = nnx.state(net, nnx.Param)
            nnx.update(net, jax.tree.map(lambda p, g: p - 1e-2 * g, weights, grads))
            return value

        return _calls(lambda: step(net, xs, target))

    return _installed(
        {
            "brainpy": (["brainpy"], brainpy),
            "brainstate": (["brainstate"], brainstate),
            "nnx": (["flax"], nnx),
        }
    )


def simulation(neurons, steps):
    """The forward simulation of the COBA network."""
    weights, start = coba_weights(neurons), coba.initial(neurons)

    def brainpy():
        bm = importlib.import_module("brainpy.math")
        state = [bm.Variable(x) for x in start]

        def update(_):
            new = coba(weights, [v.value for v in state])
            for variable, value in zip(state, new, strict=True):
                variable.value = value
            return new[-1].sum()

        run = bm.jit(lambda: bm.for_loop(update, jnp.arange(steps)))

        def once():
            for variable, value in zip(state, start, strict=True):
                variable.value = value
            return run()

        return _calls(once)

    return _installed({"brainpy": (["brainpy"], brainpy)})


def _calls(step):
    def run(calls=1):
        for _ in range(calls):
            out = jax.block_until_ready(step())
        return out

    return run
