"""P1 to P6: whatever operation of the filesystem fails, no record is lost or wrong.

Each operation of each action fails in each way; then the next run saves: the same, with
other partitions, with another version or of other inputs. What is found after either
must be right, not done, or a documented error. By default one fault in 25 happens,
every kind at least once for each action; the long tests do all.
"""

import itertools
from collections import Counter

import pytest

from tests.reliability.accidents import (
    ACTIONS,
    MEMORY,
    NEXTS,
    Place,
    accident,
    faults_of,
    operations,
)
from tests.reliability.faulty_files import KINDS

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]


@pytest.fixture
def place(request, tmp_path):
    if request.param == "memory":
        return MEMORY
    if request.param == "local":
        numbers = itertools.count()
        return Place(lambda: str(tmp_path / str(next(numbers))))
    return Place(request.getfixturevalue("s3").new_root)


def record_figures(record_property, found):
    counts = [f"{count:,} {what}" for what, count in found.items()]
    record_property("figures", ", ".join([*counts, "0 lost or wrong"]))
    assert found["faults"]


def sampled(faults):
    """Return one fault in 25, and the first of each kind that is not among them."""
    chosen = faults[12::25]
    kinds = {fault.kind for fault in chosen}
    for fault in faults:
        if fault.kind not in kinds:
            kinds.add(fault.kind)
            chosen.append(fault)
    return chosen


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize(
    "place, text, every",
    [
        pytest.param("memory", False, False, id="memory"),
        pytest.param("local", True, False, id="local-text"),
        pytest.param("memory", False, True, id="memory-all", marks=LONG),
        pytest.param("memory", True, True, id="memory-text-all", marks=LONG),
        pytest.param("local", False, True, id="local-all", marks=LONG),
        pytest.param("local", True, True, id="local-text-all", marks=LONG),
        pytest.param("s3", False, True, id="s3-all", marks=LONG),
    ],
    indirect=["place"],
)
def test_any_one_fault_loses_nothing(place, text, every, name, record_property):
    action, found = ACTIONS[name], Counter()
    faults = faults_of(operations(place, action, text))
    for number, fault in enumerate(faults if every else sampled(faults)):
        for then in NEXTS if every else [NEXTS[number % len(NEXTS)]]:
            found += accident(place, action, [fault], then, text)
    record_figures(record_property, found)


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_faults_on_s3_lose_nothing(place, record_property):
    found, actions = Counter(), itertools.cycle(ACTIONS.values())
    for kind in list(KINDS)[::2]:
        action = next(actions)
        while not (faults := faults_of(operations(place, action, False), [kind])):
            action = next(actions)
        fault = faults[len(faults) // 2]
        found += accident(place, action, [fault], NEXTS[len(found) % len(NEXTS)])
    record_figures(record_property, found)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["save", "resume", "heal", "recompute", "clear"])
@pytest.mark.parametrize("place", ["memory", "local"], indirect=True)
def test_a_second_fault_in_the_next_run_loses_nothing(
    place, name, kind, record_property
):
    action = ACTIONS[name]
    first = faults_of(operations(place, action, False), [kind])
    # In the run after it, each operation that it can have; on local disk some.
    second = faults_of(operations(place, ACTIONS["recompute"], False))
    step = 1 if place is MEMORY else 11
    pairs = list(itertools.product(first, second))
    found = Counter()
    for number, pair in enumerate(pairs[::step]):
        found += accident(place, action, pair, NEXTS[number % len(NEXTS)])
    if pairs:
        record_figures(record_property, found)
