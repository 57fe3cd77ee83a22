"""P5, P8: damaged, exchanged and hostile files, through each call of the library.

What is allowed: the right records, or a documented error. The tests of the format try
every truncation and flip on the decoders; here one of 5 meets the store, a computed
bag, `verify`, and what heals. The long tests do all.
"""

import pickle
import random
import re
import resource
import sys
import threading
import time
import uuid
import zoneinfo
from functools import partial
from pathlib import Path

import dask.bag
import fsspec
import pytest

import agatha_ckpt
from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from tests.reliability import damage, decoders
from tests.reliability.peak_memory import growth, memory_of
from tests.reliability.runs import Run
from tests.reliability.system import limited

pytestmark = pytest.mark.usefixtures("in_this_process")
LONG = [pytest.mark.long, pytest.mark.timeout(3_600)]
NAME = "a"
FORMS = ("msgpack", "zstd", "text")
ACCIDENTS = (damage.truncations, damage.flips, damage.additions)
EVERY = pytest.mark.parametrize("every", [5, pytest.param(1, marks=LONG)])


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
        if index == "__done__":
            return index
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
def test_p5_damage_to_what_agatha_wrote_loads_the_same_or_raises(
    memory, every, figures
):
    """The folder of a path in a marker is ignored; a pickle has no checksum."""
    fs, folder = fsspec.filesystem("memory"), f"{memory}/{NAME}"
    records = [("a", {2}), {"k": b"v", 2: 1.5}]
    part = pickle.dumps(records, protocol=4)
    marker = b"/mnt/gone/a/part-0.pkl\n/mnt/gone/a/part-1.pkl\n"
    files = {"part-0.pkl": part, "part-1.pkl": part, "__done__": marker}
    fs.pipe({f"{folder}/{name}": data for name, data in files.items()})
    load = Checkpointer(memory, verbose=False, allow_pickle=True).checkpoint
    for data in list(damage.flips(marker))[::every]:
        fs.pipe_file(f"{folder}/__done__", data)
        outcome = outcome_of(lambda: load(NAME).compute(), records * 2)
        assert outcome in ("right", "CorruptCheckpointError")
        figures[f"flips of a marker: {outcome}"] += 1
    fs.pipe_file(f"{folder}/__done__", marker)
    for accident in (damage.truncations, damage.flips):
        for data in list(accident(part))[::every]:
            fs.pipe_file(f"{folder}/part-0.pkl", data)
            try:
                load(NAME).compute()
                assert accident is damage.flips
                figures["flips load, as they may"] += 1
            except CheckpointError:
                figures[f"{accident.__name__} raise"] += 1


# ---- files that are whole, in the wrong place ----


# What each file is replaced by: a file of the same or of another run.
EXCHANGES = {
    "partitions swapped": ({0: ("one", 1), 1: ("one", 0)}, [0, 1]),
    "a partition twice": ({1: ("one", 0)}, [1]),
    "a file of another run, of one size": ({0: ("uno", 0)}, [0]),
    "a file of another run, of another size": ({1: ("three", 1)}, [1]),
    "all files of another run": ({0: ("uno", 0), 1: ("uno", 1)}, [0, 1]),
    "a marker of another run": ({"__done__": ("uno", "__done__")}, [0, 1]),
    "an empty marker": ({"__done__": (None, None)}, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_p5_files_in_the_place_of_others_are_named_and_heal(memory, form, figures):
    others = {n: Saved(f"{memory}-{n}", n, form) for n in ("one", "uno", "three")}
    for number, (change, damaged) in enumerate(EXCHANGES.values()):
        saved = Saved(f"{memory}-{number}", form=form)
        for place, (label, source) in change.items():
            other = others.get(label)
            data = other.whole[other.name(source)] if other else b""
            saved.put(saved.name(place), data)
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


# ---- hostile checkpoints, whose checksums are right ----

SECONDS = 10  # of the processor: others may use the machine as well
GB = 1_000_000_000


class Watch:
    """An audit hook: what is opened outside the root, and what runs code."""

    RUNS = frozenset(
        {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
        | {"os.fork", "ctypes.dlopen"}
    )

    def __init__(self, root):
        package = Path(agatha_ckpt.__file__).parent
        python = [sys.prefix, sys.base_prefix, *zoneinfo.TZPATH]
        # distributed looks at the memory of its process when the collector has run.
        known = [root, package, Path(__file__).parents[1], *python, "/proc"]
        self.known = tuple(f"{Path(path)}/" for path in known)
        # Those of clusters and servers of other tests, which look at the machine.
        others = {thread.ident for thread in threading.enumerate()}
        self.others = others - {threading.get_ident()}
        self.seen = set()
        self.on = False  # a hook cannot be removed

    def __call__(self, event, arguments):
        if not self.on or threading.get_ident() in self.others:
            return
        if event in self.RUNS:
            self.seen.add(f"{event}{arguments[:2]}")
        elif event == "open" and isinstance(arguments[0], str):
            path = str(Path(arguments[0]).absolute())
            if not path.startswith(self.known) and path != "/dev/null":
                self.seen.add(f"opens {path}")


class Judge:
    """What comes of one hostile checkpoint, through each call of the library."""

    def __init__(self, root, files):
        self.folder = root / NAME
        self.folder.mkdir(parents=True)
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        self.store = CheckpointStore(root, fsync=False)
        self.checkpointer = Checkpointer(self.store, verbose=False)
        self.bag = dask.bag.from_sequence(damage.RECORDS, npartitions=2)
        self.outcome, self.faults = None, []

    def attempt(self, what, do):
        try:
            return do()
        except CheckpointError as error:
            return error
        except Exception as error:
            self.faults.append(f"{what} raises {type(error).__name__}: {error}"[:160])
            return error

    def load(self):
        return self.checkpointer.checkpoint(NAME).compute()

    def read(self):
        manifest = self.store.manifest(NAME)
        for index, info in enumerate(manifest.partitions):
            list(self.store.open_partition(NAME, manifest.plan, index, info))

    def judge(self):
        """Make each call; what is wrong with its outcome is then in `faults`."""
        store, attempt, checkpoint = self.store, self.attempt, self.checkpointer
        checkpoint = checkpoint.checkpoint
        was_done = (self.folder / "__done__").exists()
        loaded = attempt("loading", self.load)
        attempt("reading", self.read)
        attempt("take", lambda: checkpoint(NAME).take(1))
        attempt("status", lambda: store.status(NAME))
        attempt("is_done", lambda: store.is_done(NAME))
        attempt("names", store.names)
        found = attempt("verify", lambda: store.verify(NAME))
        counted = attempt("count", lambda: checkpoint(NAME).count().compute())
        if isinstance(loaded, list):
            if strange := damage.stranger(loaded):
                self.faults.append(f"loads {strange}")
            if counted != len(loaded):
                self.faults.append(f"counts {counted} and loads {len(loaded)} records")
            if found != []:
                self.faults.append(f"loads, and verify returns {found}"[:160])
        if isinstance(loaded, CorruptCheckpointError) and isinstance(found, list):
            named = {int(n) for n in re.findall(r"partition (\d+) of", str(loaded))}
            if not named <= {damaged.index for damaged in found}:
                self.faults.append(f"verify: {found}, loading: {loaded}"[:160])
        self.outcome = "loads" if isinstance(loaded, list) else type(loaded).__name__
        del loaded
        self.heal(was_done)

    def heal(self, was_done):
        attempt, checkpointer = self.attempt, self.checkpointer
        save = partial(checkpointer.checkpoint, NAME, self.bag)
        attempt("saving", partial(save, on_stale="recompute"))
        if self.outcome == CorruptCheckpointError.__name__ or not was_done:
            again = attempt("loading again", self.load)
            if isinstance(again, CorruptCheckpointError):
                attempt("repair", lambda: checkpointer.repair(NAME, self.bag))
                again = attempt("loading after repair", self.load)
            if was_done and again != damage.RECORDS:
                self.faults.append("neither the bag nor repair heals it")
        attempt("clear", lambda: checkpointer.clear(NAME))
        attempt("saving anew", save)
        if attempt("loading anew", self.load) != damage.RECORDS:
            self.faults.append("not even clear heals it")


@pytest.mark.usefixtures("young")
@pytest.mark.parametrize("first, every", [(7, 15), pytest.param(0, 1, marks=LONG)])
def test_p5_p6_p8_hostile_checkpoints(tmp_path, monkeypatch, figures, first, every):
    """They raise documented errors, or load as values of the format."""
    # Names relative to an open folder look to the hook as if relative to this one.
    monkeypatch.chdir(tmp_path)
    victim, watch, faults = tmp_path / "victim", Watch(tmp_path), []
    cases = damage.hostile_cases(victim)[first::every]
    Judge(tmp_path / "warm-up", {}).judge()  # imports what is imported late
    sys.addaudithook(watch)
    # A larger claim raises MemoryError, and the machine is not disturbed.
    with limited(resource.RLIMIT_AS, memory_of("VmSize") + 5 * GB):
        for number, (name, files) in enumerate(cases):
            judge, started = Judge(tmp_path / str(number), files), time.process_time()
            watch.on = True
            peak = growth(judge.judge)
            watch.on = False
            found = [*judge.faults, *sorted(watch.seen)]
            if peak > damage.PEAK_BYTES:
                found.append(f"takes {peak // damage.MB} MB")
            if (seconds := time.process_time() - started) > SECONDS:
                found.append(f"takes {seconds:.0f} s of the processor")
            if victim.exists():
                found.append("runs code")
                victim.unlink()
            faults += [f"{name}: {fault}" for fault in found]
            watch.seen.clear()
            figures[judge.outcome] += 1
    assert not faults, "\n".join(faults)


# ---- random edits ----


@pytest.mark.parametrize("examples", [300, pytest.param(200_000, marks=LONG)])
@pytest.mark.parametrize("decoder", decoders.TARGETS)
def test_p5_p8_edited_files_raise_documented_errors(decoder, examples, figures):
    """Half of the edits are made under checksums that are right."""
    target = decoders.TARGETS[decoder]()
    inputs = decoders.first_inputs()
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
