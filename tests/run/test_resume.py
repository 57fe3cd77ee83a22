"""P4: what a resume or a repair keeps, what it does not, and why."""

import random
import re
from functools import partial

import dask.bag
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointNotFoundError,
    CheckpointStore,
    StaleCheckpointWarning,
)
from agatha_ckpt._format.names import DONE_MARKER, parse_filename
from agatha_ckpt.testing import SimulatedCrash, crash_after

EVERY_FILESYSTEM = True


class Stopped(Exception):
    """Whatever ends a run in the middle."""


class Run:
    """A bag of (run, partition, position) that notes which partitions are computed."""

    def __init__(self, run, npartitions=6, size=50):
        self.computed = []
        self.run, self.npartitions, self.size = run, npartitions, size

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
        self.computed.append(index)
        return ((self.run, index, i) for i in range(self.size))


def save(checkpointer, run, name="x", **options):
    loaded = checkpointer.checkpoint(name, run.bag, scheduler="sync", **options)
    assert loaded.compute(scheduler="sync") == run.records


def interrupted(checkpointer, **options):
    """Save four of the six partitions of a run, among them 2 and 3."""
    with pytest.raises(SimulatedCrash), crash_after(4, checkpointer):
        checkpointer.checkpoint("x", Run("old").bag, scheduler="sync", **options)
    return partition_files(checkpointer)


def partition_files(checkpointer, name="x"):
    """Partition number to path, of the partition files that are there."""
    fs, folder = checkpointer.store.fs, str(checkpointer.store.path(name))
    paths = {path.rsplit("/", 1)[1]: path for path in fs.find(folder)}
    parsed = {parse_filename(name): path for name, path in paths.items()}
    return {name.index: path for name, path in parsed.items() if name}


def change(checkpointer, path, mutate):
    fs = checkpointer.store.fs
    fs.pipe_file(path, bytes(mutate(bytearray(fs.cat_file(path)))))


def flip(data, position):
    data[position] ^= 16
    return data


# ---- a run that was interrupted ----


def test_a_resume_keeps_what_is_whole_and_computes_only_the_rest_P4(checkpointer):
    kept = interrupted(checkpointer)
    again = Run("old")
    save(checkpointer, again)
    assert sorted(again.computed + list(kept)) == list(range(6))
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
    again = Run("old")
    save(checkpointer, again, allow_partial=False)
    assert sorted(again.computed) == list(range(6))


@pytest.mark.parametrize("npartitions", [1, 5, 7, 12])
def test_other_inputs_never_mix_with_what_is_there_P4(checkpointer, npartitions):
    interrupted(checkpointer)
    again = Run("new", npartitions)
    save(checkpointer, again)
    assert sorted(again.computed) == list(range(npartitions))
    assert set(partition_files(checkpointer)) == set(range(npartitions))


def test_another_version_never_mixes_with_what_is_there_P4(checkpointer):
    interrupted(checkpointer, version="1")
    again = Run("old")
    save(checkpointer, again, version="2")
    assert sorted(again.computed) == list(range(6))


def test_another_format_never_mixes_with_what_is_there_P4(checkpointer):
    interrupted(checkpointer)
    lines = dask.bag.from_sequence("abcdef", npartitions=6)
    checkpointer.checkpoint("x", lines, textfile=True, scheduler="sync")
    loaded = checkpointer.checkpoint("x")
    assert loaded.compute(scheduler="sync") == list("abcdef")


@pytest.mark.parametrize("remade", ["same", "other"])
def test_a_resume_keeps_what_was_computed_from_the_same_parent_P4(checkpointer, remade):
    def child(run):
        parent = checkpointer.checkpoint("parent")
        return parent.map_partitions(
            lambda part: ((r[0], p) for r in part for p in run._compute([r[1]]))
        )

    save(checkpointer, Run("same", size=1), "parent")
    first, second = Run("child"), Run("child")
    with pytest.raises(SimulatedCrash), crash_after(4, checkpointer):
        checkpointer.checkpoint("x", child(first), scheduler="sync")
    checkpointer.clear("parent")
    save(checkpointer, Run(remade, size=1), "parent")
    loaded = checkpointer.checkpoint("x", child(second), scheduler="sync")
    assert {r[0] for r in loaded.compute(scheduler="sync")} == {remade}
    kept = first.computed if remade == "same" else []
    assert sorted(second.computed + kept) == list(range(6))


DAMAGE = {
    "empty": lambda data: b"",
    "cut by one byte": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "one bit in the middle": lambda data: flip(data, len(data) // 2),
    "one bit in the footer": lambda data: flip(data, len(data) - 10),
    "longer": lambda data: bytes(data) + b"\0",
    "something else": lambda data: b"hello, world\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("textfile", [False, True], ids=["msgpack", "text"])
def test_a_damaged_partial_is_computed_again_and_the_line_says_so_P4(
    store, damage, textfile, capsys
):
    checkpointer = Checkpointer(store)
    lines = [f"line {n} of a text" for n in range(40)]
    bag = dask.bag.from_sequence(lines, npartitions=4)
    options = {"textfile": textfile, "scheduler": "sync"}
    checkpointer.checkpoint("x", bag, **options)
    store.fs.rm_file(f"{store.path('x')}/{DONE_MARKER}")
    change(checkpointer, partition_files(checkpointer)[2], DAMAGE[damage])
    capsys.readouterr()
    checkpointer.checkpoint("x", bag, **options)
    said = capsys.readouterr().out
    assert "Saving 1 of 4 partitions; 3 kept" in said
    assert "1 file damaged not kept" in said
    assert checkpointer.checkpoint("x").compute(scheduler="sync") == lines


def test_the_content_of_another_partition_is_not_kept_P4(checkpointer):
    kept = interrupted(checkpointer)
    fs = checkpointer.store.fs
    fs.pipe_file(kept[2], fs.cat_file(kept[3]))  # whole, but of other inputs
    again = Run("old")
    save(checkpointer, again)
    assert 2 in again.computed


def test_a_partial_without_a_bag_is_not_found_and_stays(checkpointer):
    kept = interrupted(checkpointer)
    with pytest.raises(CheckpointNotFoundError, match="give the collection"):
        checkpointer.checkpoint("x")
    assert partition_files(checkpointer) == kept


# ---- inputs that change after a crash ----

corrupt = set()  # inputs that cannot be read
read = []


def read_input(name):
    if name in corrupt:
        raise Stopped(name)
    read.append(name)
    return [(name, j) for j in range(2)]


INPUTS = [f"f{i:02d}" for i in range(12)]
CHANGES = {
    "removed": [name for name in INPUTS if name != "f05"],
    "added": ["f00a", "f00b", *INPUTS],
    "in another order": random.Random(1).sample(INPUTS, 12),
    "twice": [*INPUTS, "f07"],
}


@pytest.fixture
def _a_corrupt_input():
    corrupt.add("f05")
    read.clear()
    yield
    corrupt.clear()


@pytest.mark.usefixtures("_a_corrupt_input")
@pytest.mark.parametrize("per_partition", [1, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_a_resume_with_other_inputs_has_each_record_once_P4(
    store, change, per_partition, capsys
):
    checkpointer = Checkpointer(store)

    def checkpoint(names):
        bag = dask.bag.from_sequence(names, partition_size=per_partition)
        bag = bag.map(read_input).flatten()
        return checkpointer.checkpoint("x", bag, scheduler="sync")

    with pytest.raises(Stopped):
        checkpoint(INPUTS)
    stored = len(partition_files(checkpointer))
    assert stored
    finished = set(read)
    corrupt.clear()
    read.clear()
    names = CHANGES[change]
    loaded = checkpoint(names)
    assert loaded.compute(scheduler="sync") == [(n, j) for n in names for j in range(2)]
    kept = re.search(r"(\d+) kept", capsys.readouterr().out)
    if per_partition == 1:  # nothing that was finished is computed again
        uncertain = {"f07"} if change == "twice" else set()
        assert finished.isdisjoint(set(read) - uncertain)
        assert int(kept[1]) >= stored - len(uncertain)


@pytest.mark.usefixtures("_a_corrupt_input")
def test_parents_that_are_concatenated_in_another_order_are_kept_P4(store):
    checkpointer = Checkpointer(store, verbose=False)
    for name in "ab":
        bag = dask.bag.from_sequence([f"{name}{i}" for i in range(3)], npartitions=3)
        checkpointer.checkpoint(name, bag, scheduler="sync")

    def checkpoint(names):
        bags = [checkpointer.checkpoint(name).map(read_input) for name in names]
        return checkpointer.checkpoint("x", dask.bag.concat(bags), scheduler="sync")

    corrupt.add("a1")
    with pytest.raises(Stopped):
        checkpoint("ab")
    finished = set(read)
    corrupt.clear()
    read.clear()
    records = checkpoint("ba").compute(scheduler="sync")
    names = [f"{name}{i}" for name in "ba" for i in range(3)]
    assert records == [[(n, j) for j in range(2)] for n in names]
    assert finished.isdisjoint(read)


def test_a_file_that_serves_another_partition_is_loaded_and_kept_again(store):
    """Its number differs from that in its name, in two generations."""
    checkpointer = Checkpointer(store, verbose=False, on_stale="recompute")
    for names in (INPUTS, INPUTS[3:], INPUTS[4:]):
        read.clear()
        bag = dask.bag.from_sequence(names, partition_size=1).map(read_input)
        loaded = checkpointer.checkpoint("x", bag, scheduler="sync")
        assert [r[0][0] for r in loaded.compute(scheduler="sync")] == names
        assert store.verify("x") == []
    assert read == []


# ---- repair ----


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


def test_damage_inside_a_file_is_found_and_repaired_by_repair(checkpointer):
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


def test_a_repair_keeps_version_and_metadata(checkpointer):
    options = {"version": "1", "metadata": {"source": "pubmed", "year": 2026}}
    save(checkpointer, Run("x"), **options)
    checkpointer.store.fs.rm_file(partition_files(checkpointer)[1])
    for repair in (checkpointer.checkpoint, checkpointer.repair):
        repair("x", Run("x").bag, scheduler="sync")
        manifest = checkpointer.store.manifest("x")
        assert manifest.plan.version == options["version"]
        assert manifest.metadata == options["metadata"]
        checkpointer.store.fs.rm_file(partition_files(checkpointer)[0])


# ---- recompute ----


def test_another_version_replaces_the_checkpoint_and_its_files(checkpointer):
    save(checkpointer, Run("old"), version="1")
    old = set(partition_files(checkpointer).values())
    save(checkpointer, Run("new"), version="2")
    assert not old & set(partition_files(checkpointer).values())
    assert len(partition_files(checkpointer)) == 6


def test_an_interrupted_recompute_keeps_the_old_checkpoint_and_then_resumes(
    checkpointer,
):
    save(checkpointer, Run("old"), version="1")
    half = Run("new")
    with pytest.raises(SimulatedCrash), crash_after(4, checkpointer):
        checkpointer.checkpoint("x", half.bag, version="2", scheduler="sync")
    assert checkpointer.checkpoint("x").compute(scheduler="sync") == Run("old").records
    rest = Run("new")
    save(checkpointer, rest, version="2")
    assert sorted(half.computed + rest.computed) == list(range(6))


def test_on_stale_error_raises_and_touches_nothing(checkpointer):
    save(checkpointer, Run("old"))
    before = partition_files(checkpointer)
    again = Run("new")
    with pytest.raises(CheckpointConflictError, match="6 of 6 partitions have other"):
        checkpointer.checkpoint("x", again.bag, scheduler="sync", on_stale="error")
    assert partition_files(checkpointer) == before
    assert again.computed == []


class Interrupted(MemoryFileSystem):
    """Something happens before the first listing, or read of a partition."""

    cachable = False
    meanwhile = None

    def _interrupt(self):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()

    def ls(self, path, detail=True, **kwargs):
        self._interrupt()
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        if not path.endswith(DONE_MARKER):
            self._interrupt()
        return super().cat_file(path, start, end, **kwargs)


@pytest.mark.parametrize("call", ["checkpoint", "repair"])
def test_what_another_run_replaces_meanwhile_is_not_damaged(call):
    fs = Interrupted()
    store = CheckpointStore(f"memory://replaced/{call}", fs=fs)
    ckpt = Checkpointer(store, verbose=False)
    old, new = Run("a", npartitions=2), Run("b", npartitions=2)
    ckpt.checkpoint("x", old.bag, scheduler="sync")
    fs.meanwhile = partial(
        ckpt.checkpoint, "x", new.bag, overwrite=True, scheduler="sync"
    )
    with pytest.warns(StaleCheckpointWarning):
        loaded = getattr(ckpt, call)("x", old.bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == new.records
    assert len(old.computed) == 2  # by the first save
