"""What a run says and draws, read from the screen of a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest

from tests.run.progress_case import FAILING, PARTITIONS

CASE = Path(__file__).with_name("progress_case.py")
SCHEDULERS = [
    "sync",
    "threads",
    "distributed",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("processes", "executor")),
]
COLUMNS, ROWS = 160, 60


class Terminal:
    """What a program wrote to a terminal, and what is then to be seen there."""

    def __init__(self, written):
        self.written = written
        screen = pyte.Screen(COLUMNS, ROWS)
        pyte.ByteStream(screen).feed(written)
        self.lines = [line.strip() for line in screen.display if line.strip()]

    def frames(self, name="x"):
        """The counts that were drawn, in order."""
        drawn = rf"\r{name}: [^\r]*?(\d+)/{PARTITIONS} \[".encode()
        counts = [int(count) for count in re.findall(drawn, self.written)]
        return [n for i, n in enumerate(counts) if i == 0 or n != counts[i - 1]]

    def said(self):
        """What the lines begin with."""
        return [re.sub(r" +\d.*", "", line) for line in self.lines]


def run(scheduler, folder, *cases, **streams):
    command = [sys.executable, str(CASE), scheduler, str(folder), *cases]
    # Each step is drawn, however soon after the one before.
    environment = os.environ | {"TQDM_MININTERVAL": "0"}
    return subprocess.Popen(command, env=environment, **streams)


def in_terminal(scheduler, folder, *cases, size=(ROWS, COLUMNS)):
    """Run cases in a terminal of their own; return what each wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = run(scheduler, folder, *cases, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = bytearray()
    with contextlib.suppress(OSError):  # the other side is closed
        while data := os.read(master, 65536):
            written += data
    os.close(master)
    assert process.wait() == 0, written.decode()
    before, *parts = re.split(rb"== \w+\r\n", bytes(written))
    assert before == b""
    return dict(zip(cases, map(Terminal, parts), strict=True))


@pytest.fixture(scope="module", params=SCHEDULERS)
def scheduled(request, tmp_path_factory):
    """What a run of each kind wrote to a terminal, and its scheduler."""
    folder = tmp_path_factory.mktemp("scheduled")
    cases = ("save", "resume", "quiet", "fail")
    return in_terminal(request.param, folder, *cases) | {"scheduler": request.param}


SAVED = ["Checkpoint: x", "- Saving", "- Done!"]


def test_a_bar_moves_by_partitions_and_is_gone_in_the_end(scheduled):
    assert scheduled["save"].frames() == list(range(PARTITIONS + 1))
    assert scheduled["save"].said() == SAVED


def test_what_is_kept_counts_at_once(scheduled):
    terminal = scheduled["resume"]
    assert terminal.frames() == list(range(PARTITIONS // 2, PARTITIONS + 1))
    _, saving, done = terminal.lines
    assert (
        saving == "- Saving 4 of 8 partitions; 4 kept, whole and from the same inputs"
    )
    figures = r"Done! 8 partitions, 8 records, .*; 4 kept and 4 computed in .* \(.*/s\)"
    assert re.fullmatch(figures, done.removeprefix("- "))


def test_quiet_prints_and_draws_nothing_at_all(scheduled):
    assert scheduled["quiet"].written == b""


def test_an_error_of_the_bags_own_says_which_partition(scheduled):
    assert scheduled["fail"].lines == [f"named {name}" for name in FAILING]


def test_lines_said_while_a_bar_is_up_stay_whole(tmp_path):
    terminal = in_terminal("sync", tmp_path, "lines")["lines"]
    names = [f"inner-{n}" for n in range(PARTITIONS)]
    said = terminal.said()
    assert sorted(said) == sorted(
        [
            *SAVED,
            *(part for name in names for part in (f"Checkpoint: {name}", *SAVED[1:])),
        ]
    )
    for name in ("x", *names):
        assert terminal.frames(name) == list(range(PARTITIONS + 1))


def test_without_a_terminal_there_are_lines_and_no_bar(tmp_path):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = run("sync", tmp_path, "save", **pipes)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    begins = [line.split()[0] for line in output.splitlines()]
    assert begins == ["==", "Checkpoint:", "-", "-"]


def test_a_save_goes_on_without_a_terminal_to_draw_on(tmp_path):
    cases = ("without_stderr", "terminal_goes")
    terminal = in_terminal("sync", tmp_path, *cases)
    assert [terminal[case].said() for case in cases] == [SAVED, SAVED]


def test_callbacks_of_the_user_see_the_tasks_as_well(tmp_path):
    assert in_terminal("sync", tmp_path, "callbacks")["callbacks"].said() == SAVED
