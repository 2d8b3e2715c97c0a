# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in a storage of the s3 protocol, behind a real server on this machine."""

import numpy as np
import pytest

import brainopt as bo
from brainopt import checkpoint
from brainopt.errors import CheckpointIOError
from tests.checkpoint.trees import check_format, same

pytestmark = pytest.mark.hosts("s3fs", "moto")


@pytest.fixture(scope="module")
def server():
    """A server, and a file system whose only bucket is ``lab``."""
    from moto.server import ThreadedMotoServer

    patch = pytest.MonkeyPatch()
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        patch.setenv(f"AWS_{name}", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")

    import s3fs

    files = s3fs.S3FileSystem()
    files.mkdir("lab")
    yield files
    server.stop()
    files.clear_instance_cache()
    patch.undo()


@pytest.mark.parametrize("suffix", [".bopt", ".npz", ".safetensors"])
def test_a_bucket_holds_every_format(server, suffix):
    check_format(f"s3://lab/formats/f{suffix}")


def test_a_large_object_comes_in_ranges(server):
    """Above 5 MiB, where an upload is made in parts."""
    tree = {"a": np.arange(3 << 20, dtype="f4"), "b": np.ones(2)}
    checkpoint.save("s3://lab/large.bopt", tree)
    assert same(tree, checkpoint.load("s3://lab/large.bopt"))


def test_a_manager_goes_on_in_a_bucket(server):
    net = bo.Node()
    net.w = bo.TrainVar(np.zeros(2, "f4"))
    settings = {"keep": 2, "best": ("loss", "min")}
    with checkpoint.Manager("s3://lab/run", **settings) as manager:
        for step, loss in enumerate([3.0, 1.0, 4.0, 2.0]):
            net.w.value = np.full(2, step, "f4")
            manager.save(step, {"net": net}, {"loss": loss})
    names = {path.rpartition("/")[2] for path in server.ls("lab/run", refresh=True)}
    assert names == {"index.json", "step-1.bopt", "step-2.bopt", "step-3.bopt"}
    again = checkpoint.Manager("s3://lab/run", **settings)
    assert again.best_step() == 1 and again.resume({"net": net}).step == 3
    again.restore("best", {"net": net})
    assert net.w.value.tolist() == [1, 1]


def test_a_damaged_newest_object_is_passed_over(server):
    manager = checkpoint.Manager("s3://lab/damaged", async_=False)
    for step in range(2):
        manager.save(step, {"a": step})
    data = bytearray(server.cat_file("lab/damaged/step-1.bopt"))
    data[-40] ^= 1
    server.pipe_file("lab/damaged/step-1.bopt", bytes(data))
    with pytest.warns(UserWarning, match="goes on from step 0"):
        assert manager.resume({"a": None}).values == {"a": 0}


def test_what_is_not_there_is_an_error_that_names_the_address(server):
    with pytest.raises(CheckpointIOError, match="s3://lab/none"):
        checkpoint.load("s3://lab/none.bopt")
    with pytest.raises(CheckpointIOError, match=r"s3://nowhere/f.*does not exist"):
        checkpoint.save("s3://nowhere/f.bopt", {"a": 1})
