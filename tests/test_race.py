"""P1, P3: processes that save, clear and load one name at the same moment."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._layout import DONE_MARKER

WORKER = Path(__file__).with_name("race_worker.py")
SIZE = 20


class Worker:
    """A process that takes commands; it lives for many rounds."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        assert line, "a worker ended"
        return json.loads(line)

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def workers():
    team = [Worker() for _ in range(4)]
    yield team
    for worker in team:
        worker.end()


@pytest.fixture(
    params=[
        pytest.param(20, id="20"),
        pytest.param(200, id="200", marks=pytest.mark.long),
    ]
)
def rounds(request):
    """Name and random numbers of each round, the same in every run."""
    return [(f"round-{i}", random.Random(i)) for i in range(request.param)]


def race(workers, root, name, commands, fsync=False):
    """Let each worker do one command, all from one moment on; return the answers."""
    team = workers[: len(commands)]
    for worker, command in zip(team, commands, strict=True):
        common = {"root": str(root), "name": name, "fsync": fsync}
        worker.tell(json.dumps(common | command))
    met = [worker.hear() for worker in team]
    waiting = [w for w, m in zip(team, met, strict=True) if m == "at the barrier"]
    for worker in waiting:
        worker.tell("")
    # One that failed on its way has answered already; the others end their turn.
    answers = [m for m in met if m != "at the barrier"]
    answers += [worker.hear() for worker in waiting]
    for found in answers:
        assert found["outcome"] != "error", found["traceback"]
    return answers


def saving(writer, npartitions=5, barrier_at="call", settings=None, **options):
    command = {"do": "save", "writer": writer, "npartitions": npartitions}
    command |= {"size": SIZE, "barrier_at": barrier_at, "settings": settings or {}}
    return command | options


def run_of(writer, npartitions=5):
    return [[writer, p, i] for p in range(npartitions) for i in range(SIZE)]


def load(store, name):
    """The stored records as JSON has them, read in this process."""
    bag = Checkpointer(store, verbose=False).checkpoint(name)
    return [list(record) for record in bag.compute(scheduler="sync")]


def assert_nothing_left_over(store, name):
    files = set(os.listdir(store.path(name)))
    assert files == store.manifest(name).files | {DONE_MARKER}


def assert_partitions_are_whole(records, writers, npartitions=5):
    """Each partition is one writer's in whole, and all of them are there."""
    assert len(records) == npartitions * SIZE
    for index in range(npartitions):
        part = records[index * SIZE : (index + 1) * SIZE]
        writer = part[0][0]
        assert writer in writers
        assert part == [[writer, index, i] for i in range(SIZE)]


@pytest.mark.parametrize("barrier_at", ["call", "first partition"])
@pytest.mark.parametrize("allow_partial", [True, False])
def test_writers_with_one_plan_leave_one_checkpoint_that_all_of_them_load_P1_P3(
    workers, tmp_path, rounds, barrier_at, allow_partial
):
    store = CheckpointStore(tmp_path)
    for name, rng in rounds:
        writers = range(rng.randint(2, 4))
        answers = race(
            workers,
            tmp_path,
            name,
            [
                saving(w, barrier_at=barrier_at, allow_partial=allow_partial)
                for w in writers
            ],
            fsync=rng.random() < 0.2,
        )
        records = load(store, name)
        if allow_partial:
            assert_partitions_are_whole(records, writers)
        else:
            assert records in [run_of(writer) for writer in writers]
        bags = [found for found in answers if found["outcome"] == "bag"]
        assert bags
        assert all(found["records"] == records for found in bags)
        others = [found for found in answers if found not in bags]
        assert all(found == {"outcome": "conflict"} for found in others)
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("differ", ["npartitions", "version"])
def test_of_writers_with_different_plans_one_wins_and_the_others_are_told_P1_P3(
    workers, tmp_path, rounds, differ
):
    store = CheckpointStore(tmp_path)
    for name, rng in rounds:
        writers = range(rng.randint(2, 4))
        plans = {
            w: {"npartitions": 3 + w}
            if differ == "npartitions"
            else {"version": str(w)}
            for w in writers
        }
        # All of them have seen that nothing is done when they pass the barrier.
        commands = [saving(w, barrier_at="first partition", **plans[w]) for w in plans]
        answers = race(workers, tmp_path, name, commands, fsync=rng.random() < 0.2)
        outcomes = [found["outcome"] for found in answers]
        assert sorted(outcomes) == ["bag"] + ["conflict"] * (len(writers) - 1)
        winner = outcomes.index("bag")
        records = run_of(winner, plans[winner].get("npartitions", 5))
        assert answers[winner]["records"] == load(store, name) == records
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("versions", ["one new version", "a version each"])
def test_of_runs_that_compute_a_stale_checkpoint_again_one_stays_whole_P1_P3(
    workers, tmp_path, rounds, versions
):
    store = CheckpointStore(tmp_path)
    for name, rng in rounds:
        prepare(store, name, "stale")
        writers = range(rng.randint(2, 4))
        commands = [
            saving(
                writer,
                barrier_at="first partition",
                settings={"on_stale": "recompute"},
                version="new" if versions == "one new version" else f"new {writer}",
            )
            for writer in writers
        ]
        answers = race(workers, tmp_path, name, commands)
        assert store.verify(name) == []
        records = load(store, name)
        assert records in [run_of(writer) for writer in writers]
        bags = [found for found in answers if found["outcome"] == "bag"]
        assert all(found["records"] == records for found in bags)
        others = [found for found in answers if found not in bags]
        assert all(found == {"outcome": "conflict"} for found in others)
        assert len(bags) == 1 or versions == "one new version"
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("before", ["nothing", "partial", "stale"])
def test_a_writer_against_a_clearer_leaves_a_whole_checkpoint_or_none_P1(
    workers, tmp_path, rounds, before
):
    store = CheckpointStore(tmp_path)
    for name, rng in rounds:
        if before != "nothing":
            prepare(store, name, before)
        write = saving("w", settings={"on_stale": "recompute"}, version="new")
        write["barrier_at"] = rng.choice(["call", "first partition"])
        times = rng.choice([1, 10, 100, 400])
        commands = [write, {"do": "clear", "times": times}]
        written, _ = race(workers, tmp_path, name, commands, fsync=rng.random() < 0.2)
        if written["outcome"] == "bag":
            assert written["records"] == run_of("w")
        elif written["outcome"] != "conflict":
            assert "replaced or cleared" in written["message"]
        if store.is_done(name):
            assert store.verify(name) == []
            assert load(store, name) == run_of("w")
            assert_nothing_left_over(store, name)
            continue
        bag = dask.bag.from_sequence(range(5), partition_size=1)
        bag = bag.map_partitions(lambda p: [("next", *p, i) for i in range(SIZE)])
        checkpointer = Checkpointer(store, verbose=False)
        checkpointer.checkpoint(name, bag, version="new", scheduler="sync")
        assert_partitions_are_whole(load(store, name), {"w", "next"})
        assert_nothing_left_over(store, name)


def prepare(store, name, state):
    """Store another version whole, or some partitions of the version to come."""
    bag = dask.bag.from_sequence(range(5), partition_size=1)
    bag = bag.map_partitions(lambda p: [("w", *p, i) for i in range(SIZE)])
    version = "old" if state == "stale" else "new"
    checkpointer = Checkpointer(store, verbose=False)
    checkpointer.checkpoint(name, bag, version=version, scheduler="sync")
    if state == "partial":
        last = store.manifest(name).partitions[-1]
        os.unlink(store.path(name) / DONE_MARKER)
        os.unlink(store.path(name) / last.file)


def test_clearers_at_the_same_moment_do_not_get_in_each_others_way(
    workers, tmp_path, rounds
):
    store = CheckpointStore(tmp_path)
    for name, rng in rounds:
        prepare(store, name, rng.choice(["stale", "partial"]))
        commands = [{"do": "clear", "times": 1}] * rng.randint(2, 4)
        race(workers, tmp_path, name, commands, fsync=rng.random() < 0.5)
        assert not store.path(name).exists()


def test_a_reader_gets_one_version_or_is_told_that_it_was_replaced_P1_P3(
    workers, tmp_path, rounds
):
    store = CheckpointStore(tmp_path)
    checkpointer = Checkpointer(store, verbose=False)
    for name, rng in rounds:
        shape = {"versions": 10, "npartitions": rng.randint(1, 6), "size": SIZE}
        bag = dask.bag.from_sequence(range(shape["npartitions"]), partition_size=1)
        bag = bag.map_partitions(lambda p: [(0, *p, i) for i in range(SIZE)])
        checkpointer.checkpoint(name, bag, version="0", scheduler="sync")
        commands = [{"do": do} | shape for do in ("recompute", "read", "read")]
        for found in race(workers, tmp_path, name, commands)[1:]:
            assert found["faults"] == []
            assert found["loads"] > found["replaced"]
        assert_nothing_left_over(store, name)
