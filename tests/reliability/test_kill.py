"""P1, P2, P3, P4: what is killed at any moment loses nothing, and is finished later."""

import json
import subprocess
import sys

import pytest

from tests.reliability import kill_loop


@pytest.mark.parametrize(
    "scheduler, kills",
    [
        ("threads", 10),
        *(
            pytest.param(
                scheduler, kills, marks=[pytest.mark.long, pytest.mark.timeout(7_200)]
            )
            for scheduler, kills in (
                *(("sync", 500), ("threads", 500), ("processes", 500), ("warm", 50)),
            )
        ),
    ],
)
def test_kills_lose_no_record_and_redo_no_finished_partition(
    tmp_path, record_property, scheduler, kills
):
    command = [sys.executable, "-m", kill_loop.__name__, str(tmp_path)]
    command += ["--kills", str(kills), "--scheduler", scheduler]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    record_property("figures", found)
    assert found["kills"] >= kills
    assert not any(found[what] for what in kill_loop.ZERO), done.stderr
