"""The tests are tested: each of twelve defects that are put into a copy is found."""

import re

import pytest

from tests.reliability import mutants
from tests.reliability.mutants import AS_IT_IS, MUTANTS, PARTS, Edit, StaleEditError


def test_there_are_twelve():
    assert len({mutant.name for mutant in MUTANTS}) == 12


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_found_by_the_test_that_is_there_for_it(mutant, record_property):
    (failure,) = mutants.tried(mutant, [mutant.test]).values()
    assert re.search(mutant.says, failure), failure
    record_property("figures", "found")


def test_the_same_tests_pass_on_a_copy_of_the_library_as_it_is():
    tests = sorted({mutant.test for mutant in MUTANTS})
    failures = mutants.tried(AS_IT_IS, tests)
    assert len(failures) == len(tests)
    assert not any(failures.values()), failures


@pytest.mark.long
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_which_parts_of_the_harness_find_a_mutant(mutant, record_property):
    finders = mutants.finders_of(mutant, PARTS)
    record_property("figures", f"found by {', '.join(finders)}")
    assert finders


def test_an_edit_of_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(StaleEditError, match="0 times"):
        mutants.copy_with([Edit("_store", "no such text", "")], tmp_path)
