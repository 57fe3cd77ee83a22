"""P1, P3, P4, P5: faults of the network and of the server, at each request of a call.

A proxy stands between s3fs and an S3 server. A weak store, which answers with what was
true before or ignores a condition, is not promised to give what was saved last; what it
gives is right, not done, or a documented error.
"""

import contextlib
import itertools
import random
import re
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import aiohttp
import botocore.exceptions
import pytest
import s3fs

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.names import DONE_MARKER
from tests.reliability.faulty_files import flipped
from tests.reliability.runs import Run, labels
from tests.servers.proxy import (
    CutBody,
    Delay,
    Fault,
    LostAnswer,
    Proxy,
    ResetBefore,
    Status,
)

NAME = "numbers"
PARTITIONS = 3
OLD, NEW, NEXT, RIVAL = (
    Run(label, PARTITIONS, sizes=(25,)) for label in ("old", "new", "next", "rival")
)
MIB = 1024 * 1024
LONG = pytest.mark.long

# s3fs raises botocore's own errors for requests that failed; they are not OSErrors.
FILESYSTEM_ERRORS = (
    OSError,
    aiohttp.ClientError,
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
)


class ErrorAfter(Fault):
    """The server does it, and answers that it has not."""

    def happen(self, handler, request):
        handler.ask_server()
        Status(500, "InternalError").happen(handler, request)


SLOW_DOWN = Status(503, "SlowDown")
INTERNAL_ERROR = Status(500, "InternalError")
TOO_MANY = Status(429, "TooManyRequests")
CONFLICT = Status(409, "ConditionalRequestConflict")


@dataclass
class From:
    """A fault from one request on, at the path of that request only."""

    fault: Fault
    number: int
    times: int | None = None  # in a row; None means always
    path: str | None = field(default=None, init=False)

    def __call__(self, request):
        if request.number == self.number:
            self.path = request.path
        if self.path != request.path or self.times == 0:
            return None
        if self.times is not None:
            self.times -= 1
        return self.fault


@dataclass
class Burst:
    """So many requests fail, whatever they ask for."""

    fault: Fault
    first: int
    times: int

    def __call__(self, request):
        return self.fault if 0 <= request.number - self.first < self.times else None


def error_of(call):
    """Return what a call raises, or None."""
    try:
        call()
    except Exception as error:
        return error
    return None


class Network:
    """A root on the server, and the way to it through the proxy."""

    def __init__(self, proxy, server):
        self.proxy, self.server = proxy, server
        self.root = server.new_root()
        self.folder = f"{self.root}/{NAME}"
        self.begin()

    def checkpointer(self, verbose=False, **options):
        """Return one whose requests pass through the proxy."""
        options = self.server.through(self.proxy.url).options | options
        store = CheckpointStore(self.root, storage_options=options)
        return Checkpointer(store, verbose=verbose, on_stale="recompute")

    def impatient(self):
        """Return one whose client gives up after one retry."""
        ckpt = self.checkpointer(config_kwargs={"retries": {"max_attempts": 0}})
        ckpt.store.fs.retries = 2  # s3fs itself tries again, and has no option for it
        return ckpt

    def direct(self):
        """Return one that does not know the proxy."""
        store = CheckpointStore(self.root, storage_options=self.server.options)
        return Checkpointer(store, verbose=False, on_stale="recompute")

    def begin(self, fault=lambda request: None):
        """Count requests from 0, and let the fault happen from now on."""
        self.proxy.forget()
        self.proxy.fault = fault

    def files(self):
        """Return the names of the objects in the folder of the checkpoint."""
        try:
            found = self.server.fs.ls(self.folder, detail=False)
        except FileNotFoundError:
            return set()
        return {path.rpartition("/")[2] for path in found}

    def stored(self):
        """Return the numbers of the partitions that have a file."""
        matches = [re.match(r"part-(\d+)-", name) for name in self.files()]
        return {int(match[1]) for match in matches if match}

    def edit(self, index, edit):
        """Change or remove the file of a partition."""
        [path] = self.server.fs.glob(f"{self.folder}/part-{index:05d}-*")
        if edit is None:
            self.server.fs.rm_file(path)
        else:
            self.server.fs.pipe_file(path, edit(self.server.fs.cat_file(path)))

    def load(self, ckpt=None):
        ckpt = ckpt or self.direct()
        return ckpt.checkpoint(NAME).compute(scheduler="sync")

    def puts_of_marker(self):
        requests = self.proxy.requests
        return [r for r in requests if r.method == "PUT" and r.is_marker]

    def first_put_of_marker(self, fault):
        """Return *fault* as what happens to the first write of the marker."""
        return lambda request: fault if self.puts_of_marker() == [request] else None


@pytest.fixture(scope="module")
def proxy(s3_server):
    with Proxy(s3_server.url) as proxy:
        yield proxy


@pytest.fixture
def network(proxy, s3_server):
    network = Network(proxy, s3_server)
    yield network
    network.begin()
    network.direct().clear(NAME)  # the server keeps it in memory


# ---- a fault at each request of each call ----


def nothing(network):
    pass


def done(network):
    OLD.save(network.direct(), NAME)


def half_done(network):
    done(network)
    network.server.fs.rm_file(f"{network.folder}/{DONE_MARKER}")
    for index in (1, 2):
        network.edit(index, None)


def damaged(network):
    done(network)
    network.edit(1, None)
    network.edit(2, flipped)


def text(network):
    replace(OLD, text=True).save(network.direct(), NAME)


def save(run, ckpt, note):
    run.save(ckpt, NAME, note)


def load(run, ckpt, note):
    ckpt.checkpoint(NAME).compute(scheduler="sync")


def repair(run, ckpt, note):
    run.repair(ckpt, NAME, note)


@dataclass(frozen=True)
class Call:
    """A call, what is stored before it, and the records that are right after it."""

    prepare: Callable
    call: Callable
    before: str | None  # labels of the partitions that are loaded where it failed
    after: str  # and where it did not
    missing: frozenset = frozenset(range(PARTITIONS))
    change: dict = field(default_factory=dict)  # of the runs


ALL_OLD, ALL_NEW, MIXED = "old old old", "new new new", "old new new"
NONE, ALL_BUT_THE_FIRST = frozenset(), frozenset({1, 2})
CALLS = {
    "save": Call(nothing, save, None, ALL_NEW),
    "text": Call(nothing, save, None, ALL_NEW, change={"text": True}),
    "load": Call(done, load, ALL_OLD, ALL_OLD, NONE),
    "load text": Call(text, load, ALL_OLD, ALL_OLD, NONE, {"text": True}),
    "save again": Call(done, save, ALL_OLD, ALL_OLD, NONE),
    "resume": Call(half_done, save, None, MIXED, ALL_BUT_THE_FIRST),
    "recompute": Call(done, save, ALL_OLD, ALL_NEW, change={"version": "2"}),
    "repair": Call(damaged, repair, "damaged", MIXED, ALL_BUT_THE_FIRST),
}
EITHER = {
    "lost answer": LostAnswer(),
    "reset": ResetBefore(),
    "error though done": ErrorAfter(),
    "internal error": INTERNAL_ERROR,
}
PASSING = EITHER | {
    "slow down twice": SLOW_DOWN,
    "cut body": CutBody(),
    "delay": Delay(0.3),
}
LASTING = EITHER | {
    "slow down": SLOW_DOWN,
    "cut body": CutBody(),
    "expired token": Status(400, "ExpiredToken"),
    "skewed clock": Status(403, "RequestTimeTooSkewed"),
}


def each_with_each(faults, shift):
    """Parametrise with each call, each fault, and the numbers of the requests.

    By default each fault meets one call, at every third of its requests.
    """
    calls = itertools.islice(itertools.cycle(CALLS), shift, None)
    by_default = [
        pytest.param(call, fault, range(number % 2, 99, 3), id=f"{call}-{fault}")
        for number, (call, fault) in enumerate(zip(calls, faults, strict=False))
    ]
    marks = [LONG, pytest.mark.timeout(3_600)]
    in_full = [
        pytest.param(call, fault, range(99), marks=marks, id=f"all-{call}-{fault}")
        for call in CALLS
        for fault in faults
    ]
    return pytest.mark.parametrize("call, fault, numbers", [*by_default, *in_full])


def check_error(error):
    """Assert that it is the filesystem's error, with a note that names the checkpoint.

    No error of this library would be true: nothing is damaged, absent, or of another
    run.
    """
    assert isinstance(error, FILESYSTEM_ERRORS), repr(error)
    assert not isinstance(error, CheckpointError | FileNotFoundError), repr(error)
    assert repr(NAME) in "\n".join(getattr(error, "__notes__", [])), repr(error)


def check_outcome(network, case, runs, error):
    """Assert that it is right, not done, or a documented error."""
    if not network.direct().is_done(NAME):
        assert case.before is None
        assert error is not None
        assert DONE_MARKER not in network.files()
        return
    try:
        found = labels(network.load(), runs)
    except CorruptCheckpointError:
        assert error is not None
        assert case.before == "damaged"
        return
    allowed = [case.after.split()]
    if error is not None and case.before:
        allowed.append(case.before.split())
    assert found in allowed


def check_next_run(network, case, runs):
    """The same call without a fault computes what is missing and is right."""
    before, done_before = network.stored(), DONE_MARKER in network.files()
    computed = []
    case.call(runs[2], network.direct(), computed.append)
    if case.before is None:  # nothing that was stored is computed again
        assert sorted(computed) == sorted(set(range(PARTITIONS)) - before)
        assert not (done_before and computed)
    found = labels(network.load(), runs)
    kept = [a for a, b in zip(found, case.after.split(), strict=True) if a == b]
    assert all(label in ("old", "new", "next") for label in found)
    assert len(kept) >= PARTITIONS - len(case.missing)
    if computed:  # a run that loads leaves the leftovers of others
        manifest = network.direct().store.manifest(NAME)
        assert manifest.files | {DONE_MARKER} == network.files()


def at_each_request(server, proxy, call, fault, times, numbers):
    """Make the call once for each of these requests, with a fault there."""
    found, case = Counter(), CALLS[call]
    runs = [replace(run, **case.change) for run in (OLD, NEW, NEXT)]
    for number in numbers:
        network, computed = Network(proxy, server), []
        case.prepare(network)
        network.begin(From(fault, number, times))
        ckpt = network.checkpointer() if times else network.impatient()
        error = error_of(partial(case.call, runs[1], ckpt, computed.append))
        failed, requests = bool(proxy.failed), proxy.requests[number:]
        network.begin()
        try:
            assert set(computed) <= case.missing
            if not failed:
                assert error is None
                break
            check_outcome(network, case, runs, error)
            check_next_run(network, case, runs)
            if error is not None:
                assert not times, "a fault that passes is not ridden out"
                check_error(error)
        except Exception as wrong:
            what = [f"{r.what} {r.path.rpartition('/')[2]}" for r in requests[:1]]
            wrong.add_note(f"request {number}, {what}: {error!r}")
            raise
        found["right" if error is None else "documented error"] += 1
        network.direct().clear(NAME)
    assert found
    return found


@each_with_each(PASSING, shift=0)
def test_p1_p5_a_fault_that_passes_is_ridden_out_at_each_request(
    proxy, s3_server, call, fault, numbers, record_property
):
    times = 2 if "twice" in fault else 1
    what = PASSING[fault]
    found = at_each_request(s3_server, proxy, call, what, times, numbers)
    record_property("figures", f"{call}, {fault}: {dict(found)}")


@each_with_each(LASTING, shift=7)
def test_p1_p3_p5_a_fault_that_lasts_leaves_the_old_or_the_new_records(
    proxy, s3_server, call, fault, numbers, record_property
):
    found = at_each_request(s3_server, proxy, call, LASTING[fault], None, numbers)
    record_property("figures", f"{call}, {fault} always: {dict(found)}")
    assert found["documented error"] > 0


@LONG
@pytest.mark.parametrize("fault", [LostAnswer(), ErrorAfter(), SLOW_DOWN])
def test_p1_an_upload_in_parts_rides_out_a_fault_at_each_request(network, fault):
    large = [(i, random.Random(i).randbytes(100_000)) for i in range(33 * MIB // 10**5)]
    bag = OLD.bag().map_partitions(lambda part: large)
    for number in itertools.count():
        network.begin(From(fault, number, 1))
        loaded = network.checkpointer().checkpoint(NAME, bag, scheduler="sync")
        assert loaded.compute(scheduler="sync") == large * PARTITIONS
        if not network.proxy.failed:
            break
        network.direct().clear(NAME)
    assert number > 3 * PARTITIONS


# ---- the done marker ----


class RivalFirst(Fault):
    """Another run commits before the request reaches the server."""

    def __init__(self, network, then):
        self.network, self.then = network, then

    def happen(self, handler, request):
        ckpt = self.network.direct()
        ckpt.configure(allow_partial=False)
        RIVAL.save(ckpt, NAME)
        self.then.happen(handler, request)


@pytest.mark.parametrize("then", [Fault(), LostAnswer()], ids=["answered", "lost"])
def test_p1_p3_a_retry_that_finds_the_marker_of_another_run_adopts_it(
    network, then, capsys
):
    network.begin(network.first_put_of_marker(RivalFirst(network, then)))
    NEW.save(network.checkpointer(verbose=True), NAME)
    assert network.proxy.failed
    output = capsys.readouterr().out
    assert "nother run" in output
    assert "Done!" not in output
    assert labels(network.load(), [NEW, RIVAL]) == ["rival"] * PARTITIONS
    named = network.direct().store.manifest(NAME).files
    assert network.files() == named | {DONE_MARKER}


def each_put_of_the_marker_is_lost(network, request):
    if request.is_marker and request.method == "PUT":
        return LostAnswer()
    return None


def the_marker_is_lost_and_cannot_be_read(network, request):
    if network.puts_of_marker() == [request]:
        return LostAnswer()
    if request.is_marker and request.method == "GET" and network.puts_of_marker():
        return ResetBefore()
    return None


@pytest.mark.parametrize(
    "fault", [each_put_of_the_marker_is_lost, the_marker_is_lost_and_cannot_be_read]
)
def test_p5_an_error_after_the_commit_does_not_claim_that_it_is_not_done(
    network, fault
):
    network.begin(lambda request: fault(network, request))
    error = error_of(lambda: NEW.save(network.impatient(), NAME))
    if error is not None:
        check_error(error)
    assert network.proxy.failed
    network.begin()
    assert network.direct().is_done(NAME)
    assert labels(network.load(), [NEW]) == ["new"] * PARTITIONS
    assert "is not done" not in "\n".join(getattr(error, "__notes__", []))


@pytest.mark.parametrize("cached", [False, True], ids=["url", "fs-with-listing-cache"])
def test_p2_a_second_client_that_has_listed_sees_changes_at_its_first_look(
    network, cached
):
    """An s3fs instance with its listing cache on would not."""
    options = network.server.options | {"skip_instance_cache": True}
    if cached:
        fs = s3fs.S3FileSystem(**options, use_listings_cache=True)
        second = CheckpointStore(network.root, fs=fs)
    else:
        second = CheckpointStore(network.root, storage_options=options)
    ckpt = Checkpointer(second, verbose=False)
    marker = f"{network.folder}/{DONE_MARKER}"
    OLD.save(network.direct(), "other")
    second.fs.ls(network.root)
    half_done(network)
    second.fs.ls(network.folder)
    assert not second.is_done(NAME)
    NEW.save(network.direct(), NAME)
    assert second.fs.exists(marker) == (not cached)  # the trap is set

    assert second.is_done(NAME)
    assert second.verify(NAME) == []
    assert second.names() == [NAME, "other"]
    computed = []
    RIVAL.save(ckpt, NAME, computed.append)
    assert computed == []
    assert labels(network.load(ckpt), [OLD, NEW]) == ["old", "new", "new"]

    second.fs.ls(network.root)
    second.fs.ls(network.folder)
    network.direct().clear(NAME)
    assert second.fs.exists(marker) == cached
    assert not second.is_done(NAME)
    assert second.status(NAME).state == "absent"
    assert second.names() == ["other"]
    NEXT.save(ckpt, NAME, computed.append)
    assert sorted(computed) == list(range(PARTITIONS))
    assert labels(network.load(), [NEXT]) == ["next"] * PARTITIONS


# ---- throttling ----


@pytest.mark.parametrize(
    "burst, done",
    [
        (Burst(SLOW_DOWN, 2, 3), True),
        (Burst(TOO_MANY, 3, 2), True),
        (Burst(CONFLICT, 6, 5), True),
        *(
            pytest.param(Burst(SLOW_DOWN, first, times), times < 25, marks=LONG)
            for first in (0, 3, 6)
            for times in (1, 5, 10, 20, 30)  # s3fs tries 25 times
        ),
    ],
)
def test_p1_p5_a_burst_of_refusals_is_ridden_out_or_an_error(network, burst, done):
    network.begin(burst)
    error = error_of(lambda: NEW.save(network.checkpointer(), NAME))
    assert network.proxy.failed
    network.begin()
    NEXT.save(network.direct(), NAME)
    found = labels(network.load(), [NEW, NEXT])
    if error is None:
        assert found == ["new"] * PARTITIONS
    else:
        check_error(error)
    assert done == (error is None)


# ---- weak stores ----


class Unconditional(Fault):
    """A server that ignores conditions."""

    def happen(self, handler, request):
        for condition in ("If-None-Match", "If-Match"):
            del handler.headers[condition]
        super().happen(handler, request)


class Remembered(Fault):
    """Reads and listings are answered as they were when they were remembered.

    What was not asked for then is answered as it is now.
    """

    def __init__(self, kind):
        self.kind = kind
        self.answers = {}
        self.stale = False

    def happen(self, handler, request):
        asked = request.path, str(sorted(request.query.items()))
        if not self.stale or asked not in self.answers:
            answer = handler.ask_server()
            if not self.stale:
                self.answers[asked] = answer
        else:
            answer = self.answers[asked]
        handler.answer(*answer)

    def __call__(self, request):
        # A listing or a negative answer is not remembered for ever.
        return self if request.what == self.kind and request.number < 60 else None


def cleared(network):
    network.direct().clear(NAME)


def recomputed(network):
    replace(RIVAL, version="2").save(network.direct(), NAME)


def repaired(network):
    network.edit(1, None)
    RIVAL.repair(network.direct(), NAME)


HISTORIES = {
    "nothing, then a partial": ([], half_done),
    "nothing, then done": ([], done),
    "a partial, then done": ([half_done], done),
    "a partial, then cleared": ([half_done], cleared),
    "done, then cleared": ([done], cleared),
    "done, then recomputed": ([done], recomputed),
    "done, then repaired": ([done], repaired),
}
EVERY_FIFTH = itertools.cycle([LONG, LONG, LONG, [], LONG])


@pytest.mark.parametrize(
    "stale, history",
    [
        pytest.param(stale, history, marks=next(EVERY_FIFTH))
        for stale in ("LIST", "GET")
        for history in HISTORIES
    ],
)
def test_p1_p4_p5_a_store_that_answers_with_the_past_gives_nothing_false(
    proxy, s3_server, stale, history, record_property
):
    before, since = HISTORIES[history]
    found = Counter()
    for call in ("load", "save", "repair", "clear"):
        network = Network(proxy, s3_server)
        for step in before:
            step(network)
        memory = Remembered(stale)
        network.begin(memory)
        look = network.checkpointer()
        look.status(NAME)
        look.explain(NAME, NEW.bag())
        memory.stale = True
        since(network)
        network.begin(memory)
        ckpt, outcome = network.checkpointer(), "right"
        try:
            if call == "clear":
                ckpt.clear(NAME)
            else:
                CALLS[call].call(NEW, ckpt, lambda index: None)
        except CheckpointError as error:
            outcome = type(error).__name__
        found[outcome] += 1
        assert len(proxy.requests) < 60, "the same request is made again and again"
        network.begin()
        check_right_or_loud(network)
        network.direct().clear(NAME)
    record_property("figures", f"{history}, {stale} stale: {dict(found)}")


def check_right_or_loud(network):
    runs = [OLD, NEW, NEXT, RIVAL]
    if network.direct().is_done(NAME):
        with contextlib.suppress(CorruptCheckpointError):
            labels(network.load(), runs)
    NEXT.save(network.direct(), NAME)
    try:
        labels(network.load(), runs)
    except CorruptCheckpointError:  # a file of the right size, of another run
        NEXT.repair(network.direct(), NAME)
        labels(network.load(), runs)
    assert network.direct().store.verify(NAME) == []


@pytest.mark.parametrize("same", [True, False], ids=["same-plan", "another-plan"])
def test_p1_p5_a_marker_written_over_another_is_right_or_loud(network, same):
    """The server ignores the condition, and both runs have committed."""
    rival = RivalFirst(network, Unconditional())
    network.begin(network.first_put_of_marker(rival))
    run = NEW if same else replace(NEW, version="2")
    with contextlib.suppress(CheckpointConflictError):
        run.save(network.checkpointer(), NAME)
    assert network.proxy.failed
    network.begin()
    check_right_or_loud(network)


# ---- at random ----

RANDOM = [
    SLOW_DOWN,
    INTERNAL_ERROR,
    TOO_MANY,
    ErrorAfter(),
    ResetBefore(),
    LostAnswer(),
    CutBody(),
]


@pytest.mark.parametrize(
    "rate, saves",
    [
        (0.05, 5),
        *(
            pytest.param(rate, 2_000, marks=[LONG, pytest.mark.timeout(7_200)])
            for rate in (0.01, 0.05)
        ),
    ],
)
def test_p1_p5_random_faults_of_the_network_lose_nothing(
    network, rate, saves, record_property
):
    """Each save is right, or a documented error after which the next one is."""
    seed = 1 if saves < 100 else secrets.randbits(32)
    found = Counter()
    for number in range(saves):
        rng = random.Random(f"{seed} {number}")

        def fault(request, rng=rng):
            if rng.random() >= rate:
                return None
            if request.is_conditional and rng.random() < 0.5:
                return CONFLICT
            return rng.choice(RANDOM)

        run, records = replace(NEW, label=str(number)), None
        network.begin(fault)
        try:
            records = run.save(network.checkpointer(), NAME).compute(scheduler="sync")
        except Exception as error:
            check_error(error)
        found["faults"] += len(network.proxy.failed)
        found["requests"] += len(network.proxy.requests)
        network.begin()
        if records is None:
            run.save(network.direct(), NAME)
        for loaded in (records, network.load()):
            if loaded is not None:
                what = f"seed {seed}, save {number}"
                assert labels(loaded, [run]) == [run.label] * PARTITIONS, what
        found["documented error" if records is None else "right"] += 1
        network.direct().clear(NAME)
    record_property("figures", f"{rate:.0%} of requests, seed {seed}: {dict(found)}")
    assert found["faults"]
    least = 0.999 if rate < 0.05 else 0.9
    assert found["right"] >= saves * least - 1
