"""The benchmarks run, and say what they have to; how fast anything is, nobody asks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).with_name("benchmarks")
# What must be among the values of these fields of the rows.
ROWS = {
    "limit": {"what": {"save, net", "save, net, fsync", "load"}},
    "scale": {"what": {"save", "save with fsync", "resume half", "open with the bag"}},
    "pipeline": {"who": {"one step", "all steps", "one pool"}},
    "objects": {"what": {"save", "load", "requests to save", "requests to load"}},
    "peers": {"who": {"agatha_ckpt", "pickle per partition", "JSON lines"}},
    "memory": {"what": {"save", "load"}, "kind": {"spooled"}},
}


@pytest.mark.long
@pytest.mark.parametrize("name", ROWS)
def test_a_benchmark_runs(tmp_path, name):
    figures, tables = tmp_path / "figures.json", tmp_path / "tables.md"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"]
    command += ["--json", str(figures), "--markdown", str(tables)]
    done = subprocess.run(
        [*command, "--root", str(tmp_path / "work")],
        env=os.environ | {"PYTHONWARNINGS": "default"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    found = json.loads(figures.read_text())
    for field, values in ROWS[name].items():
        assert values <= {row.get(field) for row in found["rows"]}
    assert found["targets"]
    assert all(
        {"measure", "target", "found", "met"} <= t.keys() for t in found["targets"]
    )
    assert tables.read_text() in done.stdout
    assert list((tmp_path / "work").iterdir()) == []
