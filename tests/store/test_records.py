"""Records and files of a done checkpoint, without dask."""

import os
import subprocess
import sys
import weakref

import fsspec
import pytest

from agatha_ckpt import (
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
    InvalidValueError,
    Manifest,
    PickleNotAllowedError,
    Plan,
)
from tests.store.test_store import RECORDS, put, save, write

EVERY_FILESYSTEM = True


def test_records_are_those_of_the_partitions_in_order(store):
    save(store)
    assert list(store.records("x")) == [1, "a", (2, b"b"), None]
    assert list(store.records("x", [2, 0])) == [(2, b"b"), None, 1, "a"]
    assert list(store.records("x", [])) == []


def test_files_are_read_by_what_takes_paths_and_urls(store):
    manifest = save(store)
    files = store.files("x")
    assert [file.rpartition("/")[2] for file in files] == [
        info.file for info in manifest.partitions
    ]
    for file, info in zip(files, manifest.partitions, strict=True):
        options = store.fs.storage_options
        with fsspec.open(file, "rb", **options) as opened:
            assert len(opened.read()) == info.bytes


def test_files_of_a_relative_root_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore("checkpoints")
    save(store)
    monkeypatch.chdir("/")
    assert all(map(os.path.isabs, store.files("x")))
    assert all(map(os.path.isfile, store.files("x")))


@pytest.mark.parametrize("number", [-1, len(RECORDS)])
def test_a_partition_that_is_not_there_is_refused_by_the_call(local, number):
    save(local)
    with pytest.raises(InvalidValueError, match="has 3 partitions, numbered from 0"):
        local.records("x", [0, number])


@pytest.mark.parametrize("value", [1, "a", [0.5], [None]])
def test_what_is_not_numbers_is_refused_by_the_call(local, value):
    save(local)
    with pytest.raises(InvalidValueError, match=r"list of numbers, such as \[0, 2\]"):
        local.records("x", value)


def test_what_is_not_done_has_neither(local):
    write(local)
    for question in (local.records, local.files):
        with pytest.raises(CheckpointNotFoundError):
            question("x")


def test_a_damaged_file_and_a_pickle_are_errors_when_they_are_reached(local):
    manifest = save(local)
    put(local, "x", manifest.partitions[2].file, b"damaged")
    records = local.records("x")
    assert [next(records), next(records)] == [1, "a"]
    with pytest.raises(CorruptCheckpointError, match="partition 2"):
        next(records)
    info = local.write_partition("p", Plan(1), 0, [{1, object}], allow_pickle=True)
    local.mark_done("p", manifest.__class__(Plan(1), (info,)))
    with pytest.raises(PickleNotAllowedError):
        list(local.records("p"))
    assert list(local.records("p", allow_pickle=True)) == [{1, object}]


def test_one_block_of_records_is_in_memory(local):
    sets = ({number, "x" * 10_000} for number in range(30))  # of 3 blocks and more
    info = local.write_partition("x", Plan(1), 0, sets)
    local.mark_done("x", Manifest(Plan(1), (info,)))
    records = local.records("x")
    first = weakref.ref(next(records))
    for _ in range(20):
        next(records)
    assert first() is None


def test_they_need_no_dask(local):
    save(local)
    code = (
        "import sys; from agatha_ckpt import CheckpointStore; "
        "store = CheckpointStore(sys.argv[1]); "
        "print(list(store.records('x'))[0], len(store.files('x')), "
        "store.names(), store.status('x').state, 'dask' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(local.root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "1 3 ['x'] done False\n"
