"""``read_from=[...]``: what is done elsewhere loads, and nothing is written there."""

import pickle

import dask.bag
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
    InvalidValueError,
    RootNotSetError,
    StaleCheckpointWarning,
)
from tests.api.reading_cases import calls, files, numbers

pytestmark = pytest.mark.usefixtures("sync")


@pytest.fixture
def roots(tmp_path):
    return [CheckpointStore(tmp_path / name) for name in ("own", "first", "second")]


@pytest.fixture
def ckpt(roots):
    calls.clear()
    own, *others = roots
    return Checkpointer(own, read_from=others, verbose=False)


def save(store, name, bag, **options):
    loaded = Checkpointer(store, verbose=False).checkpoint(name, bag, **options)
    calls.clear()
    return loaded


def test_what_is_done_elsewhere_loads_and_nothing_is_written(ckpt, roots):
    save(roots[2], "x", numbers(1, 2))
    before = [files(store) for store in roots]
    for bag in (numbers(1, 2), None):
        assert ckpt.checkpoint("x", bag).compute() == [1, 2]
        explained = ckpt.explain("x", bag)
        assert explained.action == "load"
        assert f"from '{roots[2].root}'" in explained.line
    assert ckpt.is_done("x")
    assert ckpt.status("x").state == "done"
    assert ckpt.names() == ["x"]
    x = numbers(1, 2)
    ckpt.ckpt("x")
    assert x.compute() == [1, 2]
    assert calls == []
    assert [files(store) for store in roots] == before


def test_what_is_done_nowhere_is_saved_in_the_own_store(ckpt, roots):
    with pytest.raises(CheckpointNotFoundError) as caught:
        ckpt.checkpoint("x")
    assert str(roots[2].root) in caught.value.__notes__[0]
    ckpt.checkpoint("x", numbers(1, 2))
    assert sorted(calls) == [1, 2]
    assert [store.names() for store in roots] == [["x"], [], []]
    assert ckpt.status("x").state == "done"


def test_the_own_store_is_first_and_then_in_order(ckpt, roots):
    for store, value in zip(reversed(roots), (3, 2, 1), strict=True):
        save(store, "x", numbers(value, value))
        assert ckpt.checkpoint("x").compute() == [value, value]


def test_the_first_that_matches_wins(ckpt, roots):
    save(roots[0], "x", numbers(1, 1))
    save(roots[1], "x", numbers(2, 2))
    save(roots[2], "x", numbers(3, 3), version="3")
    for value in (1, 2, 3):
        bag = numbers(value, value)
        assert ckpt.checkpoint("x", bag, on_stale="error").compute() == [value, value]
    assert ckpt.checkpoint("x", version="3").compute() == [3, 3]
    assert calls == []


def test_where_none_matches_the_first_that_is_done_decides(ckpt, roots):
    save(roots[1], "x", numbers(1, 1))
    save(roots[2], "x", numbers(2, 2))
    other = numbers(5, 6)
    with pytest.warns(StaleCheckpointWarning, match=str(roots[1].root)):
        assert ckpt.checkpoint("x", other).compute() == [1, 1]
    with pytest.raises(CheckpointConflictError, match=str(roots[1].root)):
        ckpt.checkpoint("x", other, on_stale="error")
    with pytest.raises(CheckpointConflictError, match="version"):
        ckpt.checkpoint("x", version="2")
    before = [files(store) for store in roots[1:]]
    explained = ckpt.explain("x", other, on_stale="recompute")
    assert explained.action == "compute"
    assert f"under '{roots[1].root}': stale: 2 of 2" in explained.reason
    assert ckpt.checkpoint("x", other, on_stale="recompute").compute() == [5, 6]
    assert roots[0].names() == ["x"]
    assert [files(store) for store in roots[1:]] == before


def test_a_damaged_one_is_not_loaded_with_a_bag(ckpt, roots):
    save(roots[1], "x", numbers(1, 2))
    roots[1].fs.rm_file(roots[1].files("x")[0])
    before = files(roots[1])
    assert "partition 0 is damaged" in ckpt.explain("x", numbers(1, 2)).reason
    assert ckpt.checkpoint("x", numbers(1, 2)).compute() == [1, 2]
    assert roots[0].names() == ["x"]
    assert files(roots[1]) == before


def test_another_store_serves_where_the_own_one_is_damaged(ckpt, roots):
    for store in roots[:2]:
        save(store, "x", numbers(1, 2))
    roots[0].fs.rm_file(roots[0].files("x")[0])
    assert ckpt.checkpoint("x", numbers(1, 2)).compute() == [1, 2]
    assert calls == []
    assert f"not from '{roots[0].root}': partition 0" in (
        ckpt.explain("x", numbers(1, 2)).line
    )


def test_a_marker_that_cannot_be_read_is_an_error_where_none_matches(ckpt, roots):
    save(roots[1], "x", numbers(1, 2))
    roots[1].done_marker("x").write_bytes(b"{}")
    with pytest.raises(CorruptCheckpointError):
        ckpt.checkpoint("x")
    save(roots[2], "x", numbers(1, 2))
    assert ckpt.checkpoint("x").compute() == [1, 2]


def test_parents_are_the_same_from_every_store(ckpt, roots):
    parent = save(roots[1], "parent", numbers(1, 2))
    save(roots[1], "child", parent.map(str))
    # Loaded from one store, and saved again in another with the same records.
    child = ckpt.checkpoint("child", ckpt.checkpoint("parent").map(str))
    assert child.compute() == ["1", "2"]
    own = Checkpointer(roots[0], verbose=False, on_stale="error")
    copied = own.checkpoint("parent", numbers(1, 2))
    assert ckpt.checkpoint("child", copied.map(str), on_stale="error").compute() == [
        "1",
        "2",
    ]
    assert roots[0].names() == ["parent"]


def test_what_is_loaded_is_not_copied_when_it_is_given_back(ckpt, roots):
    save(roots[1], "x", numbers(1, 2))
    assert ckpt.checkpoint("x", ckpt.checkpoint("x")).compute() == [1, 2]
    assert roots[0].names() == []


def test_overwrite_repair_and_clear_are_of_the_own_store(ckpt, roots):
    save(roots[1], "x", numbers(1, 2))
    before = files(roots[1])
    with pytest.raises(CheckpointNotFoundError):
        ckpt.repair("x", numbers(1, 2))
    assert not ckpt.clear("x")
    ckpt.clear_all()
    ckpt.checkpoint("x", numbers(1, 2), overwrite=True)
    assert sorted(calls) == [1, 2]
    assert roots[0].names() == ["x"]
    assert files(roots[1]) == before


def test_read_only_and_disabled_hold(ckpt, roots):
    save(roots[1], "x", numbers(1, 2))
    assert ckpt.checkpoint("x", numbers(1, 2), read_only=True).compute() == [1, 2]
    other = numbers(3, 4)
    options = {"read_only": True, "on_stale": "recompute"}
    assert ckpt.checkpoint("x", other, **options) is other
    bag = numbers(1, 2)
    assert ckpt.checkpoint("x", bag, enabled=False) is bag
    assert roots[0].names() == []


def test_stores_checkpointers_paths_and_urls_are_taken(roots):
    own, first, second = roots
    chained = Checkpointer(first, read_from=[second])
    save(second, "x", numbers(1, 2))
    for read_from in (
        [second],
        [first, str(second.root)],
        (second.root,),
        iter([second.url]),
        [chained],
        [own, chained],
    ):
        ckpt = Checkpointer(own, read_from=read_from, verbose=False)
        assert ckpt.checkpoint("x").compute() == [1, 2]
        again = pickle.loads(pickle.dumps(ckpt))
        assert again.checkpoint("x").compute() == [1, 2]
        assert str(second.root) in repr(ckpt)


@pytest.mark.parametrize("wrong", ["root", 5, CheckpointStore("root"), b"root"])
def test_what_is_not_a_list_of_stores_is_refused(tmp_path, wrong):
    with pytest.raises(InvalidValueError, match="read_from"):
        Checkpointer(tmp_path, read_from=wrong)
    with pytest.raises(RootNotSetError):
        Checkpointer(tmp_path, read_from=[None])


def test_every_scheduler(ckpt, roots, how):
    bag = dask.bag.from_sequence([1, 2], npartitions=2)
    save(roots[1], "x", bag, **how)
    loaded = ckpt.checkpoint("x", bag, **how)
    saved = ckpt.checkpoint("y", loaded.map(str), **how)
    assert saved.compute(**how) == ["1", "2"]
    ckpt.close()
    assert [store.names() for store in roots] == [["y"], ["x"], []]
