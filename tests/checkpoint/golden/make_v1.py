# SPDX-License-Identifier: Apache-2.0
"""Make ``v1.bopt``, the golden file of format version 1.

It was run once, by the release that introduced the version, and its output is never
replaced: every later release must read the file as it stands.
Run with: ``python -m tests.checkpoint.golden.make_v1 FILE``.
"""

import sys

import jax
import ml_dtypes
import numpy as np

from brainopt import checkpoint
from tests.checkpoint.fake import FakeNode


def tree():
    """The content of the golden file."""
    bits = np.arange(8, dtype="u1")
    opt = {"step": np.array(7, "i4"), "m.layers.0.W": np.arange(6, dtype="f4") / 4}
    return {
        "opt": FakeNode(opt, lr=0.125, betas=(0.9, 0.999), schedule=None),
        "numpy": {
            name: bits.astype(name)
            for name in (
                *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16"),
                *("uint32", "uint64", "float16", "float32", "float64"),
                *("complex64", "complex128", ">f4"),
            )
        },
        "extended": {
            name: bits.view(getattr(ml_dtypes, name))
            for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
        },
        "key": jax.random.wrap_key_data(np.array([3, 4], "u4"), impl="threefry2x32"),
        "zero": np.zeros((0, 3), "f4"),
        "scalar": np.float32(1.5),
        "plain": [None, True, -3, 2**70, 0.5, 1 - 2j, "ü", b"\0\xff", (), {}],
        "long": ["x" * 5000, b"y" * 5000, 3**9000],
        "keys": {"a.b": 1, 2: "two", None: None},
        "large": np.arange(270_000, dtype="f4") % 7,
    }


if __name__ == "__main__":
    checkpoint.save(sys.argv[1], tree())
