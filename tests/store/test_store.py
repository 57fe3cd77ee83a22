"""CheckpointStore: what one root holds, on every filesystem."""

import errno
import os
import pathlib
import pickle
import stat
from functools import partial

import fsspec
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
    EncodeError,
    InvalidNameError,
    InvalidValueError,
    Manifest,
    Plan,
    RootNotSetError,
)
from agatha_ckpt._format.names import DONE_MARKER
from tests.store.locked import Locked

EVERY_FILESYSTEM = True

RECORDS = [[1, "a"], [], [(2, b"b"), None]]
FILE = f"part-00000-{'0' * 32}-{'0' * 8}-{'0' * 16}.msgpack"
UNRELEASED = "part-00000-0123abcd-0123456789abcdef.msgpack"


def write(store, name="x", records=RECORDS, compression=None, inputs=None, **plan):
    """Write partitions, as tasks do, and return what is to be committed."""
    plan = Plan(len(records), **plan)
    infos = tuple(
        store.write_partition(
            name,
            plan,
            i,
            r,
            fingerprint=inputs and f"{inputs:016x}{i:016x}",
            compression=compression,
        )
        for i, r in enumerate(records)
    )
    return Manifest(plan, infos)


def save(store, name="x", records=RECORDS, **plan):
    return store.mark_done(name, write(store, name, records, **plan))


def partitions(store, manifest, name="x"):
    infos = enumerate(manifest.partitions)
    return [store.open_partition(name, manifest.plan, i, info) for i, info in infos]


def load(store, name="x"):
    return list(map(list, partitions(store, store.manifest(name), name)))


def files(store, name="x"):
    """The files of a checkpoint, seen past the store: name to content."""
    folder = str(store.path(name))
    if not store.fs.exists(folder):
        return {}
    return {
        path.rsplit("/", 1)[1]: store.fs.cat_file(path)
        for path in store.fs.find(folder)
    }


def put(store, name, filename, data):
    folder = str(store.path(name))
    if isinstance(store.path(name), pathlib.Path):
        os.makedirs(folder, exist_ok=True)
    store.fs.pipe_file(f"{folder}/{filename}", data)


def test_a_saved_checkpoint_loads_with_partitions_order_and_types(store):
    save(store)
    assert load(store) == RECORDS
    assert type(load(store)[2][0]) is tuple


def test_nothing_is_written_before_the_first_save(store):
    for query in (store.is_done, store.status, store.path, store.done_marker):
        query("x")
    store.names()
    assert not store.clear("x")
    store.clear_all()
    with pytest.raises(CheckpointNotFoundError):
        store.manifest("x")
    assert not store.fs.exists(str(store.root))


def test_names_are_sorted_done_and_match_the_pattern_with_regard_to_case(store):
    for name in ("b", "a", "B", "a1"):
        save(store, name)
    store.write_partition("partial", Plan(2), 0, [1])
    assert store.names() == ["B", "a", "a1", "b"]
    assert store.names("a*") == ["a", "a1"]
    assert store.names("[b]") == ["b"]


def test_a_partition_file_name_is_never_used_twice(store):
    plan = Plan(1)
    first = store.write_partition("x", plan, 0, [1])
    second = store.write_partition("x", plan, 0, [1])
    assert first.file != second.file
    assert set(files(store)) == {first.file, second.file}
    assert first.digest == second.digest


def test_a_writer_that_fails_in_the_middle_leaves_no_file_P1(store):
    def records():
        yield from ({"n": n, "text": "x" * 1000} for n in range(1000))
        raise ZeroDivisionError("in the bag's own function")

    for plan in (Plan(1), Plan(1, "text")):
        lines = (str(r) if plan.format == "text" else r for r in records())
        with pytest.raises(ZeroDivisionError, match="own function"):
            store.write_partition("x", plan, 0, lines)
    assert files(store) == {}


def test_status_tells_absent_partial_and_done_apart(store):
    assert store.status("x").state == "absent"
    for plan in (Plan(5), Plan(5, "text")):
        for index in (0, 3):
            store.write_partition("x", plan, index, ["a"])
        status = store.status("x")
        assert (status.state, status.partitions, status.expected) == ("partial", 2, 5)
        assert status.format == plan.format
        store.clear("x")
    save(store, version="v1")
    status = store.status("x")
    assert (status.state, status.partitions, status.records) == ("done", 3, 4)
    assert status.version == "v1"
    assert status.bytes == sum(
        len(data) for n, data in files(store).items() if n != DONE_MARKER
    )


def test_a_broken_marker_beside_partition_files_is_not_done(store):
    save(store)
    for marker in (b"", b"\n", b"{", b'{"checkpoint":{}}', b"part-00"):
        put(store, "x", DONE_MARKER, marker)
        assert (store.is_done("x"), store.names()) == (False, [])
        assert store.status("x").state == "damaged"
        assert "marker" in store.status("x").problem
        with pytest.raises(CorruptCheckpointError, match=r"'x' under .*clear it"):
            store.manifest("x")


def test_verify_names_exactly_the_damaged_partitions_P5(store):
    manifest = save(store, records=[[n] for n in range(6)])
    names = [info.file for info in manifest.partitions]
    content = files(store)
    flipped = bytearray(content[names[1]])
    flipped[len(flipped) // 2] ^= 4
    put(store, "x", names[1], bytes(flipped))
    put(store, "x", names[2], content[names[2]][:-1])
    put(store, "x", names[3], content[names[4]])
    store.fs.rm_file(f"{store.path('x')}/{names[5]}")
    damaged = {d.index: d.reason for d in store.verify("x")}
    assert set(damaged) == {1, 2, 3, 5}
    assert "missing" in damaged[5]
    assert "partition 4" in damaged[3]
    for index, part in enumerate(partitions(store, manifest)):
        if index in damaged:
            with pytest.raises(CorruptCheckpointError, match=f"partition {index} of"):
                list(part)
        else:
            assert list(part) == [index]


def test_clear_all_removes_empty_folders_and_follows_no_folder_further(local):
    save(local, "a")
    (local.root / "empty").mkdir()
    (local.root / "outer" / "inner").mkdir(parents=True)
    local.clear_all()
    assert sorted(p.name for p in local.root.iterdir()) == ["outer"]
    assert (local.root / "outer" / "inner").is_dir()


def test_a_root_can_be_copied_and_moved_P7(store):
    save(store)
    moved = CheckpointStore(f"{store.root}-moved")
    for filename, data in files(store).items():
        assert str(store.root).strip("/").encode() not in data
        assert os.getcwd().encode() not in data
        put(moved, "x", filename, data)
    store.clear_all()
    assert load(moved) == RECORDS
    moved.clear_all()


def test_a_store_pickles_and_compares_by_root(store):
    save(store)
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert hash(copy) == hash(store)
    assert load(copy) == RECORDS
    assert store != CheckpointStore(f"{store.root}-other")
    assert store != str(store.root)


def test_a_filesystem_can_be_injected(tmp_path):
    fs = fsspec.filesystem("dir", path=str(tmp_path), fs=fsspec.filesystem("file"))
    fs.makedirs("inside/x")
    store = CheckpointStore("inside", fs=fs)
    save(store)
    assert load(store) == RECORDS
    assert (tmp_path / "inside" / "x" / DONE_MARKER).is_file()


def test_a_universal_path_brings_its_filesystem_and_options(tmp_path):
    class Remote:  # shaped like a UPath: neither str nor PathLike
        path = "looks/local"

        def __init__(self):
            self.storage_options = {"secret": "hush"}

        def __str__(self):
            return "memory://upath-root"

    store = CheckpointStore(Remote())
    assert store.root == "memory://upath-root"
    assert store.path("x") == "memory://upath-root/x"


def test_paths_are_path_objects_on_disk_and_urls_elsewhere(root, store, tmp_path):
    for place in (store.root, store.path("x"), store.done_marker("x")):
        if store.fs.protocol[0] == "file":
            assert isinstance(place, pathlib.Path)
            assert place.is_relative_to(tmp_path)
        else:
            assert type(place) is str
            assert place.startswith(root)
            assert "://" in root


def test_a_name_may_be_a_path_directly_under_the_root_and_nowhere_else(store):
    assert store.path(store.path("x")) == store.path("x")
    assert store.path(str(store.path("x"))) == store.path("x")
    for elsewhere in ("/x", f"{store.root}/a/b", f"{store.root}/..", "other/x"):
        with pytest.raises(InvalidNameError):
            store.path(elsewhere)
    with pytest.raises(InvalidNameError):
        store.path(pathlib.Path("/somewhere/else/x"))


@pytest.mark.parametrize(
    "wrong, why",
    [
        *[(w, "cannot be the root") for w in ("", " ", None, 3, b"bytes", "a\0b")],
        ("nosuch://bucket/x", "nosuch.*whose scheme fsspec supports"),
    ],
)
def test_what_cannot_be_a_root_is_refused(wrong, why):
    with pytest.raises(RootNotSetError, match=why):
        CheckpointStore(wrong)


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(RootNotSetError, match="is a file"):
        CheckpointStore(tmp_path / "file")
    below = CheckpointStore(tmp_path / "file" / "below")
    assert below.names() == []
    assert not below.is_done("x")
    with pytest.raises(RootNotSetError, match="cannot be made"):
        save(below)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("put", [pathlib.Path.touch, lambda p: p.symlink_to("nosuch")])
def test_what_lies_in_the_place_of_a_folder_is_named(tmp_path, put):
    put(tmp_path / "x")
    store = CheckpointStore(tmp_path)
    assert (store.names(), store.status("x").state) == ([], "absent")
    with pytest.raises(RootNotSetError, match=r"x'\); remove by hand what lies"):
        save(store)
    assert os.listdir(tmp_path) == ["x"]


def test_a_root_that_cannot_be_written_to_is_refused():
    # Not even root may make a folder there.
    said = "checkpoint 'x' under '/proc/agatha' cannot be made.*set a root"
    with pytest.raises(RootNotSetError, match=said):
        save(CheckpointStore("/proc/agatha"))


def test_a_disk_without_space_for_a_folder_is_no_fault_of_the_root(local, monkeypatch):
    def mkdir(path):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(OSError) as caught:
        save(local)
    assert caught.value.errno == errno.EDQUOT
    (note,) = caught.value.__notes__
    assert (
        note == f"while making the folder of checkpoint 'x' under {str(local.root)!r}"
    )


def test_permissions_of_files_are_those_of_the_umask(local):
    before = os.umask(0o027)
    try:
        save(local)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(f.stat().st_mode) for f in local.path("x").iterdir()}
    assert modes == {0o640}


@pytest.mark.parametrize(
    "question, call, name",
    [
        ("load", "read", DONE_MARKER),
        ("load", "read", "part-00001"),
        ("verify", "read", "part-00001"),
        ("status", "read", DONE_MARKER),
        ("status", "list", "/x"),
        ("status", "read", "part-0000"),
        ("names", "list", "/locked"),
        ("clear", "list", "/x"),
        ("clear", "delete", DONE_MARKER),
        ("clear_all", "list", "/locked"),
        ("clear_all", "delete", DONE_MARKER),
    ],
)
def test_errors_of_the_filesystem_keep_their_type_and_say_where(question, call, name):
    fs = Locked()
    store = CheckpointStore("/locked", fs=fs)
    save(store)
    if question == "status" and name != DONE_MARKER:
        fs.rm_file(str(store.done_marker("x")))
    fs.locked = (call, name)
    call = partial(load, store) if question == "load" else getattr(store, question)
    with pytest.raises(PermissionError) as caught:
        call(*[] if name == "/locked" or question == "clear_all" else ["x"])
    fs.locked = ("", "")
    store.clear("x")
    assert not isinstance(caught.value, CheckpointError)
    said = "".join(caught.value.__notes__)
    where = "checkpoints" if name == "/locked" else "checkpoint 'x'"
    assert f"{where} under '/locked'" in said


@pytest.mark.parametrize("call, name", [("read", f"/b/{DONE_MARKER}"), ("list", "/b")])
@pytest.mark.parametrize(
    "error, reason",
    [
        ((errno.EACCES, "no"), "no permission to read it (no)"),
        ((errno.EIO, "a fault of the disk"), "a fault of the disk"),
    ],
)
def test_what_cannot_be_read_is_among_the_statuses_and_ends_none(
    call, name, error, reason
):
    fs = Locked()
    store = CheckpointStore("/locked", fs=fs)
    for done in "abc":
        save(store, done)
    if call == "list":
        fs.rm_file(str(store.done_marker("b")))
    fs.locked, fs.error = (call, name), error
    a, b, c = store.statuses()
    assert (a, c) == (store.status("a"), store.status("c"))
    assert (b.name, b.state) == ("b", "unreadable")
    problem = f"checkpoint 'b' under '/locked' cannot be read: {reason}; use an account"
    assert b.problem.startswith(problem)
    with pytest.raises(OSError, match=error[1]):
        store.status("b")
    fs.locked = ("", "")
    store.clear_all()


def test_leftovers_are_removed_by_the_commit(store):
    put(store, "x", ".tmp-0123456789abcdef", b"of a killed writer")
    put(store, "x", FILE, b"other inputs")
    put(store, "x", UNRELEASED, b"of the format before its release")
    put(store, "x", "notes.txt", b"mine")
    manifest = save(store)
    assert set(files(store)) == manifest.files | {DONE_MARKER, "notes.txt"}


# rclone's server ignores conditions: there the last commit stays.
with_conditions = pytest.mark.parametrize(
    "root", ["local", "memory", "s3", "gcs", "azure"], indirect=True
)


@with_conditions
def test_the_first_of_two_commits_from_the_same_inputs_wins_P3(store):
    ours, theirs = (
        write(store, records=[[who]] * 2, inputs=1) for who in ("ours", "theirs")
    )
    assert store.mark_done("x", theirs).token == theirs.token
    marker = files(store)[DONE_MARKER]
    # The winner's commit removed ours as leftovers; a late writer writes them again.
    late = write(store, records=[["ours"]] * 2, inputs=1)
    assert store.mark_done("x", late).token == theirs.token
    assert load(store) == [["theirs"], ["theirs"]]
    assert files(store)[DONE_MARKER] == marker
    assert not ours.files & set(files(store))


@with_conditions
def test_the_loser_with_other_or_unknown_inputs_gets_an_error_P3(store):
    early = write(store, records=[[0], [1]])
    done = save(store)
    late = (write(store, records=[[0], [], [1]], inputs=inputs) for inputs in (None, 1))
    for manifest in (early, *late):
        with pytest.raises(CheckpointConflictError, match=r"'x' under .*other inputs"):
            store.mark_done("x", manifest)
    assert load(store) == RECORDS
    assert store.manifest("x") == done


def test_a_done_checkpoint_is_replaced_only_if_it_is_what_was_seen_P3(store):
    old = save(store)
    new = store.mark_done("x", write(store, records=[["new"]] * 2), replaces=old)
    assert load(store) == [["new"], ["new"]]
    assert set(files(store)) == new.files | {DONE_MARKER}
    with pytest.raises(CheckpointConflictError, match="is not what was to be replaced"):
        store.mark_done("x", old, replaces=old)
    assert store.manifest("x") == new


def test_a_commit_whose_files_were_cleared_is_refused_P1(store):
    manifest = write(store)
    store.fs.rm_file(f"{store.path('x')}/{manifest.partitions[1].file}")
    with pytest.raises((CheckpointConflictError, RootNotSetError), match="'x' under"):
        store.mark_done("x", manifest)
    assert not store.is_done("x")


def test_a_writer_whose_folder_was_cleared_gets_an_error(local):
    def records():
        yield 1
        local.clear("x")  # removes the temporary file and the folder
        yield 2

    with pytest.raises(CheckpointConflictError, match="partition 0 of checkpoint 'x'"):
        local.write_partition("x", Plan(1), 0, records())
    assert not local.fs.exists(str(local.path("x")))


def test_a_reader_of_a_replaced_checkpoint_is_told_and_never_gets_a_mixture(store):
    old = save(store, records=[[n] * 3 for n in range(3)])
    parts = partitions(store, old)
    assert list(parts[0]) == [0, 0, 0]
    store.clear("x")
    save(store, records=[["new"], ["new"], ["new"]])
    for part in parts:
        with pytest.raises(CorruptCheckpointError, match="replaced or cleared"):
            list(part)


def test_equal_content_has_an_equal_id_whatever_the_compression(store):
    records = [[{"n": n, "text": "x" * 99}, {1, "two", (3,)}] for n in range(3)]
    ids = set()
    for compression in (None, "zstd"):
        ids.add(save(store, records=records, compression=compression).id)
        assert load(store) == records
        store.clear("x")
    save(store, records=records[::-1])
    assert len(ids) == 1
    assert store.manifest("x").id not in ids


@pytest.mark.parametrize(
    "wrong",
    [{"index": -1}, {"index": 2}, {"fingerprint": "abc"}, {"compression": "gzip"}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["msgpack", "text"])
def test_a_partition_that_no_file_name_can_have_is_refused_P6(local, kind, wrong):
    options = {"index": 0, "records": ["a"], **wrong}
    with pytest.raises(InvalidValueError, match=r"invalid .* partition .* checkpoint"):
        local.write_partition("x", Plan(2, kind), **options)
    assert files(local) == {}


def test_a_manifest_that_no_reader_accepts_is_not_committed_P1(store):
    good = save(store)
    info = store.write_partition("x", Plan(2), 0, [1])
    for partitions in [(info,), (info, info)]:
        with pytest.raises(EncodeError, match=r"'x' under .* one file"):
            store.mark_done("x", Manifest(Plan(2), partitions), replaces=good)
    assert load(store) == RECORDS


def test_a_clear_while_a_weak_filesystem_writes_is_a_conflict(tmp_path):
    fs = fsspec.filesystem("dir", path=str(tmp_path), fs=fsspec.filesystem("file"))
    store = CheckpointStore("root", fs=fs)

    def records():
        yield 1
        store.clear("x")

    with pytest.raises(CheckpointConflictError, match="partition 0 of checkpoint 'x'"):
        store.write_partition("x", Plan(1), 0, records())
