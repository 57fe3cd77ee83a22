"""P1 to P7: a few rounds of the soak, which runs for as long as it is told."""

import logging

import pytest

from tests.reliability import soak

LONG = [pytest.mark.long, pytest.mark.timeout(7_200)]


@pytest.fixture(autouse=True)
def _log_level():
    logger = logging.getLogger("agatha_ckpt")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize(
    "place, rounds",
    [
        ("memory", 30),
        ("local", 30),
        pytest.param("memory", 20_000, marks=LONG),
        pytest.param("local", 6_000, marks=LONG),
        pytest.param("s3", 1_000, marks=LONG),
    ],
)
def test_rounds_of_random_accidents_lose_nothing(
    place, rounds, capsys, record_property
):
    status = soak.main(["--seed", "1", "--on", place, "--rounds", str(rounds)])
    output = capsys.readouterr().out
    assert status == 0, output
    *_, summary = output.splitlines()
    assert f"{rounds:,} rounds" in summary
    record_property("figures", f"{place}: {summary}")


def test_a_round_is_repeated_with_the_same_steps(capsys):
    outputs = []
    for _ in range(2):
        soak.main(["--seed", "1", "--on", "memory", "--round", "7"])
        outputs.append(capsys.readouterr().out.splitlines())
    first, second = outputs
    assert first == second
    assert first[1] == "seed 1 round 7 on memory:"
    assert all(line.startswith("    ") for line in first[2:-1])
    assert first[-1].startswith("seed 1: 1 rounds, ")
