"""Copies and renames of done checkpoints."""

from contextlib import suppress
from dataclasses import replace

import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
    InvalidValueError,
    Manifest,
    Plan,
)
from agatha_ckpt._cli.main import main
from agatha_ckpt._format.names import DONE_MARKER
from agatha_ckpt._store.transfer import rename
from tests.reliability.faulty_files import Fault, Injector, faulty_store
from tests.reliability.system import Died
from tests.store.folding import Folding

EVERY_FILESYSTEM = True

BAG = dask.bag.from_sequence([1, "a", (2, b"b"), None], npartitions=2)
RECORDS = [1, "a", (2, b"b"), None]


def save(store, name="x", bag=BAG, **options):
    ckpt = Checkpointer(store, verbose=False)
    return ckpt.checkpoint(name, bag, scheduler="sync", **options)


def load(store, name="x"):
    return list(store.records(name))


def own_files(store, name):
    folder = store._folder(name)
    return set(folder.list())


def described(manifest):
    """All that a copy keeps."""
    infos = [(i.records, i.digest, i.fingerprint, i.code) for i in manifest.partitions]
    plan, metadata = manifest.plan, manifest.metadata
    return plan, metadata, manifest.id, manifest.created, manifest.scheme, infos


def test_a_renamed_checkpoint_is_the_same_under_another_name(store):
    save(store, version="v1", metadata={"k": [1]})
    before = store.manifest("x")
    store.rename("x", "new")
    after = store.manifest("new")
    assert described(after) == described(before)
    assert (after.name, after.token == before.token) == ("new", False)
    assert load(store, "new") == RECORDS
    assert store.verify("new") == []
    assert store.names() == ["new"]
    assert own_files(store, "x") == set()
    assert own_files(store, "new") == after.files | {DONE_MARKER}
    assert not after.files & before.files
    # The same inputs: nothing is computed again.
    again = Checkpointer(store, verbose=False).explain("new", BAG, version="v1")
    assert again.action == "load"


def test_a_copy_is_another_checkpoint(store):
    save(store)
    other = CheckpointStore(f"{store.root}-other")
    store.copy("x", other)
    store.copy("x", store, "y")
    assert described(other.manifest("x")) == described(store.manifest("x"))
    store.clear("x")
    assert load(other) == load(store, "y") == RECORDS
    assert other.verify("x") == store.verify("y") == []
    other.clear_all()


@pytest.mark.parametrize("textfile", [False, True])
def test_a_copy_to_another_filesystem(tmp_path, textfile):
    here = CheckpointStore(tmp_path / "here")
    there = CheckpointStore(f"memory://{tmp_path.name}")
    bag = BAG.map(repr) if textfile else BAG
    save(here, bag=bag, textfile=textfile)
    here.copy("x", there)
    there.copy("x", here, "back")
    assert load(here, "back") == load(there) == bag.compute(scheduler="sync")
    assert here.verify("back") == there.verify("x") == []
    there.clear_all()


def test_children_of_a_renamed_checkpoint_are_not_stale(tmp_path):
    store = CheckpointStore(tmp_path)
    parent = save(store, "parent")
    save(store, "child", parent.map(str))
    store.rename("parent", "mother")
    ended = CliRunner().invoke(main, ["show", str(tmp_path), "child"])
    assert "mother (renamed)" in ended.output
    assert "stale" not in ended.output
    mother = save(store, "mother")
    ckpt = Checkpointer(store, verbose=False, on_stale="error")
    assert ckpt.checkpoint("child", mother.map(str)).count().compute() == 4


def test_what_cannot_be_copied_is_refused_and_changes_nothing(store):
    save(store)
    save(store, "other", BAG.map(str))
    store.write_partition("partial", Plan(2), 0, [1])
    save(store, "damaged")
    part = store.manifest("damaged").partitions[1].file
    store.fs.rm_file(f"{store._root.folder('damaged')}/{part}")
    names = ("x", "other", "partial", "damaged", "absent", "target")
    before = {name: own_files(store, name) for name in names}
    for source, target, error, why in [
        ("absent", "target", CheckpointNotFoundError, "is not done"),
        ("partial", "target", CheckpointNotFoundError, "is not done"),
        ("damaged", "target", CorruptCheckpointError, "partition 1 is damaged"),
        ("x", "other", CheckpointConflictError, "'other' under .* exists already"),
        ("x", "x", CheckpointConflictError, "is the same checkpoint; use another"),
        ("x", "partial", CheckpointConflictError, "an unfinished run from other"),
        ("x", "a/b", ValueError, "invalid name"),
    ]:
        for call in (store.rename, lambda s, t: store.copy(s, store, t)):
            with pytest.raises(error, match=why):
                call(source, target)
    for wrong in ("target", None, Checkpointer(store)):
        with pytest.raises(InvalidValueError, match="cannot copy to a"):
            store.copy("x", wrong)
    assert {name: own_files(store, name) for name in names} == before


def test_a_rename_in_case_alone_where_the_disk_folds_case_is_refused(tmp_path):
    store = CheckpointStore("root", fs=Folding(tmp_path))
    save(store, "Terms")
    with pytest.raises(CheckpointConflictError, match="differs in case"):
        store.rename("Terms", "terms")
    assert load(store, "Terms") == RECORDS


def test_a_name_that_is_a_link_to_the_source_is_not_cleared(tmp_path):
    store = CheckpointStore(tmp_path)
    save(store)
    (tmp_path / "link").symlink_to(tmp_path / "x")
    with pytest.raises(CheckpointConflictError, match="is the same checkpoint"):
        store.rename("x", "link")
    assert load(store) == RECORDS


class Busy:
    """Files on which another run does something before a marker is removed.

    Or before the first listing.
    """

    def __init__(self, files, meanwhile=lambda: None, first=lambda: None):
        self._files, self._meanwhile, self._first = files, meanwhile, first

    def list(self, folder):
        first, self._first = self._first, lambda: None
        first()
        return self._files.list(folder)

    def __getattr__(self, name):
        return getattr(self._files, name)

    def swap(self, path, expected, data):
        if data is None:
            self._meanwhile()
        return self._files.swap(path, expected, data)


def test_a_source_that_is_replaced_meanwhile_stays(store):
    save(store)
    words = BAG.map(str)
    source = store._folder("x")
    busy = Busy(source.files, lambda: save(store, bag=words, overwrite=True))
    with pytest.raises(CheckpointConflictError, match="clear one of the two"):
        rename(replace(source, files=busy), store._folder("new"))
    assert load(store) == [str(record) for record in RECORDS]
    assert load(store, "new") == RECORDS
    with pytest.raises(CheckpointConflictError, match=r"'new' under .* exists already"):
        store.rename("x", "new")


def test_a_source_that_is_replaced_before_it_is_listed_is_copied(store):
    save(store)
    source, words = store._folder("x"), BAG.map(str)
    busy = Busy(source.files, first=lambda: save(store, bag=words, overwrite=True))
    rename(replace(source, files=busy), store._folder("new"))
    assert load(store, "new") == [str(record) for record in RECORDS]
    assert not store.is_done("x")


KINDS = ("error before", "error after", "death before", "death after", "outage")


@pytest.mark.parametrize("root", ["local", "memory"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ["rename", "copy"])
def test_a_fault_at_any_operation_loses_nothing(store, kind, action):
    for at in range(200):
        save_records(store)
        injector = Injector(Fault(kind, at))
        with (
            faulty_store(store, injector) as faulty,
            suppress(Died, OSError, CheckpointError),
        ):
            transfer(faulty, action)
        names = store.names()
        assert names in (["x"], ["new"], ["new", "x"])
        for name in names:
            assert load(store, name) == RECORDS
            assert store.verify(name) == []
        if "x" in names:  # as after a crash
            transfer(store, action)
        assert load(store, "new") == RECORDS
        assert store.is_done("x") == (action == "copy")
        store.clear_all()
        if injector.struck is None and at >= len(injector.operations):
            return
    pytest.fail("there are more operations than were tried")


def save_records(store):
    plan = Plan(2)
    infos = [
        store.write_partition("x", plan, i, part)
        for i, part in enumerate([RECORDS[:2], RECORDS[2:]])
    ]
    store.mark_done("x", Manifest(plan, tuple(infos)))


def transfer(store, action):
    if action == "rename":
        store.rename("x", "new")
    else:
        store.copy("x", store, "new")


def test_a_partial_that_a_copy_left_is_kept_by_a_save_of_the_same_inputs(tmp_path):
    store = CheckpointStore(tmp_path)
    save(store)
    store.copy("x", store, "new")
    store.done_marker("new").unlink()
    explained = Checkpointer(store, verbose=False).explain("new", BAG)
    assert (explained.kept, explained.compute) == (2, ())


def test_the_commands_copy_and_rename(tmp_path):
    store, other = CheckpointStore(tmp_path / "a"), CheckpointStore(tmp_path / "b")
    save(store)

    def run(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    assert run("rename", store.root, "x", "y").output == "renamed x to y\n"
    ended = run("copy", store.root, "y", other.root)
    assert ended.output == f"copied y to y under {str(other.root)!r}\n"
    assert run("copy", store.root, "y", store.root, "--as", "z").exit_code == 0
    assert (store.names(), other.names()) == (["y", "z"], ["y"])
    save(store, "other", BAG.map(str))
    for wrong in (["nosuch", "n"], ["y", "other"]):
        ended = run("rename", store.root, *wrong)
        assert (ended.exit_code, len(ended.stderr.splitlines())) == (1, 1)
