# SPDX-License-Identifier: Apache-2.0
"""A program of BrainPy around layers of flax, with its optimizer and with ours."""

import jax
import numpy as np
import pytest

import brainopt as bo
from tests.hosts.programs.swaps import assert_equal_numbers

_draw = np.random.RandomState(0)
FRAMES = _draw.rand(4, 5, 6, 6, 1).astype("f")  # (batch, time, height, width, channel)
LABELS = _draw.randint(0, 3, 4)


def _frames(make):
    """Convolutions of flax on each frame and gates of BrainPy, by `bp.BPTT`."""
    import brainpy as bp
    import brainpy.math as bm
    from flax import linen

    class Convolutions(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(3, (3, 3))(x))
            x = linen.avg_pool(x, (2, 2), strides=(2, 2))
            return linen.Dense(8)(x.reshape(len(x), -1))

    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.see = bp.dnn.FromFlax(Convolutions(), bm.asarray(FRAMES[:, 0]))
            self.gates = bp.dyn.GRUCell(8, 8)
            self.out = bp.dnn.Dense(8, 3)

        def update(self, x):
            return self.out(self.gates(self.see(x)))

    def loss(predictions, targets):
        logits = jax.nn.log_softmax(bm.as_jax(predictions)[:, -1])
        return -logits[np.arange(4), bm.as_jax(targets)].mean()

    def batches():
        for _ in range(4):
            yield FRAMES, LABELS

    bm.random.seed(3)
    with bm.training_environment():
        trainer = bp.BPTT(Net(), loss_fun=loss, optimizer=make(), progress_bar=False)
        trainer.fit(batches, num_epoch=2, num_report=1)
    return trainer.get_hist_metric("fit")


@pytest.mark.hosts("brainpy", "flax")
@pytest.mark.parametrize(
    ("name", "mend"), [("Momentum", None), ("Adam", {"dialect": "brainpy"})]
)
def test_convolutions_of_flax_in_a_net_of_brainpy(name, mend):
    import brainpy as bp

    assert_equal_numbers(
        _frames,
        lambda: getattr(bp.optim, name)(0.02),
        lambda **more: getattr(bo.optim, name)(0.02, **more),
        mend,
    )
