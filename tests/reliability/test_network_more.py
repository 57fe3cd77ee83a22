"""P1, P3, P4, P5: faults in repairs, replacements and uploads; weak stores; at random.

What `test_network` has for saves and loads is here for the other calls. A weak store
answers with what was true before, or ignores a condition, and calls it a success: it is
not promised that such a store gives what was saved last, but that what it gives is
right, not done, or a documented error.
"""

import random
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import dask.bag
import pytest

from agatha_ckpt import CheckpointConflictError, CheckpointError, CorruptCheckpointError
from agatha_ckpt._filesystem import remote as _objects
from agatha_ckpt._format.names import DONE_MARKER
from tests.reliability.test_network import (
    CONFLICT,
    INTERNAL_ERROR,
    NAME,
    PARTITIONS,
    SLOW_DOWN,
    ErrorAfter,
    Happening,
    Network,
    RivalFirst,
    bag_of,
    check_error,
    is_first_put_of_marker,
    load,
    records_of,
    save,
)
from tests.servers.proxy import CutBody, Fault, LostAnswer, Proxy, ResetBefore, Status

TOO_MANY = Status(429, "TooManyRequests")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def proxy(s3_server):
    with Proxy(s3_server.url) as proxy:
        yield proxy


@pytest.fixture
def network(proxy, s3_server):
    network = Network(proxy, s3_server)
    network.begin()
    yield network
    network.begin()
    network.direct().clear(NAME)  # the server holds it in memory


def runs_of(records):
    """The run of each partition; the records must be exactly theirs."""
    runs = [record[0] for record in records[:: len(records) // PARTITIONS]]
    assert records == records_of(runs)
    return runs


# ---- a fault at each request of the other calls ----


class Repair:
    """Two partitions of a done checkpoint are damaged; they alone are computed."""

    right: ClassVar = [1, 2, 1, 2]

    def prepare(self, network):
        save(network.direct(), 1, [])
        for path in network.server.fs.find(network.folder):
            if "/part-00001-" in path:
                network.server.fs.rm_file(path)
            elif "/part-00003-" in path:
                content = bytearray(network.server.fs.cat_file(path))
                content[-1] ^= 1
                network.server.fs.pipe_file(path, bytes(content))

    def call(self, ckpt, run, computed):
        ckpt.repair(NAME, bag_of(run, computed), scheduler="sync")
        assert set(computed) <= {1, 3}

    def check(self, network, error):
        """What is not damaged is there; the rest is right, or said to be damaged."""
        try:
            assert load(network.direct()) == records_of(self.right)
        except CorruptCheckpointError:
            assert error is not None
        kept = dict(enumerate(network.marker()["partitions"]["file"]))
        assert {kept[0], kept[2]} <= set(network.files())


class Replace:
    """A done checkpoint is stale, and computed again."""

    right = [2] * PARTITIONS

    def prepare(self, network):
        save(network.direct(), 1, [])

    def call(self, ckpt, run, computed):
        bag = bag_of(run, computed)
        ckpt.configure(on_stale="recompute")
        ckpt.checkpoint(NAME, bag, version="2", scheduler="sync")

    def check(self, network, error):
        """It holds the records of the first run, or of the second."""
        runs = runs_of(load(network.direct()))
        assert runs == self.right or (error and runs == [1] * PARTITIONS)


class Upload:
    """One partition goes in parts, and is read by ranges."""

    count = 12 * MIB // 100_000
    right = 1

    def prepare(self, network):
        pass

    def large(self, run, part):
        noise = random.Random(run).randbytes
        return [(run, i, noise(100_000)) for i in range(self.count)]

    def call(self, ckpt, run, computed):
        def make(part):
            computed.append(*part)
            return self.large(self.right, part)

        bag = dask.bag.from_sequence([0], npartitions=1).map_partitions(make)
        loaded = ckpt.checkpoint(NAME, bag, scheduler="sync")
        assert loaded.compute(scheduler="sync") == self.large(self.right, None)

    def check(self, network, error):
        if not network.direct().is_done(NAME):
            assert error is not None
            assert DONE_MARKER not in network.files()


CALLS = {"repair": Repair(), "replace": Replace(), "upload": Upload()}
PASSING = {
    "lost-answer": LostAnswer(),
    "reset": ResetBefore(),
    "error-though-done": ErrorAfter(),
    "internal-error": INTERNAL_ERROR,
    "slow-down": SLOW_DOWN,
    "cut-body": CutBody(),
}
LASTING = {
    "lost-answer": LostAnswer(),
    "reset": ResetBefore(),
    "error-though-done": ErrorAfter(),
    "internal-error": INTERNAL_ERROR,
    "slow-down": SLOW_DOWN,
    "expired-token": Status(400, "ExpiredToken"),
    "skewed-clock": Status(403, "RequestTimeTooSkewed"),
}


def at_each_request(server, proxy, call, fault, times):
    """Make the call once for each of its requests, with a fault there."""
    case, number, found = CALLS[call], 0, Counter()
    while True:
        network = Network(proxy, server)
        network.begin()
        case.prepare(network)
        happening = Happening(fault, number, times)
        network.begin(happening)
        ckpt = network.checkpointer() if times else network.impatient()
        error = None
        try:
            case.call(ckpt, 2, [])
        except Exception as raised:
            error = raised
        failed, request = bool(network.failed), network.proxy.requests[number:]
        network.proxy.fault = lambda request: None
        if not failed:
            assert error is None
            assert number > PARTITIONS
            return found
        what = f"{request[0].what} {request[0].path.rpartition('/')[2]}"
        try:
            case.check(network, error)
            check_next_run(network, case)
            if error is not None:
                check_error(error)
                assert not times, "it is not ridden out"
        except AssertionError as wrong:
            wrong.add_note(f"request {number}, {what}: {error!r}")
            raise
        found["right" if error is None else "documented error"] += 1
        number += 1


def check_next_run(network, case):
    """It is right; and a run that has to commit leaves what the manifest names."""
    ckpt = network.direct()
    before = ckpt.store.find_manifest(NAME)
    case.call(ckpt, 2, [])
    if not isinstance(case, Upload):
        assert load(network.direct()) == records_of(case.right)
    manifest = network.direct().store.manifest(NAME)
    named = {*manifest.files, DONE_MARKER}
    assert named <= set(network.files())
    if before is None or before.token != manifest.token:
        assert named == set(network.files())
    ckpt.clear(NAME)
    assert network.files() == []


def with_each(faults, each_commit):
    return [
        pytest.param(
            call,
            fault,
            id=f"{call}-{fault}",
            marks=[] if fault == each_commit else pytest.mark.long,
        )
        for call in CALLS
        for fault in faults
    ]


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 5 MiB, which is the least that S3 takes."""
    monkeypatch.setattr(_objects, "SPOOL_BYTES", 5 * MIB)


@pytest.mark.parametrize("call, fault", with_each(PASSING, "lost-answer"))
def test_a_fault_that_passes_is_ridden_out_by_each_request(
    proxy, s3_server, small_parts, call, fault, record_property
):
    """P1, P5."""
    found = at_each_request(s3_server, proxy, call, PASSING[fault], 1)
    record_property(f"{call}: {fault}", str(dict(found)))
    assert found.keys() == {"right"}


@pytest.mark.parametrize("call, fault", with_each(LASTING, "error-though-done"))
def test_a_fault_that_lasts_leaves_what_was_there_or_what_is_new(
    proxy, s3_server, small_parts, call, fault, record_property
):
    """P1, P3, P5: a mixture of old and new cannot be read."""
    found = at_each_request(s3_server, proxy, call, LASTING[fault], None)
    record_property(f"{call}: {fault} for ever", str(dict(found)))
    assert found["documented error"] > 0


# ---- throttling ----


@dataclass
class Burst:
    """The next requests fail, whatever they ask for, for a number or a time."""

    fault: Fault
    first: int = 0
    times: int = 0
    seconds: float = 0
    _until: float = field(default=0, init=False)

    def __call__(self, request):
        if request.number < self.first:
            return None
        if self._until == 0:
            self._until = time.monotonic() + self.seconds
        self.times -= 1
        return self.fault if self.times >= 0 or time.monotonic() < self._until else None


def ridden_out(network, burst):
    """Whether a save meets the burst and is right; else it is a documented error."""
    network.begin(burst)
    error = None
    try:
        save(network.checkpointer(), 1, [])
    except Exception as raised:
        error = raised
    failed = len(network.failed)
    network.begin()
    assert failed
    if error is not None:
        check_error(error)
    elif network.direct().is_done(NAME):
        assert load(network.direct()) == records_of([1] * PARTITIONS)
    save(network.direct(), 1, [])
    assert load(network.direct()) == records_of([1] * PARTITIONS)
    return error is None, failed


@pytest.mark.parametrize(
    "fault, first, times",
    [(SLOW_DOWN, 2, 3), (TOO_MANY, 0, 1), (TOO_MANY, 3, 2), (CONFLICT, 7, 5)],
    ids=["slow-down", "too-many-get", "too-many-put", "conflict"],
)
def test_a_burst_of_refusals_is_ridden_out(network, fault, first, times):
    """P1."""
    assert ridden_out(network, Burst(fault, first, times)) == (True, times)


@pytest.mark.long
@pytest.mark.parametrize("times", [1, 3, 5, 10, 15, 20, 30])
@pytest.mark.parametrize("first", [0, 3, 7], ids=["look", "partition", "marker"])
def test_a_long_burst_of_slow_down_is_ridden_out_or_an_error(
    network, first, times, record_property
):
    """P1, P5: s3fs tries 25 times."""
    done, failed = ridden_out(network, Burst(SLOW_DOWN, first, times))
    line = f"SlowDown {times} times from request {first}: "
    line += "ridden out" if done else f"an error after {failed}"
    print(line)
    record_property("burst", line)
    assert done == (times < 25)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [10, 30, 60])
def test_slow_down_for_a_while_is_ridden_out_or_an_error(
    network, seconds, record_property
):
    """P1, P5."""
    done, failed = ridden_out(network, Burst(SLOW_DOWN, seconds=seconds))
    line = f"SlowDown for {seconds} s: {'ridden out' if done else 'an error'}"
    line += f" after {failed} refusals"
    print(line)
    record_property("burst", line)
    assert done or seconds > 30


# ---- weak stores ----


class Unconditional(Fault):
    """A server that does not know the condition, and so does not keep it."""

    def happen(self, handler, request):
        del handler.headers["If-None-Match"]
        super().happen(handler, request)


class Remembered(Fault):
    """Answers to reads and listings as they were when they were remembered.

    An answer is kept by what was asked for; what was not asked for then is answered as
    it is now.
    """

    def __init__(self, kinds):
        self.kinds = kinds
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
        return self if request.what in self.kinds else None


def nothing_yet(network):
    """Nobody has saved anything."""


def two_partitions(network):
    """A run has stored two partitions and died."""
    network.begin(Happening(ResetBefore(), 4))
    with pytest.raises(Exception, match=r".*"):
        save(network.impatient(), 1, [])
    network.begin()


def done(network):
    save(network.direct(), 1, [])


def cleared(network):
    network.direct().clear(NAME)


def replaced(network):
    Replace().call(network.direct(), 3, [])


def repaired(network):
    Repair().prepare(network)
    Repair().call(network.direct(), 3, [])


HISTORIES = [
    ("nothing yet", [nothing_yet], []),
    ("nothing, then two partitions", [nothing_yet], [two_partitions]),
    ("nothing, then done", [nothing_yet], [done]),
    ("two partitions, then done", [two_partitions], [done]),
    ("two partitions, then cleared", [two_partitions], [cleared]),
    ("done, then cleared", [done], [cleared]),
    ("done, then replaced", [done], [replaced]),
    ("done, then repaired", [done], [repaired]),
]


def look(ckpt):
    """Ask for all that can be remembered."""
    ckpt.is_done(NAME)
    ckpt.status(NAME)
    ckpt.store.missing(NAME, ckpt.store.manifest(NAME)) if ckpt.is_done(NAME) else None


def then_load(ckpt):
    ckpt.checkpoint(NAME).compute(scheduler="sync")


def then_save(ckpt):
    ckpt.checkpoint(NAME, bag_of(5, []), scheduler="sync").compute(scheduler="sync")


def then_repair(ckpt):
    ckpt.repair(NAME, bag_of(5, []), scheduler="sync").compute(scheduler="sync")


def then_clear(ckpt):
    ckpt.clear(NAME)


# So many answers are stale; then a listing or a negative answer is remembered no more.
STALE_ANSWERS = 60


@pytest.mark.parametrize("stale", ["LIST", "GET"])
@pytest.mark.parametrize("history", HISTORIES, ids=[h[0] for h in HISTORIES])
def test_a_store_that_answers_with_the_past_gives_nothing_false(
    proxy, s3_server, stale, history, record_property
):
    """P1, P4, P5: a client sees old listings, or old objects under their names."""
    _, before, since = history
    found = Counter()
    for then in (then_load, then_save, then_repair, then_clear):
        network = Network(proxy, s3_server)
        network.begin()
        for step in before:
            step(network)
        memory = Remembered({stale})
        network.begin(memory)
        look(network.checkpointer())
        memory.stale = True
        for step in since:
            step(network)
        network.begin(lambda r, m=memory: m(r) if r.number < STALE_ANSWERS else None)
        error = None
        try:
            then(network.checkpointer())
        except Exception as raised:
            error = raised
        requests = len(proxy.requests)
        network.begin()
        what = f"{then.__name__}: {error!r}"
        assert error is None or isinstance(error, CheckpointError), what
        check_right_or_documented(network, what)
        found["right" if error is None else type(error).__name__] += 1
        found["requests"] = max(requests, found["requests"])
        network.direct().clear(NAME)
    record_property("outcomes", str(dict(found)))
    assert found["requests"] < STALE_ANSWERS, "it asks the same again and again"


def check_right_or_documented(network, what):
    """With the store as it is, and then by a save with the bag, which must be right."""
    ckpt = network.direct()
    if ckpt.is_done(NAME):
        try:
            runs = runs_of(load(ckpt))
        except CorruptCheckpointError:
            pass
        else:
            assert 0 < len(set(runs)) < PARTITIONS, what
    ckpt.configure(on_stale="warn")
    save(ckpt, 6, [])
    runs_of(load(network.direct()))
    assert network.direct().store.verify(NAME) == []


@pytest.mark.parametrize("same", [True, False], ids=["same-plan", "another-plan"])
def test_a_marker_written_over_another_is_right_or_shows_and_can_be_mended(
    network, same
):
    """P1, P5: the server ignores the condition, and both runs think that they won."""
    rival = RivalFirst(network, Unconditional())
    fault = partial(is_first_put_of_marker, network)
    network.begin(lambda request: rival if fault(request) else None)
    bag, computed = bag_of(1, []), []
    version = None if same else "2"
    try:
        network.checkpointer().checkpoint(NAME, bag, version=version, scheduler="sync")
    except CheckpointConflictError:
        assert not same
    assert network.failed
    network.begin()
    try:
        found = runs_of(load(network.direct()))
    except CorruptCheckpointError as error:
        found = str(error)
    if isinstance(found, str):
        assert re.search(f"partition . of checkpoint {NAME!r}", found)
    else:
        assert found in ([1] * PARTITIONS, [3] * PARTITIONS)
    network.direct().checkpoint(
        NAME, bag_of(1, computed), version=version, scheduler="sync"
    )
    assert len(set(runs_of(load(network.direct())))) == 1
    assert network.direct().store.verify(NAME) == []


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


def random_faults(network, rate, saves, seed, right):
    """Save and load so often; each request fails at this rate.

    Of a few saves more may end in an error than of many: there are more of them, up to
    ten times as many, until this part of them is right.
    """
    found = Counter()
    for number in range(10 * saves):
        if number >= saves and found["right"] >= number * right:
            break
        rng = random.Random(f"{seed} {number}")

        def fault(request, rng=rng):
            if rng.random() >= rate:
                return None
            return CONFLICT if rng.random() < 0.1 else rng.choice(RANDOM)

        network.begin(fault)
        error, records = None, None
        try:
            loaded = network.checkpointer().checkpoint(
                NAME, bag_of(number, []), scheduler="sync"
            )
            records = loaded.compute(scheduler="sync")
        except Exception as raised:
            error = raised
        found["faults"] += len(network.failed)
        found["requests"] += len(network.proxy.requests)
        network.begin()
        expected = records_of([number] * PARTITIONS)
        try:
            assert error is not None or records == expected
            if error is not None:
                check_error(error)
                save(network.direct(), number, [])
            assert load(network.direct()) == expected
        except Exception as wrong:
            print(f"seed {seed}, save {number}: {error!r}, {wrong!r}")
            found["wrong"] += 1
        found["right" if error is None else "documented error"] += 1
        network.direct().clear(NAME)
    return found


@pytest.mark.parametrize(
    "rate, saves",
    [
        (0.05, 20),  # always the same faults
        *(
            pytest.param(
                rate, 2_000, marks=[pytest.mark.long, pytest.mark.timeout(7_200)]
            )
            for rate in (0.01, 0.05)
        ),
    ],
)
def test_random_faults_of_the_network_lose_nothing(
    network, rate, saves, record_property
):
    """P1, P5: each save is right, or a documented error after which the next one is."""
    seed = 1 if saves < 100 else secrets.randbits(32)
    right = 0.999 if rate < 0.05 else 0.9
    found = random_faults(network, rate, saves, seed, right)
    line = f"{rate:.0%} random faults, seed {seed}: {dict(found)}"
    print(line)
    record_property("random faults", line)
    assert found["wrong"] == 0, line
    assert found["right"] >= right * (found["right"] + found["documented error"]), line
