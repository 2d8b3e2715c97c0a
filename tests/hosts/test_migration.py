# SPDX-License-Identifier: Apache-2.0
"""What docs/start/from-brainpy.md says gives BrainPy's numbers, away from defaults.

The decay rates are exact in float32, and epsilon is large enough to be seen.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

pytestmark = pytest.mark.hosts("brainpy")

BETAS = {"beta1": 0.875, "beta2": 0.96875}
EPS = {**BETAS, "eps": 1e-2}
AS_BRAINPY = {**EPS, "dialect": "brainpy"}
ROWS = {
    "Adam, epsilon": ("Adam", EPS, "AdamW", {**AS_BRAINPY, "weight_decay": 0}),
    "Adam, decay": (
        "Adam",
        {**BETAS, "weight_decay": 0.05},
        "AdamW",
        {**BETAS, "weight_decay": 0.05, "decay_by": "none"},
    ),
    "AdamW, epsilon": ("AdamW", EPS, "AdamW", AS_BRAINPY),
    "AdamW, amsgrad": (
        "AdamW",
        {**EPS, "amsgrad": True},
        "AdamW",
        {**AS_BRAINPY, "amsgrad": True},
    ),
    "SGD, decay": ("SGD", {"weight_decay": 0.05}, "SGD", {"weight_decay": 0.5}),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_migration_page_names_the_optimizers_of_brainpy(row):
    import brainpy as bp
    import brainpy.math as bm

    if bp.__version__ < "2.8" and row.startswith("Adam"):
        pytest.skip("its Adam corrects every step as the first")

    def trained(cls, options):
        w = bm.TrainVar(jnp.linspace(0.5, 1.5, 3))
        opt = cls(0.1, {"w": w}, **options)
        for gradient in np.random.default_rng(0).normal(size=(6, 3)):
            opt.update({"w": jnp.asarray(gradient, jnp.float32)})
        return w.value

    theirs, their_options, ours, our_options = ROWS[row]
    expected = trained(getattr(bp.optim, theirs), their_options)
    np.testing.assert_allclose(
        trained(getattr(bo.optim, ours), our_options), expected, rtol=1e-5
    )
