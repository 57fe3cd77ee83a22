"""P1, P4, P5: faults of the network and of the server, at each request of a call.

The proxy stands between the real client and an S3 server. Each record says which run
made it, so that a mixture, a loss and a duplicate all show.
"""

import json
import re
from dataclasses import dataclass, field

import aiohttp
import botocore.exceptions
import dask.bag
import pytest
import s3fs

from agatha_ckpt import Checkpointer, CheckpointError, CheckpointStore, Plan
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import DONE_MARKER
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
PARTITIONS = 4
RECORDS = 25  # in each partition

REQUESTS = {
    "save": ["GET marker", "LIST", *["PUT"] * PARTITIONS, "LIST", "PUT marker"],
    "load": ["GET marker", *["GET"] * PARTITIONS],
}
# One of each kind of request; of partitions one that is neither the first nor the last.
ONE_OF_EACH = {"save": {0, 1, 4, 6, 7}, "load": {0, 2}}

# What s3fs raises for a request that failed: botocore's errors are no OSError.
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
CONFLICT = Status(409, "ConditionalRequestConflict")

EVERY = "GET|LIST|PUT"
READ = "GET|LIST"
MARKER = "PUT marker"
# Fault, how often in a row, and the requests at which it can happen.
ONCE = {
    "slow-down-twice": (SLOW_DOWN, 2, EVERY),
    "internal-error": (INTERNAL_ERROR, 1, EVERY),
    "error-though-done": (ErrorAfter(), 1, "PUT"),
    "conflict": (CONFLICT, 1, MARKER),
    "conflict-three-times": (CONFLICT, 3, MARKER),
    "reset": (ResetBefore(), 1, EVERY),
    "lost-answer": (LostAnswer(), 1, EVERY),
    "cut-body": (CutBody(), 1, READ),
    "delay": (Delay(0.3), 1, EVERY),
}
FOR_EVER = {
    "slow-down": (SLOW_DOWN, None, EVERY),
    "internal-error": (INTERNAL_ERROR, None, EVERY),
    "error-though-done": (ErrorAfter(), None, "PUT"),
    "conflict": (CONFLICT, None, MARKER),
    "reset": (ResetBefore(), None, EVERY),
    "lost-answer": (LostAnswer(), None, EVERY),
    "cut-body": (CutBody(), None, READ),
    "delay": (Delay(0.3), None, EVERY),
}


def each_request(faults, slow):
    """Parametrise with each fault at each request at which it can happen.

    Those in *slow* happen at each only where the long tests are asked for, else at one
    request of each kind.
    """
    cases = []
    for call, requests in REQUESTS.items():
        for number, request in enumerate(requests):
            alike = number not in ONE_OF_EACH[call]
            cases += [
                pytest.param(
                    call,
                    number,
                    fault,
                    id=f"{fault}-{call}-{number}-{request}",
                    marks=pytest.mark.long if alike and fault in slow else [],
                )
                for fault, (_, _, where) in faults.items()
                if re.match(where, request)
            ]
    return pytest.mark.parametrize("call, number, fault", cases)


@dataclass
class Happening:
    """A fault from one request on, at that request's path only."""

    fault: Fault
    number: int
    times: int | None = None  # in a row; None is for ever
    path: str | None = field(default=None, init=False)

    def __call__(self, request):
        if request.number == self.number:
            self.path = request.path
        if self.path != request.path or self.times == 0:
            return None
        if self.times is not None:
            self.times -= 1
        return self.fault


class Network:
    """A root on the server, and the way to it through the proxy."""

    def __init__(self, proxy, server):
        self.proxy = proxy
        self.server = server
        self.root = server.new_root()
        self.folder = f"{self.root}/{NAME}"

    def checkpointer(self, verbose=False, **options):
        """One whose requests go through the proxy."""
        options = self.server.through(self.proxy.url).options | options
        store = CheckpointStore(self.root, storage_options=options)
        return Checkpointer(store, verbose=verbose)

    def impatient(self):
        """One whose client gives up after one retry."""
        ckpt = self.checkpointer(config_kwargs={"retries": {"max_attempts": 0}})
        ckpt.store.fs.retries = 2  # s3fs itself tries again, and has no option for it
        return ckpt

    def direct(self):
        """A fresh store that does not know the proxy."""
        store = CheckpointStore(self.root, storage_options=self.server.options)
        return Checkpointer(store, verbose=False)

    def begin(self, fault=None):
        """Count requests from 0, and let the fault happen from now on."""
        self.proxy.forget()
        self.proxy.fault = fault or (lambda request: None)

    @property
    def failed(self):
        return self.proxy.failed

    def files(self):
        """Names of the objects in the checkpoint's folder."""
        try:
            found = self.server.fs.ls(self.folder, detail=False)
        except FileNotFoundError:
            return []
        return [path.rpartition("/")[2] for path in found]

    def stored(self):
        """Numbers of the partitions of which there is a file."""
        matches = [re.match(r"part-(\d+)-", name) for name in self.files()]
        return sorted(int(match[1]) for match in matches if match)

    def marker(self):
        return json.loads(self.server.fs.cat_file(f"{self.folder}/{DONE_MARKER}"))[
            "manifest"
        ]


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


def record(run, partition, index, text=False):
    return f"{run} {partition} {index}" if text else (run, partition, index)


def bag_of(run, computed, text=False):
    """A bag that notes the partitions that it computes."""

    def make(numbers):
        [partition] = numbers
        computed.append(partition)
        return [record(run, partition, i, text) for i in range(RECORDS)]

    return dask.bag.from_sequence(
        range(PARTITIONS), npartitions=PARTITIONS
    ).map_partitions(make)


def records_of(runs, text=False):
    """The records of a checkpoint whose partitions are of these runs."""
    return [
        record(run, partition, i, text)
        for partition, run in enumerate(runs)
        for i in range(RECORDS)
    ]


def save(ckpt, run, computed, text=False):
    bag = bag_of(run, computed, text)
    return ckpt.checkpoint(NAME, bag, textfile=text, scheduler="sync")


def load(ckpt):
    return ckpt.checkpoint(NAME).compute(scheduler="sync")


def prepare(network, call, text):
    if call in ("load", "again"):
        save(network.direct(), 1, [], text)
    if call == "resume":
        network.begin(Happening(ResetBefore(), 4))
        with pytest.raises(botocore.exceptions.ConnectionClosedError):
            save(network.impatient(), 1, [], text)


def attempt(network, ckpt, call, fault, text=False):
    """Do the call with the fault; return the error, or None where it went right.

    Calls are save, resume (save, two partitions being stored), again (save what is
    done) and load.
    """
    prepare(network, call, text)
    stored, computed, error = network.stored(), [], None
    network.begin(fault)
    try:
        if call == "load":
            assert load(ckpt) == records_of([1] * PARTITIONS, text)
        else:
            save(ckpt, 1, computed, text)
    except Exception as raised:
        error = raised
    network.proxy.fault = lambda request: None
    assert network.failed, "the fault did not happen"
    assert not set(computed) & set(stored)
    return error


def check_nothing_false(network, error, text=False):
    """The checkpoint is not done, or right."""
    ckpt = network.direct()
    if ckpt.is_done(NAME):
        assert load(ckpt) == records_of([1] * PARTITIONS, text)
    else:
        assert error is not None
        assert DONE_MARKER not in network.files()


def check_error(error):
    """It is the filesystem's own, and a note names the checkpoint.

    No error of the library's own would be true: nothing is damaged, absent, or of
    another run.
    """
    assert isinstance(error, FILESYSTEM_ERRORS), repr(error)
    assert not isinstance(error, CheckpointError | FileNotFoundError), repr(error)
    assert repr(NAME) in "\n".join(getattr(error, "__notes__", [])), repr(error)


def check_next_run(network, text=False):
    """With the fault gone: only what was not stored is computed, and all is right."""
    stored = network.stored()
    done = DONE_MARKER in network.files()
    computed = []
    save(network.checkpointer(), 2, computed, text)
    missing = [i for i in range(PARTITIONS) if i not in stored]
    assert sorted(computed) == missing
    assert not (done and computed)
    runs = [2 if i in missing else 1 for i in range(PARTITIONS)]
    assert load(network.direct()) == records_of(runs, text)
    named = network.marker()["partitions"]["file"]
    assert sorted(network.files()) == sorted([*named, DONE_MARKER])


def check_after(network, error, text, record_property, fault):
    """All that must hold; the outcome goes into the report that --junitxml writes."""
    kind = type(error)
    outcome = "right" if error is None else f"{kind.__module__}.{kind.__qualname__}"
    record_property("fault", fault)
    record_property("outcome", outcome)
    check_nothing_false(network, error, text)
    check_next_run(network, text)
    record_property("next run", "right")
    if error is not None:
        check_error(error)


def test_the_tables_reach_each_request_of_a_save_and_of_a_load(network):
    ckpt = network.checkpointer()
    for call, expected in REQUESTS.items():
        network.begin()
        if call == "save":
            save(ckpt, 1, [])
        else:
            load(ckpt)
        requests = network.proxy.requests
        assert [f"{r.what}{' marker' * r.is_marker}" for r in requests] == expected


@each_request(ONCE, slow={"slow-down-twice", "internal-error"})
def test_a_fault_that_passes_is_ridden_out(
    network, call, number, fault, record_property
):
    """P1, P5: and the records are those of the one run, none of them twice."""
    what, times, _ = ONCE[fault]
    error = attempt(
        network, network.checkpointer(), call, Happening(what, number, times)
    )
    if error is not None:
        raise error
    assert len(network.failed) == times
    assert network.stored() == list(range(PARTITIONS))
    check_after(network, error, False, record_property, f"{call}: {fault}")


@each_request(FOR_EVER, slow=set(FOR_EVER))
def test_a_fault_that_lasts_is_an_error_that_names_the_checkpoint(
    network, call, number, fault, record_property
):
    """P1, P4, P5: nothing false can be read, and the next run is right."""
    happening = Happening(FOR_EVER[fault][0], number)
    error = attempt(network, network.impatient(), call, happening)
    assert (error is None) == (fault == "delay"), repr(error)
    check_after(network, error, False, record_property, f"{call}: {fault} for ever")


@pytest.mark.parametrize(
    "call, number, fault, times",
    [
        ("again", 0, ResetBefore(), None),
        ("again", 1, CutBody(), 1),
        ("again", 1, INTERNAL_ERROR, None),
        ("resume", 1, SLOW_DOWN, None),
        ("resume", 2, CutBody(), 1),
        ("resume", 2, CutBody(), None),
        ("resume", 3, SLOW_DOWN, None),
        ("text save", 3, LostAnswer(), 1),
        ("text save", 3, ResetBefore(), None),
        ("text save", 6, INTERNAL_ERROR, None),
        ("text save", 7, LostAnswer(), 1),
        ("text save", 7, LostAnswer(), None),
        ("text resume", 2, ResetBefore(), None),
        ("text load", 2, CutBody(), 1),
        ("text load", 2, CutBody(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else None,
)
def test_a_resume_a_second_look_and_text_checkpoints_meet_faults_alike(
    network, call, number, fault, times, record_property
):
    """P1, P4, P5: what could not be read is not taken for damaged."""
    text, call = call.startswith("text "), call.removeprefix("text ")
    ckpt = network.impatient() if times is None else network.checkpointer()
    error = attempt(network, ckpt, call, Happening(fault, number, times), text)
    assert (error is None) == (times is not None), repr(error)
    name = type(fault).__name__ + (" for ever" if times is None else "")
    check_after(network, error, text, record_property, f"others: {name}")


@pytest.mark.parametrize("fault", [LostAnswer(), ErrorAfter()], ids=["lost", "500"])
def test_our_own_marker_met_by_a_retry_is_not_taken_for_another_runs(
    network, fault, capsys
):
    """P3: the server has created it, and refuses to create it once more."""
    network.begin(lambda r: fault if is_first_put_of_marker(network, r) else None)
    save(network.checkpointer(verbose=True), 1, [])
    said = capsys.readouterr().out
    assert "Done!" in said
    assert "nother run" not in said
    assert len(puts_of_marker(network)) == 2
    assert load(network.direct()) == records_of([1] * PARTITIONS)


def test_a_marker_whose_answer_was_lost_holds_our_token(network):
    """P3: and the manifest that commit returns is ours."""
    store, plan = network.checkpointer().store, Plan(PARTITIONS, "msgpack")
    infos = [
        store.write_partition(NAME, plan, i, records_of([1])) for i in range(PARTITIONS)
    ]
    ours = Manifest(plan, tuple(infos))
    network.begin(
        lambda r: LostAnswer() if is_first_put_of_marker(network, r) else None
    )
    manifest = store.mark_done(NAME, ours)
    assert network.failed
    assert manifest.token == ours.token == network.marker()["token"]


class RivalFirst(Fault):
    """Another run commits before the request reaches the server."""

    def __init__(self, network, then):
        self.network = network
        self.then = then

    def happen(self, handler, request):
        bag = bag_of(3, [])
        self.network.direct().checkpoint(
            NAME, bag, allow_partial=False, scheduler="sync"
        )
        self.then.happen(handler, request)


@pytest.mark.parametrize("then", [Fault(), LostAnswer()], ids=["answered", "lost"])
def test_another_runs_marker_met_by_a_retry_is_adopted_and_that_is_said(
    network, then, capsys
):
    """P1, P3: a lost answer does not make the rival's marker ours."""
    fault = RivalFirst(network, then)
    network.begin(lambda r: fault if is_first_put_of_marker(network, r) else None)
    save(network.checkpointer(verbose=True), 1, [])
    assert network.failed
    said = capsys.readouterr().out
    assert "Another run" in said
    assert "Done!" not in said
    assert load(network.direct()) == records_of([3] * PARTITIONS)
    named = network.marker()["partitions"]["file"]
    assert sorted(network.files()) == sorted([*named, DONE_MARKER])


def puts_of_marker(network):
    requests = network.proxy.requests
    return [r for r in requests if r.method == "PUT" and r.is_marker]


def is_first_put_of_marker(network, request):
    return puts_of_marker(network) == [request]


def each_put_of_marker_is_lost(network, request):
    if request.is_marker and request.method == "PUT":
        return LostAnswer()
    return None


def the_marker_is_lost_and_then_out_of_reach(network, request):
    if is_first_put_of_marker(network, request):
        return LostAnswer()
    if request.is_marker and request.method == "GET" and puts_of_marker(network):
        return ResetBefore()
    return None


@pytest.mark.parametrize(
    "fault", [each_put_of_marker_is_lost, the_marker_is_lost_and_then_out_of_reach]
)
def test_an_error_after_the_commit_does_not_say_that_it_is_not_done(network, fault):
    """P5: what cannot be known is not claimed."""
    ckpt = network.impatient()
    error = attempt(network, ckpt, "save", lambda r: fault(network, r))
    assert network.direct().is_done(NAME)
    check_nothing_false(network, error)
    check_next_run(network)
    if error is not None:
        check_error(error)
    assert "is not done" not in "\n".join(getattr(error, "__notes__", []))


@pytest.mark.parametrize("cached", [False, True], ids=["url", "fs-with-listing-cache"])
def test_a_second_client_that_had_listed_sees_what_another_does_at_its_first_poll(
    network, cached
):
    """P2: an s3fs instance with its listing cache on would not."""
    options = network.server.options | {"skip_instance_cache": True}
    if cached:
        fs = s3fs.S3FileSystem(**options, use_listings_cache=True)
        second = CheckpointStore(network.root, fs=fs)
    else:
        second = CheckpointStore(network.root, storage_options=options)
    marker = f"{network.folder}/{DONE_MARKER}"
    network.direct().checkpoint("other", bag_of(1, []), scheduler="sync")
    second.fs.ls(network.root)
    attempt(network, network.impatient(), "save", Happening(ResetBefore(), 4))
    second.fs.ls(network.folder)
    assert not second.is_done(NAME)
    save(network.direct(), 1, [])
    assert second.fs.exists(marker) == (not cached)  # the trap is set

    assert second.is_done(NAME)
    assert second.missing(NAME, second.manifest(NAME)) == []
    assert second.names() == [NAME, "other"]
    computed = []
    ckpt = Checkpointer(second, verbose=False)
    save(ckpt, 2, computed)
    assert computed == []
    assert load(ckpt) == records_of([1] * PARTITIONS)

    second.fs.ls(network.root)
    second.fs.ls(network.folder)
    network.direct().clear(NAME)
    assert second.fs.exists(marker) == cached
    assert not second.is_done(NAME)
    assert second.status(NAME).state == "absent"
    assert second.names() == ["other"]
    save(ckpt, 3, computed)
    assert sorted(computed) == list(range(PARTITIONS))
    assert load(network.direct()) == records_of([3] * PARTITIONS)
