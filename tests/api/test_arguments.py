"""Arguments that cannot be used: refused first, with what to do."""

import array
import collections
import pathlib

import dask
import dask.array
import dask.bag
import dask.dataframe
import numpy
import pandas
import pyarrow
import pytest

from agatha_ckpt import Checkpointer, EncodeError, InvalidNameError, InvalidValueError

FRAME = pandas.DataFrame({"a": [1, 2]})
DASK_FRAME = dask.dataframe.from_pandas(FRAME, npartitions=1)


@dask.delayed
def numbers():
    return [1, 2]


# What is given in the place of a bag, and what the message advises.
NOT_COLLECTIONS = {
    "list": ([1, 2], "from_sequence(given)"),
    "tuple": ((1, 2), "from_sequence(given)"),
    "list of bags": ([numbers(), numbers()], "under a name of its own"),
    "set": ({1, 2}, "from_sequence(given)"),
    "range": (range(3), "from_sequence(given)"),
    "deque": (collections.deque([1]), "from_sequence(given)"),
    "array.array": (array.array("i", [1]), "from_sequence(given)"),
    "generator": ((n for n in range(3)), "from_sequence(given)"),
    "dict": ({"a": 1}, "from_sequence(given.items())"),
    "Counter": (collections.Counter("aab"), "from_sequence(given.items())"),
    "str": ("documents.txt", "read_text(path)"),
    "bytes": (b"documents.txt", "read_text(path)"),
    "path": (pathlib.Path("documents.txt"), "read_text(path)"),
    "ndarray": (numpy.zeros(3), "dask.array.from_array(given)"),
    "pandas frame": (FRAME, "dask.dataframe.from_pandas(given"),
    "pandas series": (FRAME["a"], "dask.dataframe.from_pandas(given"),
    "pyarrow table": (pyarrow.table({"a": [1]}), "from_sequence(given.to_pylist())"),
    "dask index": (DASK_FRAME.index, "its method to_frame()"),
    "dask scalar": (DASK_FRAME["a"].sum(), "its method to_delayed()"),
    "function": (numbers, "call it, and"),
    "lambda": (lambda: 1, "call it, and"),
    "number": (5, "from_sequence([...])"),
    "object": (object(), "from_sequence([...])"),
    "class": (dask.bag.Bag, "from_sequence([...])"),
}


@pytest.fixture
def ckpt(tmp_path):
    with dask.config.set(scheduler="sync"):
        yield Checkpointer(tmp_path / "root")


@pytest.mark.parametrize("given, advice", NOT_COLLECTIONS.values(), ids=NOT_COLLECTIONS)
def test_what_is_not_a_collection_is_refused(ckpt, tmp_path, capsys, given, advice):
    def ckpt_of(name, bag):
        ckpt.ckpt("bag")

    for call in (ckpt.checkpoint, ckpt.repair, ckpt_of):
        with pytest.raises(EncodeError) as caught:
            call("bag", given)
        assert "checkpoint 'bag'" in str(caught.value)
        assert "cannot be saved: " in str(caught.value)
        assert advice in str(caught.value)
    assert isinstance(ckpt.explain("bag", given).error, EncodeError)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_the_advice_makes_a_bag_that_can_be_saved(ckpt):
    made = [
        DASK_FRAME.to_bag(),
        dask.bag.from_sequence(FRAME.to_dict("records")),
        dask.bag.from_delayed([numbers()]),
        dask.bag.from_delayed(
            list(dask.array.zeros((4, 2), chunks=2).to_delayed().flat)
        ),
        dask.bag.from_sequence({"a": 1}.items()),
        dask.bag.from_sequence(n for n in range(3)),
        dask.bag.from_sequence(pyarrow.table({"a": [1]}).to_pylist()),
    ]
    for number, bag in enumerate(made):
        name = f"made {number}"
        assert ckpt.checkpoint(name, bag).count().compute() == bag.count().compute()


def test_a_variable_without_a_bag_is_refused(ckpt):
    nothing = None  # noqa: F841 (replaced by its name)
    with pytest.raises(EncodeError, match="'nothing' is None"):
        ckpt.ckpt("nothing")


def test_a_bag_in_the_place_of_the_name_is_refused(ckpt):
    with pytest.raises(InvalidNameError, match="the name is the first argument"):
        ckpt.checkpoint(dask.bag.from_sequence([1]), "x")


@pytest.mark.parametrize("scheduler", ["bogus", "", 5, b"sync", "distributed"])
def test_an_unknown_scheduler_is_refused_first(ckpt, tmp_path, capsys, scheduler):
    bag = dask.bag.from_sequence([1])
    for call in (ckpt.checkpoint, ckpt.repair):
        with pytest.raises(InvalidValueError, match="scheduler"):
            call("x", bag, scheduler=scheduler)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_an_unknown_scheduler_of_the_configuration_is_named(ckpt, tmp_path):
    bag = dask.bag.from_sequence([1])
    with (
        dask.config.set(scheduler="bogus"),
        pytest.raises(InvalidValueError, match="'bogus' for scheduler in dask's conf"),
    ):
        ckpt.checkpoint("x", bag)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"textfile": 1}, {"overwrite": "yes"}, {"overwrite": None}], ids=str
)
def test_a_flag_that_is_not_a_bool_is_refused(ckpt, tmp_path, wrong):
    with pytest.raises(InvalidValueError, match=f"for {next(iter(wrong))} of checkpoi"):
        ckpt.checkpoint("x", dask.bag.from_sequence([1]), **wrong)
    assert list(tmp_path.iterdir()) == []
