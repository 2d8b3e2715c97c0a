# SPDX-License-Identifier: Apache-2.0
"""A small model, short runs of one optimizer, and comparisons of what came of them."""

import jax
import jax.numpy as jnp
import numpy as np

import brainopt as bo
from tests.optim.members import problem


def encoder():
    """Return a model of two parts with the weights enc.W, enc.b and out.W."""
    net = bo.Node()
    net.enc, net.out = bo.Node(), bo.Node()
    net.enc.W, net.enc.b = bo.TrainVar(jnp.ones((2, 3))), bo.TrainVar(jnp.ones(3))
    net.out.W = bo.TrainVar(jnp.ones((3, 1)))
    return net


def ones(opt):
    return {k: jnp.ones_like(v.value) for k, v in opt.vars_to_train.items()}


def variables_of(params):
    return {k: bo.TrainVar(jnp.asarray(v)) for k, v in params.items()}


def arrays(grads):
    return jax.tree.map(jnp.asarray, grads)


def state_of(opt, variables):
    state = {k: np.asarray(v) for k, v in opt.state_dict().items()}
    return state | {f"var {k}": np.asarray(v.value) for k, v in variables.items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def run(member, steps=3, dtype=np.float32, through=None, **more):
    params, grads = problem(steps, dtype=dtype)
    variables = variables_of(params)
    opt = member.make(variables, **more)
    step = opt.update if through is None else through(opt)
    for g in grads:
        step(arrays(g))
    return opt, variables
