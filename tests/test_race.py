"""P1, P3: processes that save, clear and load one name at the same moment."""

import contextlib
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import dask.bag
import fsspec
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, CorruptCheckpointError
from agatha_ckpt._layout import DONE_MARKER, parse_filename

WORKER = Path(__file__).with_name("race_worker.py")
SIZE = 20
SERVERS = {"s3": "s3_server", "s3-rclone": "rclone_server"}


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


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request):
    """Where the races are: a kind of root. What is started in it means the same."""
    if request.param == "local":
        yield request.param
        return
    with request.getfixturevalue(SERVERS[request.param]).configured():
        yield request.param


@pytest.fixture(scope="module")
def workers(place):
    team = [Worker() for _ in range(4)]
    yield team
    for worker in team:
        worker.end()


@pytest.fixture
def store(request, place, tmp_path):
    if place == "local":
        yield CheckpointStore(tmp_path)
        return
    root = request.getfixturevalue(SERVERS[place]).new_root()
    yield CheckpointStore(root)
    # What a server holds of other tests, it looks through at each listing.
    with contextlib.suppress(FileNotFoundError):
        filesystem(root).rm(root, recursive=True)


@pytest.fixture(
    params=[
        pytest.param(20, id="20"),
        pytest.param(200, id="200", marks=pytest.mark.long),
    ]
)
def rounds(request, place):
    """Name and random numbers of each round, the same in every run."""
    # A round on a server takes five times as long.
    return rounds_of(request.param if place == "local" else request.param // 5)


def rounds_of(count):
    return [(f"round-{i}", random.Random(i)) for i in range(count)]


def race(workers, store, name, commands, fsync=False):
    """Let each worker do one command, all from one moment on; return the answers."""
    team = workers[: len(commands)]
    for worker, command in zip(team, commands, strict=True):
        common = {"root": str(store.root), "name": name, "fsync": fsync}
        worker.tell(json.dumps(common | command))
    met = [worker.hear() for worker in team]
    waiting = [w for w, m in zip(team, met, strict=True) if m == "at the barrier"]
    for worker in waiting:
        worker.tell("")
    # One that failed on its way has answered already; the others end their turn.
    answers = [w.hear() if w in waiting else m for w, m in zip(team, met, strict=True)]
    for found in answers:
        assert found["outcome"] != "error", found["traceback"]
    return answers


def saving(writer, npartitions=5, meet=0, later=0, settings=None, **options):
    command = {"do": "save", "writer": writer, "npartitions": npartitions}
    command |= {"size": SIZE, "meet": meet, "later": later}
    return command | {"settings": settings or {}} | options


def run_of(writer, npartitions=5):
    return [[writer, p, i] for p in range(npartitions) for i in range(SIZE)]


def next_bag(writer="next"):
    bag = dask.bag.from_sequence(range(5), partition_size=1)
    return bag.map_partitions(lambda p: [(writer, *p, i) for i in range(SIZE)])


def load(store, name):
    """The stored records as JSON has them, read in this process."""
    bag = Checkpointer(store, verbose=False).checkpoint(name)
    return [list(record) for record in bag.compute(scheduler="sync")]


def filesystem(root):
    """One that sees what other processes have written."""
    return fsspec.core.url_to_fs(str(root), use_listings_cache=False)[0]


def files_of(store, name):
    files = filesystem(store.root).find(str(store.path(name)))
    return {file.rsplit("/", 1)[-1] for file in files}


def assert_nothing_left_over(store, name):
    assert files_of(store, name) == store.manifest(name).files | {DONE_MARKER}


def assert_partitions_are_whole(records, writers, npartitions=5):
    """Each partition is one writer's in whole, and all of them are there."""
    assert len(records) == npartitions * SIZE
    for index in range(npartitions):
        part = records[index * SIZE : (index + 1) * SIZE]
        writer = part[0][0]
        assert writer in writers
        assert part == [[writer, index, i] for i in range(SIZE)]


STARTS = ["at once", "after a partition", "a little later"]
PAUSES = {"quick": 0, "slow": 0.003}
SCHEDULERS = {
    "sync": {"scheduler": "sync"},
    "threads": {"scheduler": "threads", "num_workers": 2},
}
VARIANTS = list(itertools.product(STARTS, PAUSES, SCHEDULERS))


def two_savers(variant, rng, **options):
    """The commands of two writers of one plan, with the default settings."""
    start, pause, scheduler = variant
    options |= SCHEDULERS[scheduler]
    options = {"npartitions": rng.randint(4, 5), "pause": PAUSES[pause]} | options
    first, second = ({"seed": rng.random()} for _ in range(2))
    if start == "after a partition":
        # As many are under way at once as there are threads; one more, and one is done.
        first["meet"] = options.get("num_workers", 1) + 1
    elif start == "a little later":
        second["later"] = rng.uniform(0, 0.02)
    return [saving(0, **first, **options), saving(1, **second, **options)]


def runs_in(store, name, records):
    """Partition, run and writer, to be read where a test fails."""
    files = [parse_filename(info.file) for info in store.manifest(name).partitions]
    return [(f.index, f.run, records[f.index * SIZE][0]) for f in files]


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.long)])
def test_two_writers_leave_the_records_of_exactly_one_of_them_P1(workers, store, count):
    for (name, rng), variant in zip(
        rounds_of(count), itertools.cycle(VARIANTS), strict=False
    ):
        commands = two_savers(variant, rng)
        answers = race(workers, store, name, commands)
        records = load(store, name)
        npartitions = commands[0]["npartitions"]
        found = name, variant, runs_in(store, name, records)
        assert records in [run_of(writer, npartitions) for writer in (0, 1)], found
        # The one whose records these are not has adopted them, or was told.
        bags = [answer for answer in answers if answer["outcome"] == "bag"]
        assert bags
        assert all(bag["records"] == records for bag in bags)
        others = [answer for answer in answers if answer not in bags]
        assert all(answer == {"outcome": "conflict"} for answer in others)
        assert answers[records[0][0]] in bags
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("meet", [0, 1], ids=["call", "first partition"])
@pytest.mark.parametrize("allow_partial", [True, False])
def test_writers_with_one_plan_leave_one_checkpoint_that_all_of_them_load_P1_P3(
    workers, store, rounds, meet, allow_partial
):
    for name, rng in rounds:
        writers = range(rng.randint(2, 4))
        answers = race(
            workers,
            store,
            name,
            [saving(w, meet=meet, allow_partial=allow_partial) for w in writers],
            fsync=rng.random() < 0.2,
        )
        records = load(store, name)
        assert records in [run_of(w) for w in writers], runs_in(store, name, records)
        bags = [found for found in answers if found["outcome"] == "bag"]
        assert bags
        assert all(found["records"] == records for found in bags)
        others = [found for found in answers if found not in bags]
        assert all(found == {"outcome": "conflict"} for found in others)
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("differ", ["npartitions", "version"])
def test_of_writers_with_different_plans_one_wins_and_the_others_are_told_P1_P3(
    workers, store, rounds, differ
):
    for name, rng in rounds:
        writers = range(rng.randint(2, 4))
        plans = {
            w: {"npartitions": 3 + w}
            if differ == "npartitions"
            else {"version": str(w)}
            for w in writers
        }
        # All of them have seen that nothing is done when they pass the barrier.
        commands = [saving(w, meet=1, **plans[w]) for w in plans]
        answers = race(workers, store, name, commands, fsync=rng.random() < 0.2)
        outcomes = [found["outcome"] for found in answers]
        assert sorted(outcomes) == ["bag"] + ["conflict"] * (len(writers) - 1)
        winner = outcomes.index("bag")
        records = run_of(winner, plans[winner].get("npartitions", 5))
        assert answers[winner]["records"] == load(store, name) == records
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("versions", ["one new version", "a version each"])
def test_of_runs_that_compute_a_stale_checkpoint_again_one_stays_whole_P1_P3(
    workers, store, rounds, versions
):
    for name, rng in rounds:
        prepare(store, name, "stale")
        writers = range(rng.randint(2, 4))
        commands = [
            saving(
                writer,
                meet=1,
                settings={"on_stale": "recompute"},
                version="new" if versions == "one new version" else f"new {writer}",
            )
            for writer in writers
        ]
        answers = race(workers, store, name, commands)
        assert store.verify(name) == []
        records = load(store, name)
        assert records in [run_of(writer) for writer in writers]
        bags = [found for found in answers if found["outcome"] == "bag"]
        assert all(found["records"] == records for found in bags)
        others = [found for found in answers if found not in bags]
        assert all(found == {"outcome": "conflict"} for found in others)
        assert len(bags) == 1 or versions == "one new version"
        assert_nothing_left_over(store, name)


def test_of_runs_that_repair_a_checkpoint_at_once_one_leaves_it_whole_P1(
    workers, store, rounds
):
    for name, rng in rounds:
        prepare(store, name, "stale")
        lost = rng.randrange(5)
        file = store.manifest(name).partitions[lost].file
        filesystem(store.root).rm_file(f"{store.path(name)}/{file}")
        meet = rng.choice([0, 1])
        commands = [saving(w, meet=meet, version="old") for w in range(2)]
        answers = race(workers, store, name, commands)
        records = load(store, name)
        whole = [run_of("w")[: lost * SIZE] for _ in range(2)]
        for writer, expected in enumerate(whole):
            expected += run_of(writer)[lost * SIZE : (lost + 1) * SIZE]
            expected += run_of("w")[(lost + 1) * SIZE :]
        assert records in whole, runs_in(store, name, records)
        assert all(
            found in ({"outcome": "bag", "records": records}, {"outcome": "conflict"})
            for found in answers
        )
        assert {"outcome": "bag", "records": records} in answers
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("before", ["nothing", "partial", "stale"])
def test_a_writer_against_a_clearer_leaves_a_whole_checkpoint_or_none_P1(
    workers, place, store, rounds, before
):
    for name, rng in rounds:
        if before != "nothing":
            prepare(store, name, before)
        write = saving("w", settings={"on_stale": "recompute"}, version="new")
        write["meet"] = rng.choice([0, 1])
        times = rng.choice([1, 10, 100, 400] if place == "local" else [1, 5, 10, 20])
        commands = [write, {"do": "clear", "times": times}]
        written, _ = race(workers, store, name, commands, fsync=rng.random() < 0.2)
        if written["outcome"] == "bag":
            assert written["records"] == run_of("w")
        elif written["outcome"] != "conflict":
            assert "replaced or cleared" in written["message"]
        if store.is_done(name):
            assert store.verify(name) == [], (name, times)
            assert load(store, name) == run_of("w")
            assert_nothing_left_over(store, name)
            continue
        checkpointer = Checkpointer(store, verbose=False)
        checkpointer.checkpoint(name, next_bag(), version="new", scheduler="sync")
        assert_partitions_are_whole(load(store, name), {"w", "next"})
        assert_nothing_left_over(store, name)


def prepare(store, name, state):
    """Store another version whole, or some partitions of the version to come."""
    version = "old" if state == "stale" else "new"
    checkpointer = Checkpointer(store, verbose=False)
    checkpointer.checkpoint(name, next_bag("w"), version=version, scheduler="sync")
    if state == "partial":
        last = store.manifest(name).partitions[-1]
        for file in DONE_MARKER, last.file:
            filesystem(store.root).rm_file(f"{store.path(name)}/{file}")


def test_clearers_at_the_same_moment_do_not_get_in_each_others_way(
    workers, store, rounds
):
    for name, rng in rounds:
        prepare(store, name, rng.choice(["stale", "partial"]))
        commands = [{"do": "clear", "times": 1}] * rng.randint(2, 4)
        race(workers, store, name, commands, fsync=rng.random() < 0.5)
        assert not filesystem(store.root).exists(str(store.path(name)))


def test_readers_of_what_two_writers_save_get_nothing_or_what_stays_P1_P3(
    workers, store, rounds
):
    for name, rng in rounds:
        saves = two_savers(rng.choice(VARIANTS), rng)
        answers = race(
            workers, store, name, [*saves, *[{"do": "poll", "loads": 3}] * 2]
        )
        records = load(store, name)
        runs = [run_of(w, saves[w]["npartitions"]) for w in (0, 1)]
        assert records in runs, runs_in(store, name, records)
        for found in answers[2:]:
            assert found["faults"] == []
            assert found["records"] == [records]
        assert_nothing_left_over(store, name)


def test_a_reader_gets_one_version_or_is_told_that_it_was_replaced_P1_P3(
    workers, place, store, rounds
):
    checkpointer = Checkpointer(store, verbose=False)
    versions = 10 if place == "local" else 4
    for name, rng in rounds:
        shape = {"versions": versions, "npartitions": rng.randint(1, 6), "size": SIZE}
        bag = dask.bag.from_sequence(range(shape["npartitions"]), partition_size=1)
        bag = bag.map_partitions(lambda p: [(0, *p, i) for i in range(SIZE)])
        checkpointer.checkpoint(name, bag, version="0", scheduler="sync")
        commands = [{"do": do} | shape for do in ("recompute", "read", "read")]
        for found in race(workers, store, name, commands)[1:]:
            assert found["faults"] == []
            assert found["loads"] > found["replaced"]
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("place", ["s3-rclone"], indirect=True)
def test_where_nothing_creates_if_absent_a_lost_race_shows_and_can_be_mended_P5(
    workers, store, rounds
):
    for (name, rng), variant in zip(rounds, itertools.cycle(VARIANTS), strict=False):
        commands = two_savers(variant, rng, npartitions=5)
        answers = race(workers, store, name, commands)
        runs = [run_of(writer) for writer in (0, 1)]
        for found in answers:
            assert found["outcome"] != "bag" or found["records"] in runs, variant
        with contextlib.suppress(CorruptCheckpointError):
            records = load(store, name)
            assert records in runs, (variant, runs_in(store, name, records))
        checkpointer = Checkpointer(store, verbose=False)
        checkpointer.checkpoint(name, next_bag(), scheduler="sync")
        assert store.verify(name) == []
        assert_partitions_are_whole(load(store, name), {0, 1, "next"})
