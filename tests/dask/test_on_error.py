"""on_error="continue": every partition is tried, and what succeeds is stored."""

import errno
import os
import traceback
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.bag
import pytest

from agatha_ckpt import (
    Checkpointer,
    EncodeError,
    InvalidValueError,
    PartitionsFailedError,
)
from tests.dask import error_cases as cases
from tests.dask.error_cases import BadRecord

SCHEDULERS = ["sync", "threads", "processes", "executor", "function", "cluster"]


@pytest.fixture(params=SCHEDULERS)
def how(request):
    """The keywords by which a bag is computed."""
    if request.param == "cluster":
        request.getfixturevalue("small_cluster")
        yield {}
    elif request.param == "processes":
        yield {"scheduler": "processes", "num_workers": 1}
    elif request.param == "executor":
        with ThreadPoolExecutor(2) as executor:
            yield {"scheduler": executor}
    elif request.param == "function":
        yield {"scheduler": lambda *args, **kw: dask.get(*args, **kw)}
    else:
        yield {"scheduler": request.param}


@pytest.fixture
def ckpt(local):
    checkpointer = Checkpointer(local, verbose=False, on_error="continue")
    yield checkpointer
    checkpointer.close()


def failing(ckpt, bag, how, name="x"):
    with pytest.raises(PartitionsFailedError) as raised:
        ckpt.checkpoint(name, bag, **how)
    error = raised.value
    assert error.exceptions == tuple(error.partitions.values())
    assert not ckpt.is_done(name)
    return error


def test_every_partition_is_tried_and_the_next_call_computes_what_failed(
    ckpt, how, tmp_path
):
    bag = cases.numbers(6).map_partitions(cases.FailOnce(str(tmp_path), {1, 4}))
    error = failing(ckpt, bag, how)
    assert {i: (type(e), str(e)) for i, e in error.partitions.items()} == {
        1: (BadRecord, "1: no such gene"),
        4: (BadRecord, "4: no such gene"),
    }
    for index, each in error.partitions.items():
        assert each.record == index
        assert each.__notes__ == [f"partition {index} of 'x' failed"]
    text = str(error)
    assert "2 of 6 partitions of checkpoint 'x' under" in text
    assert "failed: partitions 1, 4; 4 are stored" in text
    assert ckpt.status("x").partitions == 4
    explained = ckpt.explain("x", bag)
    assert (explained.compute, explained.kept) == ((1, 4), 4)
    loaded = ckpt.checkpoint("x", bag, **how)
    assert sorted(loaded.compute(scheduler="sync")) == list(range(6))
    assert len(list(tmp_path.glob("computed-*"))) == 8


def test_all_that_need_a_task_that_fails_are_named(ckpt, how):
    bag = cases.numbers(4)
    shared = bag.reduction(sum, cases.fail_for_all)
    error = failing(ckpt, bag.map(cases.add, shared), how)
    assert list(error.partitions) == [0, 1, 2, 3]
    assert {str(each) for each in error.exceptions} == {"0: no such gene"}
    for each in error.exceptions:
        (note,) = each.__notes__
        assert note.endswith(" of 'x' failed")


def test_a_record_that_cannot_be_stored_fails_its_partition(ckpt, how):
    bag = cases.numbers(3).map(cases.unknown_type_at_1)
    error = failing(ckpt, bag, how)
    assert [type(e) for e in error.partitions.values()] == [EncodeError]
    assert list(error.partitions) == [1]
    assert ckpt.status("x").partitions == 2


def test_an_exception_that_does_not_unpickle_keeps_type_and_note(ckpt, how):
    for name, make in cases.EXCEPTIONS.items():
        bag = cases.numbers(1).map(cases.Raise(name))
        expected = make()
        with pytest.raises(type(expected)) as raised:
            ckpt.checkpoint("x", bag, on_error="raise", **how)
        error = raised.value
        assert type(error) is type(expected)
        assert cases.text_of(error) == cases.text_of(expected)
        assert error.__notes__ == ["0 of 1 partition stored; partition 0 of 'x' failed"]
        (caught,) = failing(ckpt, bag, how).exceptions
        assert type(caught) is type(expected)
        assert cases.text_of(caught) == cases.text_of(expected)
        assert caught.__notes__ == ["partition 0 of 'x' failed"]


def test_an_error_of_endless_recursion_keeps_type_and_note(ckpt, how):
    bag = cases.numbers(1).map(cases.fail_deeply)
    with pytest.raises(RecursionError) as raised:
        ckpt.checkpoint("x", bag, on_error="raise", **how)
    note = "0 of 1 partition stored; partition 0 of 'x' failed"
    assert raised.value.__notes__ == [note]


def lines_of(call):
    """The lines that Python prints for the error of a call."""
    try:
        call()
    except ValueError as error:
        return "".join(traceback.format_exception(error)).splitlines()
    raise AssertionError("nothing was raised")


def test_a_failing_map_prints_hardly_more_than_dask_does(ckpt, how):
    numbers = cases.numbers(30)
    bags = [numbers.map(cases.fail_plainly), numbers.map_partitions(cases.fail_plainly)]
    # Where dask moves a generator to another process it fails, or waits for ever.
    if how and how["scheduler"] != "processes":
        bags.append(numbers.map_partitions(cases.fail_lazily))
    for bag in bags:
        dasks = lines_of(lambda bag=bag: bag.compute(**how))
        ours = lines_of(
            lambda bag=bag: ckpt.checkpoint("x", bag, on_error="raise", **how)
        )
        assert len(ours) <= len(dasks) + 8  # a note, and a frame of ours
        assert [line for line in ours if "error_cases.py" in line]
        assert not [line for line in ours if "tasks.py" in line]


def test_an_error_of_the_storage_keeps_the_frames_of_this_library(ckpt, monkeypatch):
    real, computed = os.fsync, []

    def fsync(descriptor):
        if computed:
            raise PermissionError("no more")
        real(descriptor)

    def compute(n):
        computed.append(n)
        return n

    monkeypatch.setattr(os, "fsync", fsync)
    bag = cases.numbers(1).map(compute)
    with pytest.raises(PermissionError) as raised:
        ckpt.checkpoint("x", bag, scheduler="sync", on_error="raise")
    shown = "".join(traceback.format_exception(raised.value))
    assert "_filesystem" in shown


def test_a_class_that_only_workers_have_keeps_name_and_message(ckpt):
    how = {"scheduler": "processes", "num_workers": 1}
    bag = cases.numbers(1).map(cases.raise_elsewhere)
    with pytest.raises(RuntimeError, match="Elsewhere: only there") as raised:
        ckpt.checkpoint("x", bag, on_error="raise", **how)
    assert raised.value.__notes__[0].endswith("partition 0 of 'x' failed")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_ends_the_save(ckpt, number, how):
    bag = cases.numbers(3).map(cases.RaiseErrno(number))
    with pytest.raises(OSError) as raised:
        ckpt.checkpoint("x", bag, **how)
    assert raised.value.errno == number
    assert "partitions stored" in raised.value.__notes__[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_is_not_the_fault_of_a_partition_ends_the_save(ckpt, error):
    with pytest.raises(error):
        ckpt.checkpoint(
            "x", cases.numbers(3).map(cases.raises(error)), scheduler="sync"
        )


def test_a_worker_without_memory_fails_its_partition(ckpt):
    bag = cases.numbers(2).map(cases.memory_error_at_1)
    error = failing(ckpt, bag, {"scheduler": "processes", "num_workers": 1})
    assert [type(e) for e in error.partitions.values()] == [MemoryError]


def test_another_value_is_refused_before_anything_is_computed(ckpt):
    computed = []
    bag = cases.numbers(2).map(computed.append)
    with pytest.raises(InvalidValueError, match="on_error: expected 'raise' or"):
        ckpt.checkpoint("x", bag, on_error="ignore", scheduler="sync")
    assert computed == []


def test_it_holds_without_fusion_and_for_text(ckpt):
    bag = cases.numbers(3).map(cases.fail_at_1).map(str)
    options = {"scheduler": "sync", "optimize_graph": False, "textfile": True}
    error = failing(ckpt, bag, options)
    assert list(error.partitions) == [1]
    assert ckpt.status("x").partitions == 2


def test_the_frames_of_caught_errors_hold_no_records_P10(ckpt):
    bag = cases.numbers(2).map_partitions(cases.fail_with_a_local)
    error = failing(ckpt, bag, {"scheduler": "sync"})
    for each in error.exceptions:
        entry, found = each.__traceback__, []
        while entry:
            found.append(entry.tb_frame.f_locals)
            entry = entry.tb_next
        assert all("records" not in f for f in found)


def test_a_killed_worker_fails_its_partition(ckpt, small_cluster, tmp_path):
    from distributed import KilledWorker

    bag = cases.numbers(4).map_partitions(cases.ExitAt(2))
    error = failing(ckpt, bag, {})
    assert {type(each) for each in error.exceptions} == {KilledWorker}
    assert 2 in error.partitions  # dask may suspect another that was on that worker
    assert error.partitions[2].__notes__ == ["partition 2 of 'x' failed"]
    computed = ckpt.explain("x", bag).compute
    assert {2} <= set(computed) <= set(error.partitions)


def test_retries_come_before_a_failure(ckpt, small_cluster, tmp_path):
    bag = cases.numbers(3).map_partitions(cases.FailOnce(str(tmp_path), {1}))
    loaded = ckpt.checkpoint("x", bag, retries=1)
    assert sorted(loaded.compute(scheduler="sync")) == [0, 1, 2]
