"""Checkpoints that Agatha itself wrote."""

import pickle
import shutil
import tracemalloc
from decimal import Decimal
from io import BytesIO

import dask.bag as db
import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
    PickleNotAllowedError,
)
from agatha_ckpt._filesystem.local import LocalFiles
from agatha_ckpt._format.agatha import decode_pickle
from tests.format.test_types import CreatesFile

PARTITIONS = [[1, ("a", {2})], [], [None]]
RECORDS = [1, ("a", {2}), None]
LINES = [["a", "ह"], [], [""]]


def write_legacy(folder, partitions, text=False):
    """Write *partitions* as Agatha did, under a root that is gone since."""
    folder.mkdir(parents=True)
    paths = []
    for index, records in enumerate(partitions):
        path = folder / f"part-{index}.{'txt' if text else 'pkl'}"
        if text:
            path.write_text("".join(f"{line}\n" for line in records), "utf-8")
        else:
            path.write_bytes(pickle.dumps(records, protocol=4))
        paths.append(f"/mnt/gone/checkpoints/{folder.name}/{path.name}\n")
    (folder / "__done__").write_text("".join(paths))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def load(root, name="a", **settings):
    checkpointer = Checkpointer(root, verbose=False, **settings)
    return checkpointer.checkpoint(name).compute(scheduler="sync")


def bag(records=RECORDS):
    return db.from_sequence(records, npartitions=3)


def test_p7_a_legacy_checkpoint_loads_wherever_the_root_is_moved(tmp_path):
    root = tmp_path / "root"
    write_legacy(root / "a", PARTITIONS)
    write_legacy(root / "many", [[i] for i in range(12)])
    write_legacy(root / "text", LINES, text=True)
    for place in (root, tmp_path / "moved", tmp_path / "moved" / "again"):
        if place != root:
            root = shutil.copytree(root, place)
        assert load(root, allow_pickle=True) == RECORDS
        assert load(root, "many", allow_pickle=True) == list(range(12))
        assert load(root, "text") == ["a", "ह", ""]
    store = CheckpointStore(root)
    assert set(store.names()) == {"a", "many", "text"}
    assert store.manifest("a").plan.npartitions == 3


def test_legacy_markers_of_other_machines_name_files_all_the_same(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    marker = tmp_path / "a" / "__done__"
    for line in (
        "D:\\ckpt\\a\\part-{}.pkl\r\n",
        "part-{}.pkl\n",
        "../../part-{}.pkl\n",
    ):
        marker.write_bytes("".join(line.format(i) for i in range(3)).encode())
        assert load(tmp_path, allow_pickle=True) == RECORDS


def test_p8_a_legacy_checkpoint_is_unpickled_only_when_allowed(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    root = tmp_path / "root"
    write_legacy(root / "a", [[CreatesFile(str(victim))]])
    store = CheckpointStore(root)
    with pytest.raises(PickleNotAllowedError, match="'a'"):
        load(root)
    # Looking at it is no loading.
    store.status("a"), store.names(), store.is_done("a"), store.verify("a")
    assert not victim.exists()
    load(root, allow_pickle=True)
    assert victim.exists()


def test_p8_a_store_unpickles_a_legacy_partition_only_when_allowed(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    write_legacy(tmp_path / "root" / "a", [[CreatesFile(str(victim))]])
    store = CheckpointStore(tmp_path / "root")
    manifest = store.manifest("a")
    partition = store.open_partition("a", manifest.plan, 0, manifest.partitions[0])
    with pytest.raises(PickleNotAllowedError, match="'a'"):
        list(partition)
    assert not victim.exists()


@pytest.mark.parametrize("text", [False, True])
def test_p1_a_torn_legacy_marker_is_corrupt_at_every_length(tmp_path, text):
    write_legacy(tmp_path / "a", LINES if text else PARTITIONS, text)
    marker = tmp_path / "a" / "__done__"
    whole = marker.read_bytes()
    lines = whole.splitlines(keepends=True)
    torn = [whole[:length] for length in range(len(whole) - 1)]
    torn += [b"".join(lines[:i] + lines[i + 1 :]) for i in range(3)]  # a line missing
    torn += [b"".join(lines[::-1]), b"".join(lines + lines[:1]), b"\n", b"{" + whole]
    for changed in torn:
        marker.write_bytes(changed)
        with pytest.raises(CorruptCheckpointError, match="'a'"):
            load(tmp_path, allow_pickle=True)
        assert not CheckpointStore(tmp_path).is_done("a")
    marker.write_bytes(whole[:-1])  # all lines are there
    assert CheckpointStore(tmp_path).is_done("a")


@pytest.mark.parametrize("text", [False, True])
def test_p5_a_missing_legacy_partition_is_corrupt(tmp_path, text):
    write_legacy(tmp_path / "a", LINES if text else PARTITIONS, text)
    (gone,) = (tmp_path / "a").glob("part-1.*")
    gone.unlink()
    with pytest.raises(CorruptCheckpointError, match=r"partition 1 of .*'a'"):
        load(tmp_path, allow_pickle=True)
    damaged = CheckpointStore(tmp_path).verify("a")
    assert [found.index for found in damaged] == [1]


@pytest.mark.parametrize(
    "content", [b"", pickle.dumps(PARTITIONS[0])[:-3], pickle.dumps("a"), b"\xff" * 9]
)
def test_p5_a_legacy_partition_that_does_not_unpickle_is_corrupt(tmp_path, content):
    write_legacy(tmp_path / "a", PARTITIONS)
    (tmp_path / "a" / "part-0.pkl").write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r"partition 0 of .*'a'"):
        load(tmp_path, allow_pickle=True)


# ---- a marker touched by hand ----


def _put(place):
    """Return the pickle of [1] with the memo's place *place* for it."""
    return b"\x80\x04]r" + place.to_bytes(4, "little") + b"K\x01a."


@pytest.mark.parametrize(
    "content",
    [
        _put(2**31),
        _put(2**24),
        b"\x80\x04]p4000000000\nK\x01a.",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
        b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x.",
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
        b"\x80\x04]K\x01a.K\x02a.",
    ],
    ids=["place", "small place", "text", "bytes", "str", "bytearray", "two ends"],
)
def test_p5_a_legacy_pickle_takes_no_memory_on_the_word_of_a_count(content):
    tracemalloc.start()
    with pytest.raises(CorruptCheckpointError, match="is damaged"):
        decode_pickle(BytesIO(content), "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_legacy_pickle_of_any_protocol_loads(protocol):
    values = [None, True, 1, -1, 2**40, 2**2200, 1.5, "a", "ह" * 300, b"b" * 300]
    more = [{"k": [v, (v,), {1, 2}]} for v in values] + [Decimal(1), bytearray(b"c")]
    records = [*values, *more, frozenset({1}), values, *map(str, range(300))]
    data = pickle.dumps(records, protocol)
    assert decode_pickle(BytesIO(data), "x") == records


def test_a_legacy_marker_with_a_number_beyond_all_is_corrupt(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    for digits in ("9" * 5_000, "\u0661"):
        (tmp_path / "a" / "__done__").write_text(f"/gone/part-{digits}.pkl\n")
        with pytest.raises(CorruptCheckpointError, match="'a'"):
            load(tmp_path, allow_pickle=True)


def test_a_list_of_a_legacy_partition_unpickles_it_once(tmp_path, monkeypatch):
    write_legacy(tmp_path / "a", PARTITIONS)
    opened = []
    open_file = LocalFiles.open
    monkeypatch.setattr(
        LocalFiles, "open", lambda *args: opened.append(args) or open_file(*args)
    )
    assert load(tmp_path, allow_pickle=True) == RECORDS
    assert len(opened) == len(PARTITIONS)


def test_an_empty_marker_without_partition_files_is_done_with_no_partitions(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__done__").touch()
    (tmp_path / "a" / "notes.md").write_text("mine")
    store = CheckpointStore(tmp_path)
    assert store.names() == ["a"]
    assert store.status("a").state == "done"
    loaded = Checkpointer(store, verbose=False).checkpoint("a")
    assert loaded.npartitions == 0
    assert list(loaded.compute(scheduler="sync")) == []


def test_a_bag_given_where_a_marker_was_made_by_hand_is_not_saved_and_that_is_said(
    tmp_path, caplog
):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__done__").touch()
    checkpointer = Checkpointer(tmp_path, verbose=False)
    loaded = checkpointer.checkpoint("a", bag(), scheduler="sync")
    assert loaded.npartitions == 0
    (said,) = caplog.messages
    assert "as if made by hand" in said
    assert "clear it to save them" in said
    checkpointer.clear("a")
    loaded = checkpointer.checkpoint("a", bag(), scheduler="sync")
    assert loaded.compute(scheduler="sync") == RECORDS


def test_p1_an_empty_marker_beside_partition_files_is_not_done(tmp_path):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    checkpointer.checkpoint("a", bag(), scheduler="sync")
    (tmp_path / "a" / "__done__").write_bytes(b"")
    store = checkpointer.store
    assert not store.is_done("a")
    assert store.status("a").state == "partial"
    assert "'a'" in store.status("a").problem
    with pytest.raises(CorruptCheckpointError, match="'a'"):
        checkpointer.checkpoint("a")
    loaded = checkpointer.checkpoint("a", bag(), scheduler="sync")
    assert loaded.compute(scheduler="sync") == RECORDS


# ---- clearing and repairing ----

FOREIGN = ["part-3.pkl.bak", "part-03.pkl", "part-7.csv", "notes.md", "part-x.pkl"]


def test_p6_clear_removes_what_a_legacy_marker_names_and_nothing_else(tmp_path):
    for name, text in (("a", False), ("text", True)):
        folder = tmp_path / name
        write_legacy(folder, LINES if text else PARTITIONS, text)
        for foreign in FOREIGN:
            (folder / foreign).write_text("mine")
        (tmp_path / "part-0.pkl").write_text("mine")
        Checkpointer(tmp_path).clear(name)
        assert files(folder) == sorted(FOREIGN)
    assert (tmp_path / "part-0.pkl").exists()


def test_clear_removes_the_folder_of_a_legacy_checkpoint_when_it_is_empty(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    Checkpointer(tmp_path).clear("a")
    assert list(tmp_path.iterdir()) == []


def test_p6_clear_removes_no_legacy_file_that_no_marker_names(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    (tmp_path / "a" / "__done__").unlink()
    before = files(tmp_path / "a")
    Checkpointer(tmp_path).clear("a")
    assert files(tmp_path / "a") == before


@pytest.mark.parametrize("text", [False, True])
def test_giving_the_bag_repairs_a_legacy_checkpoint_in_our_format(tmp_path, text):
    folder = tmp_path / "a"
    records = [line for part in LINES for line in part] if text else RECORDS
    write_legacy(folder, LINES if text else PARTITIONS, text)
    (folder / "notes.md").write_text("mine")
    next(folder.glob("part-1.*")).unlink()
    checkpointer = Checkpointer(tmp_path, verbose=False)
    options = {"textfile": text, "scheduler": "sync"}
    checkpointer.checkpoint("a", bag(records), **options)
    names = files(folder)
    assert names[:2] == ["__done__", "notes.md"]
    assert [name[:11] for name in names[2:]] == [f"part-{i:05d}-" for i in range(3)]
    assert load(tmp_path) == records
    assert checkpointer.store.verify("a") == []


def test_giving_the_bag_replaces_a_torn_legacy_checkpoint(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    (tmp_path / "a" / "__done__").write_bytes(b"/mnt/gone/checkpoints/a/part-0.p")
    checkpointer = Checkpointer(tmp_path, verbose=False)
    loaded = checkpointer.checkpoint("a", bag(), scheduler="sync")
    assert loaded.compute(scheduler="sync") == RECORDS
    assert load(tmp_path) == RECORDS


def test_repair_finds_a_legacy_partition_that_does_not_unpickle(tmp_path):
    """As the error that loading raises says: repair it with its bag."""
    write_legacy(tmp_path / "a", PARTITIONS)
    (tmp_path / "a" / "part-0.pkl").write_bytes(b"")
    checkpointer = Checkpointer(tmp_path, verbose=False, allow_pickle=True)
    repaired = checkpointer.repair("a", bag(), scheduler="sync")
    assert repaired.compute(scheduler="sync") == RECORDS


def test_a_whole_legacy_checkpoint_is_loaded_and_not_computed_again(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    before = files(tmp_path / "a")

    def never(record):
        raise AssertionError("computed")

    checkpointer = Checkpointer(tmp_path, verbose=False, allow_pickle=True)
    loaded = checkpointer.checkpoint("a", bag().map(never), scheduler="sync")
    assert loaded.compute(scheduler="sync") == RECORDS
    assert files(tmp_path / "a") == before
