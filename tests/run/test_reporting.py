"""Reporting: lines where there is no terminal, said once, and never an exception."""

import errno
import io
import logging
import subprocess
import sys

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, PartitionStored, StaleCheckpointWarning
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._run.progress import Reporter


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lines_of(capsys, total, seconds, kept=0):
    """The lines of a save, of which each partition takes that long."""
    clock = Clock()
    info = PartitionInfo(file="x", records=2, bytes=100, digest="")
    reporter = Reporter("x", True, clock)
    with reporter.bar(total, [info] * kept):
        for index in range(kept, total):
            clock.now += seconds
            reporter(PartitionStored("x", "root", index, info))
    return [
        line.removeprefix("\t- ") for line in capsys.readouterr().out.splitlines()[1:]
    ]


def counts(lines):
    return [int(line.split()[0].replace(",", "")) for line in lines]


def test_a_line_for_each_tenth(capsys):
    lines = lines_of(capsys, 30, 1)
    assert counts(lines) == [3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert lines[0] == "3 of 30 partitions stored, 300 B, records: 6"
    assert counts(lines_of(capsys, 30, 1, kept=14)) == [15, 18, 21, 24, 27]


def test_a_line_for_each_minute(capsys):
    assert counts(lines_of(capsys, 3, 45)) == [2]
    assert counts(lines_of(capsys, 2000, 31))[:3] == [2, 4, 6]
    assert len(counts(lines_of(capsys, 2000, 31))) == 999


def test_a_short_save_needs_none(capsys):
    assert lines_of(capsys, 9, 1) == []
    assert lines_of(capsys, 1000, 0.000_9) == []


def save(checkpointer, **options):
    bag = dask.bag.from_sequence(range(3), npartitions=3)
    return checkpointer.checkpoint("grün", bag, scheduler="sync", **options)


@pytest.mark.parametrize("verbose", [True, False])
def test_a_line_is_printed_or_logged_and_not_both(local, verbose, capsys, caplog):
    caplog.set_level(logging.INFO)
    save(Checkpointer(local, verbose=verbose))
    printed = capsys.readouterr().out
    assert ("Saving" in printed, "Saving" in caplog.text) == (verbose, not verbose)
    assert ("Done!" in printed, "Done!" in caplog.text) == (verbose, not verbose)


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "full")


class Raising:
    """A stream of a program's own, with a fault."""

    encoding = "utf-8"

    def write(self, text):
        raise KeyError(text)

    def flush(self):
        raise AttributeError


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "raising": Raising,
    "full": Full,
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_stream_that_cannot_be_written_to_ends_nothing(
    local, monkeypatch, which, name, caplog
):
    caplog.set_level(logging.INFO)
    checkpointer = Checkpointer(local)
    save(checkpointer)
    other = dask.bag.from_sequence(range(5), npartitions=5)
    with monkeypatch.context() as patch:
        patch.setattr(sys, which, STREAMS[name]())
        assert save(checkpointer, overwrite=True).count().compute(scheduler="sync") == 3
        if which == "stdout":
            with pytest.warns(StaleCheckpointWarning):
                checkpointer.checkpoint("grün", other, scheduler="sync")
    if which == "stdout":
        assert "Done!" in caplog.text  # what cannot be printed is logged


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1251"])
def test_what_an_encoding_cannot_show_is_escaped(local, monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        save(Checkpointer(local))
    shown = stream.buffer.getvalue().decode(encoding)
    assert ("gr\\xfcn" in shown) == (encoding != "latin-1")
    assert "Done!" in shown


SCRIPT = """\
import sys
import dask.bag
from agatha_ckpt import Checkpointer
checkpointer = Checkpointer(sys.argv[1])
print("ready", file=sys.stderr, flush=True)
sys.stdin.read()
for name in ("one", "two"):
    checkpointer.checkpoint(name, dask.bag.from_sequence([1]), scheduler="sync")
print("the end", file=sys.stderr)
"""


def test_a_pipeline_whose_reader_has_gone_reaches_its_end(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr.readline() == "ready\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == "the end\n"
        assert process.wait() == 0
