"""P6, P10: what calls cost in memory and what they leave behind."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, astuple, dataclass
from functools import partial

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, EncodeError
from tests.dask.cluster_cases import wait_until
from tests.reliability import peak_memory
from tests.reliability.faulty_files import Injector, faulty_store

MB = 1_000_000
LONG = [pytest.mark.long, pytest.mark.timeout(3_600)]
THREADS = {"scheduler": "threads", "num_workers": 3}


def measured(*arguments):
    command = [sys.executable, "-m", peak_memory.__name__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "kind, many",
    [
        ("msgpack", 40_000),
        ("text", 40_000),
        *(pytest.param(k, 100_000, marks=LONG) for k in ("msgpack", "zstd", "text")),
    ],
)
def test_p10_peak_memory_does_not_grow_with_the_partition(
    tmp_path, kind, many, record_property
):
    found = measured(kind, tmp_path, 1_000, many)
    sizes = found.pop("size")
    assert sizes[1] > many / 1_100 * sizes[0] > 20 * MB
    assert list(found) == ["save", "resume", "load", "verify", "repair"]
    for call, (_, growth) in found.items():
        record_property("figures", f"{call} of {sizes[1]:,} bytes: {growth:+,} bytes")
        assert growth < 8 * MB, call


# ---- many partitions ----

# Bytes of the driver for each partition; dask needs 5,000 of those of a save.
PER_PARTITION = {
    "save": 12_000,
    "resume": 6_000,
    "open with the bag": 2_000,
    "clear": 1_000,
}
# What a load may take beside what dask takes: a task holds the manifest's entry of the
# partition, 510 bytes of objects, and what the allocator rounds.
OF_A_LOAD = 1_000


@pytest.mark.parametrize("number", [10_000, 100_000])
@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_p10_a_driver_takes_a_few_kilobytes_for_each_partition(
    tmp_path, number, record_property
):
    """With half of the partitions there; the records that are loaded are checked."""
    found = measured("partitions", tmp_path, number)
    dasks = measured("dask", number)["load"]
    record_property("figures", f"load of dask's own: {dasks:,} bytes each")
    for call, limit in (PER_PARTITION | {"load": dasks + OF_A_LOAD}).items():
        seconds = found[f"{call}, seconds"]
        record_property("figures", f"{call}: {found[call]:,} bytes each, {seconds} s")
        assert found[call] < limit, call


def test_opening_a_local_checkpoint_opens_no_partition_file(local):
    checkpointer = Checkpointer(local, verbose=False)
    numbers = dask.bag.from_sequence(range(20), partition_size=1)
    checkpointer.checkpoint("x", numbers, scheduler="sync")
    injector = Injector()  # of no fault
    with faulty_store(local, injector) as through:
        Checkpointer(through, verbose=False).checkpoint("x")
    assert {file for _, file in injector.operations} == {"__done__"}
    assert [kind for kind, _ in injector.operations].count("open") == 1


# ---- call after call ----


@dataclass(frozen=True)
class Held:
    """What this process holds of the system."""

    descriptors: int
    threads: int  # of Python
    tasks: int  # of the system

    @classmethod
    def now(cls):
        gc.collect()
        return cls(
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(os.listdir("/proc/self/task")),
        )


class OwnError(Exception):
    """Of the bag's own function."""


def stop(index):
    if index == 1:
        raise OwnError


def unknown(index):
    return [index, *([object()] if index == 1 else [])]


# What makes a save fail while other partitions are stored or being written.
FAILURES = {OwnError: stop, EncodeError: unknown, SystemExit: sys.exit}


def records_of(function, part):
    (index,) = part
    yield from ((index, "x" * 1_000) for _ in range(400))
    if index == 1:
        yield from function(index) or ()


def a_round(root, number):
    """Save, load and clear; fail to save, resume what is left, and clear."""
    checkpointer = Checkpointer(root, verbose=False)
    bag = dask.bag.from_sequence(range(3), npartitions=3)

    def save(function):
        saved = bag.map_partitions(partial(records_of, function))
        return checkpointer.checkpoint("x", saved, **THREADS)

    error, function = list(FAILURES.items())[number % len(FAILURES)]
    with pytest.raises(error):
        save(function)
    assert not checkpointer.is_done("x")
    loaded = save(lambda index: None)
    indexes = [r[0] for r in loaded.compute(**THREADS)]
    assert indexes == [0] * 400 + [1] * 400 + [2] * 400
    checkpointer.clear("x")


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """The folder for temporary files."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.usefixtures("young")
@pytest.mark.parametrize(
    "place, first, last",
    [
        ("local", 20, 60),
        ("s3", 6, 12),
        pytest.param("local", 40, 200, marks=LONG),
        pytest.param("s3", 20, 200, marks=LONG),
    ],
)
def test_p6_call_after_call_leaves_no_descriptor_thread_or_file(
    request, tmp_path, spool, place, first, last, record_property
):
    """After so many rounds as much is held as after the first of them.

    What is kept for the next call grows to what calls need at the same moment, by
    chance: connections to a server, threads of a pool. So where more is held, as many
    rounds follow again. What calls leave behind grows each time.
    """
    root = tmp_path / "root"
    where = root if place == "local" else request.getfixturevalue("s3").new_root()
    held = []

    def most_held(rounds):
        """Return the most that was held in the last of so many rounds in all."""
        for number in range(len(held), rounds):
            a_round(where, number)
            held.append(Held.now())
        assert list(spool.iterdir()) == []
        return Held(*map(max, zip(*map(astuple, held[-first // 2 :]), strict=True)))

    before = most_held(first)
    for last_of_these in range(last, 4 * last, last - first):
        after = most_held(last_of_these)
        more = {
            what: f"{getattr(before, what)}, then {number}"
            for what, number in asdict(after).items()
            if number > getattr(before, what)
        }
        if not more:
            break
        before = after
    record_property("figures", f"{after} after {len(held)} rounds, {before} before")
    assert not more
    wait_until(lambda: list(root.rglob("*")) == [])
