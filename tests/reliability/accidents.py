"""What is done to a checkpoint, what goes wrong meanwhile, and what must be right then.

Each record names the run that computed it, so whatever is loaded can be judged.
"""

import re
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.names import DONE_MARKER, is_own_file, parse_filename
from tests.reliability.faulty_files import (
    KINDS,
    LIES,
    Fault,
    Injector,
    faulty_store,
    flipped,
)
from tests.reliability.runs import Run, labels
from tests.reliability.system import Died

NAME, OTHER = "the name", "another"
FOREIGN = {
    "readme.txt": b"mine",
    f"{NAME}/notes.txt": b"mine too",
    f"{NAME}/part-00000.msgpack": b"of another program",
}


def checkpointer_of(store):
    return Checkpointer(store, verbose=False, on_stale="recompute")


def load(store):
    """Return the plan in the done marker, and the records."""
    bag = Checkpointer(store, verbose=False).checkpoint(NAME)
    plan = store.manifest(NAME).plan
    records = bag.compute(scheduler="sync")
    return (plan.npartitions, plan.version, plan.format == "text"), records


# ---- where ----


@dataclass(frozen=True)
class Place:
    """Where any number of roots can be made, read and removed."""

    new_root: Callable[[], str]

    def store(self):
        # What is done here without a fault need not survive a power cut.
        return CheckpointStore(self.new_root(), fsync=False)

    def files(self, store):
        """Return path below the root, and content, of every file."""
        base, paths = self._paths(store)
        found = store.fs.cat(paths) if paths else {}
        return {path.removeprefix(f"{base}/"): data for path, data in found.items()}

    def _paths(self, store):
        base = store.fs._strip_protocol(str(store.root))
        if store.fs.protocol == "memory":  # its find reads the files of all roots
            return base, [p for p in store.fs.store if p.startswith(f"{base}/")]
        store.fs.invalidate_cache()
        return base, store.fs.find(base)

    def put(self, store, files):
        for folder in {path.rpartition("/")[0] for path in files}:
            if "://" not in str(store.root):
                store.fs.makedirs(f"{store.root}/{folder}", exist_ok=True)
        store.fs.pipe({f"{store.root}/{path}": data for path, data in files.items()})

    def remove(self, store):
        if "://" not in str(store.root):
            store.fs.rm(str(store.root), recursive=True)
        elif store.fs.protocol == "memory":
            for path in self._paths(store)[1]:
                del store.fs.store[path]
        else:
            store.fs.rm(self._paths(store)[1])


MEMORY = Place(lambda: f"memory://{uuid.uuid4().hex}")


# ---- what is there before ----


def _saved(run, name=NAME):
    store = MEMORY.store()
    run.save(checkpointer_of(store), name)
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
        case "partial of other inputs":
            files = _without(_saved(replace(OLD_OTHER, text=text)), marker)
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


OLD, NEW, NEXT = (Run(label, version="1") for label in ("old", "new", "next"))
OLD_OTHER = replace(OLD, label="old, of other inputs", inputs="other")


# ---- what is done ----


def _save(store, run):
    run.save(checkpointer_of(store), NAME)


@dataclass(frozen=True)
class Action:
    """One call, what is there before it, and what may be there after it."""

    before: str  # state of the root
    call: Callable = _save  # with a store and a run; returns None or what was loaded
    run: Run = NEW
    is_query: bool = False  # it must leave all files as they are
    clears: bool = False  # the library's files are gone afterwards


def _load(store, run):
    return load(store)


def _query(store, run):
    store.names()
    store.status(NAME)
    if store.is_done(NAME):
        store.manifest(NAME)
        store.verify(NAME)


def _repair(store, run):
    run.repair(checkpointer_of(store), NAME)


def _clear(store, run):
    store.clear(NAME)


ACTIONS = {
    "save": Action("nothing"),
    "resume": Action("partial"),
    "resume with all partitions": Action("all but the marker"),
    "save over other inputs": Action("partial of other inputs"),
    "save over a damaged marker": Action("a marker cut"),
    "load": Action("done", _load, is_query=True),
    "query": Action("done", _query, is_query=True),
    "query a partial": Action("partial", _query, is_query=True),
    "heal": Action("a file missing"),
    "repair": Action("a file changed", _repair),
    "recompute": Action("done", run=replace(NEW, version="2")),
    "recompute other inputs": Action("done", run=replace(NEW, inputs="other")),
    "clear": Action("done", _clear, clears=True),
    "clear a partial": Action("partial", _clear, clears=True),
    "clear all": Action("two done", lambda store, run: store.clear_all(), clears=True),
}
# The next run: the same, with other partitions, with another version, other inputs.
NEXTS = (
    NEXT,
    replace(NEXT, npartitions=2),
    replace(NEXT, version="3"),
    replace(NEXT, inputs="other"),
)


# ---- what comes of it ----


class LossError(AssertionError):
    """A record was lost or is wrong, or an error is not a documented one."""


def operations(place, action, text):
    """Return the operations that an action takes when all goes well."""
    injector = Injector()
    store = place.store()
    place.put(store, state(action.before, text))
    with faulty_store(store, injector) as through:
        action.call(through, replace(action.run, text=text))
    place.remove(store)
    return injector.operations


def faults_of(operations, kinds=KINDS):
    """Return every fault that can happen to *operations*."""
    return [
        Fault(kind, at)
        for at, (operation, _) in enumerate(operations)
        for kind in kinds
        if operation in KINDS[kind]
    ]


def accident(place, action, faults, then, text=False):
    """Let *faults* happen, then let the run *then* save; count what is found.

    The first fault happens in *action*, each other one in a run that saves after it. A
    `LossError` is what is neither right, nor not done, nor a documented error.
    """
    case = Accident(place, action.before, text)
    try:
        for done, fault in zip([action, *AGAIN], faults, strict=False):
            case.happen(done, fault)
        case.next(then)
    finally:
        place.remove(case.store)
    return case.found


AGAIN = [Action("", run=replace(NEW, label=label)) for label in ("again", "once more")]


class Accident:
    """Faults in one root, and their consequences."""

    def __init__(self, place, before, text=False):
        self.place, self.text = place, text
        self.store = place.store()
        self.place.put(self.store, state(before, text))
        self.runs = [replace(run, text=text) for run in (OLD, OLD_OTHER)]
        # Whether a stored file may be damaged: by a fault that the filesystem did not
        # report, or before all began.
        self.damaged = before.startswith("a file")
        self.found = Counter()  # right, not done, or a documented error
        self.story = [before]
        self.late = []

    def happen(self, action, fault, called="save"):
        """Do *action* with *fault*; judge its outcome, and what is there then."""
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
        if action.is_query and self.place.files(self.store) != before:
            raise self.loss("a query changed files")
        if self.damaged:
            return
        if was_done and not action.clears and after == "not done":
            raise self.loss("what was done is not done any more")
        if error is not None:
            return
        if action.clears:
            self.judge_files(frozenset())
        elif not action.is_query and after != (run.plan, run.inputs):
            raise self.loss(f"it was saved, and is {after}")

    def judge_error(self, error, injector):
        """Judge whether a call failed as it is documented."""
        if isinstance(error, Died):
            return
        text = "\n".join([str(error), *getattr(error, "__notes__", [])])
        if not (isinstance(error, CheckpointError) or error in injector.raised):
            raise self.loss("an undocumented error") from error
        named = "checkpoint" in text and str(self.store.root) in text
        if not (named or re.search(r"partition \d+ of '.+' failed", text)):
            raise self.loss(f"an error that names no checkpoint: {text}") from error
        self.found["documented errors"] += 1

    def judge_loaded(self, loaded):
        """Return plan and inputs of what was loaded, each partition whole.

        A partition may be of a run with another number of partitions.
        """
        plan, records = loaded
        for inputs in {run.inputs for run in self.runs}:
            runs = [replace(r, npartitions=plan[0]) for r in self.runs]
            runs = [r for r in runs if (r.plan, r.inputs) == (plan, inputs)]
            try:
                labels(records, runs)
            except AssertionError:
                continue
            self.found["right"] += 1
            return plan, inputs
        raise self.loss(f"other records: {loaded}")

    def judge_store(self):
        """Judge what a process finds that meets no fault."""
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
        return self.judge_loaded(loaded)

    def judge_files(self, expected):
        files = self.place.files(self.store)
        foreign = {path: data for path, data in files.items() if path in FOREIGN}
        names = [path.removeprefix(f"{NAME}/") for path in files]
        own = {name for name in names if is_own_file(name)}
        if foreign != FOREIGN:
            raise self.loss("a foreign file was changed")
        if own != expected:
            raise self.loss(f"leftovers: {own ^ expected}")

    def next(self, run):
        """Let the next run save, then what was late happen, and the run save again."""
        run = replace(run, text=self.text)
        self.runs.append(run)
        self.story.append(f"the next run saved {run.plan} of {run.inputs}")
        self.save(run)
        if self.land():
            self.save(run)

    def land(self):
        """Let happen what was late; return whether anything did."""
        landed = [injector.land() for injector in self.late]
        if not any(landed):
            return False
        self.story.append("what was late happened")
        self.damaged = True  # an old request that is done now may do damage
        self.judge_store()
        return True

    def save(self, run):
        """Let *run* save without a fault: it must be right then."""
        before = self.token()
        checkpointer = checkpointer_of(self.store)
        run.save(checkpointer, NAME)
        after = self.judge_store()
        if after == "damaged":  # a file is changed inside, which a listing cannot show
            run.repair(checkpointer, NAME)
            after = self.judge_store()
        if after != (run.plan, run.inputs):
            raise self.loss(f"the next run has saved, and it is {after}")
        if damaged := self.store.verify(NAME):
            raise self.loss(f"the next run left {damaged}")
        if self.token() != before:  # it did not only load
            self.judge_files(self.store.manifest(NAME).files | {DONE_MARKER})

    def token(self):
        done = self.store.is_done(NAME)
        return self.store.manifest(NAME).token if done else None

    def loss(self, what):
        return LossError(f"{what}, after: {'; '.join(self.story)}")


def tears_a_marker(injector):
    """Return whether a marker is overwritten in place, which no object store does."""
    if injector.struck is None or "torn" not in injector.fault.kind:
        return False
    return injector.operations[injector.struck] == ("put", DONE_MARKER)


def _told(called, run, injector):
    what = f"{called} by {run.label} {run.plan} with {injector.fault.kind!r}"
    if injector.struck is None:
        return f"{what}, which did not happen"
    operation, file = injector.operations[injector.struck]
    return f"{what} at operation {injector.struck}: {operation} {file}"
