"""``read_only=True``: what is done loads, and nothing is written."""

import dask.bag
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointNotFoundError,
    InvalidValueError,
    StaleCheckpointWarning,
)
from tests.api.reading_cases import calls, files, numbers

pytestmark = pytest.mark.usefixtures("sync")


@pytest.fixture
def saved(store):
    Checkpointer(store, verbose=False).checkpoint("x", numbers(0, 1, 2, 3))
    calls.clear()
    return store


@pytest.fixture
def reader(saved):
    return Checkpointer(saved, verbose=False, read_only=True)


def test_what_is_done_loads(reader):
    before = files(reader.store)
    for bag in (numbers(0, 1, 2, 3), None):
        assert reader.checkpoint("x", bag).compute() == [0, 1, 2, 3]
        assert reader.explain("x", bag).action == "load"
    assert calls == []
    assert files(reader.store) == before


def test_what_is_not_done_is_handed_back(reader, capsys):
    before = files(reader.store)
    bag = numbers(0, 1, 2, 3)
    assert reader.checkpoint("new", bag, verbose=True) is bag
    assert "- Returning the collection as it is: read_only=True; it is not done" in (
        capsys.readouterr().out
    )
    assert reader.explain("new", bag).action == "pass through"
    assert reader.checkpoint("new", bag, textfile=True) is bag
    with pytest.raises(CheckpointNotFoundError):
        reader.checkpoint("new")
    new = bag
    reader.ckpt("new")
    assert new is bag
    assert calls == []
    assert files(reader.store) == before


def test_a_partial_or_damaged_one_is_handed_back(reader):
    first, _ = sorted(reader.store.files("x"))
    reader.store.fs.rm_file(first)
    bag = numbers(0, 1, 2, 3)
    for reason in ("partition 0 is damaged", "it is not done"):
        before = files(reader.store)
        assert reader.checkpoint("x", bag) is bag
        assert reason in reader.explain("x", bag).reason
        assert files(reader.store) == before
        if reader.is_done("x"):
            reader.store.fs.rm_file(str(reader.store.done_marker("x")))


def test_a_stale_one_is_loaded_handed_back_or_an_error(reader):
    before = files(reader.store)
    other = numbers(*range(6))
    with pytest.warns(StaleCheckpointWarning):
        assert reader.checkpoint("x", other).compute() == [0, 1, 2, 3]
    assert reader.checkpoint("x", other, on_stale="recompute") is other
    assert reader.checkpoint("x", other, version="2") is other
    with pytest.raises(CheckpointConflictError):
        reader.checkpoint("x", other, on_stale="error")
    assert calls == []
    assert files(reader.store) == before


def test_whatever_would_write_is_refused_first(saved):
    reader = Checkpointer(saved, read_only=True)
    before = files(saved)
    for refused in (
        lambda: reader.checkpoint("x", numbers(0, 1, 2, 3), overwrite=True),
        lambda: reader.checkpoint("x", overwrite=True),
        lambda: reader.repair("x", numbers(0, 1, 2, 3)),
        lambda: reader.clear("x"),
        lambda: reader.clear("typo"),
        reader.clear_all,
    ):
        with pytest.raises(InvalidValueError, match="read_only=True"):
            refused()
    explained = reader.explain("x", numbers(0, 1, 2, 3), overwrite=True)
    assert isinstance(explained.error, InvalidValueError)
    assert calls == []
    assert files(saved) == before


def test_one_call_may_be_read_only_or_not(saved):
    writer = Checkpointer(saved, verbose=False)
    bag = numbers(0, 1, 2, 3)
    assert writer.checkpoint("new", bag, read_only=True) is bag
    with pytest.raises(InvalidValueError, match="cannot be repaired"):
        writer.repair("x", bag, read_only=True)
    reader = Checkpointer(saved, verbose=False, read_only=True)
    assert reader.checkpoint("new", bag, read_only=False) is not bag
    assert reader.is_done("new")


def test_no_folder_is_made(tmp_path):
    reader = Checkpointer(tmp_path / "absent", verbose=False, read_only=True)
    bag = numbers(0, 1, 2, 3)
    assert reader.checkpoint("x", bag) is bag
    assert reader.names() == []
    assert reader.status("x").state == "absent"
    assert list(tmp_path.iterdir()) == []


def test_every_scheduler_loads_and_computes(local, how):
    bag = dask.bag.from_sequence(range(4), npartitions=2)
    Checkpointer(local, verbose=False).checkpoint("x", bag)
    reader = Checkpointer(local, verbose=False, read_only=True)
    loaded = reader.checkpoint("x", bag, **how)
    handed_back = reader.checkpoint("y", loaded.map(str), **how)
    assert handed_back.compute(**how) == ["0", "1", "2", "3"]
    assert reader.names() == ["x"]
