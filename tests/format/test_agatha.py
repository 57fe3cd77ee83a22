"""Checkpoints that Agatha itself wrote."""

import os
import pickle
import shutil
from decimal import Decimal

import dask.bag as db
import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
    EncodeError,
    PickleNotAllowedError,
    Plan,
)
from agatha_ckpt._format.codec import codec_for
from tests.format.memory_file import MemoryFile, decode, info_of
from tests.format.values import CreatesFile, load

PARTITIONS = [[1, ("a", {2})], [], [None]]
RECORDS = [1, ("a", {2}), None]
LINES = [["a", "ह"], [], [""]]
CODEC = codec_for("pickle")


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


def bag(records=RECORDS):
    return db.from_sequence(records, npartitions=3)


def test_p7_a_checkpoint_of_agatha_loads_wherever_the_root_is_moved(tmp_path):
    write_legacy(tmp_path / "root" / "a", PARTITIONS)
    write_legacy(tmp_path / "root" / "many", [[i] for i in range(12)])
    write_legacy(tmp_path / "root" / "text", LINES, text=True)
    root = shutil.move(tmp_path / "root", tmp_path / "moved")
    assert load(root, allow_pickle=True) == RECORDS
    assert load(root, "many", allow_pickle=True) == list(range(12))
    assert load(root, "text") == ["a", "ह", ""]
    store = CheckpointStore(root)
    assert set(store.names()) == {"a", "many", "text"}
    assert store.manifest("a").is_agatha


@pytest.mark.parametrize(
    "line", ["D:\\ckpt\\a\\part-{}.pkl\r\n", "part-{}.pkl\n", "../../part-{}.pkl\n"]
)
def test_markers_of_other_machines_name_the_files_as_well(tmp_path, line):
    write_legacy(tmp_path / "a", PARTITIONS)
    marker = tmp_path / "a" / "__done__"
    marker.write_bytes("".join(line.format(i) for i in range(3)).encode())
    assert load(tmp_path, allow_pickle=True) == RECORDS


def test_the_fingerprint_of_a_partition_follows_size_and_time_of_its_file(tmp_path):
    write_legacy(tmp_path / "a", PARTITIONS)
    path = tmp_path / "a" / "part-1.pkl"
    store = CheckpointStore(tmp_path)
    first = store.manifest("a")
    assert len(set(first.fingerprints)) == 3
    assert store.manifest("a").fingerprints == first.fingerprints
    os.utime(path, (1e9, 1e9))
    touched = store.manifest("a")
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, (1e9, 1e9))
    longer = store.manifest("a")
    changed = [m.fingerprints[1] for m in (first, touched, longer)]
    assert len(set(changed)) == 3
    assert longer.fingerprints[::2] == first.fingerprints[::2]
    assert len({m.id for m in (first, touched, longer)}) == 3


# ---- pickles ----


def test_p8_a_checkpoint_of_agatha_is_unpickled_only_when_allowed(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    root = tmp_path / "root"
    write_legacy(root / "a", [[CreatesFile(str(victim))]])
    store = CheckpointStore(root)
    with pytest.raises(PickleNotAllowedError, match="'a'"):
        load(root)
    manifest = store.manifest("a")
    partition = store.open_partition("a", manifest.plan, 0, manifest.partitions[0])
    with pytest.raises(PickleNotAllowedError, match="'a'"):
        list(partition)
    store.status("a"), store.names(), store.is_done("a"), store.verify("a")
    assert not victim.exists()
    load(root, allow_pickle=True)
    assert victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps(PARTITIONS[0])[:-3],
        pickle.dumps(PARTITIONS[0]) + b"x",
        pickle.dumps("a"),
        b"\xff" * 9,
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    ],
)
def test_p5_a_file_that_does_not_unpickle_is_damage(content):
    file = MemoryFile(content, "part-0.pkl")
    with pytest.raises(CorruptCheckpointError, match="is damaged"):
        decode(file, info_of(file), "pickle", allow_pickle=True)
    with pytest.raises(CorruptCheckpointError, match="is damaged"):
        CODEC.verify(file, info_of(file), allow_pickle=True)
    CODEC.verify(file, info_of(file), allow_pickle=False)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol_loads(protocol):
    values = [None, True, 1, -1, 2**40, 2**2200, 1.5, "a", "ह" * 300, b"b" * 300]
    more = [{"k": [v, (v,), {1, 2}]} for v in values] + [Decimal(1), bytearray(b"c")]
    records = [*values, *more, frozenset({1}), values, *map(str, range(300))]
    file = MemoryFile(pickle.dumps(records, protocol), "part-0.pkl")
    assert decode(file, info_of(file), "pickle", allow_pickle=True) == records


def test_the_format_is_only_read(tmp_path):
    with pytest.raises(EncodeError, match="only read"):
        CheckpointStore(tmp_path).write_partition("a", Plan(1, "pickle"), 0, [1])
    with pytest.raises(CorruptCheckpointError, match="without a checksum"):
        CODEC.inspect(MemoryFile(b"", "part-0.pkl"))


# ---- damage ----


@pytest.mark.parametrize("text", [False, True])
def test_p1_a_torn_marker_is_corrupt_at_every_length(tmp_path, text):
    write_legacy(tmp_path / "a", LINES if text else PARTITIONS, text)
    marker = tmp_path / "a" / "__done__"
    whole = marker.read_bytes()
    lines = whole.splitlines(keepends=True)
    torn = [whole[:length] for length in range(len(whole) - 1)]
    torn += [b"".join(lines[:i] + lines[i + 1 :]) for i in range(3)]  # a line missing
    torn += [b"".join(lines[::-1]), b"".join(lines + lines[:1]), b"\n", b"{" + whole]
    torn += [f"/gone/part-{n}.pkl\n".encode() for n in ("9" * 5_000, "\u0661")]
    store = CheckpointStore(tmp_path)
    for changed in torn:
        marker.write_bytes(changed)
        with pytest.raises(CorruptCheckpointError, match="'a'"):
            store.manifest("a")
        assert not store.is_done("a")
    marker.write_bytes(whole[:-1])  # all lines are there
    assert store.is_done("a")


@pytest.mark.parametrize("text", [False, True])
def test_p5_a_missing_partition_is_corrupt(tmp_path, text):
    write_legacy(tmp_path / "a", LINES if text else PARTITIONS, text)
    (gone,) = (tmp_path / "a").glob("part-1.*")
    gone.unlink()
    with pytest.raises(CorruptCheckpointError, match=r"partition 1 of .*'a'"):
        load(tmp_path, allow_pickle=True)
    damaged = CheckpointStore(tmp_path).verify("a")
    assert [found.index for found in damaged] == [1]


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


# ---- clearing and repairing ----

FOREIGN = ["part-3.pkl.bak", "part-03.pkl", "part-7.csv", "notes.md", "part-x.pkl"]


def test_p6_clear_removes_what_a_marker_of_agatha_names_and_nothing_else(tmp_path):
    for name, text in (("a", False), ("text", True)):
        folder = tmp_path / name
        write_legacy(folder, LINES if text else PARTITIONS, text)
        for foreign in FOREIGN:
            (folder / foreign).write_text("mine")
        (tmp_path / "part-0.pkl").write_text("mine")
        Checkpointer(tmp_path).clear(name)
        assert files(folder) == sorted(FOREIGN)
    assert (tmp_path / "part-0.pkl").exists()
    write_legacy(tmp_path / "empty", PARTITIONS)
    Checkpointer(tmp_path).clear("empty")
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("text", [False, True])
def test_giving_the_bag_repairs_a_checkpoint_of_agatha_in_our_format(tmp_path, text):
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
