"""P5, P8: damaged, exchanged and hostile files, through each call of the library.

What is allowed: the right records, or a documented error. The tests of the format try
every truncation and flip on the decoders; here one of 5 meets the store, a computed
bag, `verify`, and what heals. The long tests do all.
"""

import json
import pickle
import random
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.bag
import fsspec
import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from tests.reliability import damage, fuzz_decoders
from tests.reliability.runs import Run

LONG = [pytest.mark.long, pytest.mark.timeout(3_600)]
NAME = "a"
FORMS = ("msgpack", "zstd", "text")
ACCIDENTS = (damage.truncations, damage.flips, damage.additions)
EVERY = pytest.mark.parametrize("every", [5, pytest.param(1, marks=LONG)])


@pytest.fixture(autouse=True)
def _in_this_process():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def figures(record_property):
    """Counts outcomes, shown at the end of the test run."""
    counted = Counter()
    yield counted
    line = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counted.items()))
    record_property("figures", line)


class Saved:
    """A done checkpoint of two partitions in memory, whose files can be damaged.

    All of them have the same fingerprints.
    """

    def __init__(self, root, label="one", form="msgpack"):
        self.run = Run(label, 2, text=form == "text", sizes=(1,))
        self.records = [*self.run.records(0), *self.run.records(1)]
        compression = "zstd" if form == "zstd" else None
        self.store = CheckpointStore(root, fsync=False)
        self.checkpointer = Checkpointer(
            self.store, verbose=False, compression=compression
        )
        self.save()
        self.fs, self.folder = fsspec.url_to_fs(str(self.store.path(NAME)))
        self.whole = self.files()

    def save(self):
        self.run.save(self.checkpointer, NAME)

    def files(self):
        paths = self.fs.ls(self.folder, detail=False)
        return {p.rsplit("/", 1)[1]: self.fs.cat_file(p) for p in sorted(paths)}

    def name(self, index):
        return self.store.manifest(NAME).partitions[index].file

    def put(self, name, data):
        self.fs.pipe_file(f"{self.folder}/{name}", data)

    def reset(self):
        """Put back the files that it had at first, and no others."""
        for name in self.files().keys() - self.whole.keys():
            self.fs.rm_file(f"{self.folder}/{name}")
        for name, data in self.whole.items():
            self.put(name, data)

    def load(self):
        return self.checkpointer.checkpoint(NAME).compute()

    def partition(self, index):
        manifest = self.store.manifest(NAME)
        info = manifest.partitions[index]
        return self.store.open_partition(NAME, manifest.plan, index, info)

    def first(self, index):
        """Return the first record of a partition, as `take` and `head` read it."""
        return [next(iter(self.partition(index)))]

    def damaged(self):
        return [found.index for found in self.store.verify(NAME)]

    def heals(self):
        """Return whether the bag, or else `repair`, brings the records back."""
        self.save()
        if outcome_of(self.load, self.records) != "right":
            self.run.repair(self.checkpointer, NAME)
        return self.load() == self.records and self.damaged() == []


@pytest.fixture
def memory():
    """A root in memory."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    files = fsspec.filesystem("memory").store
    for path in [path for path in files if url.removeprefix("memory:/") in path]:
        del files[path]


def outcome_of(do, right):
    """Return "right" or the name of the documented error; fail on all else."""
    try:
        found = do()
    except CheckpointError as error:
        found, message = type(error).__name__, str(error)
    else:
        assert found == right
        return "right"
    assert f"{NAME!r}" in message
    return found


# ---- truncations, flipped bits, bytes added ----


@EVERY
@pytest.mark.parametrize("form", FORMS)
def test_p5_damage_to_a_partition_raises_is_named_and_heals(
    memory, form, every, figures
):
    saved = Saved(memory, form=form)
    name = saved.name(0)
    for accident in ACCIDENTS:
        changed = list(accident(saved.whole[name]))[::every]
        for number, data in enumerate(changed):
            saved.put(name, data)
            # Damage behind the first record need not be seen with it.
            first = outcome_of(lambda: saved.first(0), saved.records[:1])
            assert first in ("right", "CorruptCheckpointError"), data
            for read in (lambda: list(saved.partition(0)), saved.load):
                assert outcome_of(read, None) == "CorruptCheckpointError", data
            assert saved.damaged() == [0], data
            figures[f"{accident.__name__} raise"] += 1
            if number % 25 == 0:
                assert saved.heals(), data
                figures["healed"] += 1
                saved.reset()


@EVERY
def test_p5_damage_to_a_done_marker_raises_and_the_bag_heals(memory, every, figures):
    saved = Saved(memory)
    for accident in ACCIDENTS:
        changed = list(accident(saved.whole["__done__"]))[::every]
        for number, data in enumerate(changed):
            saved.put("__done__", data)
            assert outcome_of(saved.load, None) == "CorruptCheckpointError"
            assert not saved.store.is_done(NAME)
            with pytest.raises(CorruptCheckpointError):
                saved.store.verify(NAME)
            figures[f"{accident.__name__} raise"] += 1
            if number % 100 == 0:
                assert saved.heals()
                figures["healed"] += 1
                saved.reset()


@EVERY
def test_p5_flips_in_a_marker_of_agatha_load_the_same_or_raise(memory, every, figures):
    fs, records = fsspec.filesystem("memory"), [["x"], ["y"]]
    for index, part in enumerate(records):
        data = pickle.dumps(part, protocol=4)
        fs.pipe_file(f"{memory}/{NAME}/part-{index}.pkl", data)
    marker = b"/mnt/gone/a/part-0.pkl\n/mnt/gone/a/part-1.pkl\n"
    checkpointer = Checkpointer(memory, verbose=False, allow_pickle=True)

    def load():
        return checkpointer.checkpoint(NAME).compute()

    for data in list(damage.flips(marker))[::every]:
        fs.pipe_file(f"{memory}/{NAME}/__done__", data)
        outcome = outcome_of(load, ["x", "y"])  # the folder of a path is ignored
        assert outcome in ("right", "CorruptCheckpointError")
        figures[outcome] += 1


@EVERY
def test_p5_a_damaged_pickle_of_agatha_raises_nothing_undocumented(
    memory, every, figures
):
    """It has no checksum, so a changed one may load as something else."""
    fs = fsspec.filesystem("memory")
    data = pickle.dumps([("a", {2}), {"k": b"v", 2: 1.5}], protocol=4)
    fs.pipe_file(f"{memory}/{NAME}/__done__", b"part-0.pkl\n")
    checkpointer = Checkpointer(memory, verbose=False, allow_pickle=True)
    for accident in (damage.truncations, damage.flips):
        for changed in list(accident(data))[::every]:
            fs.pipe_file(f"{memory}/{NAME}/part-0.pkl", changed)
            try:
                checkpointer.checkpoint(NAME).compute()
                assert accident is damage.flips
                figures["flips load, as they may"] += 1
            except CheckpointError:
                figures[f"{accident.__name__} raise"] += 1


# ---- files that are whole, in the wrong place ----


def _swap(saved, other):
    first, second = saved.name(0), saved.name(1)
    saved.put(first, saved.whole[second])
    saved.put(second, saved.whole[first])


def _duplicate(saved, other):
    saved.put(saved.name(1), saved.whole[saved.name(0)])


def _of_other(*indexes):
    def put(saved, other):
        for index in indexes:
            saved.put(saved.name(index), other.whole[other.name(index)])

    return put


def _marker_of_other(saved, other):
    saved.put("__done__", other.whole["__done__"])


def _empty_marker(saved, other):
    saved.put("__done__", b"")


EXCHANGES = {
    "partitions swapped": (_swap, "uno", [0, 1]),
    "a partition twice": (_duplicate, "uno", [1]),
    "a file of another run, of one size": (_of_other(0), "uno", [0]),
    "a file of another run, of another size": (_of_other(1), "three", [1]),
    "all files of another run": (_of_other(0, 1), "uno", [0, 1]),
    "a marker of another run": (_marker_of_other, "uno", [0, 1]),
    "an empty marker": (_empty_marker, "uno", None),
}


@pytest.mark.parametrize("form", FORMS)
def test_p5_files_in_the_place_of_others_are_named_and_heal(memory, form, figures):
    for number, (change, label, damaged) in enumerate(EXCHANGES.values()):
        saved = Saved(f"{memory}-{number}", form=form)
        change(saved, Saved(f"{memory}-{number}-other", label, form))
        assert outcome_of(saved.load, None) == "CorruptCheckpointError"
        if damaged is not None:
            assert saved.damaged() == damaged
        assert saved.heals()
        figures["raise and heal"] += 1


@pytest.mark.parametrize("form", FORMS)
def test_p5_a_file_of_another_form_under_the_right_name_raises(memory, form):
    saved = Saved(memory, form=form)
    others = [b"", saved.whole["__done__"]]
    for number, other_form in enumerate({*FORMS} - {form}):
        # The same records: only how they are stored differs.
        other = Saved(f"{memory}-{number}", form=other_form)
        others.append(other.whole[other.name(0)])
    for data in others:
        saved.put(saved.name(0), data)
        assert outcome_of(saved.load, saved.records) == "CorruptCheckpointError"
        assert saved.damaged() == [0]
        assert saved.heals()
        saved.reset()


@pytest.mark.long
def test_p5_verify_names_and_repair_heals_a_large_object_that_is_shorter_now(s3):
    """An object over 16 MiB is read by ranges; a server refuses one beyond its end."""
    checkpointer = Checkpointer(s3.new_root(), verbose=False, compression=None)
    big = ["a" * 1_000_000 + str(i) for i in range(18)]
    bag = dask.bag.from_sequence(big, npartitions=1)
    for kept in (-1, 8 << 20, 100, 0):
        checkpointer.checkpoint(NAME, bag)
        path = str(checkpointer.store.path(NAME))
        (info,) = checkpointer.store.manifest(NAME).partitions
        data = s3.fs.cat_file(f"{path}/{info.file}")
        s3.fs.pipe_file(f"{path}/{info.file}", data[:kept])
        load = checkpointer.checkpoint(NAME).compute
        assert outcome_of(load, big) == "CorruptCheckpointError"
        assert [d.index for d in checkpointer.store.verify(NAME)] == [0]
        assert checkpointer.repair(NAME, bag).compute() == big


# ---- hostile checkpoints, whose checksums are right ----


def _judge(first, step):
    """Return name and finding of each case; start anew after one that kills."""
    found, errors = [], ""
    while True:
        command = [sys.executable, "-m", damage.__name__, str(first), str(step)]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        begun = [line for line in lines if "name" in line]
        ended = [line for line in lines if "outcome" in line]
        assert lines, done.stderr
        found += [(b["name"], e) for b, e in zip(begun, ended, strict=False)]
        if len(begun) > len(ended):
            errors = done.stderr.strip()[-300:]
            faults = [("hanging", f"ends the process: {errors}")]
            killed = {"outcome": "killed", "peak": 0, "faults": faults}
            found.append((begun[-1]["name"], killed))
        if not begun or begun[-1]["number"] + step >= lines[0]["cases"]:
            assert done.returncode == 0 or len(begun) > len(ended), done.stderr
            return found
        first = begun[-1]["number"] + step


DEMANDS = {
    "errors": "raise documented errors only",
    "records": "load as values of the format, as many as are counted",
    "code": "run nothing, and open nothing outside the root",
    "memory": "take less than 256 MB, whatever they state",
    "hanging": "neither hang nor kill",
    "verify": "are named by verify where they do not load, and nowhere else",
    "healing": "are healed by the bag, by repair, or by clear",
}


@pytest.mark.parametrize(
    "starts, step", [([7], 15), pytest.param([0, 1], 2, marks=LONG)]
)
def test_p5_p6_p8_hostile_checkpoints(starts, step, figures):
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(_judge, starts, [step] * len(starts))
        judged = [found for part in parts for found in part]
    faults = []
    for name, found in judged:
        figures[found["outcome"]] += 1
        for kind, text in found["faults"]:
            faults.append(f"{name}: not all {DEMANDS[kind]}, but: {text}")
    assert not faults, "\n".join(faults)


# ---- random edits ----


@pytest.mark.parametrize("examples", [300, pytest.param(200_000, marks=LONG)])
@pytest.mark.parametrize("decoder", fuzz_decoders.TARGETS)
def test_p5_p8_edited_files_raise_documented_errors(decoder, examples, figures):
    """Half of the edits are made under checksums that are right."""
    target = fuzz_decoders.TARGETS[decoder]()
    inputs = fuzz_decoders.first_inputs()
    for number in range(examples):
        rng = random.Random(f"{decoder} {number}")
        data = rng.choice(inputs)

        def mutated(data, size, rng=rng):
            return damage.edited(data, rng)

        if number % 2:
            data = mutated(data, len(data))
        else:
            data = target.mutate(data, len(data), rng, mutated)
        for call in target.calls(data):
            try:
                call()
                figures["as values of the format"] += 1
            except CheckpointError:
                figures["documented errors"] += 1
            except Exception as error:
                error.add_note(f"example {number}: {data!r}")
                raise
