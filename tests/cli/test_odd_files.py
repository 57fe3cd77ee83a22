"""Times of files, and roots, that a filesystem can have and a program rarely meets."""

import json
import os
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from agatha_ckpt._cli.main import main
from tests.cli.cases import fill, run


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
