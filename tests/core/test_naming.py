# SPDX-License-Identifier: Apache-2.0
"""Names are for display and belong to one living object each."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

import brainopt as bo
from brainopt.errors import UniqueNameError


class Soma(bo.Node):
    pass


def test_a_node_without_a_name_is_called_by_class_and_count():
    a, b = Soma(), Soma()

    first = int(a.name.removeprefix("Soma"))

    assert b.name == f"Soma{first + 1}" and a.name == f"Soma{first}"


def test_a_name_belongs_to_one_living_object():
    a = Soma(name="granule")

    with pytest.raises(UniqueNameError, match="'granule' belongs to another living"):
        Soma(name="granule")
    a.name = "granule"

    assert a.name == "granule"


def test_a_name_is_free_when_its_owner_is_gone():
    a = Soma(name="basket")

    del a
    gc.collect()

    assert Soma(name="basket").name == "basket"


def test_a_name_is_free_after_a_failed_construction():
    class Fails(bo.Node):
        def __init__(self):
            super().__init__(name="stellate")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        Fails()
    gc.collect()

    assert Soma(name="stellate").name == "stellate"


def test_renaming_frees_the_old_name():
    a = Soma(name="golgi")

    a.name = "unipolar"

    assert Soma(name="golgi").name == "golgi" and a.name == "unipolar"


@pytest.mark.parametrize("name", ["", "2nd", "a b", "a.b", 3])
def test_a_name_is_an_identifier(name):
    with pytest.raises(UniqueNameError, match="identifier"):
        Soma(name=name)


def test_a_refused_name_changes_nothing():
    a, _b = Soma(name="mitral"), Soma(name="tufted")

    with pytest.raises(UniqueNameError):
        a.name = "tufted"

    assert a.name == "mitral"


def test_unique_name_gives_type_and_count_or_the_name_itself():
    a = Soma()

    first, second = a.unique_name(type_="Dendrite"), a.unique_name(type_="Dendrite")

    assert first.startswith("Dendrite") and first != second
    assert a.unique_name("my_dendrite") == "my_dendrite"
    assert a.unique_name().startswith("Soma")
    with pytest.raises(UniqueNameError):
        Soma().unique_name("my_dendrite")


def test_counted_names_step_over_taken_ones():
    class Axon(bo.Node):
        pass

    taken = Axon(name="Axon0")

    assert Axon().name == "Axon1" and taken.name == "Axon0"


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_copy_has_a_name_of_its_own(make):
    a = Soma(name=None)

    assert make(a).name != a.name


def test_threads_get_different_names():
    class Glia(bo.Node):
        pass

    nodes = [Glia() for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda node: node.name, nodes))

    assert len(names) == 200
