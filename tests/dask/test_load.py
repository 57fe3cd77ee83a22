"""A loaded bag behaves as the same bag in memory; graphs are as small as can be."""

import os
import pickle
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import dask
import dask.bag
import pytest
from dask._task_spec import Task
from dask.bag import Bag

from agatha_ckpt import Checkpointer, CorruptCheckpointError, EncodeError
from agatha_ckpt._dask.load import parents_of
from agatha_ckpt._dask.save import SavePartition
from agatha_ckpt._store.partition import WriteOptions

NUMBERS = [5, 3, 8, 1, 9, 2, 7, 7, 4, 6, 0, 3]


def is_even(n):
    return n % 2 == 0


def add(a, b):
    return a + b


def twice(part):
    """Use a partition twice: a consumed iterator would give the wrong answer."""
    return [sum(part), len(list(part)), max(part)]


# Name, operation on a bag of numbers. The results are compared as lists or values.
OPERATIONS = {
    "accumulate": lambda b: b.accumulate(add),
    "all": lambda b: b.all(),
    "any": lambda b: b.any(),
    "concat": lambda b: dask.bag.concat([b, b]),
    "count": lambda b: b.count(),
    "distinct": lambda b: b.distinct().fold(add, initial=0),
    "filter": lambda b: b.filter(is_even),
    "flatten": lambda b: b.map(lambda n: [n, n]).flatten(),
    "fold": lambda b: b.fold(add, initial=0),
    "foldby": lambda b: b.foldby(is_even, add, 0, add, 0),
    "frequencies": lambda b: b.frequencies(sort=True),
    "groupby tasks": lambda b: b.groupby(is_even, shuffle="tasks").map(
        lambda group: (group[0], sorted(group[1]))
    ),
    "groupby disk": lambda b: b.groupby(is_even, shuffle="disk").map(
        lambda group: (group[0], sorted(group[1]))
    ),
    "join": lambda b: b.join([1, 2, 3], is_even, is_even),
    "map": lambda b: b.map(add, 1),
    "map of two bags": lambda b: b.map(add, b),
    "map with an item": lambda b: b.map(add, b.max()),
    "map_partitions": lambda b: b.map_partitions(twice),
    "map_partitions of two": lambda b: b.map_partitions(
        lambda x, y: [a * c for a, c in zip(x, y, strict=True)], b
    ),
    "max": lambda b: b.max(),
    "mean": lambda b: b.mean(),
    "min": lambda b: b.min(),
    "pluck": lambda b: b.map(lambda n: (n, n * n)).pluck(1),
    "product": lambda b: b.product(b).map(sum),
    "random_sample": lambda b: b.random_sample(0.5, random_state=7),
    "reduction": lambda b: b.reduction(twice, lambda x: sum(map(sum, x))),
    "remove": lambda b: b.remove(is_even),
    "repartition to fewer": lambda b: b.repartition(npartitions=2),
    "repartition to more": lambda b: b.repartition(npartitions=7),
    "starmap": lambda b: b.map(lambda n: (n, 1)).starmap(add),
    "std": lambda b: b.std(),
    "str": lambda b: b.map(str).str.zfill(3),
    "sum": lambda b: b.sum(),
    "twice in one task": lambda b: b.map_partitions(
        lambda part: [sum(part) / len(list(part))]
    ),
    "take": lambda b: b.take(3, npartitions=2, compute=False),
    "to_delayed": lambda b: dask.delayed(list)(b.to_delayed()),
    "topk": lambda b: b.topk(4),
    "unzip": lambda b: b.map(lambda n: (n, -n)).unzip(2)[1],
    "var": lambda b: b.var(),
    "zip": lambda b: dask.bag.zip(b, b.map(str)),
    "used by many": lambda b: dask.bag.concat([b.map(add, i) for i in range(4)]),
}


def in_memory():
    return dask.bag.from_sequence(NUMBERS, npartitions=4)


@pytest.fixture
def loaded(checkpointer):
    return checkpointer.checkpoint("numbers", in_memory(), scheduler="sync")


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_gives_what_it_gives_in_memory(loaded, name):
    operation = OPERATIONS[name]
    with warnings.catch_warnings():
        # partd, of groupby on disk, closes its files when they are collected.
        warnings.simplefilter("ignore", ResourceWarning)
        expected = operation(in_memory()).compute(scheduler="sync")
        found = operation(loaded).compute(scheduler="sync")
    assert found == expected


@pytest.mark.parametrize("name", ["map_partitions", "map of two bags", "zip"])
def test_operations_agree_on_threads_and_without_optimisation_too(loaded, name):
    operation = OPERATIONS[name]
    expected = operation(in_memory()).compute(scheduler="sync")
    assert operation(loaded).compute(scheduler="threads") == expected
    plain = operation(loaded).compute(scheduler="sync", optimize_graph=False)
    assert plain == expected


def test_every_public_method_of_a_bag_is_among_the_operations():
    public = {
        n for n in dir(Bag) if not n.startswith("_") and callable(getattr(Bag, n))
    }
    elsewhere = {"compute", "persist", "visualize", "npartitions"}
    other_output = {"to_avro", "to_dataframe", "to_textfiles"}
    named = {word for name in OPERATIONS for word in name.split()}
    assert public - named - elsewhere - other_output == set()


def test_a_loaded_bag_writes_text_files(loaded, tmp_path):
    loaded.map(str).to_textfiles(str(tmp_path / "*.txt"), scheduler="sync")
    text = "\n".join(p.read_text() for p in sorted(tmp_path.glob("*.txt")))
    assert text.split() == [str(n) for n in NUMBERS]


def test_a_loaded_bag_can_be_persisted_and_iterated(loaded):
    with dask.config.set(scheduler="sync"):
        assert list(loaded) == NUMBERS
        assert list(loaded.persist()) == NUMBERS


def test_count_opens_no_file(local):
    checkpointer = Checkpointer(local, verbose=False)
    bag = checkpointer.checkpoint("x", in_memory(), scheduler="sync")
    for path in local.path("x").glob("part-*"):
        path.unlink()
    assert bag.count().compute(scheduler="sync") == len(NUMBERS)
    with pytest.raises(CorruptCheckpointError):
        bag.sum().compute(scheduler="sync")


def test_count_is_one_task_and_has_a_parent(loaded):
    count = loaded.count()
    assert len(count.dask) == 1
    assert count.compute(scheduler="sync") == len(NUMBERS)
    assert count.key == loaded.count().key
    [(name, _)] = parents_of(loaded).ids
    for built in (count, dask.optimize(count)[0]):
        used = in_memory().map(add, built)
        assert [parent for parent, _ in parents_of(used).ids] == [name]
        assert used.compute(scheduler="sync") == [n + len(NUMBERS) for n in NUMBERS]


def test_what_is_made_of_a_loaded_bag_counts_its_own_records(loaded):
    evens = len([n for n in NUMBERS if is_even(n)])
    made = {
        "filter": (loaded.filter(is_even), evens),
        "concat": (dask.bag.concat([loaded, loaded]), 2 * len(NUMBERS)),
        "repartition": (loaded.repartition(npartitions=2), len(NUMBERS)),
        "flatten": (loaded.map(lambda n: [n] * 3).flatten(), 3 * len(NUMBERS)),
        "persist": (loaded.persist(scheduler="sync"), len(NUMBERS)),
        "optimize": (dask.optimize(loaded)[0], len(NUMBERS)),
        "pickle": (pickle.loads(cloudpickle.dumps(loaded)), len(NUMBERS)),
    }
    for name, (bag, expected) in made.items():
        assert bag.count().compute(scheduler="sync") == expected, name


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
    assert got.home == save.home
    assert got.store.fsync == local.fsync


def test_loading_is_one_layer_named_by_name_and_content(checkpointer, loaded):
    again = checkpointer.checkpoint("numbers")
    assert again.name == loaded.name
    assert list(loaded.dask.layers) == [loaded.name]
    assert checkpointer.store.manifest("numbers").id in loaded.name
    other = checkpointer.checkpoint("other", in_memory(), scheduler="sync")
    assert other.name != loaded.name


def test_two_roots_with_equal_content_do_not_share_tasks(local, tmp_path):
    here = Checkpointer(local, verbose=False)
    there = Checkpointer(tmp_path / "there", verbose=False)
    bags = [c.checkpoint("x", in_memory(), scheduler="sync") for c in (here, there)]
    assert bags[0].name != bags[1].name
    there.clear("x")
    with pytest.raises(CorruptCheckpointError, match="there"):
        dask.compute(*bags, scheduler="sync")


def test_tasks_carry_the_store_and_plain_values_only(local, checkpointer):
    bag = checkpointer.checkpoint("x", in_memory(), scheduler="sync")
    assert b"Checkpointer" not in cloudpickle.dumps(dict(bag.dask))
    assert b"lock" not in cloudpickle.dumps(dict(bag.dask))


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: a.map(str),
        lambda a, b: dask.bag.concat([a, in_memory()]),
        lambda a, b: a.groupby(is_even, shuffle="tasks"),
        lambda a, b: a.join([1, 2], is_even, is_even),
        lambda a, b: in_memory().map(add, a.max()),
        lambda a, b: dask.optimize(a)[0],
    ],
    ids=["map", "concat", "groupby", "join", "item", "optimized"],
)
def test_parents_are_found_through_the_graph(checkpointer, loaded, build):
    bag = build(loaded, None)
    assert parents_of(bag).ids == (
        ("numbers", checkpointer.store.manifest("numbers").id),
    )


def test_both_parents_of_a_zip_are_found_and_recorded(checkpointer, loaded):
    other = checkpointer.checkpoint("a-b", loaded.map(str), scheduler="sync")
    bag = dask.bag.zip(loaded, other)
    assert [name for name, _ in parents_of(bag).ids] == ["a-b", "numbers"]
    checkpointer.checkpoint("both", bag, scheduler="sync")
    plan = checkpointer.store.manifest("both").plan
    assert [name for name, _ in plan.parents] == ["a-b", "numbers"]
    assert parents_of(in_memory()).ids == ()


def test_a_bag_without_partitions_is_a_done_empty_checkpoint(checkpointer):
    empty = dask.bag.Bag({}, "nothing", 0)
    loaded = checkpointer.checkpoint("empty", empty)
    assert checkpointer.is_done("empty")
    assert loaded.npartitions == 0
    assert checkpointer.checkpoint("empty").npartitions == 0


@pytest.mark.parametrize("function", [len, str, max], ids=["int", "str", "record"])
def test_a_partition_that_is_no_sequence_of_records_is_refused(checkpointer, function):
    bag = in_memory().map_partitions(function)
    with pytest.raises(EncodeError, match=r"partition . of checkpoint 'x' .* a list"):
        checkpointer.checkpoint("x", bag, scheduler="sync")


def test_empty_partitions_keep_their_place(checkpointer):
    bag = in_memory().filter(lambda n: n == 9)
    loaded = checkpointer.checkpoint("x", bag, scheduler="sync")
    parts = [d.compute(scheduler="sync") for d in loaded.to_delayed()]
    assert [list(part) for part in parts] == [[], [9], [], []]


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
    notes = "\n".join(caught.value.__notes__)
    assert "while saving partition 1 of checkpoint 'x' under" in notes
    assert "what was saved stays" in notes
    assert not checkpointer.is_done("x")


PROCESSES = """
import os
import sys
if sys.argv[2] == "without-tblib":
    sys.modules["tblib"] = None  # as where it is not installed, in workers as well
import dask, dask.bag
from agatha_ckpt import Checkpointer

class Own(Exception):
    pass

def fail(n):
    raise Own(f"no {n}")

def main():
    checkpointer = Checkpointer(sys.argv[1], verbose=False)
    bag = dask.bag.from_sequence(range(4), npartitions=4)
    pids = checkpointer.checkpoint("pids", bag.map(lambda n: os.getpid()))
    assert os.getpid() not in pids.compute(scheduler="sync"), "in this process"
    assert os.getpid() in checkpointer.checkpoint(
        "here", bag.map(lambda n: os.getpid()), scheduler="sync"
    ).compute(scheduler="sync")
    try:
        checkpointer.checkpoint("fails", bag.map(fail))
    except Own as error:
        assert type(error) is Own, type(error)
        assert str(error).startswith("no "), str(error)
        assert any("while saving partition" in note for note in error.__notes__)
    else:
        raise AssertionError("no error")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("tblib", ["with-tblib", "without-tblib"])
def test_the_bags_own_scheduler_is_used_and_its_errors_come_back(tmp_path, tblib):
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    command = [sys.executable, str(script), str(tmp_path / "root"), tblib]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MEMORY = """
import dask.bag
from agatha_ckpt import Checkpointer, RootNotSetError

if __name__ == "__main__":
    bag = dask.bag.from_sequence(range(4), npartitions=2)
    checkpointer = Checkpointer("memory://x", verbose=False)
    try:
        checkpointer.checkpoint("x", bag)
    except RootNotSetError as error:
        assert "scheduler='threads'" in str(error), error
    else:
        raise AssertionError("no error")
    assert not checkpointer.is_done("x")
    bag = checkpointer.checkpoint("x", bag, scheduler="threads")
    assert bag.compute(scheduler="threads") == [0, 1, 2, 3]
"""


def test_a_root_in_memory_refuses_to_be_saved_by_other_processes_P1(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(MEMORY)
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_save_and_load_through_a_distributed_cluster(local):
    distributed = pytest.importorskip("distributed")
    checkpointer = Checkpointer(local, verbose=False)
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster),
    ):
        bag = checkpointer.checkpoint("x", in_memory().map(add, 1))
        assert bag.compute() == [n + 1 for n in NUMBERS]
        found = bag.map_partitions(twice).compute()
        assert found == [19, 3, 9, 15, 3, 10, 21, 3, 8, 12, 3, 7]
