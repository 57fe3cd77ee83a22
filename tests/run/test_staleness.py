"""A parent that is made again: what notices it, through each operation of a bag."""

import operator
import os
import subprocess
import sys

import dask
import dask.bag
import pytest
from dask.graph_manipulation import bind, clone, wait_on

from agatha_ckpt import CheckpointConflictError, Checkpointer
from agatha_ckpt._dask.load import parents_of

OLD, NEW = list(range(12)), list(range(1, 13))


def is_even(n):
    return n % 2 == 0


def add(a, b):
    return operator.add(a, b)


def first(a, b):
    return a


def numbers(records=OLD):
    return dask.bag.from_sequence(records, npartitions=4)


def to_text(records=OLD):
    return numbers(records).map(str)


# How a child is built from its parent; a bag in memory takes part in some.
BUILDS = {
    "map": lambda a: a.map(str),
    "concat": lambda a: dask.bag.concat([numbers(), a]),
    "zip": lambda a: dask.bag.zip(numbers(), a),
    "map of two": lambda a: numbers().map(first, a),
    "map with an item": lambda a: numbers().map(first, a.max()),
    "map with a delayed": lambda a: numbers().map(
        first, dask.delayed(len)(a.map(int).to_delayed())
    ),
    "map with a delayed of a bag": lambda a: numbers().map(
        first, dask.delayed(list)(a)
    ),
    "map_partitions with an item": lambda a: numbers().map_partitions(first, a.sum()),
    "join a list": lambda a: a.join([1], is_even, is_even),
    "join a bag": lambda a: numbers().join(a.repartition(1), is_even, is_even),
    "join a delayed": lambda a: numbers().join(
        dask.delayed(list)(a.repartition(1).to_delayed()[0]), is_even, is_even
    ),
    "groupby in tasks": lambda a: a.groupby(is_even, shuffle="tasks"),
    "groupby on disk": lambda a: a.groupby(is_even, shuffle="disk"),
    "foldby": lambda a: a.foldby(is_even, add, 0, add, 0),
    "product": lambda a: numbers().product(a),
    "repartition to fewer": lambda a: a.repartition(2),
    "repartition to more": lambda a: a.repartition(7),
    "accumulate": lambda a: a.accumulate(add),
    "to_delayed": lambda a: dask.bag.from_delayed(a.to_delayed()),
    "to_delayed, fused": lambda a: dask.bag.from_delayed(a.map(str).to_delayed()),
    "to_delayed, not optimised": lambda a: dask.bag.from_delayed(
        a.map(str).to_delayed(optimize_graph=False)
    ),
    "functions of delayed": lambda a: dask.bag.from_delayed(
        [dask.delayed(list)(part) for part in a.map(str).to_delayed()]
    ),
    "optimize": lambda a: dask.optimize(a)[0],
    "optimize, fused": lambda a: dask.optimize(a.map(str))[0],
    "optimize, of two": lambda a: dask.optimize(dask.bag.zip(a.map(str), a))[0],
    "clone": lambda a: clone(a.map(str)),
    "bind": lambda a: bind(a.map(str), numbers()),
    "wait_on": lambda a: wait_on(a.map(str)),
    "persist": lambda a: a.persist(scheduler="sync"),
}


@pytest.fixture
def ckpt(tmp_path):
    with dask.config.set(scheduler="sync"):
        yield Checkpointer(tmp_path / "root", verbose=False)


@pytest.mark.parametrize("name", BUILDS)
def test_a_parent_made_again_with_other_records_is_seen_through(name, ckpt):
    build = BUILDS[name]
    bag = build(ckpt.checkpoint("parent", numbers()))
    before = (("parent", ckpt.store.manifest("parent").id),)
    assert parents_of(bag).ids == before
    ckpt.checkpoint("child", dask.bag.Bag(bag.dask, bag.name, bag.npartitions))
    assert ckpt.store.manifest("child").plan.parents == before

    ckpt.clear("parent")
    same = build(ckpt.checkpoint("parent", numbers()))
    assert ckpt.explain("child", same).reason == ""

    ckpt.clear("parent")
    other = build(ckpt.checkpoint("parent", numbers(NEW)))
    explained = ckpt.explain("child", other)
    assert "its parent 'parent' has other records now" in explained.reason


def test_a_bag_that_was_computed_before_still_knows_its_parents(ckpt):
    """dask keeps the tasks of a Blockwise layer once it has made them."""
    bag = ckpt.checkpoint("parent", numbers()).map_partitions(list)
    before = parents_of(bag).ids
    ckpt.checkpoint("child", bag)
    assert parents_of(bag).ids == before != ()
    assert ckpt.explain("child", bag).action == "load"


def test_a_text_checkpoint_is_a_parent_and_a_child(ckpt):
    ckpt.checkpoint("text", to_text(), textfile=True)
    ckpt.checkpoint("lines", ckpt.checkpoint("text").map(str.upper), textfile=True)
    assert [n for n, _ in ckpt.store.manifest("lines").plan.parents] == ["text"]
    ckpt.clear("text")
    ckpt.checkpoint("text", to_text(NEW), textfile=True)
    child = ckpt.checkpoint("text").map(str.upper)
    assert "other records" in ckpt.explain("lines", child, textfile=True).reason


def test_what_was_computed_knows_no_parents_any_more(ckpt):
    """The limit that docs/stale-checkpoints.md names."""
    parent = ckpt.checkpoint("parent", numbers())
    assert parents_of(parent.map(str).persist()).ids == ()
    assert parents_of(dask.bag.from_sequence(parent.compute())).ids == ()


def test_parents_of_one_name_in_two_roots_are_two(ckpt, tmp_path):
    other = Checkpointer(tmp_path / "other", verbose=False)
    for records in (OLD, NEW):
        # Whichever of the two has the greater id, the change is seen.
        for changed in (ckpt, other):
            for place in (ckpt, other):
                place.clear_all()
            build = dask.bag.zip
            here = ckpt.checkpoint("parent", numbers(records))
            there = other.checkpoint("parent", numbers(records[::-1]))
            ckpt.checkpoint("child", build(here, there))
            changed.clear("parent")
            changed.checkpoint("parent", numbers([-n for n in records]))
            again = build(ckpt.checkpoint("parent"), other.checkpoint("parent"))
            explained = ckpt.explain("child", again)
            assert "its parent 'parent' has other records now" in explained.reason


def test_a_parent_that_now_holds_what_the_child_holds_makes_it_stale(ckpt):
    """Only the checkpoint itself is no parent, not what is equal to it."""
    parent = ckpt.checkpoint("parent", numbers(OLD))
    ckpt.checkpoint("child", parent.map(add, 1))
    ckpt.clear("parent")
    parent = ckpt.checkpoint("parent", numbers(NEW))
    assert ckpt.store.manifest("parent").id == ckpt.store.manifest("child").id
    assert "other records" in ckpt.explain("child", parent.map(add, 1)).reason


def test_a_checkpoint_is_not_its_own_parent(ckpt):
    ckpt.checkpoint("x", ckpt.checkpoint("parent", numbers()))
    assert ckpt.explain("x", ckpt.checkpoint("x")).reason == ""


def test_a_checkpoint_that_was_renamed_is_the_same_parent(ckpt):
    parent = ckpt.checkpoint("parent", numbers())
    ckpt.checkpoint("child", parent.map(str))
    os.rename(ckpt.store.path("parent"), ckpt.store.path("renamed"))
    assert ckpt.explain("child", ckpt.checkpoint("renamed").map(str)).reason == ""


def test_staleness_goes_on_to_grandchildren_as_they_are_made_again(ckpt):
    def run():
        parent = ckpt.checkpoint("parent", numbers(records))
        child = ckpt.checkpoint("child", parent.map(is_even))
        return ckpt.checkpoint("grandchild", child.map(str)).compute()

    ckpt.configure(on_stale="recompute")
    records = OLD
    before = run()
    ids = {name: ckpt.store.manifest(name).id for name in ckpt.names()}
    created = {name: ckpt.status(name).created for name in ckpt.names()}
    ckpt.clear("parent")
    records = [n + 2 for n in OLD]  # other numbers, as even and odd as before
    assert run() == before
    changed = [n for n in ckpt.names() if ckpt.store.manifest(n).id != ids[n]]
    made = [n for n in ckpt.names() if ckpt.status(n).created != created[n]]
    # The child was made again, and holds what it held: the grandchild stays.
    assert (changed, made) == (["parent"], ["child", "parent"])


@pytest.mark.parametrize("label", [None, "2"])
def test_each_way_to_take_what_is_stale(ckpt, label):
    ckpt.checkpoint("x", numbers(), version="1")
    bag = numbers(NEW)
    assert ckpt.checkpoint("x", bag, version=label).compute() == OLD
    ckpt.configure(on_stale="error")
    with pytest.raises(CheckpointConflictError, match=f"version '1', not {label!r}"):
        ckpt.checkpoint("x", bag, version=label)
    ckpt.configure(on_stale="recompute")
    assert ckpt.checkpoint("x", bag, version=label).compute() == NEW
    assert ckpt.status("x").version == label


IDS = """
import sys, dask.bag
from agatha_ckpt import Checkpointer
ckpt = Checkpointer(sys.argv[1], verbose=False)
records = [{"a", "b", "c"}, frozenset(["x", ("y", 1), None]), {"k": {2.5, "z"}}]
bag = dask.bag.from_sequence(records, npartitions=1)
ckpt.checkpoint("x", bag, scheduler="sync")
print(ckpt.store.manifest("x").id)
"""


def test_equal_records_have_an_equal_id_in_whatever_order_sets_come(tmp_path):
    ids = set()
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-c", IDS, str(tmp_path / seed)]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        ids.add(subprocess.check_output(command, env=environment))
    assert len(ids) == 1
