"""Running the command line in this process, and roots to run it on."""

import contextlib
import hashlib
import io
import os
import re

import click
import dask.bag
from click.testing import CliRunner

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._cli.main import main
from agatha_ckpt._format.codec import codec_for

OTHER_USER = 65_534
FORMATS = ("msgpack", "text", "parquet", "npy", "pickle")


def run(*arguments, **options):
    return CliRunner().invoke(main, list(map(str, arguments)), **options)


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


def on_terminal(*arguments):
    """Return what a command prints on a terminal, without colours."""
    with contextlib.redirect_stdout(Terminal()) as screen:
        main(list(map(str, arguments)), standalone_mode=False)
    return click.unstyle(screen.getvalue())


def refused(*arguments, code=1, **options):
    """Run a command that fails, and return its one line on stderr."""
    ended = run(*arguments, **options)
    assert (ended.exit_code, ended.stdout) == (code, ""), ended.output
    assert ended.stderr.startswith("Error: ")
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


def rows(ended):
    """The cells of the table that was printed, without its header."""
    return [line.split() for line in ended.stdout.splitlines()][1:]


def tree(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def without_privileges(*command):
    """A command under which file modes hold, also for root."""
    if os.geteuid() != 0:
        return command
    rights = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={rights}", "--inh-caps=-all", *command)


@contextlib.contextmanager
def forbidden(path, mode=0):
    """Give *path* a mode that holds also where the tests run as root."""
    # The other user may be unable to import them.
    list(main.commands.values())
    list(map(codec_for, FORMATS))
    before = path.stat().st_mode
    path.chmod(mode)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(OTHER_USER)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(before)


def save(root, values, npartitions=1, name="x", allow_pickle=False, **options):
    checkpointer = Checkpointer(root, verbose=False, allow_pickle=allow_pickle)
    bag = dask.bag.from_sequence(values, npartitions=npartitions)
    return checkpointer.checkpoint(name, bag, scheduler="sync", **options)


def fill(root):
    """Save a msgpack checkpoint, a text one and a partial of 1 of 2 partitions."""
    save(root, "abcd", 2, "en_sentences", version="2")
    save(root, "abcd", 2, "lines", textfile=True)
    save(root, "abcd", 2, "unfinished")
    store = CheckpointStore(root)
    marker, _, last = sorted(store.fs.find(str(store.path("unfinished"))))
    store.fs.rm([marker, last])


def family(root):
    """Save a parent, a child and a grandchild."""
    documents = save(root, range(6), 3, name="documents")
    checkpointer = Checkpointer(root, verbose=False)
    sentences = checkpointer.checkpoint("sentences", documents, scheduler="sync")
    checkpointer.checkpoint("terms", sentences, scheduler="sync")
    return checkpointer


def save_as_agatha(root, name, content):
    """Write what Agatha writes for one partition."""
    folder = root / name
    folder.mkdir()
    folder.joinpath("part-0.pkl").write_bytes(content)
    folder.joinpath("__done__").write_text(f"/gone/{name}/part-0.pkl\n")


def damage_one_partition(root, name):
    fs = CheckpointStore(root).fs
    path = min(p for p in fs.find(f"{root}/{name}") if "/part-" in p)
    content = bytearray(fs.cat_file(path))
    content[len(content) // 2] ^= 1
    fs.pipe_file(path, bytes(content))


def damage_marker(folder, name):
    marker = folder / name / "__done__"
    marker.write_bytes(marker.read_bytes()[:-10])


def make_unsupported(folder, name):
    """Change the format version in a done marker, with a seal that matches."""
    marker = folder / name / "__done__"
    pattern = rb'(.*?:)(\{.*\})(,"seal":")[0-9a-f]{64}(.*)'
    head, body, middle, tail = re.fullmatch(
        pattern, marker.read_bytes(), re.DOTALL
    ).groups()
    body = body.replace(b'"format_version":1', b'"format_version":2')
    seal = hashlib.sha256(body).hexdigest().encode()
    marker.write_bytes(head + body + middle + seal + tail)


def leave_over(folder, name):
    """Leave files of a killed run, and a foreign one, beside a done checkpoint."""
    first = min((folder / name).glob("part-*"))
    attempt = first.stem.rpartition("-")[2]
    part = first.name.replace(attempt, attempt[::-1])
    left = [part, ".tmp-" + 16 * "0"]
    for filename in left:
        (folder / name / filename).write_bytes(b"left")
    (folder / name / "foreign.txt").write_bytes(b"mine")
    return left
