"""Which checkpoints were built from which, and which are stale because of it."""

import pytest

from agatha_ckpt import Manifest, PartitionInfo, Plan, Status
from agatha_ckpt._report.lineage import Lineage, Parent, find_lineages
from agatha_ckpt._store.status import State


def manifest(content, *parents):
    """A checkpoint with that content, built from (name, manifest) pairs."""
    plan = Plan(1, parents=tuple(sorted((n, m.id) for n, m in parents)))
    return Manifest(plan, (PartitionInfo("file", 1, 10, content),))


A = manifest("a")
B = manifest("b", ("a", A))
C = manifest("c", ("b", B))
OTHER = manifest("other")


def lineages(**manifests):
    """The lineages of a root; None is a partial."""
    return find_lineages(
        Status(name, State.DONE if m else State.PARTIAL, manifest=m)
        for name, m in manifests.items()
    )


def stale(**manifests):
    return {n: found.stale for n, found in lineages(**manifests).items() if found.stale}


def test_parents_and_children_are_found():
    assert lineages(a=A, b=B, c=C, partial=None) == {
        "a": Lineage(children=("b",)),
        "b": Lineage((Parent("a", "a"),), ("c",)),
        "c": Lineage((Parent("b", "b"),)),
        "partial": Lineage(),
    }


@pytest.mark.parametrize(
    "now, why",
    [
        ({"a": OTHER}, "has other records now"),
        ({}, "is gone"),
        ({"a": None}, "is not done"),
    ],
)
def test_a_changed_parent_makes_all_descendants_stale(now, why):
    assert stale(**now, b=B, c=C) == {
        "b": (f"its parent 'a' {why}",),
        "c": ("its parent 'b' is stale",),
    }
    if now:
        assert lineages(**now, b=B)["a"].children == ("b",)


def test_a_parent_recomputed_with_equal_records_makes_nothing_stale():
    again = Manifest(A.plan, A.partitions)
    assert again.token != A.token
    assert stale(a=again, b=B, c=C) == {}


def test_a_step_that_changed_nothing_does_not_replace_its_parent():
    same = manifest("a", ("a", A))
    assert stale(a=OTHER, same=same) == {
        "same": ("its parent 'a' has other records now",)
    }


def test_a_renamed_parent_makes_nothing_stale():
    found = lineages(renamed=A, b=B)
    assert found["b"] == Lineage((Parent("a", "renamed"),))
    assert found["renamed"].children == ("b",)
    assert lineages(A=A, a=A, b=B)["b"].parents == (Parent("a", "a"),)


def test_all_reasons_are_given():
    child = manifest("d", ("a", A), ("b", B), ("x", OTHER))
    assert stale(b=B, d=child)["d"] == (
        "its parent 'a' is gone",
        "its parent 'b' is stale",
        "its parent 'x' is gone",
    )


def test_a_checkpoint_built_from_its_own_former_records_is_not_stale():
    assert lineages(a=manifest("new", ("a", A)))["a"] == Lineage()


def test_checkpoints_built_from_each_other_in_turn():
    first = manifest("first", ("gone", OTHER))
    second = manifest("second", ("x", first))
    again = manifest("first", ("y", second), ("gone", OTHER))
    found = lineages(x=again, y=second)
    assert found["x"].children == ("y",)
    assert found["y"].children == ("x",)
    assert "its parent 'gone' is gone" in found["x"].stale
    assert found["y"].stale == ("its parent 'x' is stale",)


def test_an_unreadable_parent_makes_nothing_stale():
    unreadable = Status("a", State.UNREADABLE)
    found = find_lineages([unreadable, Status("b", State.DONE, manifest=B)])
    assert found == {
        "a": Lineage(children=("b",)),
        "b": Lineage(parents=(Parent("a", "a"),)),
    }
