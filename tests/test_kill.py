"""P1, P2, P3, P4: what is killed at any moment loses nothing, and is finished later."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILL_LOOP = Path(__file__).with_name("kill_loop.py")
NEVER = (
    "lost or wrong",
    "undocumented errors",
    "hung",
    "finished and computed again",
    "left over",
    "left after a clear",
    "faults",
)


def kill_loop(
    root, scratch, record_property, scheduler, kills, partitions=16, **options
):
    """Run the loop and return its figures; what must not happen has not happened."""
    command = [sys.executable, str(KILL_LOOP), str(root), str(scratch)]
    options |= {"kills": kills, "scheduler": scheduler, "partitions": partitions}
    for option, value in options.items():
        command += [f"--{option}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout)
    record_property("figures", found)
    assert found["kills"] >= kills
    assert not any(found[what] for what in NEVER), done.stderr
    # Otherwise the moments were no moments in the middle of a save, and nothing that
    # must not happen could have happened.
    assert found["kills in the middle"] > kills / 10, found
    assert found["partitions kept"] > kills * partitions / 16, found
    for action in ("save", "recompute", "repair", "clear"):
        assert found[f"of {action}"], found
    for form in ("msgpack", "zstd", "text"):
        assert found[f"round of {form}"], found
    for name in ("KILL", "TERM", "TERM as exit", "INT"):
        assert found[f"by {name}"], found
    return found


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_60_kills_lose_no_record_and_redo_no_finished_partition(
    tmp_path, record_property, scheduler
):
    kill_loop(tmp_path / "root", tmp_path / "logs", record_property, scheduler, 60)


def test_15_kills_of_pools_and_of_drivers_whose_pool_goes_on_lose_no_record(
    tmp_path, record_property
):
    found = kill_loop(
        tmp_path / "root", tmp_path / "logs", record_property, "processes", 15
    )
    assert found["drivers killed alone"] >= 5, found
    assert found["partitions of orphans"], found


def test_30_kills_on_s3_lose_no_record_and_redo_no_finished_partition(
    s3, tmp_path, record_property
):
    kill_loop(s3.new_root(), tmp_path, record_property, "sync", 30, partitions=8)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_1000_kills_lose_no_record_and_redo_no_finished_partition(
    tmp_path, record_property, scheduler
):
    found = kill_loop(
        tmp_path / "root", tmp_path / "logs", record_property, scheduler, 1000, seed=2
    )
    assert found["kills between the last partition and the marker"], found
    if scheduler == "processes":
        assert found["drivers killed alone"] > 100, found
        assert found["partitions of orphans after the end"], found
        assert found["workers killed"], found


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_100_kills_on_s3_lose_no_record_and_redo_no_finished_partition(
    s3, tmp_path, record_property, scheduler
):
    kill_loop(
        s3.new_root(), tmp_path, record_property, scheduler, 100, seed=2, partitions=6
    )
