"""P4: what a resume keeps, what it does not, and that it says why."""

import dask.bag
import pytest

from agatha_ckpt import CheckpointConflictError, Checkpointer, CheckpointNotFoundError
from agatha_ckpt._format.names import DONE_MARKER, parse_filename

EVERY_FILESYSTEM = True


class Stopped(Exception):
    """Stands for whatever ends a run in the middle."""


class Run:
    """A bag of (run, partition, position) that notes what is computed of it."""

    def __init__(self, run, npartitions=6, stop=(), size=50):
        self.computed = []
        self.run, self.npartitions, self.size = run, npartitions, size
        self.stop = set(stop)

    def __dask_tokenize__(self):
        return self.run, self.npartitions, self.size

    @property
    def records(self):
        return [
            (self.run, p, i) for p in range(self.npartitions) for i in range(self.size)
        ]

    @property
    def bag(self):
        bag = dask.bag.from_sequence(range(self.npartitions), partition_size=1)
        return bag.map_partitions(self._compute)

    def _compute(self, part):
        (index,) = part
        if index in self.stop:
            raise Stopped
        self.computed.append(index)
        return ((self.run, index, i) for i in range(self.size))


def save(checkpointer, run, name="x", **options):
    loaded = checkpointer.checkpoint(name, run.bag, scheduler="sync", **options)
    if not options.get("textfile"):
        assert loaded.compute(scheduler="sync") == run.records
    return loaded


def interrupted(checkpointer, **options):
    """Save partitions 2 to 5 of a run; 1 fails, and so 0 is never tried."""
    run = Run("old", stop=[0, 1])
    with pytest.raises(Stopped):
        checkpointer.checkpoint("x", run.bag, scheduler="sync", **options)
    stored = partition_files(checkpointer)
    assert set(stored) == set(run.computed) != set()
    return stored


def partition_files(checkpointer, name="x"):
    """Partition number to path, of the partition files that are there."""
    fs, folder = checkpointer.store.fs, str(checkpointer.store.path(name))
    paths = {path.rsplit("/", 1)[1]: path for path in fs.find(folder)}
    parsed = {parse_filename(name): path for name, path in paths.items()}
    return {name.index: path for name, path in parsed.items() if name}


def change(checkpointer, path, mutate):
    fs = checkpointer.store.fs
    data = bytearray(fs.cat_file(path))
    fs.pipe_file(path, bytes(mutate(data)))


def test_a_resume_keeps_what_is_whole_and_computes_only_the_rest_P4(checkpointer):
    kept = interrupted(checkpointer)
    again = Run("old")
    save(checkpointer, again)
    assert sorted(again.computed + list(kept)) == list(range(6))


def test_what_was_kept_is_the_file_that_was_there_P4(checkpointer):
    kept = interrupted(checkpointer)
    save(checkpointer, Run("old"))
    files = partition_files(checkpointer)
    assert {index: files[index] for index in kept} == kept


def test_a_run_that_died_before_the_marker_computes_nothing_again_P4(checkpointer):
    save(checkpointer, Run("old"))
    store = checkpointer.store
    store.fs.rm_file(f"{store.path('x')}/{DONE_MARKER}")
    again = Run("old")
    save(checkpointer, again)
    assert again.computed == []


def test_allow_partial_false_computes_all_of_it_again(checkpointer):
    interrupted(checkpointer)
    again = Run("new")
    save(checkpointer, again, allow_partial=False)
    assert sorted(again.computed) == list(range(6))


@pytest.mark.parametrize("npartitions", [1, 3, 5, 7, 12])
def test_another_partition_count_never_mixes_with_what_is_there_P4(
    checkpointer, npartitions
):
    interrupted(checkpointer)
    again = Run("new", npartitions)
    save(checkpointer, again)
    assert sorted(again.computed) == list(range(npartitions))
    assert set(partition_files(checkpointer)) == set(range(npartitions))


def test_another_version_never_mixes_with_what_is_there_P4(checkpointer):
    interrupted(checkpointer, version="1")
    again = Run("new")
    save(checkpointer, again, version="2")
    assert sorted(again.computed) == list(range(6))


def test_another_format_never_mixes_with_what_is_there_P4(checkpointer):
    interrupted(checkpointer)
    lines = dask.bag.from_sequence("abcdef", npartitions=6)
    checkpointer.checkpoint("x", lines, textfile=True, scheduler="sync")
    loaded = checkpointer.checkpoint("x")
    assert loaded.compute(scheduler="sync") == list("abcdef")


def test_a_parent_with_other_records_never_mixes_with_what_is_there_P4(checkpointer):
    def child(stop=()):
        parent = checkpointer.checkpoint("parent")
        run = Run("child", stop=stop)
        return run, parent.map_partitions(
            lambda part: ((r[0], p) for r in part for p in run._compute([r[1]]))
        )

    save(checkpointer, Run("first", size=1), "parent")
    _, bag = child(stop=[0, 1])
    with pytest.raises(Stopped):
        checkpointer.checkpoint("x", bag, scheduler="sync")
    assert partition_files(checkpointer)
    checkpointer.clear("parent")
    save(checkpointer, Run("second", size=1), "parent")
    run, bag = child()
    loaded = checkpointer.checkpoint("x", bag, scheduler="sync")
    assert {r[0] for r in loaded.compute(scheduler="sync")} == {"second"}
    assert sorted(run.computed) == list(range(6))


def test_a_parent_computed_again_with_equal_records_leaves_partials_good(checkpointer):
    def bag(stop):
        run = Run("child", stop=stop)
        parent = checkpointer.checkpoint("parent")
        return run, parent.map_partitions(lambda part: run._compute([part[0][1]]))

    save(checkpointer, Run("same", size=1), "parent")
    first, interrupted_bag = bag(stop=[0, 1])
    with pytest.raises(Stopped):
        checkpointer.checkpoint("x", interrupted_bag, version="1", scheduler="sync")
    checkpointer.clear("parent")
    save(checkpointer, Run("same", size=1), "parent")
    second, whole_bag = bag(stop=[])
    checkpointer.checkpoint("x", whole_bag, version="1", scheduler="sync")
    assert sorted(first.computed + second.computed) == list(range(6))


DAMAGE = {
    "empty": lambda data: b"",
    "cut by one byte": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "one bit in the middle": lambda data: flip(data, len(data) // 2),
    "one bit in the header": lambda data: flip(data, 9),
    "one bit in the footer": lambda data: flip(data, len(data) - 10),
    "longer": lambda data: bytes(data) + b"\0",
    "something else": lambda data: b"hello, world\n",
}


def flip(data, position):
    data[position] ^= 16
    return data


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("textfile", [False, True], ids=["msgpack", "text"])
def test_a_damaged_partial_is_computed_again_and_that_is_said_P4(
    store, damage, textfile, capsys
):
    checkpointer = Checkpointer(store)
    lines = [f"line {n} of a text" for n in range(40)]
    options = {"textfile": textfile, "version": "1", "scheduler": "sync"}

    def bag():
        return dask.bag.from_sequence(lines, npartitions=4)

    checkpointer.checkpoint("x", bag(), **options)
    store.fs.rm_file(f"{store.path('x')}/{DONE_MARKER}")
    change(checkpointer, partition_files(checkpointer)[2], DAMAGE[damage])
    capsys.readouterr()
    checkpointer.checkpoint("x", bag(), **options)
    said = capsys.readouterr().out
    assert "Saving 1 of 4 partitions" in said
    assert "3 kept" in said
    assert "1 file damaged not kept" in said
    loaded = checkpointer.checkpoint("x")
    assert loaded.compute(scheduler="sync") == lines


def test_a_partial_of_another_place_is_not_kept_P4(checkpointer):
    kept = interrupted(checkpointer)
    fs = checkpointer.store.fs
    fs.pipe_file(kept[2], fs.cat_file(kept[3]))  # whole, but another partition's
    again = Run("old")
    save(checkpointer, again)
    assert 2 in again.computed


def test_the_reason_is_said_when_partials_are_of_another_plan_P4(store, capsys):
    checkpointer = Checkpointer(store)
    interrupted(checkpointer)
    capsys.readouterr()
    save(checkpointer, Run("new", 3))
    assert "4 files from other inputs not kept" in capsys.readouterr().out


def a_bag_of(inputs, fails=None):
    def read(name):
        if name == fails:
            raise Stopped
        return name

    return dask.bag.from_sequence(inputs, npartitions=4).map(read)


@pytest.mark.parametrize("change", ["removed", "added", "in another order"])
def test_a_rerun_with_other_inputs_has_each_record_once_P4(store, change, capsys):
    checkpointer = Checkpointer(store)
    inputs = [f"{n:02}" for n in range(12)]
    failing = a_bag_of(inputs, fails="05")
    with pytest.raises(Stopped):
        checkpointer.checkpoint("x", failing, scheduler="sync")
    stored = len(partition_files(checkpointer))
    assert stored
    others = {
        "removed": [name for name in inputs if name != "05"],
        "added": ["00a", "00b", *inputs],
        "in another order": inputs[::-1],
    }[change]
    capsys.readouterr()
    loaded = checkpointer.checkpoint("x", a_bag_of(others), scheduler="sync")
    assert loaded.compute(scheduler="sync") == others
    file = "file" if stored == 1 else "files"
    said = f"{stored} {file} from other inputs not kept"
    assert said in capsys.readouterr().out


def test_a_partial_without_a_bag_is_not_found_and_stays(checkpointer):
    kept = interrupted(checkpointer)
    with pytest.raises(CheckpointNotFoundError, match="give the bag"):
        checkpointer.checkpoint("x")
    assert partition_files(checkpointer) == kept


def test_a_missing_partition_of_a_done_checkpoint_is_repaired_with_the_bag(
    store, capsys
):
    checkpointer = Checkpointer(store)
    save(checkpointer, Run("x"))
    files = partition_files(checkpointer)
    store.fs.rm_file(files[1])
    change(checkpointer, files[4], lambda data: data[:-3])
    again = Run("x")
    capsys.readouterr()
    save(checkpointer, again)
    assert sorted(again.computed) == [1, 4]
    assert "partition 1 is damaged (its file is missing)" in capsys.readouterr().out
    assert store.verify("x") == []
    assert len(partition_files(checkpointer)) == 6


def test_damage_inside_a_file_is_found_and_mended_by_repair(checkpointer):
    save(checkpointer, Run("x"))
    change(checkpointer, partition_files(checkpointer)[3], lambda d: flip(d, 90))
    again = Run("x")
    loaded = checkpointer.repair("x", again.bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == again.records
    assert again.computed == [3]
    assert checkpointer.store.verify("x") == []
    untouched = Run("x")
    checkpointer.repair("x", untouched.bag, scheduler="sync")
    assert untouched.computed == []


def test_a_repair_with_another_partition_count_computes_all_of_it_P1(checkpointer):
    save(checkpointer, Run("old"))
    checkpointer.store.fs.rm_file(partition_files(checkpointer)[1])
    again = Run("new", 4)
    save(checkpointer, again)
    assert sorted(again.computed) == list(range(4))
    assert len(partition_files(checkpointer)) == 4


def test_a_failed_repair_leaves_the_checkpoint_as_it_was(checkpointer):
    save(checkpointer, Run("x"))
    files = partition_files(checkpointer)
    checkpointer.store.fs.rm_file(files.pop(1))
    with pytest.raises(Stopped):
        checkpointer.checkpoint("x", Run("x", stop=[1]).bag, scheduler="sync")
    assert partition_files(checkpointer) == files
    assert checkpointer.is_done("x")


def test_on_stale_warn_loads_and_says_why(store, capsys):
    checkpointer = Checkpointer(store)
    save(checkpointer, Run("old"), version="1")
    capsys.readouterr()
    run = Run("new")
    loaded = checkpointer.checkpoint("x", run.bag, version="2", scheduler="sync")
    assert loaded.compute(scheduler="sync") == Run("old").records
    assert run.computed == []
    assert "it has version '1', not '2'" in capsys.readouterr().out


def test_on_stale_recompute_replaces_the_checkpoint_and_its_files(store):
    checkpointer = Checkpointer(store, verbose=False, on_stale="recompute")
    save(checkpointer, Run("old"), version="1")
    old = set(partition_files(checkpointer).values())
    save(checkpointer, Run("new"), version="2")
    assert not old & set(partition_files(checkpointer).values())
    assert len(partition_files(checkpointer)) == 6


def test_an_interrupted_recompute_keeps_the_old_checkpoint_and_then_resumes(store):
    checkpointer = Checkpointer(store, verbose=False, on_stale="recompute")
    save(checkpointer, Run("old"), version="1")
    half = Run("new", stop=[0, 1])
    with pytest.raises(Stopped):
        checkpointer.checkpoint("x", half.bag, version="2", scheduler="sync")
    assert checkpointer.checkpoint("x").compute(scheduler="sync") == Run("old").records
    rest = Run("new")
    save(checkpointer, rest, version="2")
    assert sorted(half.computed + rest.computed) == list(range(6))


def test_on_stale_error_raises_and_touches_nothing(store):
    checkpointer = Checkpointer(store, verbose=False, on_stale="error")
    save(checkpointer, Run("old"), version="1")
    before = partition_files(checkpointer)
    with pytest.raises(CheckpointConflictError, match="is stale: it has version"):
        save(checkpointer, Run("new"), version="2")
    assert partition_files(checkpointer) == before


def test_a_parent_made_again_with_other_records_makes_the_child_stale(store, capsys):
    checkpointer = Checkpointer(store)

    def pipeline(run):
        parent = save(checkpointer, Run(run), "parent")
        other = dask.bag.from_sequence("ab", npartitions=2)
        bag = dask.bag.concat([parent.map(str), other])
        return checkpointer.checkpoint("child", bag, scheduler="sync")

    pipeline("one")
    capsys.readouterr()
    pipeline("one")
    assert "stale" not in capsys.readouterr().out
    checkpointer.clear("parent")
    pipeline("one")
    assert "stale" not in capsys.readouterr().out
    checkpointer.clear("parent")
    pipeline("two")
    assert "its parent 'parent' has other records now" in capsys.readouterr().out
