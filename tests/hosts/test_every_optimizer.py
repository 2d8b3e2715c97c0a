# SPDX-License-Identifier: Apache-2.0
"""Every optimizer, inside the transforms of brainpy: the numbers it gives eagerly."""

import numpy as np
import pytest

import brainopt as bo
from tests.hosts.brainpy_nets import make
from tests.optim.members import MEMBERS

pytestmark = [pytest.mark.hosts("brainpy", "optax"), pytest.mark.long]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_it_computes_in_bm_jit_what_it_computes_eagerly(member):
    import brainpy.math as bm

    def trained(wrap):
        net, loss = make()
        opt = member.make(net)
        gradient = bo.grad(loss, net)
        step = wrap(lambda: opt.update(gradient()))
        for _ in range(3):
            step()
        assert int(opt.step) == 3
        return bo.attach(net).train_vars().dict()

    inside, eager = trained(bm.jit), trained(lambda step: step)

    for path, value in eager.items():
        np.testing.assert_allclose(inside[path], value, rtol=1e-5, atol=1e-7)
