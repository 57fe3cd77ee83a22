"""What the tests of the command line share: how it is run, and on what."""

import contextlib
import hashlib
import os
import subprocess
import sys

import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import Checkpointer
from agatha_ckpt._cli.main import main


def run(*arguments, **options):
    return CliRunner().invoke(main, list(map(str, arguments)), **options)


def refused(*arguments, code=1, **options):
    """Run what cannot be done, and return its one line on stderr."""
    ended = run(*arguments, **options)
    assert (ended.exit_code, ended.stdout) == (code, ""), ended.output
    assert ended.stderr.startswith("Error: ")
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


def without_privileges(*command):
    """Return the command with which what is forbidden is so even for root."""
    if os.geteuid() != 0:
        return command
    rights = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={rights}", "--inh-caps=-all", *command)


@contextlib.contextmanager
def forbidden(path):
    """Let nobody read a file or a folder, not even who owns it."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


def run_forbidden(*arguments):
    """Run the program as somebody who may not read what is forbidden."""
    command = [sys.executable, "-m", "agatha_ckpt", *map(str, arguments)]
    ended = subprocess.run(
        without_privileges(*command), capture_output=True, text=True, check=False
    )
    ended.exit_code = ended.returncode
    return ended


def cells(ended):
    """The cells of the table that was printed, a list for each line, without header."""
    return [line.split() for line in ended.stdout.splitlines()][1:]


def tree(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def make_bag(fail_after=None, count=4, npartitions=2):
    """A bag of a, b, c, ... that fails after so many."""
    computed = []

    def compute(value):
        if len(computed) == fail_after:
            raise ZeroDivisionError(value)
        computed.append(value)
        return value

    values = [chr(ord("a") + i) for i in range(count)]
    return dask.bag.from_sequence(values, npartitions=npartitions).map(compute)


def interrupt(checkpointer, name):
    """Leave a partial: one partition of two."""
    with pytest.raises(ZeroDivisionError):
        checkpointer.checkpoint(name, make_bag(2), scheduler="sync")


def fill(root):
    """Save a msgpack, a text and a partial checkpoint."""
    checkpointer = Checkpointer(root, verbose=False)
    checkpointer.checkpoint("en_sentences", make_bag(), scheduler="sync", version="2")
    checkpointer.checkpoint("lines", make_bag(), textfile=True, scheduler="sync")
    interrupt(checkpointer, "unfinished")
    return checkpointer


def fill_with_foreign_files(folder):
    checkpointer = fill(folder)
    folder.joinpath("notes.txt").write_text("mine")
    folder.joinpath("foreign").mkdir()
    folder.joinpath("foreign/data.csv").write_text("mine")
    return checkpointer


def damage_one_partition(folder, name):
    path = min(folder.glob(f"{name}/part-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_marker(folder, name):
    marker = folder / name / "__done__"
    marker.write_bytes(marker.read_bytes()[:-10])


def make_newer(folder, name):
    """Let a whole marker say that it is of a newer format."""
    marker = folder / name / "__done__"
    head, _, rest = marker.read_bytes().partition(b',"seal":"')
    body = head.removeprefix(b'{"manifest":')
    body = body.replace(b'"format_version":1', b'"format_version":2')
    seal = hashlib.sha256(body).hexdigest().encode()
    marker.write_bytes(b'{"manifest":' + body + b',"seal":"' + seal + rest[64:])
