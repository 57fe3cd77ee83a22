"""Saving: one task for each missing partition, streamed, with errors that name it."""

import os
import pickle
import re
import uuid
import weakref
from array import array
from collections import Counter, OrderedDict, UserList, deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import cloudpickle
import dask
import dask.bag
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from dask._task_spec import Task

from agatha_ckpt import Checkpointer, EncodeError, RootNotSetError
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._format.base import WriteOptions

NUMBERS = [5, 3, 8, 1, 9, 2, 7, 7, 4, 6, 0, 3]


def is_even(n):
    return n % 2 == 0


def add(a, b):
    return a + b


def in_memory():
    return dask.bag.from_sequence(NUMBERS, npartitions=4)


def test_a_save_schedules_one_task_for_each_missing_partition_and_no_other(local):
    graphs = []

    def recording(graph, keys, **options):
        graphs.append((graph, keys))
        return dask.get(graph, keys, **options)

    checkpointer = Checkpointer(local, verbose=False)
    bag = in_memory().map(add, 1)
    checkpointer.checkpoint("x", bag, scheduler=recording)
    (graph, keys) = graphs.pop()
    assert set(graph) == set(keys)  # all else is fused into these
    assert len(keys) == 4
    os.remove(local.path("x") / local.manifest("x").partitions[2].file)
    checkpointer.checkpoint("x", bag, scheduler=recording)
    (graph, keys) = graphs.pop()
    assert set(graph) == set(keys)
    assert len(keys) == 1
    assert checkpointer.status("x").partitions == 4


@pytest.mark.parametrize("number, batches", [(30, 30), (606, 101)])
def test_processes_get_few_partitions_one_by_one_and_many_in_batches(
    local, number, batches
):
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *args, **kwargs):
            self.submitted += 1
            return super().submit(*args, **kwargs)

    bag = dask.bag.from_sequence(range(number), npartitions=number).map(add, 1)
    with Counting(1) as pool:
        checkpointer = Checkpointer(local, verbose=False)
        loaded = checkpointer.checkpoint("x", bag, scheduler="processes", pool=pool)
    assert pool.submitted == batches
    assert loaded.compute(scheduler="sync") == [n + 1 for n in range(number)]


def test_a_bag_that_was_computed_before_is_saved_and_saved_again(local):
    checkpointer = Checkpointer(local, verbose=False)
    first = checkpointer.checkpoint("x", in_memory(), scheduler="sync")
    bag = first.map_partitions(list)  # dask keeps the tasks of such a layer
    saved = [
        checkpointer.checkpoint(name, bag, scheduler="sync") for name in ("y", "y", "z")
    ]
    right = bag.compute(scheduler="sync")
    assert [bag.compute(scheduler="sync") for bag in saved] == [right] * 3
    parents = (("x", local.manifest("x").id),)
    assert local.manifest("z").plan.parents == parents


def test_a_lazy_partition_streams_into_the_file_P10(local):
    taken, written = [], []

    def lazily(part):
        for n in part:
            taken.append(n)
            # The blocks of the records before are in the temporary file already.
            written.append(sum(f.stat().st_size for f in local.path("x").iterdir()))
            yield "x" * 100_000

    bag = dask.bag.from_sequence(range(50), npartitions=1).map_partitions(lazily)
    Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert len(taken) == 50
    assert written[40] > 3_000_000


def test_a_result_that_no_later_step_needs_is_let_go_of_P10(local):
    class Large(list):
        """A list, of which it can be seen whether it is there yet."""

    there = []

    def large(part):
        made = Large(part)
        there.append(weakref.ref(made))
        return made

    def lazily(part):
        records = [n + 1 for n in part]
        del part
        return (there[-1]() is None for _ in records)

    bag = dask.bag.from_sequence(range(6), npartitions=2)
    bag = bag.map_partitions(large).map_partitions(lazily)
    loaded = Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == [True] * 6


def test_a_step_that_is_fused_is_called_with_what_it_needs(local):
    """Chains, branches that meet again, and what is shared, as dask computes them."""
    numbers = in_memory().map(add, 1)
    bags = {
        "chain": numbers.map(add, 2).filter(is_even).map(str),
        "diamond": dask.bag.zip(numbers.map(add, 1), numbers.map(add, 2)),
        "item": numbers.map(add, numbers.max()),
        "other": numbers.map(add, in_memory().map(add, 3)),
        "text": dask.bag.from_delayed([dask.delayed(list)("ab")]).map(str.upper),
    }
    for name, bag in bags.items():
        loaded = Checkpointer(local, verbose=False).checkpoint(
            name, bag, scheduler="sync"
        )
        assert loaded.compute(scheduler="sync") == bag.compute(scheduler="sync"), name


def test_the_tasks_of_a_save_share_what_they_have_in_common(local):
    """A worker makes one store of what comes with thousands of tasks."""
    save = SavePartition(local, "x", WriteOptions("msgpack", 2))
    tasks = [Task(i, save, [i], i) for i in range(1000)]
    sent = [cloudpickle.dumps(task) for task in tasks]
    assert len({id(pickle.loads(task).func) for task in sent}) == 1
    got = pickle.loads(sent[0]).func
    assert got == save
    assert got.store.fsync == local.fsync


def test_a_bag_without_partitions_is_a_done_empty_checkpoint(checkpointer):
    empty = dask.bag.Bag({}, "nothing", 0)
    loaded = checkpointer.checkpoint("empty", empty)
    assert checkpointer.is_done("empty")
    assert loaded.npartitions == 0
    assert checkpointer.checkpoint("empty").npartitions == 0


Stats = namedtuple("Stats", "n mean")
NO_SEQUENCES = {
    "int": 1,
    "NoneType": None,
    "float": 1.5,
    "str": "abc",
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "dict": {"n": 2},
    "Counter": Counter("aab"),
    "OrderedDict": OrderedDict(a=1),
    "mappingproxy": MappingProxyType({"n": 2}),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "Stats": Stats(2, 3.5),
    "ndarray": np.array(3),
    "int64": np.int64(3),
    "DataFrame": pd.DataFrame({"a": [1]}),
    "Series": pd.Series([1, 2]),
    "Index": pd.Index([1, 2]),
    "Table": pa.table({"a": [1]}),
    "object": object(),
}
ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
SEQUENCES = {
    "list": [1, 2],
    "tuple": (1, 2),
    "range": range(1, 3),
    "deque": deque([1, 2]),
    "UserList": UserList([1, 2]),
    "array": array("b", [1, 2]),
    "ndarray": np.array([1, 2]),
    "keys": {1: 0, 2: 0}.keys(),
    "values": {0: 1, 3: 2}.values(),
    "subclass": type("Mine", (list,), {})([1, 2]),
}


@pytest.mark.parametrize("name", NO_SEQUENCES)
def test_a_partition_that_is_not_a_sequence_of_records_is_refused(local, name):
    checkpointer = Checkpointer(local, verbose=False)
    bag = in_memory().map_partitions(lambda _: NO_SEQUENCES[name])
    message = rf"partition . of checkpoint 'x' .* is of type .*{name}, .* a list: "
    for textfile in (False, True):
        with pytest.raises(EncodeError, match=message):
            checkpointer.checkpoint("x", bag, scheduler="sync", textfile=textfile)
    assert checkpointer.status("x").state == "absent"


@pytest.mark.parametrize(
    "table", [pd.DataFrame(ROWS), pa.Table.from_pylist(ROWS), polars.DataFrame(ROWS)]
)
def test_a_table_is_refused_with_the_call_that_gives_its_rows(local, table):
    bag = in_memory().map_partitions(lambda _: table)
    with pytest.raises(EncodeError, match="a record of each row") as caught:
        Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    call = re.search(r"value(\.\w+\(.*?\)) a record of each row", str(caught.value))
    assert eval(f"table{call[1]}", {"table": table}) == ROWS


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_partition_that_is_a_sequence_is_stored_as_dask_computes_it(local, name):
    bag = dask.bag.from_sequence([0], npartitions=1).map_partitions(
        lambda _: SEQUENCES[name]
    )
    loaded = Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    computed = bag.compute(scheduler="sync")
    assert list(loaded.compute(scheduler="sync")) == list(computed) == [1, 2]


def test_what_dask_itself_makes_of_partitions_is_stored(local):
    bag = in_memory()
    pairs = bag.map(lambda n: (n % 3, n))
    bags = {
        "distinct": bag.distinct(),
        "frequencies": bag.frequencies(),
        "topk": bag.topk(3),
        "foldby": pairs.foldby(lambda p: p[0], lambda t, p: t + p[1], 0, add, 0),
        "groupby": bag.groupby(is_even),
        "accumulate": bag.accumulate(add),
        "sample": bag.random_sample(0.5, 1),
        "flatten": pairs.flatten(),
        "pluck": pairs.pluck(1),
        "join": bag.join([1, 2], is_even),
        "product": bag.product(bag),
        "concat": dask.bag.concat([bag, bag]),
        "delayed": dask.bag.from_delayed([dask.delayed(range)(3)]),
        "repartition": bag.repartition(2),
        "persisted": bag.persist(scheduler="sync"),
    }
    for name, each in bags.items():
        checkpointer = Checkpointer(local, verbose=False)
        loaded = checkpointer.checkpoint(name, each, scheduler="sync")
        computed = each.compute(scheduler="sync")
        assert sorted(map(repr, loaded.compute(scheduler="sync"))) == sorted(
            map(repr, computed)
        ), name


def test_the_bags_own_functions_raise_through_unchanged_P1(checkpointer):
    class Own(Exception):
        pass

    def fail(n):
        if n == 9:
            raise Own("in the bag")
        return n

    with pytest.raises(Own) as caught:
        checkpointer.checkpoint("x", in_memory().map(fail), scheduler="sync")
    assert caught.value.args == ("in the bag",)
    note = "2 of 4 partitions stored; partition 1 of 'x' failed"
    assert caught.value.__notes__ == [note]
    assert not checkpointer.is_done("x")


def test_a_root_in_memory_refuses_other_processes_P1():
    checkpointer = Checkpointer(f"memory://{uuid.uuid4().hex}", verbose=False)
    with pytest.raises(RootNotSetError, match="scheduler='threads'"):
        checkpointer.checkpoint("x", in_memory(), num_workers=1)
    checkpointer.close()
    assert not checkpointer.is_done("x")
    loaded = checkpointer.checkpoint("x", in_memory(), scheduler="threads")
    assert loaded.compute(scheduler="threads") == NUMBERS
    with pytest.raises(RootNotSetError, match="memory of another process"):
        loaded.compute(scheduler="processes", num_workers=1)
    checkpointer.clear_all()
