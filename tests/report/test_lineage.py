"""What was built from what, and what is stale by that."""

import pytest

from agatha_ckpt import Plan
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._report.lineage import Kin, Parent, lineage


def manifest(content, *parents):
    """A checkpoint that holds *content* and was built from (name, manifest)s."""
    plan = Plan(1, parents=tuple(sorted((n, m.id) for n, m in parents)))
    return Manifest(plan, (PartitionInfo("file", 1, 10, content),))


A = manifest("a")
B = manifest("b", ("a", A))
C = manifest("c", ("b", B))
OTHER = manifest("other")


def stale(**manifests):
    return {n: kin.stale for n, kin in lineage(manifests).items() if kin.stale}


def test_parents_and_children_are_found():
    kin = lineage({"a": A, "b": B, "c": C})
    assert kin == {
        "a": Kin(children=("b",)),
        "b": Kin((Parent("a", "a"),), ("c",)),
        "c": Kin((Parent("b", "b"),)),
    }


def test_what_was_built_from_a_parent_that_was_made_again_is_stale():
    found = stale(a=OTHER, b=B, c=C)
    assert found == {
        "b": ("its parent 'a' has other records now",),
        "c": ("its parent 'b' is stale",),
    }


def test_a_parent_made_again_with_equal_records_makes_nothing_stale():
    again = Manifest(A.plan, A.partitions)
    assert again.token != A.token
    assert stale(a=again, b=B, c=C) == {}


@pytest.mark.parametrize("now, why", [({}, "is gone"), ({"a": None}, "is not done")])
def test_what_was_built_from_what_is_not_there_is_stale(now, why):
    found = stale(**now, b=B, c=C)
    assert found["b"] == (f"its parent 'a' {why}",)
    assert found["c"] == ("its parent 'b' is stale",)


def test_a_step_that_changed_nothing_does_not_take_the_place_of_its_parent():
    same = manifest("a", ("a", A))
    assert stale(a=OTHER, same=same) == {
        "same": ("its parent 'a' has other records now",)
    }


def test_a_parent_that_was_renamed_makes_nothing_stale():
    kin = lineage({"renamed": A, "b": B})
    assert kin["b"] == Kin((Parent("a", "renamed"),))
    assert kin["renamed"].children == ("b",)


def test_a_parent_is_sought_under_its_own_name_first():
    kin = lineage({"A": A, "a": A, "b": B})
    assert kin["b"].parents == (Parent("a", "a"),)


def test_a_parent_that_was_made_again_keeps_its_children():
    assert lineage({"a": OTHER, "b": B})["a"].children == ("b",)


def test_all_reasons_are_given():
    child = manifest("d", ("a", A), ("b", B), ("x", OTHER))
    assert stale(b=B, d=child)["d"] == (
        "its parent 'a' is gone",
        "its parent 'b' is stale",
        "its parent 'x' is gone",
    )


def test_what_was_computed_from_its_own_former_records_is_not_stale():
    assert lineage({"a": manifest("new", ("a", A))})["a"] == Kin()


def test_a_circle_ends():
    """Each was made from the other, one after the other; and both from what is gone."""
    first = manifest("first", ("gone", OTHER))
    second = manifest("second", ("x", first))
    again = manifest("first", ("y", second), ("gone", OTHER))
    kin = lineage({"x": again, "y": second})
    assert kin["x"].children == ("y",)
    assert kin["y"].children == ("x",)
    assert "its parent 'gone' is gone" in kin["x"].stale
    assert kin["y"].stale == ("its parent 'x' is stale",)


def test_what_is_not_done_has_no_parents():
    assert lineage({"a": None, "b": B})["a"] == Kin(children=("b",))


def test_of_a_parent_that_may_not_be_read_nobody_says_that_it_is_not_done():
    kin = lineage({"a": None, "b": B}, unknown=["a"])
    assert kin["a"] == Kin(children=("b",))
    assert kin["b"] == Kin(parents=(Parent("a", "a"),))
