"""P1, P2, P4: a save that is killed at any moment, resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILL_LOOP = Path(__file__).with_name("kill_loop.py")


def kill_loop(root, kills, scheduler):
    command = [sys.executable, str(KILL_LOOP), str(root / scheduler)]
    command += ["--kills", str(kills), "--scheduler", scheduler]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == kills
    assert found["wrong"] == 0, done.stderr
    assert found["redone"] == 0, done.stderr
    # Otherwise the moments were no moments in the middle of a save.
    assert found["middle"] > kills / 5, found
    assert found["kept"] > kills, found


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_60_kills_lose_no_record_and_redo_no_finished_partition(tmp_path, scheduler):
    kill_loop(tmp_path, 60, scheduler)


@pytest.mark.long
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_1000_kills_lose_no_record_and_redo_no_finished_partition(tmp_path, scheduler):
    kill_loop(tmp_path, 1000, scheduler)


@pytest.mark.long
def test_100_kills_of_a_process_pool_lose_no_record(tmp_path):
    kill_loop(tmp_path, 100, "processes")
