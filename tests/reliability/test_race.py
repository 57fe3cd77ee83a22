"""P1, P3: processes that save, clear and load one name at the same moment."""

import contextlib
import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import dask.bag
import fsspec
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, CorruptCheckpointError
from agatha_ckpt._format.names import DONE_MARKER, is_own_file, parse_filename

WORKER = Path(__file__).with_name("race_worker.py")
SIZE = 20
FOREIGN = {"notes.txt"}
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
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
    """Give so many workers; those that were started stay for the next race."""
    team = []

    def first(count):
        team.extend(Worker() for _ in range(count - len(team)))
        return team[:count]

    yield first
    for worker in team:
        worker.end()


@pytest.fixture(scope="module")
def mortal(place):
    """A worker that does what it is told in a child, which can be killed."""
    worker = Worker()
    yield worker
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
        pytest.param(50, id="50"),
        pytest.param(200, id="200", marks=LONG),
    ]
)
def rounds(request, place):
    """Name and random numbers of each round, the same in every run."""
    long = request.node.get_closest_marker("long")
    # A round on a server takes five to ten times as long as one on local disk.
    count = request.param if place == "local" or long else request.param // 10
    return [(f"round-{i}", random.Random(i)) for i in range(count)]


@dataclass
class Figures:
    """What came of the rounds of one test."""

    rounds: int = 0
    mixtures: int = 0
    others: Counter = field(default_factory=Counter)

    def __str__(self):
        others = [f"{count} {what}" for what, count in sorted(self.others.items())]
        return ", ".join(
            [f"{self.rounds} rounds", f"{self.mixtures} mixtures", *others]
        )

    def assert_one_of(self, runs, records, found=None):
        """P1: the records are those of exactly one run."""
        self.mixtures += records not in runs
        assert records in runs, found or records


@pytest.fixture
def figures(request, record_property, capsys):
    figures = Figures()
    yield figures
    record_property("figures", str(figures))
    with capsys.disabled():
        if request.node.get_closest_marker("long"):
            print(f"\n{request.node.name}: {figures}")


@pytest.fixture
def race(request, workers, store, figures):
    """Let each worker do one command, all from one moment on; return the answers."""

    def race(name, commands, fsync=False):
        if "killed_after" in commands[0]:
            mortal = request.getfixturevalue("mortal")
            team = [mortal, *workers(len(commands) - 1)]
        else:
            team = workers(len(commands))
        common = {"root": str(store.root), "name": name, "fsync": fsync}
        answers = answers_of(team, [common | command for command in commands])
        figures.rounds += 1
        figures.others.update(found["outcome"] for found in answers)
        return answers

    return race


def answers_of(team, commands):
    for worker, command in zip(team, commands, strict=True):
        worker.tell(json.dumps(command))
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
    assert files_of(store, name) - FOREIGN == store.manifest(name).files | {DONE_MARKER}


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


@pytest.mark.parametrize("rounds", [50, pytest.param(500, marks=LONG)], indirect=True)
def test_two_writers_leave_the_records_of_exactly_one_of_them_P1(
    race, store, rounds, figures
):
    for (name, rng), variant in zip(rounds, itertools.cycle(VARIANTS), strict=False):
        commands = two_savers(variant, rng)
        answers = race(name, commands)
        records = load(store, name)
        npartitions = commands[0]["npartitions"]
        found = name, variant, runs_in(store, name, records)
        runs = [run_of(writer, npartitions) for writer in (0, 1)]
        figures.assert_one_of(runs, records, found)
        # The one whose records these are not has adopted them, or was told.
        bags = [answer for answer in answers if answer["outcome"] == "bag"]
        assert bags
        assert all(bag["records"] == records for bag in bags)
        others = [answer for answer in answers if answer not in bags]
        assert all(answer == {"outcome": "conflict"} for answer in others)
        assert answers[records[0][0]] in bags
        assert_nothing_left_over(store, name)


def some_writers(rng):
    return range(rng.choice([2, 3, 4, 8]))


def test_writers_with_one_plan_leave_one_checkpoint_that_all_of_them_load_P1_P3(
    race, store, rounds, figures
):
    for name, rng in rounds:
        writers = some_writers(rng)
        # At the call, or when each of them has computed its first partition.
        options = {"meet": rng.choice([0, 1]), "allow_partial": rng.random() < 0.5}
        answers = race(
            name, [saving(w, **options) for w in writers], fsync=rng.random() < 0.2
        )
        records = load(store, name)
        runs = [run_of(w) for w in writers]
        found = options, runs_in(store, name, records)
        figures.assert_one_of(runs, records, found)
        assert answers == [{"outcome": "bag", "records": records}] * len(writers)
        assert_nothing_left_over(store, name)


PLANS = {
    "records": lambda w: {},
    "npartitions": lambda w: {"npartitions": 3 + w},
    "version": lambda w: {"version": str(w)},
    # Pairs that would save the same records, with three partition counts.
    "some of each": lambda w: {"writer": w // 2, "npartitions": 3 + w // 2 % 3},
}


def test_of_writers_with_different_plans_one_wins_and_the_others_are_told_P1_P3(
    race, store, rounds, figures
):
    for name, rng in rounds:
        writers, differ = some_writers(rng), rng.choice(list(PLANS))
        # All of them have seen that nothing is done when they pass the barrier.
        commands = [
            saving(**{"writer": w, "meet": 1} | PLANS[differ](w)) for w in writers
        ]
        answers = race(name, commands, fsync=rng.random() < 0.2)
        records = load(store, name)
        runs = [run_of(c["writer"], c["npartitions"]) for c in commands]
        found = differ, runs_in(store, name, records)
        figures.assert_one_of(runs, records, found)
        plans = [(c["npartitions"], c.get("version")) for c in commands]
        manifest = store.manifest(name)
        for plan, answer in zip(plans, answers, strict=True):
            if plan == (manifest.plan.npartitions, manifest.plan.version):
                assert answer == {"outcome": "bag", "records": records}
            else:
                assert answer == {"outcome": "conflict"}
        assert_nothing_left_over(store, name)


def test_of_markers_put_at_once_exactly_one_is_there_afterwards_P1_P3(
    race, store, rounds, figures
):
    for name, rng in rounds:
        counts = rng.choice([1, 3])
        shapes = [{"writer": w, "npartitions": 1 + w % counts} for w in range(8)]
        rng.shuffle(shapes)
        commands = [{"do": "mark", "size": SIZE} | shape for shape in shapes]
        answers = race(name, commands, fsync=rng.random() < 0.2)
        (won,) = [i for i, found in enumerate(answers) if found["outcome"] == "won"]
        assert answers[won]["token"] == store.manifest(name).token
        figures.assert_one_of([run_of(**shapes[won])], load(store, name))
        for shape, found in zip(shapes, answers, strict=True):
            # A run that has the winner's plan is told of a conflict here where the
            # winner took its files for left-overs; a save then adopts the winner.
            if found["outcome"] != "conflict":
                assert shape["npartitions"] == shapes[won]["npartitions"]
                assert found["token"] == answers[won]["token"]
        assert_nothing_left_over(store, name)


def test_of_runs_that_compute_a_stale_checkpoint_again_one_stays_whole_P1_P3(
    race, store, rounds, figures
):
    for name, rng in rounds:
        prepare(store, name, "stale")
        writers, versions = some_writers(rng), rng.choice([1, 8])
        recompute = {"meet": 1, "settings": {"on_stale": "recompute"}}
        commands = [
            saving(writer, version=f"new {writer % versions}", **recompute)
            for writer in writers
        ]
        answers = race(name, commands)
        assert store.verify(name) == []
        records = load(store, name)
        figures.assert_one_of([run_of(writer) for writer in writers], records)
        bags = [found for found in answers if found["outcome"] == "bag"]
        assert all(found["records"] == records for found in bags)
        others = [found for found in answers if found not in bags]
        assert all(found == {"outcome": "conflict"} for found in others)
        assert len(bags) == 1 or versions == 1
        assert_nothing_left_over(store, name)


def test_of_runs_that_repair_a_checkpoint_at_once_one_leaves_it_whole_P1(
    race, store, rounds, figures
):
    for name, rng in rounds:
        prepare(store, name, "stale")
        index, damage = rng.randrange(5), rng.choice(["lost", "flipped"])
        spoil(store, name, index, damage)
        meet = rng.choice([0, 1])
        writers = some_writers(rng)
        # A save sees what is lost, and only a repair what is inside a file.
        if damage == "lost":
            commands = [saving(w, meet=meet, version="old") for w in writers]
        else:
            commands = [repairing(w, meet) for w in writers]
        answers = race(name, commands)
        records = load(store, name)
        assert store.verify(name) == []
        runs = [repaired(w, [index]) for w in writers]
        figures.assert_one_of(runs, records, runs_in(store, name, records))
        bag = {"outcome": "bag", "records": records}
        assert bag in answers
        assert all(found in (bag, {"outcome": "conflict"}) for found in answers)
        assert_nothing_left_over(store, name)


def test_of_runs_that_repair_and_compute_again_at_once_one_leaves_it_whole_P1_P3(
    race, store, rounds, figures
):
    for name, rng in rounds:
        prepare(store, name, "stale")
        index = rng.randrange(5)
        spoil(store, name, index, "lost")
        settings = {"on_stale": "recompute"}
        commands = [
            repairing(0, meet=rng.choice([0, 1])),
            repairing(1, meet=rng.choice([0, 1])),
            saving(2, meet=1, settings=settings, version="new"),
            saving(3, meet=1, settings=settings, version="new", npartitions=4),
        ]
        answers = race(name, commands)
        records = load(store, name)
        assert store.verify(name) == []
        runs = [repaired(0, [index]), repaired(1, [index]), run_of(2), run_of(3, 4)]
        figures.assert_one_of(runs, records, runs_in(store, name, records))
        assert {"outcome": "bag", "records": records} in answers
        for found in answers:
            if found["outcome"] == "bag":
                figures.assert_one_of(runs, found["records"])
            elif found["outcome"] != "conflict":
                assert "replaced or cleared" in found["message"]
        assert_nothing_left_over(store, name)


def repairing(writer, meet):
    shape = {"writer": writer, "npartitions": 5, "size": SIZE}
    return {"do": "repair", "meet": meet} | shape


def repaired(writer, indexes):
    """The records of what `prepare` stored, and *writer* repaired."""
    return [[writer if p in indexes else "w", p, i] for _, p, i in run_of("w")]


def spoil(store, name, index, damage):
    """Lose a partition file, or change a byte in it."""
    fs = filesystem(store.root)
    path = f"{store.path(name)}/{store.manifest(name).partitions[index].file}"
    if damage == "lost":
        fs.rm_file(path)
        return
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 1
    fs.pipe_file(path, bytes(data))


def test_a_writer_against_a_clearer_leaves_a_whole_checkpoint_or_none_P1(
    race, place, store, rounds, figures
):
    for name, rng in rounds:
        before = rng.choice(["nothing", "partial", "stale"])
        if before != "nothing":
            prepare(store, name, before)
        write = saving("w", settings={"on_stale": "recompute"}, version="new")
        write["meet"] = rng.choice([0, 1])
        times = rng.choice([1, 10, 100, 400] if place == "local" else [1, 5, 10, 20])
        commands = [write, {"do": "clear", "times": times}]
        written, _ = race(name, commands, fsync=rng.random() < 0.2)
        if written["outcome"] == "bag":
            assert written["records"] == run_of("w")
        elif written["outcome"] != "conflict":
            assert "replaced or cleared" in written["message"]
        judge_what_was_cleared(store, place, name, ["w"], figures)


def judge_what_was_cleared(store, place, name, writers, figures):
    """Whole or not there; the next run has it in any case, and leaves nothing over."""
    damaged = False
    if store.is_done(name):
        try:
            records = load(store, name)
            runs = [run_of(writer) for writer in writers]
            figures.assert_one_of(runs, records, runs_in(store, name, records))
            assert store.verify(name) == []
            assert_nothing_left_over(store, name)
            figures.others["done"] += 1
        except CorruptCheckpointError:
            # The clear came between the look for the files and the marker.
            assert place != "local"
            figures.others["done without files"] += 1
            damaged = True
    if damaged or not store.is_done(name):
        checkpointer = Checkpointer(store, verbose=False)
        checkpointer.checkpoint(name, next_bag(), version="new", scheduler="sync")
        assert store.verify(name) == []
        assert_partitions_are_whole(load(store, name), {*writers, "next"})
        assert_nothing_left_over(store, name)


def test_writers_clearers_and_readers_at_once_see_and_leave_whole_records_P1_P3(
    race, place, store, rounds, figures
):
    for name, rng in rounds:
        if rng.random() < 0.5:
            prepare(store, name, "stale")
        settings = {"on_stale": "recompute"}
        times = rng.choice([1, 10, 100] if place == "local" else [1, 2, 5])
        write = {"settings": settings, "version": "new", "meet": rng.choice([0, 1])}
        commands = [
            *[saving(w, **write) for w in (0, 1)],
            *[{"do": "clear", "times": times}] * 2,
            *[{"do": "poll", "loads": 5, "tries": 20}] * 2,
        ]
        answers = race(name, commands, fsync=rng.random() < 0.2)
        runs = [run_of(0), run_of(1), run_of("w")]
        for found in answers[:2]:
            if found["outcome"] == "bag":
                figures.assert_one_of(runs, found["records"])
            elif found["outcome"] != "conflict":
                assert "replaced or cleared" in found["message"]
        for found in answers[4:]:
            assert found["faults"] == []
            for records in found["records"]:
                figures.assert_one_of(runs, records)
        judge_what_was_cleared(store, place, name, [0, 1], figures)


def test_clear_all_against_writers_of_several_names_leaves_each_whole_or_none_P1_P6(
    race, place, store, rounds, figures
):
    root, fs = str(store.root), filesystem(store.root)
    fs.makedirs(f"{root}/name-0", exist_ok=True)
    fs.pipe_file(f"{root}/name-0/notes.txt", b"mine")
    for _, rng in rounds:
        names = [f"name-{i}" for i in range(3)]
        shape = {"npartitions": 5, "size": SIZE}
        commands = [
            *[{"do": "save_each", "writer": w, "names": names} | shape for w in (0, 1)],
            {"do": "save_each", "writer": 2, "names": names[::-1]} | shape,
            *[{"do": "clear_all", "times": rng.randint(1, 5)}] * rng.randint(1, 2),
        ]
        answers = race("", commands)
        for found in answers[:3]:
            for answer in found["of"].values():
                figures.others[answer["outcome"]] += 1
                if answer["outcome"] == "bag":
                    runs = [run_of(w) for w in range(3)]
                    figures.assert_one_of(runs, answer["records"])
                elif answer["outcome"] != "conflict":
                    assert "replaced or cleared" in answer["message"]
        for name in names:
            judge_what_was_cleared(store, place, name, [0, 1, 2], figures)
        store.clear_all()
        assert [file.rsplit("/", 1)[-1] for file in fs.find(root)] == ["notes.txt"]


def test_a_writer_killed_in_a_race_costs_the_others_nothing_P1_P2(
    race, place, store, rounds, figures
):
    for name, rng in rounds:
        if rng.random() < 0.5:
            prepare(store, name, "stale")
        settings = {"on_stale": "recompute"}
        writers = range(rng.choice([2, 3, 4]))
        commands = [
            saving(w, meet=1, settings=settings, version="new") for w in writers
        ]
        commands[0]["killed_after"] = rng.uniform(0, 0.01 if place == "local" else 0.1)
        dead, *answers = race(name, commands, fsync=rng.random() < 0.2)
        records = load(store, name)
        assert answers == [{"outcome": "bag", "records": records}] * len(answers)
        assert store.verify(name) == []
        assert_partitions_are_whole(records, writers)
        # What a run that died has stored is kept, beside the records of one other.
        killed = dead["outcome"] == "killed"
        assert killed or dead == answers[0]
        alive = {writer for writer, _, _ in records} - ({0} if killed else set())
        figures.mixtures += len(alive) > 1
        assert len(alive) < 2, runs_in(store, name, records)
        figures.others["with partitions of the dead"] += killed and records[0][0] == 0
        # The dead may have stored a file after the winner looked for left-overs.
        names = files_of(store, name) - store.manifest(name).files - {DONE_MARKER}
        assert killed or not names
        assert all(map(is_own_file, names))
        store.clear(name)
        assert files_of(store, name) == set()


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
    race, store, rounds, figures
):
    for name, rng in rounds:
        prepare(store, name, rng.choice(["stale", "partial"]))
        commands = [{"do": "clear", "times": 1}] * len(some_writers(rng))
        race(name, commands, fsync=rng.random() < 0.5)
        assert not filesystem(store.root).exists(str(store.path(name)))


def test_readers_of_what_two_writers_save_get_nothing_or_what_stays_P1_P3(
    race, store, rounds, figures
):
    for name, rng in rounds:
        saves = two_savers(rng.choice(VARIANTS), rng)
        answers = race(name, [*saves, *[{"do": "poll", "loads": 3}] * 2])
        records = load(store, name)
        runs = [run_of(w, saves[w]["npartitions"]) for w in (0, 1)]
        figures.assert_one_of(runs, records, runs_in(store, name, records))
        for found in answers[2:]:
            assert found["faults"] == []
            assert found["records"] == [records]
        assert_nothing_left_over(store, name)


def test_a_reader_gets_one_version_or_is_told_that_it_was_replaced_P1_P3(
    race, place, store, rounds, figures
):
    checkpointer = Checkpointer(store, verbose=False)
    versions = 5 if place == "local" else 4
    for name, rng in rounds:
        shape = {"versions": versions, "npartitions": rng.randint(1, 6), "size": SIZE}
        bag = dask.bag.from_sequence(range(shape["npartitions"]), partition_size=1)
        bag = bag.map_partitions(lambda p: [(0, *p, i) for i in range(SIZE)])
        checkpointer.checkpoint(name, bag, version="0", scheduler="sync")
        commands = [{"do": do} | shape for do in ("recompute", "read", "read")]
        for found in race(name, commands)[1:]:
            assert found["faults"] == []
            assert found["loads"] > found["replaced"]
        assert_nothing_left_over(store, name)


@pytest.mark.parametrize("place", ["s3-rclone"], indirect=True)
def test_where_nothing_creates_if_absent_a_lost_race_shows_and_can_be_mended_P5(
    race, store, rounds, figures
):
    for (name, rng), variant in zip(rounds, itertools.cycle(VARIANTS), strict=False):
        commands = two_savers(variant, rng, npartitions=5)
        answers = race(name, commands)
        runs = [run_of(writer) for writer in (0, 1)]
        for found in answers:
            if found["outcome"] == "bag":
                figures.assert_one_of(runs, found["records"], variant)
        with contextlib.suppress(CorruptCheckpointError):
            records = load(store, name)
            found = variant, runs_in(store, name, records)
            figures.assert_one_of(runs, records, found)
        checkpointer = Checkpointer(store, verbose=False)
        checkpointer.checkpoint(name, next_bag(), scheduler="sync")
        assert store.verify(name) == []
        assert_partitions_are_whole(load(store, name), {0, 1, "next"})
