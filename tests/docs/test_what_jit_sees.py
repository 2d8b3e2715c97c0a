# SPDX-License-Identifier: Apache-2.0
"""Each line of the page on what a compiled function sees is as the page says."""

import dataclasses
import pathlib
import re
import types
import warnings
from collections import UserDict, deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guide" / "what-jit-sees.md"


def _rows(title):
    part = PAGE.read_text().partition(f"## {title}")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [tuple(map(str.strip, line.strip("|").split(" | "))) for line in lines[2:]]


@dataclasses.dataclass
class Data:
    gain: float = 2.0


class Net(bo.Node):
    scale = 2.0

    def __init__(self):
        self.w = bo.TrainVar(jnp.ones(3))
        self.out = bo.Node()
        self.out.w = bo.TrainVar(jnp.ones(3))
        self.v, self.last, self.seen, self.t = jnp.zeros(()), None, [], 0


def _setter(name, value):
    def change(net):
        setattr(net, name, value(net) if callable(value) else value)

    return change


SEEN = {
    "the value of a Variable": (lambda n: n.w.value.sum(), lambda n: n.w.fill_(5.0)),
    "its shape": (
        lambda n: n.h.value.shape[0] * 1.0,
        lambda n: n.h.update(jnp.zeros(4)),
    ),
    "a number that an optimizer": (
        lambda n: n.opt.lr * 1.0,
        lambda n: setattr(n.opt, "lr", 0.5),
    ),
    "settings of an optimizer": (
        lambda n: (n.opt.update({"w": jnp.ones(3)}), n.w.value.sum())[1],
        lambda n: n.opt.freeze("*"),
    ),
    "an attribute of a Node": (
        lambda n: n.w.value.sum() * (2.0 if n.flag else 1.0),
        _setter("flag", False),
    ),
    "an attribute of the instance": (
        lambda n: n.w.value.sum() * n.scale,
        _setter("scale", 5.0),
    ),
    "a list, dict, set or deque": (
        lambda n: n.w.value.sum() * len(n.parts["a"]) * len(n.more),
        lambda n: (n.parts["a"].append(1), n.more.append(1)),
    ),
    "a field of a dataclass": (
        lambda n: n.w.value.sum() * n.data.gain * n.space.gain * n.user["gain"],
        lambda n: (setattr(n.data, "gain", 3.0), setattr(n.space, "gain", 3.0)),
    ),
}


def _net():
    net = Net()
    net.flag, net.parts, net.more = True, {"a": [1]}, deque([1])
    net.data, net.space = Data(), types.SimpleNamespace(gain=2.0)
    net.user = UserDict(gain=2.0)
    net.h = bo.Variable(jnp.zeros(3), batch_axis=0)
    vars(net)["opt"] = bo.optim.SGD(0.1, {"w": net.w})
    return net


@pytest.mark.parametrize("change", [row[0] for row in _rows("Seen at the next call")])
def test_a_change_that_the_page_calls_seen_is_seen(change):
    function, act = next(v for k, v in SEEN.items() if change.startswith(k))
    net, plain = _net(), _net()
    step = bo.jit(lambda: function(net))
    assert step() == function(plain)

    act(net)
    act(plain)

    assert step() == function(plain)


def _state(net):
    net.v = net.v + net.w.value.sum()
    return net.v


def _lazy(net):
    net.v = bo.Variable(jnp.zeros(3))
    return net.v.value


def _last(net):
    net.last = net.w.value * 2.0
    return net.last


def _append(net):
    net.seen.append(net.w.value * 2.0)


def _count(net):
    net.t += 1


class _Made(bo.Node):
    def __init__(self, x):
        self.last = x * 2.0


_Made.__name__ = _Made.__qualname__ = "Net"


def _jax_jit(net):
    loss = jax.jit(lambda: net.w.value.sum())
    loss()
    net.w.value = jnp.zeros(3)
    loss()


def _rule(net):
    @jax.custom_jvp
    def spike(x):
        return x

    @spike.defjvp
    def _(primals, tangents):
        return primals[0], tangents[0] * net.w.value

    bo.grad(lambda: spike(net.w * 1.0).sum(), net.w)()


def _carry(net):
    jax.lax.fori_loop(0, 2, lambda i, v: v.value + 1.0, net.w)


def _carried_node(net):
    nets = bo.vmap(lambda _: Net())(jnp.arange(2))
    bo.for_loop(lambda one: one.w.fill_(2.0), nets)


def _ended(net):
    kept = []
    bo.jit(lambda: kept.append(bo.Variable(jnp.zeros(3))))()
    return kept[0].value


def _nnx(net):
    nnx = pytest.importorskip("flax.nnx")
    layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    bo.jit(lambda: layer(jnp.ones((1, 2))))()


def _unit(net):
    u = pytest.importorskip("brainunit")
    bo.grad(lambda: (net.w.value * u.mV).sum(), net.w)()


def _model(net):
    brainstate = pytest.importorskip("brainstate")
    bo.jit(lambda: brainstate.nn.Linear(2, 2))()


def _hidden(net):
    net.x = {bo.Variable(1.0)}
    bo.optim.SGD(0.1, net)


def _changed(net):
    opt = bo.optim.SGD(0.1, net)
    net.out = bo.Node()
    net.out.w = bo.TrainVar(jnp.ones(3))
    opt.update({"w": jnp.ones(3), "out.w": jnp.ones(3)})


TOLD = {
    "keeps state in": lambda n: bo.jit(_state)(n),
    "creates a Variable": lambda n: bo.jit(_lazy)(n),
    "sets a plain": lambda n: bo.jit(_last)(n),
    "appends an": lambda n: bo.jit(_append)(n),
    "counts in": lambda n: bo.jit(_count)(n),
    "returns a new Node": lambda n: bo.jit(_Made)(1.0),
    "returns a model": _model,
    "gives a Variable": lambda n: bo.jit(lambda: _carry(n))(),
    "writes to a Node": _carried_node,
    "writes a Variable inside": lambda n: jax.jit(lambda: n.w.update(jnp.zeros(3)))(),
    "reads a Variable": _jax_jit,
    "differentiates by": _rule,
    "writes another": lambda n: bo.vmap(lambda x: n.w.fill_(x))(jnp.arange(2.0)),
    "uses a Variable": _ended,
    "uses a model": _nnx,
    "has a Variable": lambda n: bo.grad(lambda: n.w.value.sum(), n)(),
    "has a loss": _unit,
    "keeps Variables": _hidden,
    "trains a model": _changed,
    "branches on": lambda n: bo.jit(lambda x: 1 if x > 0 else 2)(1.0),
    "hands a": lambda n: bo.jit(lambda x: np.tanh(x))(1.0),
    "takes a string": lambda n: bo.jit(lambda x: x)("train"),
    "has shapes": lambda n: bo.jit(lambda x: x @ jnp.ones((3, 2)))(jnp.ones((2, 4))),
}


@pytest.mark.hosts
@pytest.mark.parametrize("row", _rows("Refused, or told"), ids=lambda row: row[0][:30])
def test_what_the_page_calls_refused_or_told_has_its_message(row):
    act = next(act for start, act in TOLD.items() if row[0].startswith(start))
    double = re.search(r"``(.*?) ``", row[1])
    kind, pieces = (double or re.search(r"`(.*?)`", row[1]))[1].split(": ", 1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            act(Net())
            seen = [w.message for w in caught if type(w.message).__name__ == kind]
        except Exception as error:
            seen = [error]

    assert seen and type(seen[0]).__name__ == kind, (seen, kind)
    said = "\n".join([str(seen[0]), *getattr(seen[0], "__notes__", [])])
    flat = " ".join(said.split())
    for piece in filter(None, pieces.split("…")):
        assert piece.strip() in flat
        flat = flat.partition(piece.strip())[2]


class _Plain:
    gain = 2.0


def _not_seen():
    net, plain, held, calls = Net(), _Plain(), {"gain": 2.0}, []
    net.plain, net.array = plain, np.full(3, 2.0)
    net.x, net.calls = 2.0, []
    gain = [2.0]

    def closed_over():
        return net.w.value.sum() * held["gain"]

    return {
        "a global": (closed_over, lambda: held.update(gain=3.0)),
        "an attribute of the class": (
            lambda: net.w.value.sum() * net.scale,
            lambda: setattr(Net, "scale", 3.0),
        ),
        "an attribute of a plain": (
            lambda: net.w.value.sum() * net.plain.gain,
            lambda: setattr(plain, "gain", 3.0),
        ),
        "items of a NumPy": (
            lambda: (net.w.value * net.array).sum(),
            lambda: net.array.fill(3.0),
        ),
        "what is set around": (
            lambda: net.w.value.sum() * net.x,
            lambda: vars(net).update(x=3.0),
        ),
        "what Python draws": (
            lambda: net.w.value.sum() * gain[0],
            lambda: gain.__setitem__(0, 3.0),
        ),
        "`print`": (lambda: (print("here"), net.w.value.sum())[1], lambda: None),
        "what the function does": (
            lambda: (net.calls.append(1), net.w.value.sum())[1],
            lambda: None,
        ),
        "other effects": (
            lambda: (calls.append(1), net.w.value.sum())[1],
            lambda: None,
        ),
    }


@pytest.mark.parametrize("change", [row[0] for row in _rows("Not seen")])
def test_a_change_that_the_page_calls_not_seen_is_not(change, monkeypatch):
    monkeypatch.setattr(Net, "scale", 2.0)
    function, act = next(v for k, v in _not_seen().items() if change.startswith(k))
    step = bo.jit(function)
    before = step()

    act()

    assert step() == before and step.compiles == 1
