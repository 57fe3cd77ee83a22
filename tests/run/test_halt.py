"""Halting in an interactive shell."""

import os
import re
import subprocess
import sys

import pytest

CELL = """
import dask.bag
from agatha_ckpt import Checkpointer, CheckpointHalt

ckpt = Checkpointer("root", halt_after="x", verbose=False)
bag = dask.bag.from_sequence([1], npartitions=1)
try:
    ckpt.checkpoint("x", bag, scheduler="sync")
except CheckpointHalt as halt:
    print("caught:", halt)
try:
    get_ipython().run_cell("1 / 0")
finally:
    ckpt.checkpoint("x", bag, scheduler="sync")
"""


def test_a_notebook_shows_a_halt_as_one_line(tmp_path):
    pytest.importorskip("IPython")
    options = ["--no-banner", "--HistoryManager.enabled=False", "--colors=NoColor"]
    done = subprocess.run(
        [sys.executable, "-m", "IPython", *options, "-c", CELL],
        cwd=tmp_path,
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    message = "halted after checkpoint 'x' under 'root', as asked for"
    first, *others, last = done.stdout.strip().splitlines()
    assert first == f"caught: {message}"
    assert "ZeroDivisionError" in "\n".join(others)  # is shown as ever
    assert re.sub(r"\x1b\[[\d;]*m", "", last) == f"CheckpointHalt: {message}"
    assert not re.search(r"%tb|CheckpointHalt", "\n".join(others))
    assert "exit" not in done.stderr
