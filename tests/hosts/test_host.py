# SPDX-License-Identifier: Apache-2.0
"""The protocol: a host made by hand wakes with its package, and fails in one line."""

import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo
from brainopt.core import _host
from brainopt.errors import HostError, TraceContextError
from brainopt.hosts._brainstate import BrainstateHost, OldBrainpyHost
from brainopt.hosts._nnx import NnxHost
from brainopt.runtime import _trackers


class Weight:
    """A parameter of the framework ``toyframe``."""

    def __init__(self, value, frozen=False):
        self.data = jnp.asarray(value)
        self.frozen = frozen


class Model:
    """A model of the framework ``toyframe``."""

    def __init__(self):
        self.w = Weight([1.0, 2.0])
        self.scale = Weight([3.0], frozen=True)


for _kind in (Weight, Model):
    _kind.__module__ = "toyframe.models"


class ToyHost(bo.Host):
    """Finds the weights of a model."""

    package = "toyframe"
    minimum = "2.1"

    def find(self, obj):
        if isinstance(obj, Weight):
            return {"": self.variable(obj)}
        if isinstance(obj, Model):
            return {k: self.variable(w) for k, w in vars(obj).items()}
        return None

    def trainable(self, owner):
        return not owner.frozen

    def read(self, owner):
        return owner.data

    def write(self, owner, value):
        owner.data = value


@pytest.fixture
def toyframe(monkeypatch):
    """Let ``toyframe`` be imported; forget hosts that a test registers."""
    module = types.ModuleType("toyframe")
    module.__version__ = "2.1.0"
    monkeypatch.setitem(sys.modules, "toyframe", module)
    others = [r for r in _host._registered if r.host.package != "toyframe"]
    monkeypatch.setattr(_host, "_registered", others)
    return module


def test_a_model_of_a_registered_host_is_attached(toyframe):
    bo.register_host(ToyHost())
    model = Model()

    report = bo.attach(model)

    assert list(report) == ["w", "scale"]
    assert list(report.train_vars()) == ["w"]
    assert report["w"].value.tolist() == [1.0, 2.0]


def test_an_update_writes_the_model(toyframe):
    bo.register_host(ToyHost())
    model = Model()
    opt = bo.optim.SGD(0.5, model)

    opt.update({"w": jnp.array([2.0, 4.0])})

    assert model.w.data.tolist() == [0.0, 0.0]
    assert model.scale.data.tolist() == [3.0]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_writes_that_fail_halfway_are_taken_back(toyframe, error):
    class Failing(ToyHost):
        left = 1

        def write(self, owner, value):
            if self.left == 0:
                self.left = -1
                raise error
            self.left -= 1
            super().write(owner, value)

    bo.register_host(Failing())
    model = Model()
    report = bo.attach(model)
    state = {path: value + 1 for path, value in report.state_dict().items()}

    with pytest.raises(error):
        report._stage_state_dict(state).commit_with()

    assert model.w.data.tolist() == [1.0, 2.0]
    assert model.scale.data.tolist() == [3.0]


def test_one_parameter_is_one_variable(toyframe):
    bo.register_host(ToyHost())
    model = Model()

    assert bo.attach(model)["w"] is bo.attach(model.w)["param"]


def test_a_framework_that_tells_nothing_is_refused_inside_transforms(toyframe):
    bo.register_host(ToyHost())
    model = Model()
    opt = bo.optim.SGD(0.5, model)

    for use in (
        bo.jit(lambda: opt.update({"w": jnp.ones(2)})),
        bo.grad(lambda: model.w.data.sum(), model),
        jax.jit(lambda: opt.update({"w": jnp.ones(2)})),
    ):
        with pytest.raises(TraceContextError, match=r"toyframe Weight 'Model\.w'"):
            use()

    assert model.w.data.tolist() == [1.0, 2.0]


def test_a_host_sleeps_until_its_package_is_imported(toyframe, monkeypatch):
    bo.register_host(ToyHost())
    monkeypatch.delitem(sys.modules, "toyframe")

    with pytest.raises(HostError, match="no array in this Model"):
        bo.attach(Model())


def test_a_thread_waits_for_a_host_that_another_one_wakes(toyframe, monkeypatch):
    monkeypatch.setattr(_trackers, "pending_trackers", {})
    woken, seen = threading.Event(), []

    class SlowHost(ToyHost):
        tracks = True

        def wake(self):
            thread.start()
            thread.join(0.2)  # time enough to find it half awake
            woken.set()

        def find(self, obj):
            seen.append(woken.is_set())
            return super().find(obj)

    def first_step():
        bo.jit(lambda: 0)()
        seen.append(woken.is_set())
        bo.attach(Model())

    thread = threading.Thread(target=first_step)
    bo.register_host(SlowHost())
    bo.attach(Model())
    thread.join()
    assert seen == [True, True, True] and not _trackers.pending_trackers


def test_a_version_that_is_too_old_says_so_once_and_the_rest_works(toyframe):
    toyframe.__version__ = "2.0.9"
    bo.register_host(ToyHost())
    line = "brainopt needs toyframe >= 2.1; installed is 2.0.9."

    with pytest.warns(UserWarning, match=line), pytest.raises(HostError, match=line):
        bo.attach(Model())

    with pytest.raises(HostError, match=line):
        bo.optim.SGD(0.1, Model())
    assert list(bo.attach({"w": jnp.ones(2)})) == ["w"]


OLD = [
    (OldBrainpyHost, "brainpy", "2.6.1", "brainpy >= 2.7; installed is 2.6.1"),
    (BrainstateHost, "brainstate", "0.1.9", "brainstate >= 0.2.10; installed is 0.1.9"),
    (NnxHost, "flax", "0.8.5", "flax >= 0.11; installed is 0.8.5"),
]


@pytest.mark.parametrize("host, package, version, line", OLD, ids=[o[1] for o in OLD])
def test_a_framework_that_is_too_old_says_so_in_one_line(
    host, package, version, line, monkeypatch
):
    old = types.ModuleType(package)
    old.__version__ = version
    monkeypatch.setitem(sys.modules, package, old)
    monkeypatch.setattr(_host, "_registered", [])
    monkeypatch.setattr(_trackers, "pending_trackers", {})
    bo.register_host(host())
    kind = type("Layer", (), {"__module__": f"{package}.layers"})

    with pytest.warns(UserWarning, match=line), pytest.raises(HostError, match=line):
        bo.attach(kind())

    assert float(bo.jit(lambda: jnp.ones(()))()) == 1.0


def test_a_broken_framework_says_so_in_one_line(toyframe):
    class Broken(ToyHost):
        def wake(self):
            raise ImportError("no toyframe.core\nand much more")

    bo.register_host(Broken())
    line = "brainopt cannot attach to toyframe 2.1.0: no toyframe.core$"

    with pytest.warns(UserWarning, match=line), pytest.raises(HostError, match=line):
        bo.attach(Model())

    assert float(bo.jit(lambda: jnp.ones(()))()) == 1.0


@pytest.fixture
def offer(toyframe, monkeypatch):
    """Let an installed package offer what is given as the host of ``toyframe``."""

    def offer(made):
        def entry_points(group):
            assert group == "brainopt.hosts"
            point = types.SimpleNamespace(
                name="toyframe", value="toy:Host", load=lambda: made
            )
            return [point]

        monkeypatch.setattr(_host.importlib.metadata, "entry_points", entry_points)
        monkeypatch.setattr(_host, "_offered", None)

    return offer


class Holder(bo.Node):
    """A Node with a model of ``toyframe``."""

    def __init__(self):
        self.model = Model()


def test_entry_points_bring_hosts(offer):
    offer(ToyHost)

    assert list(bo.attach(Model())) == ["w", "scale"]


def test_entry_points_bring_hosts_for_models_inside_a_node(offer):
    offer(ToyHost)

    assert list(Holder().train_vars()) == ["model.w"]


def test_a_host_of_an_entry_point_names_its_oldest_version(offer, toyframe):
    toyframe.__version__ = "2.0"
    offer(ToyHost)
    line = "brainopt needs toyframe >= 2.1; installed is 2.0"

    with pytest.warns(UserWarning, match=line), pytest.raises(HostError, match=line):
        bo.attach(Model())


def test_a_host_of_an_entry_point_may_refuse_to_be_compiled(offer):
    class Refusing(ToyHost):
        def refuse(self, function, args, kwargs):
            return "Split it first." if isinstance(args[0], Model) else ""

    offer(Refusing)

    with pytest.raises(HostError, match="Split it first"):
        bo.jit(lambda model: model.w.data.sum())(Model())


@pytest.mark.parametrize("made", [object, ToyHost(), bo.Host, NnxHost])
def test_an_entry_point_without_a_host_says_so_in_one_line(offer, made):
    offer(made)
    line = "brainopt cannot attach to toyframe 2.1.0: .*[Hh]ost"

    with pytest.warns(UserWarning, match=line), pytest.raises(HostError, match=line):
        bo.attach(Model())

    assert list(bo.attach({"w": jnp.ones(2)})) == ["w"]


def test_an_entry_point_that_exits_harms_its_own_host_alone(offer):
    def leave():
        raise SystemExit("toy licence has expired")

    offer(leave)
    line = "cannot attach to toyframe 2.1.0: toy licence has expired"

    with pytest.warns(UserWarning, match=line), pytest.raises(HostError, match=line):
        bo.attach(Model())

    assert float(bo.jit(lambda: jnp.ones(()))()) == 1.0
    assert list(bo.attach({"w": jnp.ones(2)})) == ["w"]


def test_a_version_of_fewer_numbers_is_the_same_version(toyframe):
    class Exact(ToyHost):
        minimum = "2.1.0"

    toyframe.__version__ = "2.1"
    bo.register_host(Exact())

    assert list(bo.attach(Model())) == ["w", "scale"]


@pytest.mark.parametrize("found", [[1], {"w": jnp.ones(2)}, {0: bo.Variable(1.0)}])
def test_a_host_that_finds_no_variables_by_path_is_told(toyframe, found):
    class Wrong(ToyHost):
        def find(self, obj):
            return found

    bo.register_host(Wrong())

    with pytest.raises(HostError, match="host of toyframe found"):
        bo.attach(Model())
    with pytest.raises(HostError, match="host of toyframe found"):
        bo.optim.SGD(0.1, Model())


def test_a_class_of_hosts_is_no_host():
    with pytest.raises(TypeError, match=r"register_host\(ToyHost\(\)\)"):
        bo.register_host(ToyHost)


def test_a_parameter_may_be_an_array_of_numpy(toyframe):
    bo.register_host(ToyHost())
    model = Model()
    model.w.data = np.array([1.0, 2.0], np.float32)

    bo.optim.SGD(0.5, model).update({"w": jnp.array([2.0, 4.0])})

    assert model.w.data.tolist() == [0.0, 0.0]


def test_an_optimizer_of_a_model_is_not_copied(toyframe):
    bo.register_host(ToyHost())
    opt = bo.optim.SGD(0.5, Model())

    with pytest.raises(HostError, match="toyframe Weight"):
        jax.jit(lambda opt: opt.update({"w": jnp.array([2.0, 4.0])}))(opt)
    with pytest.raises(HostError, match="toyframe Weight"):
        jax.tree.map(jnp.zeros_like, opt)
