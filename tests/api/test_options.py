"""Settings and keywords of dask that are given to one call."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import dask.bag
import pytest
from dask import local, multiprocessing, threaded

import agatha_ckpt
from agatha_ckpt import (
    CheckpointConflictError,
    EncodeError,
    InvalidValueError,
    PickleNotAllowedError,
)
from agatha_ckpt._settings import ClusterOptions, LocalOptions


def numbers():
    return dask.bag.from_sequence(range(4), npartitions=2)


def slices():
    """A bag of values that only a pickle can hold."""
    return numbers().map(slice)


def ckpt_of(checkpointer, name, bag, **options):
    x = bag  # noqa: F841 (replaced by its name)
    assert name == "x"
    checkpointer.ckpt("x", **options)


CALLS = {
    "checkpoint": lambda c, *args, **kw: c.checkpoint("x", *args, **kw),
    "explain": lambda c, *args, **kw: c.explain("x", *args, **kw),
    "repair": lambda c, *args, **kw: c.repair("x", *args, **kw),
    "ckpt": lambda c, *args, **kw: ckpt_of(c, "x", *args, **kw),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


# ---- settings ----


def test_allow_pickle_of_one_call(ckpt):
    with pytest.raises(EncodeError):
        ckpt.checkpoint("x", slices())
    ckpt.checkpoint("x", slices(), allow_pickle=True)
    for options in ({}, {"allow_pickle": False}, {"allow_pickle": None}):
        with pytest.raises(PickleNotAllowedError):
            ckpt.checkpoint("x", **options)
        assert isinstance(ckpt.explain("x", **options).error, PickleNotAllowedError)
    assert ckpt.checkpoint("x", allow_pickle=True).count().compute() == 4
    assert ckpt.repair("x", slices(), allow_pickle=True).count().compute() == 4
    assert not ckpt.settings.allow_pickle


def test_on_stale_of_one_call(ckpt):
    ckpt.checkpoint("x", numbers(), version="1")
    given = {"version": "2", "on_stale": "error"}
    for call in (CALLS["checkpoint"], CALLS["ckpt"]):
        with pytest.raises(CheckpointConflictError, match="stale"):
            call(ckpt, numbers(), **given)
    assert isinstance(
        ckpt.explain("x", numbers(), **given).error, CheckpointConflictError
    )
    given["on_stale"] = "recompute"
    assert ckpt.explain("x", numbers(), **given).action == "recompute"
    ckpt.checkpoint("x", numbers(), **given)
    assert ckpt.status("x").version == "2"


def test_compression_of_one_call(ckpt):
    texts = dask.bag.from_sequence(["x" * 100_000], npartitions=1)
    ckpt.checkpoint("x", texts)
    plain = ckpt.status("x").bytes
    ckpt.checkpoint("x", texts, compression="zstd", overwrite=True)
    small = ckpt.status("x").bytes
    assert small * 10 < plain
    ckpt.configure(compression="zstd")
    ckpt.checkpoint("x", texts, compression=None, overwrite=True)
    assert ckpt.status("x").bytes == plain


def test_enabled_of_one_call(ckpt, call):
    bag = numbers()
    assert ckpt.checkpoint("x", bag, enabled=False) is bag
    assert ckpt.repair("x", bag, enabled=False) is bag
    assert ckpt.explain("x", bag, enabled=False).action == "pass through"
    ckpt.ckpt("bag", enabled=False)
    assert ckpt.names() == []
    ckpt.configure(enabled=False)
    assert ckpt.checkpoint("x", bag, enabled=True) is not bag
    assert ckpt.names() == ["x"]


def test_a_bad_value_is_refused_before_anything_happens(ckpt):
    with pytest.raises(InvalidValueError, match="'never' for the setting on_stale"):
        ckpt.checkpoint("x", numbers(), on_stale="never")
    explained = ckpt.explain("x", numbers(), enabled="yes")
    assert isinstance(explained.error, InvalidValueError)
    assert ckpt.names() == []


# ---- overwrite ----


computed = []


def noted(n):
    computed.append(n)
    return n


def test_overwrite_computes_every_partition(ckpt):
    computed.clear()
    bag = numbers().map(noted)
    first = ckpt.explain("x", bag, overwrite=True)
    assert (first.action, first.compute) == ("compute", (0, 1))
    ckpt.checkpoint("x", bag, overwrite=True)
    ckpt.checkpoint("x", bag)
    assert len(computed) == 4
    assert ckpt.explain("x", bag, overwrite=True).action == "recompute"
    ckpt.checkpoint("x", bag, overwrite=True)
    assert len(computed) == 8
    assert ckpt.checkpoint("x").compute() == list(range(4))


def test_overwrite_replaces_the_other_format(ckpt):
    ckpt.checkpoint("x", numbers())
    ckpt.checkpoint("x", numbers().map(str), textfile=True, overwrite=True)
    assert ckpt.checkpoint("x").compute() == list("0123")


def test_overwrite_replaces_what_is_in_another_version_of_the_format(ckpt):
    ckpt.checkpoint("x", numbers())
    marker = ckpt.store.done_marker("x")
    ckpt.store.fs.pipe_file(marker, b'{"manifest":{"of":"no release"}}')
    for bag in (numbers(), None):
        with pytest.raises(agatha_ckpt.UnsupportedFormatError, match="overwrite=True"):
            ckpt.checkpoint("x", bag)
    assert ckpt.checkpoint("x", numbers(), overwrite=True).compute() == [0, 1, 2, 3]


def test_overwrite_without_a_bag_is_refused(ckpt):
    ckpt.checkpoint("x", numbers())
    with pytest.raises(agatha_ckpt.CheckpointNotFoundError, match="no collection was"):
        ckpt.checkpoint("x", overwrite=True)


# ---- other keywords ----

# What is wrong, and the nearest keyword.
WRONG = {"verison": "version", "on_stael": "on_stale", "num_worker": "num_workers"}


@pytest.mark.parametrize("wrong, near", WRONG.items())
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes", dask.get])
def test_an_unknown_keyword_is_refused_before_anything_happens(
    ckpt, call, scheduler, wrong, near
):
    if scheduler is dask.get and near == "num_workers":
        near = "[a-z_]+"  # its signature does not name it
    given = {"scheduler": scheduler, wrong: "2"}
    message = f"unexpected keyword argument '{wrong}'; the nearest .* is '{near}'"
    if call is CALLS["repair"]:
        message = f"'{wrong}'"
    for _ in range(2):  # before there is a checkpoint, and when it is done
        with pytest.raises(TypeError, match=message):
            call(ckpt, numbers(), **given)
        ckpt.configure(enabled=False)
        with pytest.raises(TypeError, match=message):
            call(ckpt, numbers(), **given)
        ckpt.configure(enabled=True)
        before = ckpt.names()
        ckpt.checkpoint("x", numbers())
    assert before == ["x"]


def test_an_unknown_keyword_without_a_bag(ckpt):
    ckpt.checkpoint("x", numbers())
    with pytest.raises(TypeError, match="the nearest known one is 'overwrite'"):
        ckpt.checkpoint("x", force=True)
    with pytest.raises(TypeError, match="'force'"):
        ckpt.explain("x", force=True)


def test_a_keyword_of_the_call_is_not_one_of_the_checkpointer(tmp_path):
    with pytest.raises(TypeError, match="'scheduler'; give it to each call"):
        agatha_ckpt.Checkpointer(tmp_path, scheduler="sync")
    with pytest.raises(TypeError, match=r"'profile'; .* belong in storage_options"):
        agatha_ckpt.Checkpointer("s3://bucket/run", profile="research")


def test_the_facade_refuses_it_as_well(tmp_path):
    agatha_ckpt.set_root(tmp_path)
    bag = numbers()
    with pytest.raises(TypeError, match="the nearest known one is 'version'"):
        agatha_ckpt.checkpoint("x", bag, verison="2")
    with pytest.raises(TypeError, match="the nearest known one is 'version'"):
        agatha_ckpt.ckpt("bag", verison="2")
    assert list(tmp_path.iterdir()) == []


def test_a_keyword_of_another_scheduler_is_refused(ckpt):
    with pytest.raises(TypeError, match=r"'retries', which only a dask\.distributed"):
        ckpt.checkpoint("x", numbers(), retries=2)
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="'num_workers', which the scheduler in force"),
    ):
        ckpt.checkpoint("x", numbers(), scheduler=executor, num_workers=2)


def test_a_callable_scheduler_takes_what_its_signature_names(ckpt):
    seen = []

    def schedule(graph, keys, *, colour, size=1, **others):
        seen.append((colour, size, others))
        return dask.get(graph, keys)

    options = {"scheduler": schedule, "colour": "red"}
    ckpt.checkpoint("x", numbers(), **options, optimize_graph=False)
    assert seen == [("red", 1, {})]
    for refused in ("num_workers", "graph", "keys", "color"):
        with pytest.raises(TypeError, match=f"'{refused}'.*colour"):
            ckpt.checkpoint("y", numbers(), **options, **{refused: 1})
    with dask.config.set(scheduler=schedule):
        assert ckpt.explain("y", numbers(), size=2).action == "compute"


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_every_keyword_of_the_local_schedulers_is_taken(ckpt, scheduler):
    options = {
        "num_workers": 1,
        "cache": {},
        "callbacks": [],
        "chunksize": 1,
        "rerun_exceptions_locally": False,
        "optimize_graph": True,
    }
    ckpt.checkpoint("x", numbers(), scheduler=scheduler, **options)
    assert ckpt.checkpoint("x").compute() == list(range(4))


def test_the_known_keywords_are_those_of_dask():
    functions = (local.get_async, threaded.get, multiprocessing.get)
    named = {name for f in functions for name in inspect.signature(f).parameters}
    assert set(LocalOptions.__annotations__) <= named
    persist = pytest.importorskip("distributed").Client.persist
    others = {"self", "collections", "optimize_graph", "kwargs"}
    named = set(inspect.signature(persist).parameters) - others
    assert set(ClusterOptions.__annotations__) == named
