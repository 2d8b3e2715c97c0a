# SPDX-License-Identifier: Apache-2.0
"""All that two processes do in the quick tests, in one start."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import brainopt as bo
from brainopt.distributed import decide, exchange
from brainopt.errors import DistributedError
from tests.checkpoint.sharded import said, state, together, trained
from tests.sharding.nets import Net, at, mesh_of


def everything(process, folder):
    """Take part in all cases; return what was seen in each."""
    seen = {"meeting": meet(process), "check": check(process)}
    seen["move"] = move(process)
    seen["train"] = train(process)
    seen["rows"] = rows(process)
    seen["files"] = together(process, folder)
    return seen


def meet(process):
    """Meetings that take place, and that do not."""
    seen = {"both": exchange("both", f"of {process}", 30)}
    seen["decided"] = decide("sum", f"{process}", lambda texts: "+".join(texts), 30)
    seen["failed"] = said(lambda: decide("fail", "", lambda texts: 1 / 0, 30))
    seen["leader alone"] = _alone(process == 0, "leader")
    exchange("pause", "", 30)
    seen["leader again"] = exchange("leader", f"now {process}", 30)
    seen["follower alone"] = _alone(process == 1, "follower")
    exchange("pause", "", 30)
    seen["follower again"] = [exchange("follower", f"{i}", 30) for i in range(5)]
    return seen


def rows(process):
    """Steps on rows that differ between processes, and on equal ones."""
    net = Net(0)
    bo.sharding.shard(net, mesh_of(4), timeout=30)
    opt = bo.optim.SGD(1e-2, net)
    own, seen = {}, {}
    for donate in (True, False):

        @bo.jit(donate=donate)
        def step(x, target):
            grads = bo.grad(lambda: ((net(x) - target) ** 2).mean(), net.train_vars())
            opt.update(grads())

        before = np.asarray(net.l1.W.value.addressable_data(0))
        x = np.full((4, 32), process + 1.0, "f4")
        own[donate] = said(lambda x=x, step=step: step(x, 0.5))
        after = np.asarray(net.l1.W.value.addressable_data(0))
        seen[f"changed, {donate}"] = bool((before != after).any()) or int(opt.step)
        seen[f"equal, {donate}"] = said(lambda step=step: step(np.ones((4, 32)), 0.5))
        y = np.full((8, 32), process + 1.0, "f4")
        seen[f"later, {donate}"] = said(lambda y=y, step=step: step(y, 0.5))
        opt.step.value = np.int32(0)
    return seen | {f"rows, {donate}": told for donate, told in own.items()}


def _alone(here, name):
    if not here:
        return ""
    start = time.monotonic()
    with pytest.raises(DistributedError) as caught:
        exchange(name, "", 0.5)
    assert time.monotonic() - start < 2
    return str(caught.value)


def check(process):
    """Values that differ between processes, placed and not."""
    seen, mesh = {}, mesh_of(4)
    same, other = Net(0), Net(process)
    seen["equal"] = said(lambda: bo.sharding.check({"net": same, "x": 1}, timeout=30))
    seen["seeds"] = said(lambda: bo.sharding.check({"net": other}, timeout=30))
    seen["shard"] = said(lambda: bo.sharding.shard(other, mesh, timeout=30))
    seen["moved"] = other.l1.W.value.devices() != {jax.local_devices()[0]}
    opt = bo.optim.AdamW(1e-2, other.train_vars())
    seen["zero"] = said(lambda: bo.sharding.zero(opt, mesh, timeout=30))
    bo.sharding.shard(same, mesh, {"l1.W": P("data")}, timeout=30)
    value = np.full(64, process, "f4")
    same.l1.b.value = jax.make_array_from_callback((64,), at(mesh), lambda i: value[i])
    seen["replicated"] = said(lambda: bo.sharding.check(same, timeout=30))
    lone = {"net": Net(0), **({"more": jnp.ones(2)} if process else {})}
    seen["more"] = said(lambda: bo.sharding.check(lone, timeout=30))
    seen["alone"] = process or said(lambda: bo.sharding.check(same, timeout=1))
    exchange("pause", "", 30)
    return seen


def move(process):
    """Whether one process moves 64 MiB to both while the other one waits elsewhere."""
    done = ""
    if process == 1:
        for spec in (P("data"), P()):
            v = bo.Variable(np.ones((1 << 12, 1 << 12), "f4"))
            v.to(at(mesh_of(4), *spec))
            jax.block_until_ready(v.value)
        done = "moved"
    return exchange("move", done, 30)


def train(process):
    """Losses of data parallel, ZeRO-1 and FSDP, and a setting in one process alone."""
    seen = {}
    for name, rules in {
        "DP": None,
        "ZeRO-1": {},
        "FSDP": {"fsdp": "data", "min_size": 0},
    }.items():
        tree = state(4, divided=rules is not None, **(rules or {}))
        seen[name] = trained(tree, 3)
    if process == 0:
        start = time.monotonic()
        tree["opt"].lr = 1e-3
        seen["lr"] = time.monotonic() - start
    return seen
