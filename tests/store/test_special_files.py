"""What is not a file, or has an odd time, where a checkpoint's file should be."""

import errno

import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import (
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
    Manifest,
    Plan,
)
from agatha_ckpt._cli.main import main
from tests.filesystem.test_descriptors import NOT_FILES
from tests.store.locked import Locked

BAG = dask.bag.from_sequence(["a", "b"], npartitions=2)

NOT_A_FILE = "what lies in the place of its file is not a file"


@pytest.fixture(params=NOT_FILES)
def special(request):
    return NOT_FILES[request.param]


@pytest.fixture
def ckpt(tmp_path):
    ckpt = Checkpointer(tmp_path / "root", verbose=False)
    for name in ("good", "x"):
        ckpt.checkpoint(name, BAG, scheduler="sync")
    return ckpt


def replace(path, special):
    path.unlink()
    special(path)


def run(ckpt, *arguments):
    command, *rest = arguments
    ended = CliRunner().invoke(main, [command, str(ckpt.store.root), *rest])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended
    return ended


def check_the_others(ckpt, tmp_path):
    assert ckpt.names() == ["good"]
    assert [s.state for s in ckpt.store.statuses() if s.name == "good"] == ["done"]
    for command in (
        ["ls"],
        ["verify"],
        ["report", "-o", str(tmp_path / "report.html")],
        ["prune", "--older-than", "0s", "--dry-run"],
        ["clear", "--all", "--dry-run"],
    ):
        ended = run(ckpt, *command)
        assert command[0] == "report" or "good" in ended.output, ended.output
        assert command[0] == "verify" or ended.exit_code == 0
    assert "good" in (tmp_path / "report.html").read_text()
    ckpt.store.clear_all()
    assert ckpt.store.status("good").state == "absent"


def test_a_marker_that_is_not_a_file_is_damaged(ckpt, special, tmp_path):
    replace(ckpt.store.done_marker("x"), special)
    assert not ckpt.is_done("x")
    status = ckpt.status("x")
    assert status.state == "damaged"
    assert "remove by hand what lies in its place" in status.problem
    ended = run(ckpt, "show", "x")
    assert (ended.exit_code, ended.stderr) == (1, f"Error: {status.problem}\n")
    for call in (
        lambda: ckpt.checkpoint("x"),
        lambda: ckpt.checkpoint("x", BAG, scheduler="sync"),
        lambda: ckpt.store.manifest("x"),
    ):
        with pytest.raises(CorruptCheckpointError, match="is not a file"):
            call()
    check_the_others(ckpt, tmp_path)
    assert "is not a file; remove" in (tmp_path / "report.html").read_text()
    ckpt.store.clear("x")


def test_a_partition_that_is_not_a_file_is_damaged_and_repaired(ckpt, special):
    loaded = ckpt.checkpoint("x")
    path = ckpt.store.path("x") / ckpt.store.manifest("x").partitions[1].file
    replace(path, special)
    with pytest.raises(CorruptCheckpointError, match=r"partition 1 .*not a file"):
        loaded.compute(scheduler="sync")
    [damaged] = ckpt.store.verify("x")
    assert (damaged.index, damaged.reason) == (1, NOT_A_FILE)
    ended = run(ckpt, "verify")
    assert f"partition 1: {NOT_A_FILE}" in ended.stdout
    ended = run(ckpt, "head", "x")
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (1, 1)
    for command in (["ls"], ["show", "x"], ["report", "-o-"]):
        assert run(ckpt, *command).exit_code == 0
    again = ckpt.checkpoint("x", BAG, scheduler="sync")
    assert again.compute(scheduler="sync") == ["a", "b"]
    assert ckpt.store.verify("x") == []
    assert ckpt.names() == ["good", "x"]


def test_a_folder_that_is_a_loop_of_links_ends_nothing(ckpt, tmp_path):
    ckpt.store.clear("x")
    ckpt.store.path("x").symlink_to(ckpt.store.path("x"))
    with pytest.raises(CorruptCheckpointError, match="is not a file"):
        ckpt.store.manifest("x")
    check_the_others(ckpt, tmp_path)


def test_a_fault_of_one_checkpoint_does_not_end_the_names_or_clears_of_others():
    fs = Locked()
    store = CheckpointStore("/bad-disk", fs=fs)
    for name in ("a", "bad", "worse", "z"):
        store.mark_done(name, Manifest(Plan(0), ()))
    fs.locked, fs.error = ("read", "bad/"), (errno.EIO, "a fault of the disk")
    assert store.names() == ["a", "worse", "z"]
    fs.locked = ("delete", "bad/")
    with pytest.raises(OSError, match="a fault of the disk"):
        store.clear_all()
    assert store.names() == ["bad"]
    fs.locked = ("", "")
    store.clear_all()


def test_objects_that_stand_for_folders_are_not_files(s3):
    store = CheckpointStore(s3.new_root())
    ckpt = Checkpointer(store, verbose=False)
    ckpt.checkpoint("good", BAG, scheduler="sync")
    ckpt.checkpoint("x", BAG, scheduler="sync")
    bucket, _, key = str(store.path("x")).removeprefix("s3://").partition("/")
    part = store.manifest("x").partitions[0].file
    for name in ("", "__done__/", "__done__/inner", f"{part}/", f"{part}/inner"):
        store.fs.call_s3("put_object", Bucket=bucket, Key=f"{key}/{name}", Body=b"")
    assert store.names() == ["good", "x"]
    assert store.verify("x") == []
    store.fs.rm_file(f"{bucket}/{key}/__done__")
    store.fs.rm_file(f"{bucket}/{key}/{part}")
    assert store.names() == ["good"]
    assert store.status("x").state == "partial"
    assert ckpt.explain("x", BAG).compute == (0,)
    store.clear_all()
    assert store.status("x").state == "absent"
    # What stands for a folder is not the library's.
    left = [path.rpartition("/x/")[2] for path in store.fs.find(str(store.root))]
    assert "__done__/inner" in left
