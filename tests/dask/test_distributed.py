"""Saving and loading on a dask.distributed cluster, checkpoints in a bucket."""

import contextlib
import os
import re
import secrets
import signal
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import dask
import dask.array
import dask.bag
import dask.dataframe
import numpy as np
import pandas as pd
import psutil
import pytest
from distributed import Client, KilledWorker

from agatha_ckpt import (
    Checkpointer,
    CheckpointStore,
    EncodeError,
    PartitionsFailedError,
)
from tests.dask import cluster_cases as cases
from tests.dask.cluster_cases import PARTITIONS, all_of, bag_of, wait_until
from tests.reliability import cluster_kill

NAME = "numbers"
WORKERS = 4


# ---- clusters ----


def children():
    """The processes that this one has started, and that are to end with a cluster."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            # Python keeps that one until its own end.
            if "resource_tracker" not in str(process.cmdline()):
                found.add(process)
    return found


@contextlib.contextmanager
def a_client(cluster):
    """A client, after which the scheduler knows of nothing that it did not before."""
    with Client(cluster) as client:
        client.wait_for_workers(len(cluster.workers))
        before = left_over(client)
        yield client
        settle(lambda: left_over(client), before)


def left_over(client):
    return client.run_on_scheduler(cases.left_over)


def settle(look, expected):
    """Assert that *look* comes to give what is expected, soon if not at once."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: look() == expected)
    assert look() == expected


@pytest.fixture(scope="module")
def bucket(s3_server):
    """The bucket; when the clusters are closed, no process of theirs is left."""
    before = children()
    with s3_server.configured():
        yield s3_server
    settle(lambda: children() - before, set())


@pytest.fixture(scope="module")
def process_cluster(bucket, tmp_path_factory):
    with cases.a_cluster(tmp_path_factory.mktemp("workers"), WORKERS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def thread_cluster(bucket, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with cases.a_cluster(folder, 2, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(process_cluster):
    with a_client(process_cluster) as client:
        yield client


@pytest.fixture(params=["process_cluster", "thread_cluster"])
def any_client(request):
    with a_client(request.getfixturevalue(request.param)) as client:
        yield client


@pytest.fixture
def store(bucket):
    return CheckpointStore(bucket.new_root(), storage_options=bucket.options)


@pytest.fixture
def checkpointer(store):
    return Checkpointer(store, verbose=False)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def pids_in(log):
    return {entry["pid"] for entry in cases.entries(log)}


def processes_of(client):
    return set(client.run(os.getpid).values())


# ---- saving, resuming and loading ----


@pytest.mark.parametrize("textfile", [False, True], ids=["records", "text"])
def test_a_cluster_saves_resumes_and_loads_on_s3(
    textfile, any_client, bucket, checkpointer, store, tmp_path
):
    records = cases.lines_of if textfile else cases.records_of

    def save(log):
        bag = bag_of(log, records=records)
        assert (checkpointer.checkpoint(NAME, bag, textfile=textfile) is None) is (
            textfile
        )
        return cases.computed(log)

    assert save(tmp_path / "saved") == dict.fromkeys(range(PARTITIONS), 1)
    assert pids_in(tmp_path / "saved") <= processes_of(any_client)
    kept = {1, 2, 6}
    for path in bucket.fs.find(store.path(NAME)):
        number = path.rsplit("/", 1)[1].partition("-")[2][:5]
        if not (number.isdigit() and int(number) in kept):
            bucket.fs.rm_file(path)
    assert save(tmp_path / "resumed") == dict.fromkeys(set(range(PARTITIONS)) - kept, 1)
    loaded = checkpointer.checkpoint(NAME).map(cases.with_pid).compute()
    assert [record for _, record in loaded] == all_of(records)
    assert {pid for pid, _ in loaded} <= processes_of(any_client)


# ---- keywords of Client.persist ----


def test_a_retry_gives_the_records_of_one_try(
    client, bucket, checkpointer, store, log, tmp_path
):
    act = partial(cases.fail_the_first_time, folder=tmp_path)
    bag = bag_of(log, act, records=cases.random_records)
    checkpointer.checkpoint(NAME, bag, retries=1)
    assert cases.computed(log) == dict.fromkeys(range(PARTITIONS), 2)
    assert_agrees(bucket, checkpointer, store)


def test_workers_that_are_asked_for_compute_all_partitions(client, checkpointer, log):
    address = sorted(client.run(os.getpid))[-1]
    checkpointer.checkpoint(NAME, bag_of(log), workers=[address])
    assert cases.computed(log) == dict.fromkeys(range(PARTITIONS), 1)
    assert {entry["worker"] for entry in cases.entries(log)} == {address}


def test_priority_reaches_the_scheduler(client, checkpointer, log, tmp_path):
    gate = tmp_path / "gate"
    bag = bag_of(log, partial(cases.wait_for, path=str(gate)))
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(checkpointer.checkpoint, NAME, bag, priority=7)
        try:
            found = wait_until(lambda: client.run_on_scheduler(cases.priorities))
        finally:
            gate.touch()
        saving.result()
    assert set(found.values()) == {-7}  # the scheduler takes the smallest first


def test_an_unknown_keyword_is_refused_and_leaves_nothing(
    client, bucket, checkpointer, store, log
):
    with pytest.raises(TypeError, match="retrys"):
        checkpointer.checkpoint(NAME, bag_of(log), retrys=3)
    assert not log.exists()
    assert bucket.fs.find(store.root) == []


# ---- workers that die ----


def test_a_killed_worker_costs_what_was_in_flight_on_it(client, store, tmp_path):
    kill(client, store, "lazy", 1, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("shape", list(cluster_kill.SHAPES))
def test_20_killed_workers_cost_what_was_in_flight_on_them(
    shape, client, store, tmp_path
):
    seed = secrets.randbits(32)
    found = kill(client, store, shape, 20, tmp_path, seed, recomputed=1)
    assert found["recomputed"] > 0, "no kill met a worker at work"


def kill(client, store, shape, number, folder, seed=1, **least):
    found = cluster_kill.rounds(client, store, shape, number, seed, folder, **least)
    assert found["wrong"] == 0
    assert found["left over"] == 0
    assert found["elsewhere"] == 0
    assert found["middle"] >= number
    return found


@contextlib.contextmanager
def dying(client, when, folder, index):
    """Let the worker that stores a partition die, once."""
    if when == "unreported":
        plugin = cases.DieUnreported(folder, index)
    else:
        plugin = cases.KillReported(folder, index, client.run(os.getpid))
    client.register_plugin(plugin)
    try:
        yield
    finally:
        if when == "unreported":
            client.unregister_worker_plugin(plugin.name)
        else:
            client.unregister_scheduler_plugin(plugin.name)


@pytest.mark.parametrize("when", ["unreported", "reported"])
@pytest.mark.parametrize("textfile", [False, True], ids=["records", "text"])
def test_a_partition_in_flight_on_a_worker_that_dies_is_of_one_try(
    textfile, when, client, bucket, checkpointer, store, log, tmp_path
):
    """P1, P3: also of a bag that gives other records when it is computed again."""
    records = cases.random_lines if textfile else cases.random_records
    with dying(client, when, tmp_path, index=2):
        bag = bag_of(log, records=records)
        checkpointer.checkpoint(NAME, bag, textfile=textfile)
    assert (tmp_path / "first-death").exists()
    assert cases.computed(log)[2] <= 2
    assert_agrees(bucket, checkpointer, store)


@pytest.mark.long
@pytest.mark.parametrize("when", ["unreported", "reported"])
def test_a_deferred_save_survives_a_worker_that_dies(
    when, client, bucket, checkpointer, store, log, tmp_path
):
    bag = bag_of(log, records=cases.random_records)
    deferred = checkpointer.checkpoint(NAME, bag, compute=False)
    with dying(client, when, tmp_path, index=2):
        assert deferred.compute() is None
    assert (tmp_path / "first-death").exists()
    assert_agrees(bucket, checkpointer, store)


@pytest.mark.long
@pytest.mark.parametrize("deferred", [False, True], ids=["now", "deferred"])
def test_the_others_are_tried_though_a_worker_dies(
    deferred, client, bucket, checkpointer, store, log, tmp_path
):
    act = partial(cases.fail_at, at=AT, folder=str(store.path(NAME)), others=OTHERS)
    bag = bag_of(log, act)

    def save():
        options = {"on_error": "continue", "compute": not deferred}
        checkpointer.checkpoint(NAME, bag, **options).compute()

    with (
        dying(client, "unreported", tmp_path, index=2),
        pytest.raises(PartitionsFailedError) as raised,
    ):
        save()
    assert (tmp_path / "first-death").exists()
    assert {i: type(e) for i, e in raised.value.partitions.items()} == {
        AT: cases.UserError
    }
    assert not store.is_done(NAME)
    kept = cases.stored_partitions(bucket.fs, store.path(NAME))
    assert kept == set(range(PARTITIONS)) - {AT}
    loaded = checkpointer.checkpoint(NAME, bag_of(tmp_path / "again"))
    assert cases.computed(tmp_path / "again") == {AT: 1}
    assert loaded.compute() == all_of()


def assert_agrees(bucket, checkpointer, store):
    """The manifest and the files agree, and each partition is from one try."""
    manifest = store.manifest(NAME)
    found = bucket.fs.find(store.path(NAME), detail=True)
    sizes = {path.rsplit("/", 1)[1]: info["size"] for path, info in found.items()}
    del sizes["__done__"]
    assert sizes == {info.file: info.bytes for info in manifest.partitions}
    assert store.verify(NAME) == []
    assert [info.records for info in manifest.partitions] == [cases.SIZE] * PARTITIONS
    loaded = checkpointer.checkpoint(NAME)
    first, second = loaded.compute(), loaded.compute(scheduler="sync")
    assert first == second
    if not isinstance(first[0], str):
        tries = {(index, run) for index, _, run, _ in first}
        assert len(tries) == PARTITIONS
        assert [record[:2] for record in first] == [
            (index, i) for index in range(PARTITIONS) for i in range(cases.SIZE)
        ]


# ---- errors ----


@dataclass(frozen=True)
class Failing:
    """A way in which one partition cannot be saved, when three others have been."""

    error: type
    message: str
    act: object = cases.nothing
    records: object = cases.records_of


AT, OTHERS = 5, 3
WHERE = f"partition {AT} of checkpoint {NAME!r} under "
NOTE = f" of {PARTITIONS} partitions stored; partition {AT} of {NAME!r} failed"
FAILING = {
    "own-function": Failing(cases.UserError, f"^no partition {AT}$", act=cases.fail_at),
    "unknown-type": Failing(EncodeError, WHERE, records=cases.unknown_type_at),
    "killed-worker": Failing(KilledWorker, "save:numbers", act=cases.exit_at),
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=list(FAILING))
def test_a_partition_that_fails_is_named_and_the_stored_ones_are_kept(
    failing, client, bucket, checkpointer, store, tmp_path
):
    before = left_over(client)
    place = {"at": AT, "folder": str(store.path(NAME)), "others": OTHERS}
    act, records = failing.act, failing.records
    if act is not cases.nothing:
        act = partial(act, **place)
    if records is not cases.records_of:
        records = partial(records, **place)
    with pytest.raises(failing.error) as raised:
        checkpointer.checkpoint(NAME, bag_of(tmp_path / "1", act, records))
    assert type(raised.value) is failing.error
    assert re.search(failing.message, str(raised.value))
    (note,) = raised.value.__notes__
    assert note.endswith(NOTE)
    # Three are stored; how many of them the caller knows depends on pace.
    assert int(note.split()[0]) < PARTITIONS
    # The traceback of the error still holds what the save held.
    settle(lambda: left_over(client), before)
    assert not store.is_done(NAME)
    kept = cases.stored_partitions(bucket.fs, store.path(NAME))
    assert len(kept) >= OTHERS
    assert AT not in kept
    loaded = checkpointer.checkpoint(NAME, bag_of(tmp_path / "2"))
    if failing.records is cases.records_of:  # else the inputs are others
        assert cases.computed(tmp_path / "2").keys().isdisjoint(kept)
    assert loaded.compute() == all_of()


# ---- the scheduler ----


def test_the_scheduler_forgets_each_partition_as_it_lands(
    client, checkpointer, log, tmp_path
):
    """So that a worker that dies takes no result with it."""
    gate, last = tmp_path / "gate", PARTITIONS - 1

    def still_there():
        return [index for _, index in client.run_on_scheduler(cases.priorities)]

    bag = bag_of(log, partial(cases.wait_at, at=last, path=str(gate)))
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(checkpointer.checkpoint, NAME, bag)
        try:
            wait_until(lambda: log.exists() and len(cases.computed(log)) == PARTITIONS)
            settle(still_there, [last])
        finally:
            gate.touch()
        saving.result()


def test_a_save_whose_client_is_closed_ends_with_an_error(
    process_cluster, checkpointer, store, log, tmp_path
):
    """P1: also where all that is known of the rest is that it was given up."""
    gate = tmp_path / "gate"
    bag = bag_of(log, partial(cases.wait_at, at=3, path=str(gate)))
    with (
        contextlib.closing(Client(process_cluster)) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        saving = pool.submit(checkpointer.checkpoint, NAME, bag)
        try:
            wait_until(lambda: log.exists() and len(cases.computed(log)) == PARTITIONS)
            client.close()
            with pytest.raises(CancelledError) as raised:
                saving.result()
        finally:
            gate.touch()
    assert NAME in "\n".join(raised.value.__notes__)
    assert not store.is_done(NAME)
    loaded = checkpointer.checkpoint(NAME, bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == all_of()


def test_an_interrupted_save_leaves_the_workers_free(
    client, checkpointer, store, log, tmp_path
):
    """As by Ctrl-C, while workers are at work."""
    before = left_over(client)
    gate = tmp_path / "gate"
    # A shell starts what runs in the background with Ctrl-C ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        wait_until(lambda: log.exists() and cases.computed(log).total())
        signal.raise_signal(signal.SIGINT)

    bag = bag_of(log, partial(cases.wait_for, path=str(gate)))
    with ThreadPoolExecutor(1) as pool:
        interrupting = pool.submit(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                checkpointer.checkpoint(NAME, bag)
            interrupting.result()
        finally:
            signal.signal(signal.SIGINT, handler)
    settle(lambda: left_over(client), before)
    # What they are at cannot be taken from them; what else they were given is.
    settle(lambda: sum(client.run(cases.waiting_tasks).values()), 0)
    gate.touch()
    assert cases.computed(log).total() < PARTITIONS
    assert not store.is_done(NAME)
    assert checkpointer.checkpoint(NAME, bag).compute() == all_of()


# ---- frames, arrays and values ----


@pytest.mark.usefixtures("any_client")
def test_a_frame_that_workers_shuffle_is_saved_and_loaded(checkpointer):
    rows = pd.DataFrame({"a": range(40), "b": [n % 7 for n in range(40)]})
    frame = dask.dataframe.from_pandas(rows, npartitions=4)
    ordered = frame.set_index("b")  # by tasks that the scheduler knows by their class
    loaded = checkpointer.checkpoint("ordered", ordered)
    found = loaded.compute().reset_index().sort_values("a", ignore_index=True)
    assert found[["a", "b"]].equals(rows)
    merged = checkpointer.checkpoint("merged", loaded.merge(frame, on="a"))
    assert len(merged) == 40
    parents = checkpointer.store.manifest("merged").plan.parents
    assert [name for name, _ in parents] == ["ordered"]


@pytest.mark.usefixtures("any_client")
def test_an_array_and_a_value_are_saved_on_a_cluster(checkpointer):
    matrix = dask.array.arange(24, chunks=5).reshape(6, 4)
    loaded = checkpointer.checkpoint("matrix", matrix)
    assert (loaded.compute() == np.arange(24).reshape(6, 4)).all()
    total = checkpointer.checkpoint("total", dask.delayed(float)((loaded + 1).sum()))
    assert total.compute() == 300.0
