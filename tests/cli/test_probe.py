"""``agatha-ckpt probe``."""

import errno
import json
import os
import stat

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import CheckpointStore
from agatha_ckpt._filesystem.factory import files_for
from agatha_ckpt._filesystem.probe import probe
from tests.cli.cases import fill, forbidden, refused, rows, run, tree

EVERY_SERVER = True

CONDITIONS = ["create if absent", "compare and swap", "conditional delete"]
OTHERS = ["listing after write", "listing after delete", "bulk delete", "case"]
OF_DISKS = ["folder fsync", "hard links"]
# What the tests of `Files` find of each; rclone ignores conditions, and the emulator of
# GCS those of a delete.
WEAK = dict.fromkeys(["s3-rclone", "sftp", "sshfs", "smb", "ftp", "webdav"], CONDITIONS)
WEAK["gcs"] = ["conditional delete"]


def probed(root):
    ended = run("probe", root, "--json")
    assert (ended.exit_code, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    return found, {check["name"]: check["result"] for check in found["checks"]}


def test_it_finds_what_the_tests_of_the_filesystem_find(root, request):
    server = request.node.callspec.params["root"]
    expected = dict.fromkeys([*CONDITIONS, *OTHERS], "yes")
    expected |= dict.fromkeys(OF_DISKS, "yes" if server == "local" else "not needed")
    expected |= dict.fromkeys(WEAK.get(server, ()), "weak")
    if server == "smb":
        expected["case"] = "no"
    found, results = probed(root)
    assert results == expected
    assert found["commit"] == ("weak" if server in WEAK else "atomic")
    store = CheckpointStore(root)
    if server == "s3-seaweedfs":  # removes empty folders in its own time
        assert not [p for p in store.fs.find(store._root.base) if ".probe-" in p]
    elif server in ("sshfs", "webdav"):  # there the library removes no folder
        assert store.fs.ls(store._root.base) == []
    else:
        assert not store._root.exists()


def test_the_table_has_what_follows(tmp_path):
    ended = run("probe", tmp_path)
    assert [row[0] for row in rows(ended)[:2]] == ["create", "compare"]
    assert "a power cut" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("Commits are atomic")


def test_it_leaves_a_root_as_it_was(tmp_path):
    fill(tmp_path)
    before = tree(tmp_path)
    probed(tmp_path)
    probed(tmp_path / "new" / "root")
    assert tree(tmp_path) == before


def test_a_root_that_cannot_be_written_to_is_one_line(folder):
    with forbidden(folder, 0o555):
        message = refused("probe", folder)
    assert message.startswith("Error: no permission: ")
    assert f"probing the root {str(folder)!r}" in message


def test_a_bucket_that_does_not_exist_is_one_line(s3):
    message = refused("probe", "s3://no-such-bucket/run-1")
    assert "the bucket 'no-such-bucket'" in message
    assert "make it" in message


def test_a_disk_may_lack_links_and_syncs_of_folders(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", refuse_folders)
    monkeypatch.setattr(os, "link", refuse)
    found, results = probed(tmp_path)
    assert [results[name] for name in OF_DISKS] == ["no", "no"]
    assert {results[name] for name in [*CONDITIONS, *OTHERS]} == {"yes"}
    assert found["commit"] == "atomic"
    details = [check["detail"] for check in found["checks"] if check["result"] == "no"]
    assert [detail.partition(":")[0] for detail in details] == ["EINVAL", "EPERM"]


class Forgetful(MemoryFileSystem):
    """A filesystem that does not list a file when it was just written."""

    protocol = "forgetful"
    cachable = False

    def ls(self, path, detail=True, **kwargs):
        found = super().ls(path, detail=detail, **kwargs)
        return [entry for entry in found if "listed-" not in str(entry)]


def test_what_does_not_work_is_a_result_and_ends_no_other_check(monkeypatch):
    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    found, results = probed("forgetful://root")
    assert [name for name, result in results.items() if result == "no"] == OTHERS[:1]
    assert found["commit"] == "broken"
    monkeypatch.setattr(Forgetful, "rm_file", None)  # raises a TypeError
    with pytest.raises(TypeError):
        probe(files_for(Forgetful(), fsync=True), "/forgetful")
