"""Delayed values and Items, through the same call as bags."""

import dask.bag
import numpy as np
import pytest
from dask.bag import Item
from dask.delayed import Delayed, delayed

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    EncodeError,
    PickleNotAllowedError,
)

VALUES = {
    "dict": {"weights": [1.5, 2.5], "name": "model"},
    "list": [1, 2, 3],
    "tuple": (1, "b"),
    "None": None,
    "set": {1, 2},
    "str": "text",
    "bytes": b"\x00",
    "numpy scalar": np.float32(1.5),
    "generator of records is not one": [[1], [2]],
}

CALLS = []


def counted(x):
    CALLS.append(x)
    return x + 1


def numbers():
    return dask.bag.from_sequence(range(10), npartitions=3)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_delayed_value_comes_back(checkpointer, value):
    given = delayed(lambda x: x)(value)
    loaded = checkpointer.checkpoint("x", given, scheduler="sync")
    assert isinstance(loaded, Delayed)
    found = loaded.compute(scheduler="sync")
    assert found == value
    assert type(found) is type(value)
    again = checkpointer.checkpoint("x")
    assert isinstance(again, Delayed)
    assert again.compute(scheduler="sync") == value


def test_an_array_as_a_value_comes_back(checkpointer):
    matrix = np.arange(6.0).reshape(2, 3)
    loaded = checkpointer.checkpoint("x", delayed(matrix.copy)(), scheduler="sync")
    assert np.array_equal(loaded.compute(), matrix)


@pytest.mark.parametrize(
    "reduce", [lambda b: b.sum(), lambda b: b.count(), lambda b: b.fold(max)]
)
def test_an_item_comes_back(checkpointer, reduce):
    item = reduce(numbers())
    loaded = checkpointer.checkpoint("x", item, scheduler="sync")
    assert isinstance(loaded, Item)
    assert loaded.compute(scheduler="sync") == item.compute(scheduler="sync")
    assert isinstance(checkpointer.checkpoint("x"), Item)


def test_a_delayed_of_several_values_is_unpacked(checkpointer):
    pair = delayed(divmod, nout=2)(7, 2)
    for loaded in checkpointer.checkpoint("x", pair), checkpointer.checkpoint("x"):
        quotient, rest = loaded
        assert (quotient.compute(), rest.compute()) == (3, 1)
    one = checkpointer.checkpoint("y", delayed(sum)([1]))
    with pytest.raises(TypeError, match="unspecified length"):
        len(one)


def test_the_value_is_computed_once(checkpointer):
    CALLS.clear()
    for _ in range(2):
        loaded = checkpointer.checkpoint("x", delayed(counted)(1), scheduler="sync")
        assert loaded.compute(scheduler="sync") == 2
    assert CALLS == [1]


def test_a_loaded_value_is_a_parent(checkpointer):
    total = checkpointer.checkpoint("total", numbers().sum(), scheduler="sync")
    shifted = numbers().map(lambda n, shift: n + shift, total)
    checkpointer.checkpoint("shifted", shifted, scheduler="sync")
    parents = checkpointer.store.manifest("shifted").plan.parents
    assert [name for name, _ in parents] == ["total"]


def test_another_argument_makes_it_stale(checkpointer):
    def add(a, b):
        return a + b

    checkpointer.checkpoint("x", delayed(add)(1, 2), scheduler="sync")
    with pytest.raises(CheckpointConflictError, match="1 of 1 partition has other"):
        checkpointer.checkpoint(
            "x", delayed(add)(1, 3), on_stale="error", scheduler="sync"
        )


def test_a_loaded_value_saved_under_its_own_name_is_not_stale(checkpointer):
    loaded = checkpointer.checkpoint("x", delayed(sum)([1, 2]), scheduler="sync")
    same = checkpointer.checkpoint("x", loaded, on_stale="error", scheduler="sync")
    assert same.compute(scheduler="sync") == 3


def test_a_partition_of_a_bag_is_not_taken_for_a_value(checkpointer):
    value = delayed(lambda: [1, 2])()
    checkpointer.checkpoint("value", value, scheduler="sync")
    as_bag = dask.bag.from_delayed([value])
    with pytest.raises(CheckpointConflictError, match="kind delayed"):
        checkpointer.checkpoint("value", as_bag, scheduler="sync")
    marker = checkpointer.store.done_marker("value")
    checkpointer.store.fs.rm_file(str(marker))  # a partial of the value is left
    loaded = checkpointer.checkpoint("value", as_bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == [1, 2]


def test_text_is_for_bags(checkpointer):
    with pytest.raises(EncodeError, match="omit textfile=True"):
        checkpointer.checkpoint("x", delayed(str)(1), textfile=True, scheduler="sync")


def test_a_value_that_cannot_be_stored_is_refused(checkpointer):
    value = delayed(object)()
    with pytest.raises(EncodeError, match="partition 0 of checkpoint 'x'"):
        checkpointer.checkpoint("x", value, scheduler="sync")
    assert not checkpointer.is_done("x")


@pytest.mark.parametrize("value", [object(), [1, object()], range(2), len])
@pytest.mark.parametrize("compute", [True, False])
def test_a_value_that_is_known_is_refused_first(tmp_path, value, compute):
    checkpointer = Checkpointer(tmp_path / "root", verbose=False)
    with pytest.raises(EncodeError, match="checkpoint 'x'"):
        checkpointer.checkpoint("x", delayed(value), compute=compute)
    assert list(tmp_path.iterdir()) == []


def test_a_known_value_is_stored_as_a_pickle_where_that_is_allowed(local):
    checkpointer = Checkpointer(local, verbose=False, allow_pickle=True)
    loaded = checkpointer.checkpoint("x", delayed(range(2)), scheduler="sync")
    assert loaded.compute() == range(2)


def test_a_pickled_value_needs_permission(local):
    given = delayed(slice)(1, 2)
    Checkpointer(local, verbose=False, allow_pickle=True).checkpoint(
        "x", given, scheduler="sync"
    )
    with pytest.raises(PickleNotAllowedError):
        Checkpointer(local, verbose=False).checkpoint("x")


@pytest.mark.parametrize("value", [[1, 2], 3, {"a": 1}, np.arange(3)], ids=repr)
def test_what_is_not_a_collection_is_refused_with_the_known_ones(checkpointer, value):
    with pytest.raises(EncodeError) as raised:
        checkpointer.checkpoint("x", value)
    assert "dask.bag.Bag, dask.bag.Item, dask.delayed.Delayed" in str(raised.value)
    assert type(value).__name__ in str(raised.value)
