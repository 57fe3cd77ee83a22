"""What is done to a checkpoint, what goes wrong meanwhile, and what is right then.

Each record says which run computed it, of which partition and at which position it is,
so that whatever is loaded can be told to be right or wrong.
"""

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import dask.bag

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.names import DONE_MARKER, is_own_file, parse_filename
from tests.reliability.faults import (
    FAULTS,
    LIES,
    Died,
    Fault,
    Injector,
    faulty_store,
    flipped,
)

NAME, OTHER = "the name", "another"
SIZES = (4, 0, 30)  # records of a partition
FOREIGN = {
    "readme.txt": b"mine",
    f"{NAME}/notes.txt": b"mine too",
    f"{NAME}/part-00000.msgpack": b"of another program",
}


# ---- runs, and the records that they compute ----


@dataclass(frozen=True)
class Run:
    """One program that saves."""

    label: str
    npartitions: int = 3
    version: str | None = None
    text: bool = False

    @property
    def plan(self):
        return self.npartitions, self.version, self.text

    def records(self, index):
        size = SIZES[index % len(SIZES)]
        records = [(self.label, index, i) for i in range(size)]
        return list(map(str, records)) if self.text else records

    @property
    def bag(self):
        bag = dask.bag.from_sequence(range(self.npartitions), partition_size=1)
        return bag.map_partitions(_Compute(self))

    def save(self, store, name=NAME):
        checkpointer = Checkpointer(store, verbose=False, on_stale="recompute")
        options = {"textfile": self.text, "version": self.version}
        checkpointer.checkpoint(name, self.bag, scheduler="sync", **options)

    def repair(self, store):
        Checkpointer(store, verbose=False).repair(NAME, self.bag, scheduler="sync")


@dataclass(frozen=True)
class _Compute:
    run: Run

    def __call__(self, part):
        (index,) = part
        return self.run.records(index)


def load(store):
    """Return the plan that the done marker says, and the records."""
    bag = Checkpointer(store, verbose=False).checkpoint(NAME)
    plan = store.manifest(NAME).plan
    records = bag.compute(scheduler="sync")
    return (plan.npartitions, plan.version, plan.format == "text"), records


def is_right(loaded, runs):
    """Whether each partition is whole and of one of the *runs* that have the plan."""
    plan, records = loaded
    runs = [run for run in runs if run.plan == plan]
    for index in range(plan[0]):
        size = SIZES[index % len(SIZES)]
        part, records = records[:size], records[size:]
        if not any(part == run.records(index) for run in runs):
            return False
    return bool(runs) and not records


# ---- where ----


@dataclass(frozen=True)
class Place:
    """Where any number of roots can be made, looked into and removed."""

    new_root: Callable[[], str]

    def store(self):
        # What is done here without a fault need not outlive a power cut.
        return CheckpointStore(self.new_root(), fsync=False)

    def files(self, store):
        """Return path below the root, and content, of every file."""
        found = store.fs.cat(self._paths(store)) if self._paths(store) else {}
        base = store._root.base
        return {path.removeprefix(f"{base}/"): data for path, data in found.items()}

    def _paths(self, store):
        base = store._root.base
        if store.fs.protocol == "memory":  # whose find looks at the files of all roots
            return [path for path in store.fs.store if path.startswith(f"{base}/")]
        store.fs.invalidate_cache()
        return store.fs.find(base)

    def put(self, store, files):
        base = store._root.base
        for folder in {path.rpartition("/")[0] for path in files}:
            if store._root.is_local:
                store.fs.makedirs(f"{base}/{folder}", exist_ok=True)
        store.fs.pipe({f"{base}/{path}": data for path, data in files.items()})

    def remove(self, store):
        if store.fs.protocol == "memory":
            for path in self._paths(store):
                del store.fs.store[path]
        elif store._root.is_local:
            store.fs.rm(store._root.base, recursive=True)
        else:
            store.fs.rm(self._paths(store))


MEMORY = Place(lambda: f"memory://{uuid.uuid4().hex}")


# ---- what is there before ----


def _saved(run, name=NAME):
    store = MEMORY.store()
    run.save(store, name)
    files = MEMORY.files(store)
    MEMORY.remove(store)
    return files


def _partition(files, index):
    for path in files:
        parsed = parse_filename(path.rpartition("/")[2])
        if parsed and parsed.index == index:
            return path
    raise AssertionError(f"partition {index} is not there")


def _without(files, *paths):
    return {path: data for path, data in files.items() if path not in paths}


@cache
def state(name, text):
    """Return the files of a root in the state that is called *name*."""
    marker = f"{NAME}/{DONE_MARKER}"
    done = _saved(replace(OLD, text=text))
    last = _partition(done, 2)
    match name:
        case "nothing":
            files = {}
        case "partial":
            files = _without(done, marker, last)
        case "all but the marker":
            files = _without(done, marker)
        case "partial of another plan":
            run = replace(OLD, npartitions=4, text=text)
            files = _without(_saved(run), marker)
        case "done":
            files = done
        case "a marker cut":
            files = done | {marker: done[marker][: len(done[marker]) // 2]}
        case "a file missing":
            files = _without(done, last)
        case "a file changed":
            files = done | {last: flipped(done[last])}
        case "two done":
            files = done | _saved(replace(OLD, text=text), OTHER)
    return FOREIGN | files


OLD, NEW, NEXT = Run("old"), Run("new"), Run("next")


# ---- what is done ----


@dataclass(frozen=True)
class Action:
    """One call, what is there before it, and what may be there after it.

    Attributes
    ----------
    before : str
        State of the root.
    call : callable
        Takes a store and the run that calls; what it returns must be None, or what
        was loaded.
    run : Run
        The run that calls.
    asks : bool
        Whether it must leave all files as they are.
    clears : bool
        Whether the library's files are gone afterwards.
    """

    before: str
    call: Callable = lambda store, run: run.save(store)
    run: Run = NEW
    asks: bool = False
    clears: bool = False


def _look(store, run):
    store.names()
    store.status(NAME)
    store.is_done(NAME)
    store.find_manifest(NAME)
    if store.is_done(NAME):
        store.verify(NAME)


ACTIONS = {
    "save": Action("nothing"),
    "resume": Action("partial"),
    "resume with all partitions": Action("all but the marker"),
    "save over another plan": Action("partial of another plan"),
    "save over a broken marker": Action("a marker cut"),
    "load": Action("done", lambda store, run: load(store), asks=True),
    "look": Action("done", _look, asks=True),
    "look at a partial": Action("partial", _look, asks=True),
    "heal": Action("a file missing"),
    "repair": Action("a file changed", lambda store, run: run.repair(store)),
    "recompute": Action("done", run=replace(NEW, version="2")),
    "clear": Action("done", lambda store, run: store.clear(NAME), clears=True),
    "clear a partial": Action(
        "partial", lambda store, run: store.clear(NAME), clears=True
    ),
    "clear all": Action("two done", lambda store, run: store.clear_all(), clears=True),
}
# The next run: with the same plan, with other partitions, with another version.
NEXTS = (NEXT, replace(NEXT, npartitions=2), replace(NEXT, version="3"))


# ---- what comes of it ----


class LossError(AssertionError):
    """A record was lost or is wrong, or an error is none of the documented ones."""


def operations(place, action, text):
    """Return the operations that an action takes when all goes well."""
    injector = Injector()
    store = place.store()
    place.put(store, state(action.before, text))
    with faulty_store(store, injector) as through:
        action.call(through, replace(action.run, text=text))
    place.remove(store)
    return injector.operations


def faults_of(operations, kinds):
    """Return every fault that can happen to *operations*."""
    return [
        Fault(kind, at)
        for at, (operation, _) in enumerate(operations)
        for kind, happens_to in kinds.items()
        if operation in happens_to
    ]


def accident(place, action, faults, then, text=False):
    """Let *faults* happen, and then let the run *then* save; judge all of it.

    The first fault happens in *action*, each other one in a run that saves after it.

    Returns
    -------
    Counter
        How often what was found was right, not done, or a documented error.

    Raises
    ------
    LossError
        It was anything else.
    """
    case = Accident(place, action.before, text)
    try:
        for done, fault in zip([action, *AGAIN], faults, strict=False):
            case.happen(done, fault)
        case.next(then)
    finally:
        place.remove(case.store)
    return case.found


AGAIN = [Action("", run=Run("again")), Action("", run=Run("once more"))]


class Accident:
    """Faults in one root, and their consequences.

    Attributes
    ----------
    found : Counter
        What was found so far.
    damaged : bool
        Whether a stored file may have been damaged, by a filesystem that says nothing
        of it, or before all began.
    """

    def __init__(self, place, before, text=False):
        self.place, self.text = place, text
        self.store = place.store()
        self.place.put(self.store, state(before, text))
        old = replace(OLD, text=text)
        self.runs = [old, replace(old, npartitions=4)]
        self.damaged = before.startswith("a file")
        self.found = Counter()
        self.story = [before]
        self.late = []

    def happen(self, action, fault, called="save"):
        """Do *action* with *fault* and judge what it says and what is there then."""
        before, was_done = self.place.files(self.store), self.store.is_done(NAME)
        run = replace(action.run, text=self.text)
        self.runs.append(run)
        injector = Injector(fault)
        done = error = None
        with faulty_store(self.store, injector) as through:
            try:
                done = action.call(through, run)
            except (Exception, Died) as caught:
                error = caught
        self.story.append(_told(called, run, injector))
        self.late.append(injector)
        self.found["faults"] += injector.struck is not None
        lies = injector.struck is not None and fault.kind in LIES
        self.damaged = self.damaged or lies or tears_a_marker(injector)
        if error is not None:
            self.judge_error(error, injector)
        elif done is not None:
            self.judge_loaded(done)
        after = self.judge_store()
        if action.asks and self.place.files(self.store) != before:
            raise self.loss("a query changed files")
        if self.damaged:
            return
        if was_done and not action.clears and after == "not done":
            raise self.loss("what was done is done no more")
        if error is None:
            self.judge_success(action, run, after, was_done)

    def judge_error(self, error, injector):
        """Whether a call that failed said so as it is documented."""
        if isinstance(error, Died):
            return
        said = "\n".join([str(error), *getattr(error, "__notes__", [])])
        if not (isinstance(error, CheckpointError) or error in injector.raised):
            raise self.loss("an undocumented error") from error
        if "checkpoint" not in said or self.store._root.base not in said:
            raise self.loss(f"an error that names no checkpoint: {said}") from error
        self.found["documented errors"] += 1

    def judge_loaded(self, loaded):
        if not is_right(loaded, self.runs):
            raise self.loss(f"other records: {loaded}")
        self.found["right"] += 1

    def judge_store(self):
        """Whether what a process finds that has no fault is right."""
        try:
            if not self.store.is_done(NAME):
                self.found["not done"] += 1
                return "not done"
            loaded = load(self.store)
        except CorruptCheckpointError as error:
            if not self.damaged:
                raise self.loss("a damaged checkpoint") from error
            self.found["documented errors"] += 1
            return "damaged"
        self.judge_loaded(loaded)
        return loaded[0]

    def judge_success(self, action, run, after, was_done):
        """Whether a call that returned has done what it says."""
        if action.clears:
            self.judge_files(frozenset())
        elif not action.asks and not _is_of(after, run, was_done):
            raise self.loss(f"it was saved, and is {after}")

    def judge_files(self, expected):
        files = self.place.files(self.store)
        foreign = {path: data for path, data in files.items() if path in FOREIGN}
        names = [path.removeprefix(f"{NAME}/") for path in files]
        own = {name for name in names if is_own_file(name)}
        if foreign != FOREIGN:
            raise self.loss("a foreign file was changed")
        if own != expected:
            raise self.loss(f"left-over files: {own ^ expected}")

    def next(self, run):
        """Let the next run save, then what was late happen, and the run save again."""
        run = replace(run, text=self.text)
        self.runs.append(run)
        self.story.append(f"the next run saved {run.plan}")
        self.save(run)
        if self.land():
            self.save(run)

    def land(self):
        """Let happen what was late; say whether anything did."""
        landed = [injector.land() for injector in self.late]
        if not any(landed):
            return False
        self.story.append("what was late happened")
        self.damaged = True  # an old request that is done now may do damage
        self.judge_store()
        return True

    def save(self, run):
        """Let *run* save without a fault: it must be right then, come what may."""
        before = self._token()
        finished = self.insist(run.save)
        after = self.judge_store()
        if after == "damaged":
            if self.insist(run.repair):  # what is there now may be of another plan
                self.insist(run.save)
                finished = True
            self.damaged = False
            after = self.judge_store()
        if not _is_of(after, run, before is not None or finished):
            raise self.loss(f"the next run has saved, and it is {after}")
        if damaged := self.store.verify(NAME):
            raise self.loss(f"the next run left {damaged}")
        if self._token() != before:  # it was no load
            self.judge_files(self.store.manifest(NAME).files | {DONE_MARKER})

    def insist(self, call):
        """Call again where the run has finished what one that died had begun."""
        try:
            call(self.store)
        except CheckpointConflictError:
            self.found["documented errors"] += 1
            call(self.store)
            return True
        return False

    def _token(self):
        done = self.store.is_done(NAME)
        return self.store.manifest(NAME).token if done else None

    def loss(self, what):
        return LossError(f"{what}, after: {'; '.join(self.story)}")


def _is_of(after, run, was_done):
    """Whether what is there is what a call of *run* leaves."""
    if was_done:  # it is loaded, whatever the number of its partitions
        return after[1:] == run.plan[1:]
    return after == run.plan


def tears_a_marker(injector):
    """Whether a marker is written over in place, which no object store does."""
    if injector.struck is None or "torn" not in injector.fault.kind:
        return False
    return injector.operations[injector.struck] == ("put", DONE_MARKER)


def _told(called, run, injector):
    what = f"{called} by {run} with {injector.fault.kind!r}"
    if injector.struck is None:
        return f"{what}, which did not happen"
    operation, file = injector.operations[injector.struck]
    return f"{what} at operation {injector.struck}: {operation} {file}"


EVERY_KIND = FAULTS | LIES
