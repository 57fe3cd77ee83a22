"""P1, P3, P4: the real code of savers, clears, prunes and readers, interleaved.

Each operation of the store is a switch point; docs/reliability.md has the figures.
"""

import pytest

from tests.reliability.simulation.explore import explore, random_priorities
from tests.reliability.simulation.scenarios import (
    PAIRS,
    PAIRS_WITH_CLEAR,
    TRIPLES,
    scenario,
)

AFTER_MARKER = ("list", "read", "swap")  # what a commit does after its swap
WINDOW = "done without files"
ALL = PAIRS | PAIRS_WITH_CLEAR | TRIPLES
SEEDS = 40


def is_documented(problem, crashed):
    """Return whether a clear that ended early, or a commit beside it, explains it."""
    return problem == WINDOW and any(
        name in ("clear", "again", "prune") or before in AFTER_MARKER
        for name, _, before in (crash.rpartition(" before ") for crash in crashed)
    )


def unexplained(found, with_clear):
    assert found.runs
    return {
        kind: path
        for kind, path in found.problems.items()
        if not (with_clear and is_documented(*kind))
    }


@pytest.mark.parametrize("name", PAIRS)
def test_two_actors_with_a_crash_and_one_preemption(name):
    found = explore(scenario(*PAIRS[name]), crashes=1, preemptions=1)
    assert not unexplained(found, with_clear=False)


@pytest.mark.parametrize("format", ["parquet", "npy"])
@pytest.mark.parametrize("name", ["two plans", "repair and incremental recompute"])
def test_two_actors_that_save_frames_or_arrays(name, format):
    found = explore(scenario(*PAIRS[name], format=format), crashes=1, preemptions=1)
    assert not unexplained(found, with_clear=False)


@pytest.mark.parametrize("name", PAIRS_WITH_CLEAR)
def test_two_actors_beside_a_clear_with_a_crash(name):
    found = explore(scenario(*PAIRS_WITH_CLEAR[name]), crashes=1, preemptions=1)
    assert not unexplained(found, with_clear=True)


@pytest.mark.parametrize("name", TRIPLES)
def test_three_actors_with_one_preemption(name):
    found = explore(scenario(*TRIPLES[name]), preemptions=1)
    assert not unexplained(found, with_clear=False)


@pytest.mark.parametrize("name", ["two plans", "repair and recompute"])
def test_a_lost_answer_falsifies_nothing(name):
    found = explore(scenario(*PAIRS[name]), losses=1, preemptions=1)
    assert not unexplained(found, with_clear=False)


@pytest.mark.parametrize("name", ["two plans", "two incremental recomputes"])
def test_a_weak_swap_never_loads_other_records(name):
    found = explore(scenario(*PAIRS[name], atomic=False), preemptions=2)
    problems = {problem for problem, _ in unexplained(found, False)}
    assert problems <= {WINDOW, "a save returned and nothing is done"}


@pytest.mark.parametrize("name", TRIPLES)
def test_random_priorities_of_three_actors(name):
    for seed in range(SEEDS):
        found = random_priorities(scenario(*TRIPLES[name]), seed)
        assert not unexplained(found, "clear" in name), seed


def test_a_commit_that_removes_a_temporary_file_is_adopted():
    found = explore(
        scenario(*PAIRS["two savers"], temporaries=True), crashes=1, preemptions=2
    )
    assert not unexplained(found, with_clear=False)


def test_a_swap_that_does_not_compare_is_found():
    found = explore(scenario(*PAIRS["two plans"], compare=False), preemptions=1)
    assert found.problems


@pytest.mark.long
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    "faults",
    [{}, {"crashes": 1}, {"losses": 1}],
    ids=["no fault", "a crash", "a lost answer"],
)
@pytest.mark.parametrize("name", PAIRS | PAIRS_WITH_CLEAR)
def test_all_interleavings_of_two_actors(name, faults, record_property):
    found = explore(scenario(*ALL[name]), **faults)
    record_property("figures", f"{found.states} states, {found.runs} schedules")
    assert not unexplained(found, name in PAIRS_WITH_CLEAR)


@pytest.mark.long
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", TRIPLES)
def test_three_actors_with_a_crash_and_two_preemptions(name, record_property):
    found = explore(scenario(*TRIPLES[name]), crashes=1, preemptions=2)
    record_property("figures", f"{found.states} states, {found.runs} schedules")
    assert not unexplained(found, "clear" in name)


@pytest.mark.long
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", TRIPLES)
def test_many_random_priorities_of_three_actors(name):
    for seed in range(2000):
        found = random_priorities(scenario(*TRIPLES[name]), seed, changes=5)
        assert not unexplained(found, "clear" in name), seed
