"""P1 to P6: whatever operation of the filesystem fails, no record is lost or wrong.

Each operation of each action fails in each way; then the next run saves with the same
plan, with other partitions or with another version. What is found after either must be
right, not done, or a documented error. Per commit each fault meets one of the three
next runs, and on S3 each operation one kind of fault; the long tests do all.
"""

import itertools
from collections import Counter

import pytest

from tests.reliability.accidents import (
    ACTIONS,
    EVERY_KIND,
    MEMORY,
    NEXTS,
    Place,
    accident,
    faults_of,
    operations,
)

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.fixture
def place(request, tmp_path):
    if request.param == "memory":
        return MEMORY
    if request.param == "local":
        numbers = iter(range(1_000_000))
        return Place(lambda: str(tmp_path / str(next(numbers))))
    return Place(request.getfixturevalue("s3").new_root)


def figures(record_property, found):
    """Keep what was found, for the end of the run."""
    losses = "0 lost or wrong"
    said = [f"{count:,} {what}" for what, count in found.items()]
    record_property("figures", ", ".join([*said, losses]))
    assert found["faults"]


def strike(place, action, faults, nexts, text):
    found = Counter()
    for number, fault in enumerate(faults):
        for then in nexts(number):
            found += accident(place, action, [fault], then, text)
    return found


def one_of_them(number):
    return [NEXTS[number % 3]]


def all_of_them(number):
    return NEXTS


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize(
    "place, text, nexts",
    [
        pytest.param("memory", False, one_of_them, id="memory"),
        pytest.param("memory", True, one_of_them, id="memory-text"),
        pytest.param("local", False, one_of_them, id="local"),
        pytest.param("memory", False, all_of_them, id="memory-all", marks=LONG),
        pytest.param("memory", True, all_of_them, id="memory-text-all", marks=LONG),
        pytest.param("local", False, all_of_them, id="local-all", marks=LONG),
        pytest.param("local", True, all_of_them, id="local-text-all", marks=LONG),
        pytest.param("s3", False, all_of_them, id="s3-all", marks=LONG),
    ],
    indirect=["place"],
)
def test_any_one_fault_loses_nothing(place, text, nexts, name, record_property):
    action = ACTIONS[name]
    faults = faults_of(operations(place, action, text), EVERY_KIND)
    figures(record_property, strike(place, action, faults, nexts, text))


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_fault_at_any_one_operation_loses_nothing_on_s3(place, name, record_property):
    action = ACTIONS[name]
    faults = {}
    for number, fault in enumerate(
        faults_of(operations(place, action, False), EVERY_KIND)
    ):
        faults.setdefault(fault.at, []).append((number, fault))
    # Of the kinds that can happen to an operation, one; at the next one the next.
    chosen = [those[at % len(those)][1] for at, those in faults.items()]
    figures(record_property, strike(place, action, chosen, one_of_them, False))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("name", ["save", "resume", "heal", "recompute", "clear"])
@pytest.mark.parametrize("place", ["memory", "local"], indirect=True)
def test_a_second_fault_in_the_next_run_loses_nothing(
    request, place, name, kind, record_property
):
    action = ACTIONS[name]
    first = operations(place, action, False)
    # In the run after it, each operation that it can have; on local disk some.
    second = faults_of(operations(place, ACTIONS["recompute"], False), EVERY_KIND)
    step = 1 if place is MEMORY else 11
    pairs = list(itertools.product(faults_of(first, {kind: EVERY_KIND[kind]}), second))
    found = Counter()
    for number, pair in enumerate(pairs[::step]):
        found += accident(place, action, pair, NEXTS[number % 3])
    if pairs:
        figures(record_property, found)
