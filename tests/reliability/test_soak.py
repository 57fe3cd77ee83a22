"""A few rounds of the soak, which goes on for as long as it is told."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")
LONG = [pytest.mark.long, pytest.mark.timeout(7_200)]


@pytest.mark.parametrize(
    "place, rounds",
    [
        ("memory", 300),
        ("local", 150),
        ("s3", 15),
        pytest.param("memory", 20_000, marks=LONG),
        pytest.param("local", 6_000, marks=LONG),
        pytest.param("s3", 1_000, marks=LONG),
    ],
)
def test_rounds_of_random_accidents_lose_nothing(place, rounds, record_property):
    command = [sys.executable, str(SOAK), "--seed", "1", "--on", place]
    command += ["--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *_, summary = done.stdout.splitlines()
    assert first == f"seed 1, on {place}"
    assert f"{rounds:,} rounds" in summary
    record_property("figures", summary)


def test_a_round_is_told_step_by_step_and_is_the_same_each_time():
    command = [sys.executable, str(SOAK), "--seed", "1", "--on", "memory"]
    tellings = [
        subprocess.run([*command, "--round", "7"], capture_output=True, text=True)
        for _ in range(2)
    ]
    first, second = (telling.stdout.splitlines() for telling in tellings)
    assert first == second
    assert first[1] == "seed 1 round 7 on memory:"
    assert all(line.startswith("    ") for line in first[2:-1])
    assert first[-1].startswith("seed 1: 1 rounds, ")
