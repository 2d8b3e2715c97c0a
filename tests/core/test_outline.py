# SPDX-License-Identifier: Apache-2.0
"""A Node shows what it holds as a tree, in a terminal and in a notebook."""

import html.parser

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

VOID = {"br"}

TREE = """\
Net: 4 Variables, 8 of 11 elements trained, 42 bytes
  cells: list of 2
    0: Cell
      W: TrainVar (2, 3) float32, 24 bytes
      tau = 20.0
      index = array (50, 10) int8, 500 bytes
      note = 'xxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxx'
      activation = softplus
    1: the same as cells.0
  pair: dict of 2
    a: TrainVar (2,) float32, 8 bytes
    b: Variable (2,) int8, 2 bytes
  rng: RandomState () key<fry>, 8 bytes
  W: the same as cells.0.W
  opt: SGD(lr=Constant(0.1), weight_decay=0, momentum=0, dampening=0)"""


class Cell(bo.Node):
    def __init__(self):
        self.W = bo.TrainVar((2, 3))
        self.tau = 20.0
        self.index = np.zeros((50, 10), np.int8)
        self.note = "x" * 200
        self.activation = softplus
        self._hidden = 1


class Net(bo.Node):
    def __init__(self):
        cell = Cell()
        self.cells = [cell, cell]
        self.pair = {"a": bo.TrainVar((2,)), "b": bo.Variable((2,), "int8")}
        self.rng = bo.RandomState(0)
        self.W = cell.W


def softplus(x):
    return jnp.log1p(jnp.exp(x))


class _Balance(html.parser.HTMLParser):
    """Raises where a tag is not closed, and keeps what was said."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.said, self.raw = [], set(), [], text
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def _shown():
    net = Net()
    schedule = bo.optim.CosineAnnealingLR(0.1, 10)
    opt = bo.optim.AdamW(schedule, net.train_vars())
    return {
        "node": net,
        "Variable": net.W,
        "variables": net.vars(),
        "nodes": net.nodes(),
        "optimizer": opt,
        "report": opt.summary(),
        "schedule": schedule,
        "summary": bo.summary(net, stats=True),
        "subtotals": bo.summary(net, depth=1),
    }


SHOWN = _shown()


def test_the_tree_is_this():
    net = Net()
    tree = repr(net)
    net.opt = bo.optim.SGD(0.1, net.W)

    assert tree == TREE.rpartition("\n")[0]
    assert repr(net).splitlines()[-1] == TREE.splitlines()[-1]


def test_a_long_tree_is_folded():
    net = bo.Node()
    net.cells = [Cell() for _ in range(500)]
    lines = repr(net).splitlines()

    assert len(lines) == 23 and lines[-1] == "    … and 480 more"
    assert lines[2] == "    0: Cell … 5 lines below"


def test_a_tree_counts_what_is_owned_by_numpy():
    net = Net()
    arrays = {id(v): v.value for v in net.vars().values() if v is not net.rng}
    elements = sum(np.asarray(a).size for a in arrays.values()) + 1
    nbytes = sum(np.asarray(a).nbytes for a in arrays.values()) + 8

    assert f"of {elements} elements trained, {nbytes} bytes" in repr(net)


def test_a_cycle_ends():
    net = Net()
    net.me = net

    assert "me: the same as the root" in repr(net)


def test_showing_a_node_inside_jit_reads_nothing():
    net, said = Net(), []

    @bo.jit
    def step(x):
        said.append(repr(net))
        return x + 1

    jaxpr = bo.make_jaxpr(step)(1.0)

    assert len(jaxpr.in_avals) == 1 and said[0] == repr(net)


def test_a_variable_of_a_trace_that_ended_is_shown_as_that():
    kept = []

    def body(x):
        node = bo.Node()
        node.made = bo.Variable(x)
        kept.append(node)
        return x

    bo.jit(body)(1.0)

    assert "made: Variable, ended with its trace" in repr(kept[0])


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_closed_tags_and_nothing_from_elsewhere(name):
    page = _Balance(SHOWN[name]._repr_html_())

    assert not page.tags & {"script", "style", "link", "img", "iframe"}
    assert "http" not in page.raw


def test_a_notebook_shows_a_node_as_a_tree_that_folds():
    page = _Balance(SHOWN["node"]._repr_html_())

    assert "details" in page.tags
    assert "W: TrainVar (2, 3) float32, 24 bytes" in page.said


def test_what_users_write_is_escaped():
    node = bo.Node()
    node.note = "<b>&"

    assert "<b>" not in node._repr_html_() and "&lt;b&gt;&amp;" in node._repr_html_()


def test_a_schedule_shows_its_curve():
    picture = bo.optim.CosineAnnealingLR(1.0, 10)._repr_html_()
    points = picture.partition('points="')[2].partition('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    rates = (1 + np.cos(np.pi * np.arange(11) / 10)) / 2

    np.testing.assert_allclose(heights, 10 + 80 * (1 - rates), atol=0.06)
    assert "10 epochs" in picture


def test_treescope_shows_contents_values_and_shared_parts():
    treescope = pytest.importorskip("treescope")
    node = bo.Node()
    node.layer, node.label, node._hidden = Cell(), "a", 3
    node.again = node.layer
    node.me = node

    shown = treescope.render_to_text(node)

    assert "W=TrainVar(value=<jax.Array float32(2, 3)" in shown
    assert "label='a'" in shown and "_hidden" not in shown
    assert "me=<cyclic reference to Node" in shown
    assert "VarCollector({\n  'layer.W': TrainVar(" in treescope.render_to_text(
        node.vars()
    )
