"""P1, P2, P3, P4: what is killed at any moment loses nothing, and is finished later."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1_800)  # for as many kills as a loop may take
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


# A kill may come too late, so a loop goes on until each of these was met so often.
EACH = (
    *(f"of {action}" for action in ("save", "recompute", "repair", "clear")),
    *(f"round of {form}" for form in ("msgpack", "zstd", "text")),
    *(f"by {name}" for name in ("KILL", "TERM", "TERM as exit", "INT")),
)


def kill_loop(
    root, scratch, record_property, scheduler, kills, partitions=16, seed=1, **least
):
    """Run the loop and return its figures; what must not happen has not happened."""
    # Otherwise the moments were no moments in the middle of a save, and nothing that
    # must not happen could have happened.
    until = dict.fromkeys(EACH, 1) | {
        "kills in the middle": kills // 10 + 1,
        "partitions kept": kills * partitions // 16 + 1,
    }
    until |= {what.replace("_", " "): number for what, number in least.items()}
    command = [sys.executable, str(KILL_LOOP), str(root), str(scratch)]
    command += ["--kills", str(kills), "--scheduler", scheduler, "--seed", str(seed)]
    command += ["--partitions", str(partitions)]
    command += ["--until", *(f"{what}={number}" for what, number in until.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout)
    record_property("figures", found)
    assert found["kills"] >= kills
    assert not any(found[what] for what in NEVER), done.stderr
    assert not {w: n for w, n in until.items() if found.get(w, 0) < n}, found
    return found


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_60_kills_lose_no_record_and_redo_no_finished_partition(
    tmp_path, record_property, scheduler
):
    kill_loop(tmp_path / "root", tmp_path / "logs", record_property, scheduler, 60)


def test_15_kills_of_pools_and_of_drivers_whose_pool_goes_on_lose_no_record(
    tmp_path, record_property
):
    kill_loop(
        tmp_path / "root",
        tmp_path / "logs",
        record_property,
        "processes",
        15,
        drivers_killed_alone=5,
        partitions_of_orphans=1,
    )


def test_8_kills_of_pools_that_are_kept_lose_no_record(tmp_path, record_property):
    """They are spawned, so that each round takes seconds."""
    kill_loop(tmp_path / "root", tmp_path / "logs", record_property, "warm", 8)


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
    least = {"kills_between_the_last_partition_and_the_marker": 1}
    if scheduler == "processes":
        least["drivers_killed_alone"] = 101
        least["partitions_of_orphans_after_the_end"] = 1
        least["workers_killed"] = 1
    kill_loop(
        tmp_path / "root",
        tmp_path / "logs",
        record_property,
        scheduler,
        1000,
        seed=2,
        **least,
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_100_kills_on_s3_lose_no_record_and_redo_no_finished_partition(
    s3, tmp_path, record_property, scheduler
):
    kill_loop(
        s3.new_root(), tmp_path, record_property, scheduler, 100, seed=2, partitions=6
    )
