"""guarded: a FailedRecord in the place of what a function could not give."""

import pickle

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, EncodeError, FailedRecord, guarded
from tests.dask import error_cases as cases


class Odd:
    def __repr__(self):
        raise KeyError

    def __str__(self):
        raise KeyError


class OddError(Exception):
    __str__ = Odd.__str__


def parse(record):
    return int(record)


def raise_odd(record):
    raise OddError(record)


@pytest.fixture
def ckpt(local):
    return Checkpointer(local, verbose=False)


def is_failed(record):
    return isinstance(record, FailedRecord)


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes", "cluster"])
def test_the_recipe_splits_what_succeeded_from_what_failed(ckpt, scheduler, request):
    how = {"scheduler": scheduler}
    if scheduler == "cluster":
        request.getfixturevalue("small_cluster")
        how = {}
    texts = ["1", "x", "3", "", "5", "ü\udc80"]
    bag = dask.bag.from_sequence(texts, npartitions=3).map(guarded(parse))
    tried = ckpt.checkpoint("all", bag, **how)
    good = ckpt.checkpoint("good", tried.remove(is_failed), **how)
    failed = ckpt.checkpoint("failed", tried.filter(is_failed), **how)
    assert good.compute(scheduler="sync") == [1, 3, 5]
    found = failed.compute(scheduler="sync")
    assert [each.repr for each in found] == ["'x'", "''", "'ü\\udc80'"]
    assert {each.error_type for each in found} == {"ValueError"}
    assert "in parse" in found[0].traceback
    assert "guarded_call" not in found[0].traceback
    assert ckpt.status("good").records + ckpt.status("failed").records == len(texts)
    assert not ckpt.store.manifest("all").holds_pickle


def test_it_is_called_with_all_arguments_and_named(ckpt):
    bag = dask.bag.from_sequence([1, 2], npartitions=1)
    both = bag.map(guarded(cases.add), dask.bag.from_sequence([3, "x"], npartitions=1))
    sums = ckpt.checkpoint("sums", both, scheduler="sync").compute(scheduler="sync")
    assert sums[0] == 4
    assert sums[1].repr == "2, 'x'"
    code = ckpt.store.manifest("sums").partitions[0].code
    assert "add" in code  # a change of the function is seen
    other = bag.map(guarded(parse), dask.bag.from_sequence([3, 4], npartitions=1))
    assert ckpt.explain("sums", other).line.startswith("Ready: ")
    assert "stale" in ckpt.explain("sums", other).line


def test_a_predicate_that_fails_is_true_and_a_partition_that_fails_is_refused(ckpt):
    texts = dask.bag.from_sequence(["1", "x", "0"], npartitions=1)
    kept = texts.filter(guarded(int)).compute(scheduler="sync")
    assert kept == ["1", "x"]
    parts = texts.map_partitions(guarded(max), 1)
    with pytest.raises(EncodeError, match="FailedRecord, not a sequence of records"):
        ckpt.checkpoint("parts", parts, scheduler="sync")


def test_what_it_keeps_is_bounded_and_text():
    long = guarded(parse)("x" * 1_000_000)
    assert len(long.repr) < 300
    assert len(long.message) <= 1_000
    assert len(guarded(parse)([["y" * 1000] * 1000] * 1000).repr) <= 1_000
    odd = guarded(raise_odd)(Odd())
    assert (odd.repr[:8], odd.message) == ("<Odd ins", "<OddError>")
    assert odd.error_type == f"{__name__}.OddError"
    deep = guarded(lambda n: (lambda f: f(f, n))(lambda f, n: f(f, n)))(1)
    assert deep.error_type == "RecursionError"
    assert len(deep.traceback) <= 4_000
    assert deep == pickle.loads(pickle.dumps(deep))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_not_an_exception_passes(error):
    with pytest.raises(error):
        guarded(cases.raises(error))(1)


def test_what_is_not_a_function_or_a_str_is_refused():
    with pytest.raises(TypeError, match="not a int"):
        guarded(3)
    with pytest.raises(TypeError, match="message of a FailedRecord is a str"):
        FailedRecord("x", "ValueError", None)
