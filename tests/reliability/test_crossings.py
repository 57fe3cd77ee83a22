"""P1, P3: two runs that cross, at every moment of one of them.

The other run's whole action is put right before each operation that the first run makes
of the filesystem, and after the last: right after one is right before the next, for
between them a run only computes. What is left is then judged. On local disk an
operation is a system call; elsewhere it is a request.
"""

import contextlib
import functools
import itertools
import os
import shutil
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace

import dask.bag
import fsspec
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._filesystem import local as _local
from agatha_ckpt._filesystem import remote as _objects
from agatha_ckpt._format.names import DONE_MARKER
from agatha_ckpt._store import rivals as _rivals

NAME = "x"
SIZE = 3
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
SYSTEM_CALLS = ["link", "mkdir", "open", "replace", "rmdir", "unlink"]
REQUESTS = ["cat_file", "exists", "find", "ls", "pipe_file", "rm", "rm_file"]


# ---- what the two runs do ----


@dataclass(frozen=True)
class Run:
    """What one of the two does, with records that name it as their writer."""

    writer: str
    does: str
    npartitions: int = 2
    version: str = "1"
    allow_partial: bool = True
    beside: str = ""  # a file of somebody else's, which keeps the folder

    @property
    def plan(self):
        return self.npartitions, self.version

    @property
    def writes(self):
        return self.does in ("save", "repair")

    def act(self, store):
        """Return a bag or its records; None after a clear; or the documented error."""
        checkpointer = Checkpointer(
            store,
            verbose=False,
            on_stale="recompute",
            allow_partial=self.allow_partial,
        )
        bag = bag_of(self.writer, self.npartitions)
        try:
            if self.does == "save":
                return checkpointer.checkpoint(
                    NAME, bag, version=self.version, scheduler="sync"
                )
            if self.does == "repair":
                return checkpointer.repair(NAME, bag, scheduler="sync")
            if self.does == "load":
                return checkpointer.checkpoint(NAME).compute(scheduler="sync")
            return checkpointer.clear(NAME)
        except CheckpointError as error:
            return error


def part(writer, index):
    return [(writer, index, i) for i in range(SIZE)]


def run_of(writer, npartitions):
    return [record for index in range(npartitions) for record in part(writer, index)]


def bag_of(writer, npartitions):
    indexes = dask.bag.from_sequence(range(npartitions), partition_size=1)
    return indexes.map_partitions(functools.partial(compute, writer))


def compute(writer, indexes):
    (index,) = indexes
    return part(writer, index)


def records_of(found):
    """The records where a run returned a bag of them; else what it returned."""
    if not isinstance(found, dask.bag.Bag):
        return found
    try:
        return found.compute(scheduler="sync")
    except CheckpointError as error:
        return error


# What is there before, and what the first run does then.
FIRST = {
    "a save": ("nothing", Run("ours", "save")),
    "a resume": ("partial", Run("ours", "save")),
    "a repair": ("damaged", Run("ours", "repair")),
    "a recompute": ("done", Run("ours", "save", version="2")),
    "a clear": ("done", Run("ours", "clear")),
    "a clear of a partial": ("partial", Run("ours", "clear")),
    "a load": ("done", Run("ours", "load")),
}


def second_runs(first):
    return {
        "a save of the same plan": Run("theirs", "save", version=first.version),
        "a save of another plan": Run("theirs", "save", 3, first.version),
        "a recompute": Run("theirs", "save", version="theirs"),
        "a repair": Run("theirs", "repair"),
        "a clear": Run("theirs", "clear"),
        "a clear that leaves the folder": Run("theirs", "clear", beside="notes.txt"),
        "a load": Run("theirs", "load"),
    }


# ---- where they do it ----


class Crossing:
    """Counts the first run's operations, and lets a step happen before one of them."""

    def __init__(self, step=None, at=None):
        self.step, self.at = step, at
        self.operations, self.counts, self.happened = [], False, False
        self._lock = threading.Lock()

    def point(self, operation):
        with self._lock:
            if not self.counts:
                return
            self.operations.append(operation)
            if len(self.operations) - 1 != self.at:
                return
            self.counts = False
        self.cross()
        self.counts = True

    def cross(self):
        self.happened = True
        with pytest.MonkeyPatch.context() as patch:
            # The other run is another process, and knows nothing of what this one
            # knows of its own.
            patch.setattr(_rivals, "_ended", set())
            patch.setattr(_rivals, "_lost", set())
            self.step()


@dataclass
class Place:
    """A root that both runs use, and where the first one's operations are counted."""

    root: str
    crossing: Crossing = field(default_factory=Crossing)

    @property
    def local(self):
        return "://" not in self.root

    def point(self, operation, path=""):
        if not self.local or str(path).startswith(self.root):
            self.crossing.point(operation)

    def stores(self):
        """The first run's, whose requests are counted, and the other's."""
        other = CheckpointStore(self.root, fsync=False)
        if self.local:
            return CheckpointStore(self.root), other
        fs = fsspec.core.url_to_fs(
            self.root, skip_instance_cache=True, use_listings_cache=False
        )[0]
        for name in REQUESTS:
            setattr(fs, name, self._counted(getattr(fs, name)))
        return CheckpointStore(self.root, fs=fs), other

    def _counted(self, method):
        @functools.wraps(method)
        def call(*args, **kwargs):
            self.point(method.__name__)
            return method(*args, **kwargs)

        return call

    def count_system_calls(self, patch):
        for name in SYSTEM_CALLS:
            patch.setattr(os, name, self._counted_call(name, getattr(os, name)))
        # What a sync does for a power cut is for `test_power`.
        patch.setattr(os, "fsync", lambda descriptor: None)
        opened = self._counted_call("open file", open)
        patch.setattr(_local, "open", opened, raising=False)
        scandir = os.scandir

        def scan(folder):
            if not str(folder).startswith(self.root):
                return scandir(folder)
            self.point("scandir", folder)
            with scandir(folder) as entries:
                found = list(entries)
            return contextlib.nullcontext(self._looked_at(found))

        patch.setattr(os, "scandir", scan)

    def _counted_call(self, name, function):
        @functools.wraps(function)
        def call(path, *args, **kwargs):
            self.point(name, path)
            return function(path, *args, **kwargs)

        return call

    def _looked_at(self, entries):
        for entry in entries:
            self.point("stat", entry.path)
            yield entry

    # Facts about files, not by the store.

    @property
    def _folder(self):
        options = {} if self.local else {"use_listings_cache": False}
        return fsspec.core.url_to_fs(f"{self.root}/{NAME}", **options)

    def files(self):
        fs, folder = self._folder
        return {path.rsplit("/", 1)[-1] for path in fs.find(folder)}

    def remove(self, *names):
        fs, folder = self._folder
        for name in names:
            fs.rm_file(f"{folder}/{name}")

    def prepare(self, state):
        """Let an earlier run leave a checkpoint that is done, damaged or partial."""
        if state == "nothing":
            return
        store = CheckpointStore(self.root, fsync=False)
        Run("old", "save").act(store)
        lost = store.manifest(NAME).partitions[1].file
        if state == "damaged":
            self.remove(lost)
        elif state == "partial":
            self.remove(DONE_MARKER, lost)

    def put(self, name):
        """Put somebody else's file into the folder."""
        fs, folder = self._folder
        fs.makedirs(folder, exist_ok=True)
        fs.pipe_file(f"{folder}/{name}", b"mine")

    def empty(self):
        if self.local:
            shutil.rmtree(self.root, ignore_errors=True)
            return
        fs, folder = self._folder
        with contextlib.suppress(FileNotFoundError):
            fs.rm(folder, recursive=True)


@pytest.fixture(
    params=["local", "memory", pytest.param("s3", marks=LONG)],
)
def place(request, tmp_path, monkeypatch):
    if request.param == "local":
        place = Place(str(tmp_path / "root"))
        place.count_system_calls(monkeypatch)
    elif request.param == "memory":
        place = Place(f"memory://{uuid.uuid4().hex}")
        # Held while a file is created: here the other run comes inside of that, in the
        # same thread.
        monkeypatch.setattr(_objects, "_memory_lock", threading.RLock())
    else:
        place = Place(request.getfixturevalue("s3").new_root())
    yield place
    place.empty()


# ---- the judgement ----


@dataclass
class Case:
    """One crossing, with all there is to say of it where it went wrong."""

    place: Place
    state: str
    first: Run
    second: Run
    found: list = field(default_factory=list)

    def judge(self):
        """Return which of the outcomes that are allowed this is."""
        for run, other, found in zip(
            (self.first, self.second),
            (self.second, self.first),
            self.found,
            strict=True,
        ):
            self._judge_answer(run, other, found)
        store = CheckpointStore(self.place.root)
        outcome = self._judge_what_is_stored(store)
        if outcome != "right":
            self._judge_next_save(store)
        return outcome

    def _judge_answer(self, run, other, found):
        others_plan = other.writes and other.plan != run.plan
        if isinstance(found, CheckpointConflictError):
            assert run.writes
            assert other.does == "clear" or others_plan
        elif isinstance(found, CheckpointNotFoundError):
            assert run.does in ("load", "repair")
            assert other.does == "clear" or self.state in ("nothing", "partial")
        elif isinstance(found, CorruptCheckpointError):
            assert "replaced or cleared" in str(found)
            damaged = run.does == "load" and self.state == "damaged"
            assert damaged or other.does == "clear" or others_plan
        elif run.does == "clear":
            assert found is None
        else:
            assert found in self._possible()

    def _deeds(self):
        return self.first.does, self.second.does

    def _possible(self):
        """The records that a checkpoint can have that is of one run, and whole."""
        writers = ["old", "ours", "theirs"]
        runs = [run_of(writer, n) for writer in writers for n in (2, 3)]
        if self.state in ("partial", "damaged") or "clear" in self._deeds():
            # Whole partitions of a run that has ended are kept, and what a clear has
            # not removed yet looks like them.
            for writer in ("ours", "theirs"):
                runs += [part("old", 0) + part(writer, 1)]
                runs += [part(writer, 0) + part("old", 1)]
        return runs

    def _judge_what_is_stored(self, store):
        cleared = "clear" in self._deeds()
        if not store.is_done(NAME):
            assert cleared or self.state in ("nothing", "partial")
            assert cleared or not (self.first.writes or self.second.does == "save")
            return "not done"
        found = Run("", "load").act(store)
        if isinstance(found, CorruptCheckpointError):
            # A clear between the look for the files and the marker.
            assert cleared
            assert not self.place.local
            return "documented error"
        assert store.verify(NAME) == []
        assert found in self._possible()
        answers = [answer for answer in self.found if isinstance(answer, list)]
        assert found in answers or not (self.first.writes or self.second.writes)
        for other, answer in zip((self.second, self.first), self.found, strict=True):
            # What one was given is what stays, unless the other was told to replace it.
            if isinstance(answer, list) and answer != found:
                replaces = self.state in ("done", "damaged") or (
                    self.first.plan != self.second.plan
                )
                assert other.does == "clear" or (other.writes and replaces)
        self._assert_nothing_left_over(store)
        return "right"

    def _judge_next_save(self, store):
        """The next run with the first one's plan gets a whole checkpoint."""
        run = Run("next", "save", *self.first.plan)
        found = records_of(run.act(store))
        assert store.verify(NAME) == []
        assert found == Run("", "load").act(store)
        writers = [found[index * SIZE][0] for index in range(run.npartitions)]
        assert set(writers) <= {"old", "ours", "theirs", "next"}
        expected = [part(writer, index) for index, writer in enumerate(writers)]
        assert found == list(itertools.chain.from_iterable(expected))
        self._assert_nothing_left_over(store)

    def _assert_nothing_left_over(self, store):
        theirs = {self.second.beside} - {""}
        own = store.manifest(NAME).files | {DONE_MARKER}
        assert self.place.files() == own | theirs


def cross(place, state, first, second, at, whole):
    """Let the runs cross before the first one's operation *at*; return the case.

    Without *at* the second follows when the first has ended.
    """
    case = Case(place, state, first, second)
    place.root = f"{place.root.rsplit('+', 1)[0]}+{uuid.uuid4().hex[:8]}"
    place.prepare(state)
    if second.beside:
        place.put(second.beside)
    ours, others = place.stores()
    answers = []
    crossing = Crossing(lambda: answers.append(records_of(second.act(others))), at)
    place.crossing = crossing

    def commit(*args, mark_done=ours.mark_done):
        crossing.counts = True
        return mark_done(*args)

    if whole:
        crossing.counts = True
    else:
        ours.mark_done = commit
    answer = first.act(ours)
    crossing.counts = False
    if not crossing.happened:
        crossing.cross()
    case.found = [records_of(answer), *answers]
    return case


@pytest.mark.parametrize(
    "span",
    ["commit", pytest.param("all", marks=LONG)],
)
@pytest.mark.parametrize("does", FIRST)
def test_whatever_another_run_does_between_any_two_steps_nothing_is_mixed_or_lost_P1_P3(
    place, does, span, record_property
):
    state, first = FIRST[does]
    whole = span == "all" or not first.writes
    outcomes, wrong = Counter(), []
    for name, second in second_runs(first).items():
        if whole and first.writes and not place.local:
            # There nobody can say of a run that stores nothing for a while that it
            # is alive: what gives one run's records then is this setting.
            second = replace(second, allow_partial=False)
        for at in itertools.count():
            case = cross(place, state, first, second, at, whole)
            operations = place.crossing.operations
            try:
                outcomes[case.judge()] += 1
            except (AssertionError, CheckpointError) as error:
                steps = [*operations[:at], f"<- {name} ->", *operations[at:]]
                wrong.append(f"{does}: {' '.join(steps)}: {case.found}: {error!r}")
            place.empty()
            if len(operations) <= at:
                break
    figures = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
    record_property("figures", f"{figures}, {len(wrong)} wrong")
    print(f"{does}, crossed by others: {figures}, {len(wrong)} wrong")
    assert not wrong, "\n\n".join(wrong)
