# SPDX-License-Identifier: Apache-2.0
"""`bo.sharding.batch`: rows of this process as one divided batch."""

import jax
import numpy as np
import pytest

import brainopt as bo
from brainopt.errors import ShardingError
from tests.sharding.nets import at, mesh_of


@pytest.mark.parametrize("axis", ["data", ("data", "model")])
def test_rows_are_divided_and_no_memory_is_shared(axis):
    mesh, rows = mesh_of(4, 2), {"x": np.arange(48.0, dtype=np.float32).reshape(16, 3)}
    expected = rows["x"].copy()

    x = bo.sharding.batch(mesh, axis, rows)["x"]
    rows["x"][:] = 0

    assert x.sharding == at(mesh, axis)
    np.testing.assert_array_equal(jax.device_get(x), expected)


def test_what_is_no_batch_is_named():
    with pytest.raises(ShardingError, match=r"shape \(7,\) does not divide by 8"):
        bo.sharding.batch(mesh_of(8), "data", (np.ones(8), np.ones(7)))
    with pytest.raises(ShardingError, match="no axis 'row'"):
        bo.sharding.batch(mesh_of(8), "row", np.ones(8))
    with pytest.raises(ShardingError, match=r"shape \(\)"):
        bo.sharding.batch(mesh_of(8), "data", 1.0)
