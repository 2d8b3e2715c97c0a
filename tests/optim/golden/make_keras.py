# SPDX-License-Identifier: Apache-2.0
"""Write keras.json: what keras 3 on jax makes of 120 fixed gradients, in float64.

Run with a Python that has keras and jax: ``python tests/optim/golden/make_keras.py``.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"
import keras
import numpy as np

keras.config.set_floatx("float64")

STEPS, SHAPES = 120, {"W": (4, 3), "b": (3,)}
CASES = {
    "AdamW": dict(learning_rate=0.01),
    "AdamW-amsgrad": dict(learning_rate=0.01, amsgrad=True),
    "AdamW-decay": dict(learning_rate=0.01, weight_decay=0.3, epsilon=1e-2),
    "AdamW-all": dict(
        learning_rate=0.02,
        weight_decay=0.1,
        beta_1=0.8,
        beta_2=0.95,
        epsilon=1e-3,
        amsgrad=True,
    ),
    "AdamW-exempt": dict(learning_rate=0.01, weight_decay=0.3),
}


def problem():
    """Return parameters and gradients of growing size; the same as in the tests."""
    rng = np.random.default_rng(11)
    params = {k: rng.normal(size=s) for k, s in SHAPES.items()}
    sizes = np.exp(rng.normal(size=STEPS))
    grads = [{k: c * rng.normal(size=s) for k, s in SHAPES.items()} for c in sizes]
    return params, grads


def run(name, settings):
    """Return the parameters after 1, 10 and all steps."""
    params, grads = problem()
    variables = {k: keras.Variable(v, name=k) for k, v in params.items()}
    optimizer = keras.optimizers.AdamW(**settings)
    if name.endswith("exempt"):
        optimizer.exclude_from_weight_decay(var_names=["b"])
    found = {}
    for t, g in enumerate(grads, 1):
        optimizer.apply([keras.ops.array(g[k]) for k in variables], variables.values())
        if t in (1, 10, STEPS):
            found[t] = {k: np.asarray(v).tolist() for k, v in variables.items()}
    return found


def main():
    found = {"keras": keras.__version__}
    found |= {"optimizers": {name: run(name, case) for name, case in CASES.items()}}
    path = Path(__file__).with_name("keras.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
