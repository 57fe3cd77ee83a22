"""The tests are tested: each defect that is put into a copy of the package is found."""

import re

import pytest

from tests.reliability import mutants
from tests.reliability.mutants import MUTANTS, Edit, Mutant, StaleEditError


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_found_by_the_test_that_is_named_for_it(mutant, record_property):
    (failure,) = mutants.failures_of(mutant, [mutant.test]).values()
    assert re.search(mutant.message, failure), failure or "it passes"
    record_property("figures", "found")


@pytest.mark.long
def test_the_same_tests_pass_on_a_copy_without_an_edit():
    tests = sorted({mutant.test for mutant in MUTANTS})
    failures = mutants.failures_of(Mutant("", "", "", ()), tests)
    assert len(failures) == len(tests)
    assert not any(failures.values()), failures


def test_each_edit_fits_the_present_source(tmp_path):
    for number, mutant in enumerate(MUTANTS):
        mutants.copy_with(mutant.edits, tmp_path / str(number))
    with pytest.raises(StaleEditError, match="0 times"):
        mutants.copy_with([Edit("_settings", "no such text", "")], tmp_path / "none")
