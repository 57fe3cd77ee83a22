"""Stale checkpoints: what makes one stale, what is then done, and what is said."""

import operator
import os
import shutil
import threading
import warnings

import dask
import dask.bag
import pytest
from dask.graph_manipulation import wait_on

import agatha_ckpt
from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    StaleCheckpointWarning,
)
from agatha_ckpt._dask.load import parents_of
from agatha_ckpt.testing import SimulatedCrash, crash_after
from tests.format.test_agatha import write_legacy

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
    "map of two": lambda a: numbers().map(first, a),
    "map with an item": lambda a: numbers().map(first, a.max()),
    "map with a delayed": lambda a: numbers().map(
        first, dask.delayed(len)(a.map(int).to_delayed())
    ),
    "map_partitions with an item": lambda a: numbers().map_partitions(first, a.sum()),
    "join a bag": lambda a: numbers().join(a.repartition(1), is_even, is_even),
    "groupby on disk": lambda a: a.groupby(is_even, shuffle="disk"),
    "repartition to more": lambda a: a.repartition(7),
    "to_delayed": lambda a: dask.bag.from_delayed(a.to_delayed()),
    "to_delayed, fused": lambda a: dask.bag.from_delayed(a.map(str).to_delayed()),
    "optimize": lambda a: dask.optimize(a)[0],
    "optimize, fused": lambda a: dask.optimize(a.map(str))[0],
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


def test_a_text_checkpoint_is_a_parent_and_a_child(ckpt):
    ckpt.checkpoint("text", to_text(), textfile=True)
    ckpt.checkpoint("lines", ckpt.checkpoint("text").map(str.upper), textfile=True)
    assert [n for n, _ in ckpt.store.manifest("lines").plan.parents] == ["text"]
    ckpt.clear("text")
    ckpt.checkpoint("text", to_text(NEW), textfile=True)
    child = ckpt.checkpoint("text").map(str.upper)
    assert "other records" in ckpt.explain("lines", child, textfile=True).reason


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


def test_staleness_reaches_grandchildren_as_they_are_recomputed(ckpt):
    def run():
        parent = ckpt.checkpoint("parent", numbers(records))
        child = ckpt.checkpoint("child", parent.map(is_even))
        return ckpt.checkpoint("grandchild", child.map(str)).compute()

    ckpt.configure(on_stale="recompute")
    records = OLD
    before = run()
    ids = {name: ckpt.store.manifest(name).id for name in ckpt.names()}
    created = {name: ckpt.status(name).created for name in ckpt.names()}
    records = [n + 2 for n in OLD]  # other numbers, as even and odd as before
    assert run() == before
    changed = [n for n in ckpt.names() if ckpt.store.manifest(n).id != ids[n]]
    made = [n for n in ckpt.names() if ckpt.status(n).created != created[n]]
    # The child was computed again, and holds what it held: the grandchild stays.
    assert (changed, made) == (["parent"], ["child", "parent"])


def test_a_parent_that_was_loaded_stale_is_named_by_its_descendants(ckpt, capsys):
    ckpt.configure(verbose=True)
    ckpt.checkpoint("parent", numbers())
    with pytest.warns(StaleCheckpointWarning):
        parent = ckpt.checkpoint("parent", numbers(NEW))
    capsys.readouterr()
    child = ckpt.checkpoint("child", parent.map(str))
    assert "its parent 'parent' is stale" in capsys.readouterr().out
    ckpt.checkpoint("child", parent.map(str))
    assert "its parent 'parent' is stale" in capsys.readouterr().out
    ckpt.checkpoint("grandchild", child.map(len))
    assert "its parent 'child' is stale" in capsys.readouterr().out


# ---- inputs ----


def add_3(n):
    return n + 3


def write_lines(folder, texts):
    for name, text in texts.items():
        (folder / name).write_text(text)
    return dask.bag.read_text([str(folder / name) for name in texts])


# Two bags that are saved under one name, and the number of partitions that differ.
OTHERS = {
    "another record": (numbers(), numbers([*OLD[:-1], 99]), 1),
    "another argument": (numbers().map(add, 1), numbers().map(add, 2), 4),
    "another function": (numbers().map(add, 3), numbers().map(add_3), 4),
    "another step": (numbers(), numbers().filter(is_even), 4),
    "another order": (numbers(), numbers(OLD[::-1]), 4),
    "another seed": (
        numbers().random_sample(0.5, random_state=1),
        numbers().random_sample(0.5, random_state=2),
        4,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_bag_with_other_inputs_makes_a_checkpoint_stale(name, ckpt):
    before, after, number = OTHERS[name]
    stored = ckpt.checkpoint("x", before).compute()
    verb = "has" if number == 1 else "have"
    expected = f"{number} of 4 partitions {verb} other inputs"
    with pytest.warns(StaleCheckpointWarning, match=expected):
        assert ckpt.checkpoint("x", after).compute() == stored
    with pytest.raises(CheckpointConflictError, match=expected):
        ckpt.checkpoint("x", after, on_stale="error")
    explained = ckpt.explain("x", after, on_stale="recompute")
    assert (explained.action, len(explained.compute)) == ("recompute", number)
    assert explained.kept == 4 - number
    loaded = ckpt.checkpoint("x", after, on_stale="recompute")
    assert loaded.compute() == after.compute()
    assert ckpt.explain("x", after).reason == ""


def test_equal_inputs_in_another_bag_are_not_stale(ckpt):
    ckpt.checkpoint("x", numbers().map(add, 1))
    assert ckpt.explain("x", numbers().map(add, 1)).reason == ""


def test_one_name_for_two_bags(ckpt):
    """A loop that forgets the year in the name."""
    ckpt.checkpoint("sentences", numbers())
    other = dask.bag.from_sequence(NEW, npartitions=3)
    expected = "the collection has 3 partitions, and the checkpoint 4"
    with pytest.warns(StaleCheckpointWarning, match=expected):
        assert ckpt.checkpoint("sentences", other).npartitions == 4
    with pytest.raises(CheckpointConflictError, match=expected):
        ckpt.checkpoint("sentences", other, on_stale="error")
    loaded = ckpt.checkpoint("sentences", other, on_stale="recompute")
    assert (loaded.npartitions, loaded.compute()) == (3, NEW)


def test_a_bag_saved_under_the_name_that_it_was_loaded_by(ckpt):
    words = ckpt.checkpoint("words", to_text())
    longer = words.map(add, "!")
    with pytest.warns(StaleCheckpointWarning, match="from this checkpoint"):
        ckpt.checkpoint("words", longer)
    with pytest.raises(CheckpointConflictError, match="from this checkpoint"):
        ckpt.checkpoint("words", longer, on_stale="error")
    loaded = ckpt.checkpoint("words", longer, on_stale="recompute")
    assert loaded.compute() == [f"{n}!" for n in OLD]


def test_children_of_a_checkpoint_that_agatha_wrote(ckpt, tmp_path):
    root = tmp_path / "root"

    def child():
        return ckpt.checkpoint("old", allow_pickle=True).map(str)

    def agatha(records):
        shutil.rmtree(root / "old", ignore_errors=True)
        write_legacy(root / "old", records)

    agatha([[1], [2]])
    ckpt.checkpoint("x", child())
    assert ckpt.explain("x", child()).reason == ""
    agatha([[1], [3, 4]])
    assert "its parent 'old' has other records" in ckpt.explain("x", child()).reason
    loaded = ckpt.checkpoint("x", child(), on_stale="recompute")
    assert loaded.compute() == ["1", "3", "4"]


def test_an_interrupted_recompute_is_resumed(ckpt):
    records = [*OLD[:3], *range(20, 29)]
    ckpt.checkpoint("x", numbers())
    with pytest.raises(SimulatedCrash), crash_after(2, ckpt):
        ckpt.checkpoint("x", numbers(records), on_stale="recompute")
    assert ckpt.checkpoint("x").compute() == OLD
    explained = ckpt.explain("x", numbers(records), on_stale="recompute")
    assert (explained.action, explained.kept) == ("recompute", 1 + 2)
    loaded = ckpt.checkpoint("x", numbers(records), on_stale="recompute")
    assert loaded.compute() == records


# ---- versions ----


def test_a_version_that_is_given_and_differs_recomputes(ckpt):
    ckpt.checkpoint("x", numbers(), version="1")
    assert ckpt.explain("x", numbers(), version="1").action == "load"
    with pytest.raises(CheckpointConflictError, match="version '1', not '2'"):
        ckpt.checkpoint("x", numbers(), version="2", on_stale="error")
    with pytest.raises(CheckpointConflictError, match=r"'1', not '2'.* no collection"):
        ckpt.checkpoint("x", version="2")
    explained = ckpt.explain("x", numbers(), version="2")
    assert (explained.action, explained.kept) == ("recompute", 0)
    ckpt.checkpoint("x", numbers(), version="2")
    assert ckpt.status("x").version == "2"


def test_a_version_that_is_not_given_is_not_compared_and_stays(ckpt):
    ckpt.checkpoint("x", numbers(), version="1")
    assert ckpt.explain("x", numbers()).reason == ""
    other = numbers([*OLD[:-1], 99])
    explained = ckpt.explain("x", other, on_stale="recompute")
    assert (explained.action, explained.kept) == ("recompute", 3)
    ckpt.checkpoint("x", other, on_stale="recompute")
    assert ckpt.status("x").version == "1"


def test_a_loaded_bag_is_not_saved_under_another_version_of_its_own(ckpt):
    loaded = ckpt.checkpoint("x", numbers(), version="1")
    assert ckpt.explain("x", loaded, on_stale="error").action == "load"
    with pytest.raises(CheckpointConflictError, match="build it again"):
        ckpt.checkpoint("x", loaded, version="2")


# ---- code ----


def function_of(body):
    """Return a function called parse, of this module, with other code."""
    namespace = {"__name__": __name__}
    exec(f"def parse(n):\n    {body}", namespace)
    return namespace["parse"]


def test_edited_code_is_named_and_nothing_more(ckpt, capsys):
    ckpt.configure(verbose=True)
    ckpt.checkpoint("x", numbers().map(function_of("return n + 1")))
    edited = numbers().map(function_of("return n + 2"))
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = ckpt.checkpoint("x", edited)
    assert loaded.compute() == NEW
    said = "the code of 'parse' has changed since; version= or overwrite=True"
    assert said in capsys.readouterr().out
    loaded = ckpt.checkpoint("x", edited, overwrite=True)
    assert loaded.compute() == [n + 2 for n in OLD]
    assert said not in capsys.readouterr().out


def test_partitions_kept_across_edited_code_are_named(ckpt, capsys):
    ckpt.configure(verbose=True, on_stale="recompute")
    ckpt.checkpoint("x", numbers().map(function_of("return n + 1")))
    records = [*OLD[:-1], 99]
    edited = numbers(records).map(function_of("return n + 2"))
    capsys.readouterr()
    loaded = ckpt.checkpoint("x", edited)
    said = capsys.readouterr().out
    assert "3 kept, whole and from the same inputs; the code of 'parse' has" in said
    assert loaded.compute() == [*NEW[:9], 11, 12, 101]


# ---- what is said ----


def test_what_fingerprints_do_not_cover_is_named_when_a_save_begins(ckpt, capsys):
    ckpt.configure(verbose=True)
    ckpt.checkpoint("x", numbers().map(first, threading.Lock()))
    assert "not compared: argument 'b' of 'first', a _thread.lock" in (
        capsys.readouterr().out
    )


def test_the_warning_names_checkpoint_reason_advice_and_caller(tmp_path):
    agatha_ckpt.set_root(tmp_path)
    agatha_ckpt.set_verbose(False)
    agatha_ckpt.checkpoint("bag", numbers(), scheduler="sync")
    bag = numbers(NEW)
    with pytest.warns(StaleCheckpointWarning) as first_caught:
        agatha_ckpt.checkpoint("bag", bag)
    with pytest.warns(StaleCheckpointWarning) as second_caught:
        agatha_ckpt.ckpt("bag")
    for warning in (*first_caught, *second_caught):
        assert warning.filename == __file__
        assert str(warning.message) == (
            f"checkpoint 'bag' under {str(tmp_path)!r} is stale (4 of 4 partitions "
            "have other inputs) and was loaded anyway; pass on_stale='recompute' to "
            "update it"
        )
