# SPDX-License-Identifier: Apache-2.0
"""Small nodes that several tests of this wing use."""

import brainopt as bo


class Cell(bo.Node):
    """One trained weight and one state."""

    def __init__(self, size=2):
        self.W = bo.TrainVar([float(i) for i in range(size)])
        self.V = bo.Variable((size,))


class Net(bo.Node):
    """Nodes and Variables in every place where they may be."""

    def __init__(self):
        self.layers = [Cell(2), Cell(3)]
        self.by_name = {"exc": Cell(1)}
        self.gain = bo.TrainVar([1.0])
        self.rng = bo.RandomState(0)
        self.rate = 0.5


NET_VARS = [
    "gain",
    "rng",
    "layers.0.W",
    "layers.0.V",
    "layers.1.W",
    "layers.1.V",
    "by_name.exc.W",
    "by_name.exc.V",
]
