"""P1, P3: commits and clears that cross, at the worst moment, on local disk.

The other run's step is put between two system calls of the first run.
"""

import errno
import os
import uuid

import dask.bag
import pytest

from agatha_ckpt import CheckpointConflictError, Checkpointer, CheckpointStore
from agatha_ckpt._filesystem import local as _local
from agatha_ckpt._format.names import DONE_MARKER


def save(store, content, **options):
    bag = dask.bag.from_sequence([content] * 4, npartitions=2)
    checkpointer = Checkpointer(store, verbose=False, on_stale="recompute")
    return checkpointer.checkpoint("x", bag, scheduler="sync", **options)


def other(store):
    return CheckpointStore(store.root)


def after(monkeypatch, name, when, step):
    """Let *step* happen once, right after os.*name* was called as *when* says."""
    function, left = getattr(os, name), [step]

    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if left and when(*map(str, args)):
            left.pop()()
        return result

    monkeypatch.setattr(os, name, call)
    return left


def test_a_clear_between_look_and_marker_leaves_no_done_marker(local, monkeypatch):
    class Listing:
        """A listing of the folder, after whose end the other run clears it."""

        def __init__(self, entries, at_end):
            self.entries, self.at_end = entries, at_end

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            self.at_end()

    listings, scandir = [], os.scandir

    def scan(folder):
        entries = list(scandir(folder))
        listings.append(folder)
        # The first is that of the resume, the second that of the commit.
        crossing = len(listings) == 2
        return Listing(entries, lambda: crossing and other(local).clear("x"))

    local.begin("x")
    (local.path("x") / "notes.txt").write_text("mine")  # so that the folder stays
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(CheckpointConflictError, match="run again"):
        save(local, "a")
    assert os.listdir(local.path("x")) == ["notes.txt"]
    assert save(local, "b").compute(scheduler="sync") == ["b"] * 4


def test_a_clear_while_the_folder_is_made_does_not_matter(local, monkeypatch):
    left = after(
        monkeypatch,
        "mkdir",
        lambda path, *_: path.endswith("/x"),
        lambda: other(local).clear("x"),
    )
    assert save(local, "a").compute(scheduler="sync") == ["a"] * 4
    assert not left


def test_two_clears_at_once_are_as_one(local, monkeypatch):
    save(local, "a")
    left = after(
        monkeypatch,
        "unlink",
        lambda path: path.endswith(DONE_MARKER),
        lambda: other(local).clear("x"),
    )
    local.clear("x")
    assert not left
    assert not local.path("x").exists()


def test_of_two_runs_that_recompute_at_once_one_wins_and_stays_whole(
    local, monkeypatch
):
    told = []

    def recompute():
        with pytest.raises(CheckpointConflictError, match="another plan"):
            save(local, "theirs", version="theirs")
        told.append(True)

    save(local, "old", version="old")
    claimed = after(monkeypatch, "link", lambda _, path: "/.next-" in path, recompute)
    loaded = save(local, "ours", version="ours")
    assert told
    assert not claimed
    assert loaded.compute(scheduler="sync") == ["ours"] * 4
    assert local.verify("x") == []
    names = set(os.listdir(local.path("x")))
    assert names == local.manifest("x").files | {DONE_MARKER}


def test_what_a_run_that_died_has_claimed_is_finished_by_the_next(local, monkeypatch):
    class Died(BaseException):
        pass

    def die():
        raise Died

    save(local, "old", version="old")
    with monkeypatch.context() as patch:
        after(patch, "link", lambda _, path: "/.next-" in path, die)
        with pytest.raises(Died):
            save(local, "new", version="new")
    assert local.manifest("x").plan.version == "old"
    # What a run leaves that is killed: nobody else will remove it.
    (local.path("x") / ".tmp-0123456789abcdef").write_text("half a partition")
    loaded = save(local, "newer", version="new")
    assert loaded.compute(scheduler="sync") == ["new"] * 4
    assert local.verify("x") == []
    names = set(os.listdir(local.path("x")))
    assert names == local.manifest("x").files | {DONE_MARKER}


@pytest.mark.parametrize(
    "theirs, said",
    [
        (lambda store: save(store, "theirs", version="theirs"), "another plan"),
        (lambda store: store.clear("x"), "was cleared|were removed by another run"),
    ],
    ids=["another plan", "a clear"],
)
def test_a_run_whose_files_another_has_removed_is_told_what_it_has_done(
    store, theirs, said
):
    computed = []

    def cross(part):
        if computed:
            theirs(other(store))
        computed.append(part)
        return part

    bag = dask.bag.from_sequence(["ours"] * 4, npartitions=2).map_partitions(cross)
    with pytest.raises(CheckpointConflictError, match=said):
        Checkpointer(store, verbose=False).checkpoint("x", bag, scheduler="sync")


def test_a_repair_that_another_crosses_returns_what_is_there_then(local, monkeypatch):
    def repair(store, content):
        bag = dask.bag.from_sequence([content] * 4, npartitions=2)
        return Checkpointer(store, verbose=False).repair("x", bag, scheduler="sync")

    def open_file(path, *args, **options):
        file = open(path, *args, **options)  # noqa: SIM115
        if path.endswith(DONE_MARKER) and not crossed:  # opened, and read in a moment
            crossed.append(file)
            repair(other(local), "theirs")
        return file

    save(local, "theirs")
    damaged = local.path("x") / local.manifest("x").partitions[0].file
    damaged.write_bytes(bytes(damaged.stat().st_size))
    crossed = []
    monkeypatch.setattr(_local, "open", open_file, raising=False)
    loaded = repair(local, "ours")
    assert crossed
    assert loaded.compute(scheduler="sync") == ["theirs"] * 4


def test_a_store_that_answers_with_the_past_is_not_asked_without_end(monkeypatch):
    store = CheckpointStore(f"memory://{uuid.uuid4().hex}")
    save(store, "theirs")
    cat_file = store.fs.cat_file

    def past(path, *args, **options):
        if path.endswith(DONE_MARKER):
            raise FileNotFoundError(path)
        return cat_file(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store.fs, "cat_file", past)
        with pytest.raises(CheckpointConflictError, match="answers with what was"):
            save(store, "ours")
    assert save(store, "ours").compute(scheduler="sync") == ["theirs"] * 4
    store.clear("x")


def test_a_disk_that_fails_while_another_run_is_adopted_names_the_checkpoint(
    local, monkeypatch
):
    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    save(local, "theirs")
    plan = local.manifest("x").plan
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError) as caught:
        local.adopt("x", plan, None, uuid.uuid4().hex[:8])
    (note,) = caught.value.__notes__
    assert "while taking what another run has saved of checkpoint 'x' under" in note
