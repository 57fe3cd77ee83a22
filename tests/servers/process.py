"""Running a server in a process of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("run_server.py")


@contextlib.contextmanager
def running(*command):
    """Run a command of `run_server.py`, and yield the URL of its server."""
    process = subprocess.Popen(
        [sys.executable, str(_SCRIPT), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert url, f"{command[0]} did not start"
        yield url
    finally:
        process.communicate()


def find_program(name, hint, *folders):
    """Return the path of a program, or skip the test."""
    # Also beside this Python, whose environment may not be activated.
    beside = os.path.dirname(sys.executable)
    path = os.pathsep.join([beside, os.environ["PATH"], *folders])
    program = shutil.which(name, path=path)
    if program is None:
        pytest.skip(f"{name} is not on the PATH; {hint}")
    return program
