"""``read_only=True``: what is done loads, and nothing is written."""

import dask
import dask.bag
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointNotFoundError,
    InvalidValueError,
    StaleCheckpointWarning,
)

calls = []


def noted(n):
    calls.append(n)
    return n


def numbers(count=4):
    return dask.bag.from_sequence(range(count), npartitions=2).map(noted)


@pytest.fixture(autouse=True)
def _here():
    calls.clear()
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def saved(store):
    Checkpointer(store, verbose=False).checkpoint("x", numbers())
    calls.clear()
    return store


@pytest.fixture
def reader(saved):
    return Checkpointer(saved, verbose=False, read_only=True)


def files(store):
    return {
        path: (info.get("mtime"), info["size"])
        for path, info in store.fs.find(store.url, detail=True, withdirs=True).items()
    }


def test_what_is_done_loads(reader):
    before = files(reader.store)
    for bag in (numbers(), None):
        assert reader.checkpoint("x", bag).compute() == [0, 1, 2, 3]
        assert reader.explain("x", bag).action == "load"
    assert calls == []
    assert files(reader.store) == before


def test_what_is_not_done_is_handed_back(reader, capsys):
    before = files(reader.store)
    bag = numbers()
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
    bag = numbers()
    for reason in ("partition 0 is damaged", "it is not done"):
        before = files(reader.store)
        assert reader.checkpoint("x", bag) is bag
        assert reason in reader.explain("x", bag).reason
        assert files(reader.store) == before
        if reader.is_done("x"):
            reader.store.fs.rm_file(str(reader.store.done_marker("x")))


def test_a_stale_one_is_loaded_handed_back_or_an_error(reader):
    before = files(reader.store)
    other = numbers(6)
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
        lambda: reader.checkpoint("x", numbers(), overwrite=True),
        lambda: reader.checkpoint("x", overwrite=True),
        lambda: reader.repair("x", numbers()),
        lambda: reader.clear("x"),
        lambda: reader.clear("typo"),
        reader.clear_all,
    ):
        with pytest.raises(InvalidValueError, match="read_only=True"):
            refused()
    explained = reader.explain("x", numbers(), overwrite=True)
    assert isinstance(explained.error, InvalidValueError)
    assert calls == []
    assert files(saved) == before


def test_one_call_may_be_read_only_or_not(saved):
    writer = Checkpointer(saved, verbose=False)
    bag = numbers()
    assert writer.checkpoint("new", bag, read_only=True) is bag
    with pytest.raises(InvalidValueError, match="cannot be repaired"):
        writer.repair("x", bag, read_only=True)
    reader = Checkpointer(saved, verbose=False, read_only=True)
    assert reader.checkpoint("new", bag, read_only=False) is not bag
    assert reader.is_done("new")


def test_no_folder_is_made(tmp_path):
    reader = Checkpointer(tmp_path / "absent", verbose=False, read_only=True)
    bag = numbers()
    assert reader.checkpoint("x", bag) is bag
    assert reader.names() == []
    assert reader.status("x").state == "absent"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_other_schedulers_load_and_compute(local, scheduler):
    bag = dask.bag.from_sequence(range(4), npartitions=2)
    Checkpointer(local, verbose=False).checkpoint("x", bag)
    reader = Checkpointer(local, verbose=False, read_only=True)
    options = {"scheduler": scheduler, "num_workers": 1}
    loaded = reader.checkpoint("x", bag, **options)
    handed_back = reader.checkpoint("y", loaded.map(str), **options)
    assert handed_back.compute(**options) == ["0", "1", "2", "3"]
    assert reader.names() == ["x"]


def test_a_cluster_loads_and_computes(local):
    distributed = pytest.importorskip("distributed")
    bag = dask.bag.from_sequence(range(4), npartitions=2)
    Checkpointer(local, verbose=False).checkpoint("x", bag)
    reader = Checkpointer(local, verbose=False, read_only=True)
    with (
        dask.config.set(scheduler=None),
        distributed.LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        loaded = reader.checkpoint("x", bag)
        assert reader.checkpoint("y", loaded.map(str)).compute() == list("0123")
    assert reader.names() == ["x"]
