"""The benchmarks run and report what they measure. No speed is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import common

TOP = Path(__file__).parents[2]
# What must be among the values of these fields of the rows.
ROWS = {
    "limit": {
        "what": {"save, net", "save, net, fsync", "load", "save, not net"},
        "scheduler": {"sync", "ticking"},
    },
    "scale": {"what": {"save", "save with fsync", "resume half", "open with the bag"}},
    "pipeline": {"who": {"one step", "all steps", "one pool"}},
    "objects": {"what": {"save", "load", "requests to save", "requests to load"}},
    "peers": {"who": {"agatha_ckpt", "pickle per partition", "JSON lines"}},
    "codec_speed": {"what": {"save", "load"}, "who": {"pickle"}},
    "memory": {"what": {"save", "load"}, "kind": {"spooled"}},
    "opening": {"what": {"open"}},
    "records": {"what": {"read"}},
    "kinds": {"what": {"save", "load", "load 2 of 20"}, "who": {"ours", "npy"}},
}


@pytest.mark.long
@pytest.mark.parametrize("name", ROWS)
def test_a_benchmark_runs(tmp_path, name):
    figures, tables = tmp_path / "figures.json", tmp_path / "tables.md"
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--quick"]
    command += ["--json", str(figures), "--markdown", str(tables)]
    done = subprocess.run(
        [*command, "--root", str(tmp_path / "work")],
        cwd=TOP,
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
    assert all(
        {"measure", "target", "found", "met"} <= t.keys() for t in found["targets"]
    )
    assert tables.read_text() in done.stdout
    assert list((tmp_path / "work").iterdir()) == []


def test_ratios_ignore_rounds_lost_in_noise():
    assert common.ratio([2, 9, 4], [1, 3, 4]) == common.Ratio(2, 1, 3, 3)
    assert common.ratio([2, -1, 4], [1, 3, -4]) == common.Ratio(2, 2, 2, 1)
    assert common.ratio([-1], [1]).rounds == 0


def test_a_target_is_compared_with_the_median():
    report = common.Report("test", common.parser("").parse_args([]))
    two = common.ratio([2, 2, 50], [1, 1, 1])
    report.target("as slow as that", two, at_most=2)
    report.target("as fast as that", two, at_least=2)
    report.target("slower", two, at_most=1.9)
    report.target("not as fast", two, at_least=2.1)
    report.target("in the noise", common.ratio([-1], [1]), at_most=2)
    report.target("a plain figure", 19.9, at_most=20, unit="microseconds")
    found = [target["met"] for target in report.targets]
    assert found == [True, True, False, False, None, True]
