"""``on_event``: what happens in a call, in the thread of the caller."""

import logging
import pickle
import threading
from dataclasses import FrozenInstanceError

import dask
import dask.bag
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    Committed,
    Event,
    InvalidValueError,
    Loaded,
    PartitionFailed,
    PartitionsFailedError,
    PartitionStored,
    Stale,
    StaleCheckpointWarning,
    Started,
)


def numbers(*values):
    return dask.bag.from_sequence(values, npartitions=len(values))


def fail_at_2(n):
    if n == 2:
        raise ZeroDivisionError(n)
    return n


class Seen(list):
    """The events of calls, and the threads that they came in."""

    def __call__(self, event):
        assert threading.get_ident() == threading.main_thread().ident
        self.append(event)

    def kinds(self):
        kinds = [type(event) for event in self]
        self.clear()
        return kinds


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def ckpt(tmp_path, seen):
    with dask.config.set(scheduler="sync"):
        yield Checkpointer(tmp_path / "root", verbose=False, on_event=seen)


def test_a_save_starts_stores_and_commits(ckpt, seen):
    ckpt.checkpoint("x", numbers(1, 2, 3))
    started, *stored, committed = seen
    manifest = ckpt.store.manifest("x")
    assert type(started) is Started
    assert (started.name, started.partitions, started.kept) == ("x", 3, ())
    assert {type(event) for event in stored} == {PartitionStored}
    found = {event.index: event.info for event in stored}
    assert [found[i] for i in range(3)] == list(manifest.partitions)
    assert type(committed) is Committed
    assert committed.manifest == manifest
    assert committed.seconds > 0
    assert committed.line.startswith("Done! 3 partitions, 3 records")
    assert {event.root for event in seen} == {str(ckpt.store.root)}


def test_a_load_is_one_event(ckpt, seen):
    ckpt.checkpoint("x", numbers(1, 2))
    seen.clear()
    ckpt.checkpoint("x", numbers(1, 2))
    ckpt.checkpoint("x")
    first, second = seen
    assert type(first) is type(second) is Loaded
    assert first == second
    assert first.manifest == ckpt.store.manifest("x")


def test_a_stale_one_is_told_before_it_is_loaded_or_computed(ckpt, seen):
    ckpt.checkpoint("x", numbers(1, 2))
    seen.clear()
    other = numbers(1, 3)
    with pytest.warns(StaleCheckpointWarning):
        ckpt.checkpoint("x", other)
    assert seen[0].reason == "1 of 2 partitions has other inputs"
    assert seen.kinds() == [Stale, Loaded]
    loaded = ckpt.checkpoint("x", other, on_stale="recompute")
    assert len(seen[1].kept) == 1
    assert seen.kinds() == [Stale, Started, PartitionStored, Committed]
    ckpt.checkpoint("y", loaded.map(str))
    assert seen.kinds()[0] is Started  # its parent is not stale
    with pytest.raises(CheckpointConflictError):
        ckpt.checkpoint("x", numbers(7, 8), on_stale="error")
    assert seen == []


def test_what_failed_is_told_with_its_error(ckpt, seen):
    with pytest.raises(ZeroDivisionError) as caught:
        ckpt.checkpoint("x", numbers(1, 2, 3).map(fail_at_2))
    failed = seen.pop()
    assert type(failed) is PartitionFailed
    assert (failed.index, failed.error) == (1, caught.value)
    assert Committed not in seen.kinds()


def test_a_call_that_does_nothing_has_no_events(ckpt, seen):
    ckpt.checkpoint("x", numbers(1), enabled=False)
    ckpt.checkpoint("x", numbers(1), read_only=True)
    ckpt.explain("x", numbers(1))
    ckpt.names()
    assert seen == []


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_a_deferred_save_ends_with_its_events_in_this_process(tmp_path, scheduler):
    seen = []
    ckpt = Checkpointer(tmp_path, verbose=False, on_event=seen.append)
    options = {"compute": False, "on_error": "continue"}
    first = ckpt.checkpoint("x", numbers(1, 2, 3).map(fail_at_2), **options)
    (started,) = seen
    assert type(started) is Started
    assert started.line.endswith("deferred until it is computed")
    with pytest.raises(PartitionsFailedError) as caught:
        first.compute(scheduler=scheduler, num_workers=1)
    second = ckpt.checkpoint("x", numbers(1, 4, 3).map(fail_at_2), **options)
    second.compute(scheduler=scheduler, num_workers=1)
    ended = [event for event in seen if type(event) is not Started]
    if scheduler == "processes":
        assert ended == []
        return
    kinds = [PartitionStored, PartitionFailed, PartitionStored]
    assert [type(event) for event in ended] == [*kinds, PartitionStored, Committed]
    assert [event.index for event in ended[:4]] == [0, 1, 2, 1]
    assert ended[1].error is caught.value.partitions[1]
    assert ended[4].manifest == ckpt.store.manifest("x")
    assert ended[4].seconds > 0


def test_events_are_frozen_values(ckpt, seen):
    ckpt.checkpoint("x", numbers(1, 2))
    for event in seen:
        assert isinstance(event, Event)
        assert len(repr(event)) < 1_000
        assert pickle.loads(pickle.dumps(event)) == event
        with pytest.raises(FrozenInstanceError):
            event.name = "y"


def test_a_function_that_raises_is_logged_and_not_called_again(tmp_path, caplog):
    calls = []

    def fail(event):
        calls.append(event)
        raise KeyError("mine")

    ckpt = Checkpointer(tmp_path, verbose=False, on_event=fail)
    with caplog.at_level(logging.ERROR, "agatha_ckpt"):
        for name in ("x", "y"):
            ckpt.checkpoint(name, numbers(1, 2), scheduler="sync")
    assert ckpt.names() == ["x", "y"]
    assert len(calls) == 1
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError
    assert "is not called again" in record.getMessage()


def test_an_interrupt_of_the_function_ends_the_call(tmp_path):
    def interrupt(event):
        raise KeyboardInterrupt

    ckpt = Checkpointer(tmp_path, verbose=False, on_event=interrupt)
    with pytest.raises(KeyboardInterrupt):
        ckpt.checkpoint("x", numbers(1, 2), scheduler="sync")


def test_what_is_printed_is_the_line_of_the_event(tmp_path, seen, capsys):
    ckpt = Checkpointer(tmp_path, on_event=seen)
    for _ in range(2):
        ckpt.checkpoint("x", numbers(1, 2), scheduler="sync")
    lines = [event.line for event in seen if not isinstance(event, PartitionStored)]
    printed = [
        line.removeprefix("\t- ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("\t- ")
    ]
    assert printed == lines


def test_a_copy_in_another_process_tells_nobody(ckpt, seen):
    again = pickle.loads(pickle.dumps(ckpt))
    again.checkpoint("x", numbers(1, 2))
    assert seen == []


@pytest.mark.parametrize("wrong", [5, "print", []])
def test_what_cannot_be_called_is_refused(tmp_path, wrong):
    with pytest.raises(InvalidValueError, match="on_event"):
        Checkpointer(tmp_path, on_event=wrong)


def check(ckpt, seen, **options):
    """Save with a failure, and resume."""
    with pytest.raises(PartitionsFailedError) as caught:
        ckpt.checkpoint(
            "x", numbers(1, 2, 3).map(fail_at_2), on_error="continue", **options
        )
    first, *others = seen
    stored = {each.index for each in others if isinstance(each, PartitionStored)}
    failed = {e.index: e.error for e in others if isinstance(e, PartitionFailed)}
    assert type(first) is Started
    assert (stored, list(failed)) == ({0, 2}, [1])
    assert type(failed[1]) is ZeroDivisionError
    assert list(caught.value.partitions) == [1]
    seen.clear()
    ckpt.checkpoint("x", numbers(1, 4, 3).map(fail_at_2), **options)
    assert len(seen[0].kept) == 2
    assert seen.kinds() == [Started, PartitionStored, Committed]
    ckpt.close()


@pytest.mark.parametrize("scheduler", ["sync", dask.get])
def test_the_schedulers_of_one_thread(ckpt, seen, scheduler):
    check(ckpt, seen, scheduler=scheduler)


def test_every_other_scheduler(ckpt, seen, how):
    check(ckpt, seen, **how)
