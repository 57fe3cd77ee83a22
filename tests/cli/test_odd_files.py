"""Files, times and roots that a filesystem can have, and a program rarely meets."""

import errno
import json
import os
import socket
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt import CheckpointStore
from agatha_ckpt._cli.main import main
from tests.cli.cases import family, fill, run
from tests.store.locked import Locked


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # an absolute path can be too long


SPECIAL = {
    "fifo": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: os.symlink("/dev/zero", path),
    "loop": lambda path: os.symlink(path, path),
    "socket": make_socket,
}


def put_special(monkeypatch, root, pattern, make):
    [path, *_] = sorted(root.glob(pattern))
    path.unlink()
    monkeypatch.chdir(path.parent)
    make(str(path))


def states(root):
    return {c["name"]: c["state"] for c in json.loads(run("ls", root, "--json").stdout)}


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_a_marker_that_is_not_a_file_is_damage_of_one_checkpoint(
    tmp_path, monkeypatch, make
):
    root = tmp_path
    family(root)
    put_special(monkeypatch, root, "sentences/__done__", make)
    others = {"documents": "done", "terms": "done"}
    assert states(root) == others | {"sentences": "damaged"}
    shown = run("show", root, "sentences")
    assert (shown.exit_code, "is not a file; remove" in shown.stderr) == (1, True)
    verified = run("verify", root)
    assert [line.split() for line in verified.stdout.splitlines()[:2]] == [
        ["documents", "ok"],
        ["sentences", "damaged"],
    ]
    page = run("report", root, "-o", "-")
    assert (page.exit_code, "is not a file; remove" in page.stdout) == (0, True)
    assert CheckpointStore(root).names() == ["documents", "terms"]


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_a_partition_that_is_not_a_file_is_damage(tmp_path, monkeypatch, make):
    root = tmp_path
    family(root)
    put_special(monkeypatch, root, "sentences/part-*", make)
    verified = run("verify", root)
    assert verified.exit_code == 1
    assert "partition 0: what lies in the place of its file is not" in verified.stdout
    head = run("head", root, "sentences")
    assert (head.exit_code, len(head.stderr.splitlines())) == (1, 1)
    for command in (["ls", root], ["show", root, "sentences"], ["report", root, "-o-"]):
        assert run(*command).exit_code == 0


class BadSector(Locked):
    """Reads of some files fail as on a broken disk."""

    protocol = "badsector"

    def _allow(self, call, path):
        try:
            super()._allow(call, path)
        except PermissionError:
            raise OSError(errno.EIO, "Input/output error", path) from None


@pytest.mark.parametrize("call, name", [("read", "/b/__done__"), ("list", "/b")])
def test_a_fault_of_the_disk_makes_one_checkpoint_unreadable(call, name):
    fs = BadSector()
    store = CheckpointStore("/sectors", fs=fs)
    family(store)
    fs.cp("/sectors/terms", "/sectors/b", recursive=True)
    if call == "list":
        fs.rm_file("/sectors/b/__done__")
    fs.locked = (call, name)
    found = {status.name: status for status in store.statuses()}
    assert found["b"].state == "unreadable"
    assert "cannot be read: Input/output error; use an account" in found["b"].problem
    assert {status.state for name, status in found.items() if name != "b"} == {"done"}
    with pytest.raises(OSError, match="Input/output error"):
        store.status("b")


class Clock(MemoryFileSystem):
    """The memory filesystem, where every file was written at one time."""

    protocol = "clock"
    cachable = False
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    time = 0.0

    def ls(self, path, detail=True, **kwargs):
        found = super().ls(path, detail=detail, **kwargs)
        return [entry | {"mtime": self.time} for entry in found] if detail else found


@pytest.mark.parametrize("time", [1e12, -1e12, 1e300, -86_400, 1])
def test_any_time_of_a_file_is_shown(monkeypatch, time):
    fsspec.register_implementation("clock", Clock, clobber=True)
    monkeypatch.setattr(Clock, "time", time)
    Clock.store.clear()
    fill("clock://root")
    known = abs(time) < 1e12
    found = json.loads(run("ls", "clock://root", "unfinished", "--json").stdout)
    assert (found[0]["changed"] is not None) is known
    for command in (
        ["ls"],
        ["show", "unfinished"],
        ["report", "-o", "-"],
        ["prune", "--partial", "--older-than", "1d", "-n"],
        ["clear", "unfinished", "-n"],
    ):
        ended = run(command[0], "clock://root", *command[1:])
        assert ended.exit_code == 0
        assert known or "?" in ended.stdout


@pytest.mark.parametrize(
    "name", [b"not-utf8-\xff", b"escape-\x1b[31m", "override-\u202e".encode()]
)
@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_a_root_with_any_bytes_is_shown_escaped(
    folder, tmp_path_factory, name, charset
):
    odd = os.fsencode(tmp_path_factory.mktemp("odd")) + b"/" + name
    os.rename(folder, odd)
    root = Path(os.fsdecode(odd))
    runner = CliRunner(charset=charset)
    for command in ["ls"], ["show", "lines"], ["show", "nosuch"], ["verify", "x"]:
        arguments = [command[0], str(root), *command[1:]]
        ended = runner.invoke(main, arguments, color=True)  # as on a terminal
        assert ended.exception is None or type(ended.exception) is SystemExit
        assert ended.output
        assert "-\x1b" not in ended.output
        assert "\u202e" not in ended.output
    page = runner.invoke(main, ["report", str(root), "-o", "-"])
    assert page.exit_code == 0
