"""P1 to P6: whatever operation of the filesystem fails, no record is lost or wrong.

Each operation of each action fails in each way; then the next run saves: the same, with
other partitions, with another version or of other inputs. What is found after either
must be right, not done, or a documented error. By default one fault in 25 happens,
every kind at least once for each action; the long tests do all. The last test does
random things to random checkpoints, nearly all with a random fault.
"""

import itertools
import logging
import os
import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.reliability.accidents import (
    ACTIONS,
    MEMORY,
    NAME,
    NEXTS,
    Accident,
    Place,
    accident,
    faults_of,
    operations,
)
from tests.reliability.faulty_files import KINDS, Fault
from tests.reliability.runs import Run

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


# ---- at random ----

SEED = os.environ.get("SOAK_SEED", "1")
BEFORE = sorted({action.before for action in ACTIONS.values()})
# A plain save has most of the operations.
CALLS = ["save"] * 8 + ["load", "query", "repair", "repair", "clear", "clear all"]


class Round(Accident):
    """A root, and what happens to it."""

    def __init__(self, place, rng):
        super().__init__(place, rng.choice(BEFORE), text=rng.random() < 0.3)
        self.rng = rng

    def run_to_the_end(self):
        for number in range(self.rng.randint(1, 4)):
            self.step(number)
        self.next(self.some_run("last"))

    def step(self, number):
        rng = self.rng
        if rng.random() < 0.1:
            self.move()
        if rng.random() < 0.1:
            self.land()
        called = rng.choice(CALLS)
        run = self.some_run(number)
        if called == "repair" and self.store.is_done(NAME):
            run = replace(run, version=self.store.manifest(NAME).plan.version)
        # Early operations are in every action; the latest are those of a long save.
        at = rng.choice([rng.randrange(8), rng.randrange(45)])
        fault = Fault(rng.choice(list(KINDS)), at, waits=True)
        self.happen(replace(ACTIONS[called], run=run), fault, called)

    def some_run(self, label):
        npartitions = self.rng.choice([3, 3, 3, 1, 2, 5])
        version = self.rng.choice("1123")
        inputs = self.rng.choice(["inputs", "inputs", "other"])
        return Run(f"run {label}", npartitions, version, inputs=inputs)

    def move(self):
        """Copy all files to another root and continue there."""
        other = self.place.store()
        self.place.put(other, self.place.files(self.store))
        self.place.remove(self.store)
        self.store = other
        self.late.clear()
        self.story.append("the root was moved")


@pytest.mark.parametrize(
    "place, rounds",
    [
        ("memory", 30),
        ("local", 30),
        pytest.param("memory", 20_000, marks=LONG),
        pytest.param("local", 6_000, marks=LONG),
        pytest.param("s3", 1_000, marks=LONG),
    ],
    indirect=["place"],
)
def test_rounds_of_random_accidents_lose_nothing(
    place, rounds, caplog, record_property
):
    caplog.set_level(logging.CRITICAL, "agatha_ckpt")
    found = Counter()
    for number in range(rounds):
        one = Round(place, random.Random(f"{SEED} {number}"))
        try:
            one.run_to_the_end()
        except Exception as error:
            error.add_note(f"seed {SEED}, round {number}: {'; '.join(one.story)}")
            raise
        finally:
            place.remove(one.store)
        found += one.found
    record_figures(record_property, found)
