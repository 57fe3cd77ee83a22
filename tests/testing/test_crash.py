"""crash_after: what is stored when it crashes, and what a resume then computes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.bag
import pytest

import agatha_ckpt
from agatha_ckpt import Checkpointer, InvalidValueError, PartitionStored
from agatha_ckpt.testing import SimulatedCrash, crash_after, memory_checkpointer
from tests.dask import error_cases as cases

PARTITIONS = 4
TOTAL = 2 * PARTITIONS


class Pipeline:
    """Two steps, which note the records that they compute."""

    def __init__(self):
        self.computed = []

    def __dask_tokenize__(self):
        return "the same for every run"

    def note(self, n):
        self.computed.append(n)
        return n + 100

    def __call__(self, ckpt):
        numbers = dask.bag.from_sequence(range(PARTITIONS), npartitions=PARTITIONS)
        first = ckpt.checkpoint("first", numbers.map(self.note))
        return ckpt.checkpoint("second", first.map(self.note)).compute()


@pytest.fixture(params=["sync", "threads"])
def _schedulers(request):
    with dask.config.set(scheduler=request.param):
        yield


@pytest.mark.usefixtures("_schedulers")
@pytest.mark.parametrize("n", range(TOTAL + 1))
def test_exactly_n_partitions_are_stored_and_then_kept(checkpointer, n):
    before, after = Pipeline(), Pipeline()
    with pytest.raises(SimulatedCrash), crash_after(n, checkpointer):
        before(checkpointer)
    statuses = list(checkpointer.store.statuses())
    assert sum(status.partitions for status in statuses) == n
    assert checkpointer.names() == ["first"] * (n > PARTITIONS)
    assert after(checkpointer) == list(range(200, 200 + PARTITIONS))
    assert len(after.computed) == TOTAL - n


def test_a_run_that_stores_fewer_partitions_does_not_crash(ckpt):
    with crash_after(TOTAL + 1, ckpt):
        assert Pipeline()(ckpt) == list(range(200, 200 + PARTITIONS))


def test_a_late_task_of_a_crashed_run_stores_nothing(ckpt):
    after_the_block = threading.Event()

    def compute(numbers):
        assert numbers == [0] or after_the_block.wait(60)
        return numbers

    numbers = dask.bag.from_sequence(range(2), npartitions=2)
    with ThreadPoolExecutor(2) as pool, dask.config.set(scheduler="threads", pool=pool):
        with pytest.raises(SimulatedCrash), crash_after(1, ckpt):
            ckpt.checkpoint("x", numbers.map_partitions(compute))
        after_the_block.set()
    assert ckpt.status("x").partitions == 1


def test_what_was_loaded_before_the_crash_loads_afterwards(ckpt):
    bag = cases.numbers(PARTITIONS)
    with crash_after(PARTITIONS + 1, ckpt):
        loaded = ckpt.checkpoint("x", bag)
        with pytest.raises(SimulatedCrash):
            ckpt.checkpoint("y", loaded.map(str))
        with pytest.raises(SimulatedCrash):
            loaded.compute()
    assert loaded.compute() == bag.compute()


def test_in_other_processes_at_least_n_are_stored(tmp_path):
    ckpt = Checkpointer(tmp_path / "root", verbose=False)
    bag = cases.numbers(30)
    with pytest.raises(SimulatedCrash), crash_after(2, ckpt):
        ckpt.checkpoint("x", bag, scheduler="processes", num_workers=1)
    assert ckpt.status("x").state == "partial"
    assert 2 <= ckpt.explain("x", bag).kept < 30
    ckpt.close()


def test_a_partition_that_fails_is_not_counted(ckpt):
    def fail_below_2(n):
        if n < 2:
            raise ZeroDivisionError(n)
        return n

    numbers = dask.bag.from_sequence(range(PARTITIONS), npartitions=PARTITIONS)
    with pytest.raises(SimulatedCrash), crash_after(2, ckpt):
        ckpt.checkpoint("x", numbers.map(fail_below_2), on_error="continue")
    assert ckpt.status("x").partitions == 2


def test_a_deferred_save_crashes_when_it_is_computed(ckpt):
    bag = cases.numbers(PARTITIONS)
    with crash_after(2, ckpt):
        deferred = ckpt.checkpoint("x", bag, compute=False)
        with pytest.raises(SimulatedCrash, match="2 partitions are stored"):
            deferred.compute()
    assert ckpt.explain("x", bag).kept == 2


def test_afterwards_the_checkpointer_is_as_before():
    seen = []
    with memory_checkpointer(on_event=seen.append) as ckpt:
        store = ckpt.store
        with pytest.raises(SimulatedCrash), crash_after(1, ckpt):
            Pipeline()(ckpt)
        assert ckpt.store is store
        Pipeline()(ckpt)
    assert sum(isinstance(event, PartitionStored) for event in seen) == TOTAL


@pytest.mark.usefixtures("ckpt_root")
def test_without_a_checkpointer_it_is_that_of_the_functions():
    with pytest.raises(SimulatedCrash), crash_after(3):
        Pipeline()(agatha_ckpt)
    again = Pipeline()
    again(agatha_ckpt)
    assert len(again.computed) == TOTAL - 3


@pytest.mark.parametrize("n", [-1, 1.0, "1", None, True])
def test_what_is_not_a_number_of_partitions_is_refused(ckpt, n):
    with pytest.raises(InvalidValueError, match="a number of partitions"):
        crash_after(n, ckpt).__enter__()
