"""P1: a resume keeps what a dead run left, and does not mix with one that goes on."""

import os
import signal
import subprocess
import sys
import textwrap
import uuid

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import DONE_MARKER, Plan, parse_filename, run_filename
from agatha_ckpt._store.rivals import RunGoesOnError, runs_that_go_on, time_to_show_life

OTHER = "0123abcd"
PLAN = Plan(4)


def filename(run, index):
    return f"part-{index:05d}-{PLAN.digest}-{run}00000000.msgpack"


def records(writer, index):
    return [(writer, index, i) for i in range(5)]


def stored(store, run, indexes, writer="other", bag="a bag"):
    """Let another run store partitions, as its workers would."""
    store.begin("x")
    return [
        store.write_partition(
            "x", PLAN, i, records(writer, i), bag=bag, run=run, compression=None
        )
        for i in indexes
    ]


def bag_that(first_step):
    """A bag of four partitions; while the last is computed, *first_step* happens."""

    def compute(part, index):
        if index == 3:
            first_step()
        return records("ours", index)

    indexes = dask.bag.from_sequence(range(4), npartitions=4)
    return indexes.map_partitions(lambda part: compute(part, next(iter(part))))


def writers(bag):
    return {writer for writer, _, _ in bag.compute(scheduler="sync")}


@pytest.mark.parametrize(
    ("kept", "now", "going_on"),
    [
        ([], [(OTHER, 0)], set()),
        ([(OTHER, 0)], [], set()),
        ([(OTHER, 0)], [(OTHER, 1)], {OTHER}),
        ([(OTHER, 0)], [(OTHER, 0)], {OTHER}),  # written once more
        ([(OTHER, 0)], [("00000000", 1)], set()),
        ([("11111111", 0), (OTHER, 1)], [(OTHER, 2), ("22222222", 3)], {OTHER}),
    ],
)
def test_a_run_goes_on_that_has_written_more_since(kept, now, going_on):
    kept = {filename(run, index) for run, index in kept}
    new = {filename(run, index).replace("0000.", "0001.") for run, index in now}
    found = runs_that_go_on(kept, frozenset(kept), kept | new | {"notes.txt"})
    assert found == going_on


@pytest.mark.parametrize(
    "seconds, wait", [([0.0], 0.25), ([0.1, 0.4, 0.2], 0.8), ([0.1, 60.0], 2.0)]
)
def test_a_run_is_given_twice_what_its_slowest_partition_took(seconds, wait):
    infos = [PartitionInfo("part", 1, 1, "", taken, False) for taken in seconds]
    assert time_to_show_life(dict(enumerate(infos))) == wait


def test_a_commit_that_kept_partitions_of_a_run_that_goes_on_is_not_made(store):
    theirs = stored(store, OTHER, [0, 1])
    seen = store.survey("x", PLAN).seen
    ours = stored(store, "4567cdef", [2, 3])
    stored(store, OTHER, [2])
    manifest = Manifest(PLAN, (*theirs, *ours))
    with pytest.raises(RunGoesOnError) as caught:
        store.mark_done("x", manifest, seen=seen)
    assert caught.value.runs == {OTHER}
    assert not store.is_done("x")


def test_what_was_kept_of_a_run_that_goes_on_is_computed_here_P1(store, capsys):
    stored(store, OTHER, [0])
    bag = bag_that(lambda: stored(store, OTHER, [1]))
    loaded = Checkpointer(store).checkpoint("x", bag, scheduler="sync")
    assert writers(loaded) == {"ours"}
    assert "1 more: the run that left them goes on" in capsys.readouterr().out


def test_a_run_that_has_stored_all_meanwhile_is_taken_whole_P1(store):
    stored(store, OTHER, [0, 1])
    bag = bag_that(lambda: stored(store, OTHER, [2, 3]))
    loaded = Checkpointer(store, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert writers(loaded) == {"other"}
    found = {path.rsplit("/", 1)[1] for path in store.fs.find(str(store.path("x")))}
    assert found == store.manifest("x").files | {DONE_MARKER}


def test_late_partitions_of_the_same_graph_do_not_undo_most_of_a_resume_P4(store):
    # Workers of a driver that died may still store what they were at.
    bag = bag_that(lambda: stored(store, OTHER, [1], bag=bag.name))
    stored(store, OTHER, [0, 1, 2], bag=bag.name)
    loaded = Checkpointer(store, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert [w for w, _, i in loaded.compute(scheduler="sync") if i == 0] == [
        *["other"] * 3,
        "ours",
    ]


def test_late_partitions_of_a_save_that_failed_here_do_not_undo_a_resume_P4(store):
    # The tasks of a save that raised go on with what they are at.
    computed = []

    def fail_at_third(part):
        computed.extend(part)
        if len(computed) == 3:
            raise ValueError(part)
        return records("first", computed[-1])

    def compute(part):
        (index,) = part
        if index == computed[2]:
            stored(store, run, [index], writer="late")
        return records("ours", index)

    indexes = dask.bag.from_sequence(range(4), npartitions=4)
    checkpointer = Checkpointer(store, verbose=False)
    with pytest.raises(ValueError):
        checkpointer.checkpoint(
            "x", indexes.map_partitions(fail_at_third), scheduler="sync"
        )
    kept = store.survey("x", PLAN).kept
    assert set(kept) == set(computed[:2])
    (run,) = {parse_filename(info.file).run for info in kept.values()}
    loaded = checkpointer.checkpoint(
        "x", indexes.map_partitions(compute), scheduler="sync"
    )
    assert writers(loaded) == {"first", "ours"}


# ---- on local disk a run holds a lock while it goes on ----

HOLDER = textwrap.dedent(
    """
    import os
    import sys
    from agatha_ckpt import CheckpointStore
    with CheckpointStore(sys.argv[1]).hold("x", sys.argv[2]):
        if sys.argv[3] == "fork" and os.fork():
            os._exit(0)  # and leave the child, which goes on
        print(os.getpid(), flush=True)
        sys.stdin.read()
    """
)


@pytest.fixture
def holder(local):
    """Start a process that holds a run, and return it when it does."""
    started = []

    def start(how="simply"):
        local.begin("x")
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(local.root), OTHER, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append((process, int(process.stdout.readline())))
        return started[-1][0]

    yield start
    for process, _ in started:
        process.communicate()


def test_nothing_is_kept_of_a_run_that_holds_its_lock(local, holder, capsys):
    stored(local, OTHER, [0, 1])
    holder()
    bag = bag_that(lambda: None)
    loaded = Checkpointer(local).checkpoint("x", bag, scheduler="sync")
    assert writers(loaded) == {"ours"}
    assert "2 files of a run that goes on not kept" in capsys.readouterr().out


def others_clear(local):
    CheckpointStore(local.root).clear("x")


def others_commit_and_clear(local):
    bag = dask.bag.from_sequence(["theirs"], npartitions=1)
    Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert "theirs" in Checkpointer(local).checkpoint("x").compute(scheduler="sync")
    held = {name for name in os.listdir(local.path("x")) if name.startswith(".")}
    assert held == {run_filename(OTHER)}
    local.clear("x")


@pytest.mark.parametrize("meanwhile", [others_clear, others_commit_and_clear])
def test_what_a_run_stores_after_a_clear_is_kept_only_when_it_has_ended_P1(
    local, holder, meanwhile
):
    process = holder()
    stored(local, OTHER, [0, 1])
    meanwhile(local)
    stored(local, OTHER, [2, 3])
    bag = bag_that(lambda: None)
    loaded = Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert writers(loaded) == {"ours"}
    process.kill()
    process.wait()
    local.clear("x")
    assert not local.path("x").exists()


def test_what_was_kept_and_is_cleared_before_it_is_looked_at_is_of_no_graph(store):
    (info,) = stored(store, OTHER, [0], bag="a bag")
    assert store.bag_of("x", 0, info) == "a bag"
    store.clear("x")
    assert store.bag_of("x", 0, info) == ""


def test_a_clear_takes_also_what_a_run_stores_meanwhile_P1(monkeypatch):
    # That run may have found all its files before, and mark them done after it.
    store = CheckpointStore(f"memory://{uuid.uuid4().hex}")
    stored(store, OTHER, [2, 3])
    rm_file, more = store.fs.rm_file, [0, 1]

    def remove(path):
        if more:
            stored(store, OTHER, [more.pop()])
        rm_file(path)

    monkeypatch.setattr(store.fs, "rm_file", remove)
    store.clear("x")
    assert not more
    assert store.status("x").state == "absent"


def test_what_a_killed_run_left_is_kept_and_its_lock_file_goes(local, holder):
    stored(local, OTHER, [0, 1])
    process = holder()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (local.path("x") / run_filename(OTHER)).exists()
    bag = bag_that(lambda: None)
    loaded = Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert writers(loaded) == {"other", "ours"}
    assert len(os.listdir(local.path("x"))) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_that_outlives_its_run_holds_no_lock(local, holder):
    stored(local, OTHER, [0, 1])
    holder("fork").wait()
    assert set(local.survey("x", PLAN).kept) == {0, 1}


def test_a_run_that_ends_leaves_no_lock_file(local):
    def fail(record):
        raise ValueError(record)

    bag = dask.bag.from_sequence([1], npartitions=1).map(fail)
    with pytest.raises(ValueError, match="1"):
        Checkpointer(local, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert os.listdir(local.path("x")) == []


def test_another_store_of_the_same_process_sees_the_lock(local):
    local.begin("x")
    stored(local, OTHER, [0])
    with local.hold("x", OTHER):
        assert CheckpointStore(local.root).survey("x", PLAN).kept == {}
    assert set(local.survey("x", PLAN).kept) == {0}
