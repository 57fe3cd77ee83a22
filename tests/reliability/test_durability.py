"""P2: on local disk, the order of system calls that a power cut cannot undo."""

import os

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._format.names import (
    DONE_MARKER,
    is_run_file,
    is_temporary,
    parse_filename,
)


@pytest.fixture
def calls(monkeypatch):
    """The durable part of what the process asks the operating system for."""
    recorded = []

    def name_of(descriptor):
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    def recording(function, describe):
        def call(*args, **kwargs):
            recorded.append((function.__name__, *map(describe, args[:2])))
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", recording(os.fsync, name_of))
    for function in (os.replace, os.link, os.mkdir, os.unlink):
        patched = recording(function, lambda path: os.path.basename(str(path)))
        monkeypatch.setattr(os, function.__name__, patched)
    return recorded


def save(tmp_path, **options):
    store = CheckpointStore(tmp_path / "new" / "root", **options)
    bag = dask.bag.from_sequence(range(6), npartitions=3)
    Checkpointer(store, verbose=False).checkpoint("x", bag, scheduler="sync")
    return store


def test_all_is_synced_in_order_before_the_marker_appears_P2(tmp_path, calls):
    save(tmp_path)
    renames = [c for c in calls if c[0] == "replace" and not is_run_file(c[2])]
    assert len(renames) == 3
    for _, temporary, final in renames:
        assert is_temporary(temporary)
        assert parse_filename(final)
        synced = calls.index(("fsync", temporary))
        assert synced < calls.index(("replace", temporary, final))
    (link,) = [c for c in calls if c[0] == "link"]
    assert link[2] == DONE_MARKER
    marker = calls.index(link)
    last_rename = max(map(calls.index, renames))
    before = calls[last_rename:marker]
    assert before.index(("fsync", "x")) < before.index(("fsync", link[1]))
    assert ("fsync", "x") in calls[marker:]


def test_new_folders_are_synced_into_their_parents_P2(tmp_path, calls):
    save(tmp_path)
    for folder, parent in (("new", tmp_path.name), ("root", "new"), ("x", "root")):
        made = calls.index(("mkdir", folder))
        assert calls[made + 1] == ("fsync", parent)


def test_a_cleared_marker_is_gone_for_good_before_any_partition_goes_P2(
    tmp_path, calls
):
    store = save(tmp_path)
    calls.clear()
    store.clear("x")
    assert calls[:2] == [("unlink", DONE_MARKER), ("fsync", "x")]


def test_a_repaired_marker_is_synced_before_and_after_it_is_replaced_P2(
    tmp_path, calls
):
    store = save(tmp_path)
    os.remove(store.path("x") / store.manifest("x").partitions[1].file)
    calls.clear()
    save(tmp_path)
    (rename,) = [c for c in calls if c[0] == "replace" and c[2] == DONE_MARKER]
    at = calls.index(rename)
    assert ("fsync", rename[1]) in calls[:at]
    assert calls[at + 1] == ("fsync", "x")


def test_fsync_false_syncs_nothing(tmp_path, calls):
    store = save(tmp_path, fsync=False)
    assert store.is_done("x")
    assert not [c for c in calls if c[0] == "fsync"]
