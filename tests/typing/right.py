"""Calls that mypy and pyright accept, and the types of their results."""

from collections.abc import Iterator
from typing import Any, assert_type

from dask.array import Array
from dask.bag import Bag, Item
from dask.dataframe import DataFrame, Series
from dask.delayed import Delayed

import agatha_ckpt
from agatha_ckpt import (
    Checkpointer,
    CheckpointStore,
    Committed,
    Event,
    Explanation,
    FailedRecord,
    Loaded,
    Manifest,
    PartitionFailed,
    PartitionsFailedError,
    PartitionStored,
    Removal,
    Settings,
    Status,
)
from agatha_ckpt.testing import crash_after, memory_checkpointer, memory_root


def the_type_of_the_collection(
    ckpt: Checkpointer,
    bag: Bag,
    item: Item,
    frame: DataFrame,
    series: Series,
    array: Array,
    value: Delayed,
) -> None:
    assert_type(ckpt.checkpoint("x", bag), Bag)
    assert_type(ckpt.checkpoint("x", item), Item)
    assert_type(ckpt.checkpoint("x", frame), DataFrame)
    assert_type(ckpt.checkpoint("x", series), Series)
    assert_type(ckpt.checkpoint("x", array), Array)
    assert_type(ckpt.checkpoint("x", value), Delayed)
    assert_type(agatha_ckpt.checkpoint("x", bag), Bag)
    assert_type(agatha_ckpt.checkpoint("x", bag=frame, verbose=False), DataFrame)
    assert_type(ckpt.repair("x", bag), Bag | Any)
    ckpt.repair("x", bag).map(str)


def what_a_call_takes(ckpt: Checkpointer, bag: Bag, maybe: Bag | None) -> None:
    assert_type(ckpt.checkpoint("x", bag, False, True, "y", False), Bag)
    assert_type(ckpt.checkpoint("x", bag, version="2", overwrite=True), Bag)
    assert_type(ckpt.checkpoint("x", bag, metadata={"a": [1, None]}), Bag)
    assert_type(ckpt.checkpoint("x", bag, on_error="continue"), Bag)
    assert_type(ckpt.checkpoint("x", bag, read_only=True, enabled=False), Bag)
    assert_type(ckpt.checkpoint("x", bag, compression=None), Bag)
    assert_type(ckpt.checkpoint("x", bag, scheduler="threads", num_workers=2), Bag)
    assert_type(ckpt.checkpoint("x", bag, retries=3, priority=1, workers="a"), Bag)
    assert_type(ckpt.checkpoint("x", bag, textfile=False, compute=True), Bag)
    ckpt.checkpoint("x", maybe)
    ckpt.checkpoint(CheckpointStore("root").path("x"), bag)


def other_results(ckpt: Checkpointer, bag: Bag, later: bool) -> None:
    assert_type(ckpt.checkpoint("x"), Any)
    ckpt.checkpoint("x").map(str)
    ckpt.checkpoint("x", version="2").map(str)
    assert_type(ckpt.checkpoint("x", bag, compute=False), Delayed)
    assert_type(ckpt.checkpoint("x", bag, textfile=True, compute=False), Delayed)
    assert_type(ckpt.checkpoint("x", bag, compute=later), Any)
    assert_type(ckpt.checkpoint("x", bag, textfile=later), Any)
    ckpt.checkpoint("x", bag, textfile=True)
    ckpt.checkpoint("x", textfile=True)


def a_checkpointer(bag: Bag) -> None:
    store = CheckpointStore("root", storage_options={"anon": True}, fsync=False)
    ckpt = Checkpointer(
        store, on_stale="recompute", read_from=["a", store], halt_after="x"
    )
    Checkpointer("s3://bucket", storage_options={"anon": True}, read_from=[ckpt])
    Checkpointer.from_config(verbose=False).configure(read_only=True)
    assert_type(ckpt.settings.override(compression="zstd"), Settings)
    assert_type(ckpt.explain("x", bag, overwrite=True), Explanation)
    assert_type(ckpt.explain("x").compute, tuple[int, ...])
    assert_type(ckpt.names("a*"), list[str])
    assert_type(ckpt.is_done("x"), bool)
    assert_type(ckpt.clear("x"), bool)
    ckpt.ckpt("bag", "prefix", version="2")
    agatha_ckpt.ckpt("bag", verbose=False)
    agatha_ckpt.set_on_stale("error")
    agatha_ckpt.set_on_error("continue")
    agatha_ckpt.set_compression(None)


def a_store(store: CheckpointStore) -> None:
    assert_type(store.names(), list[str])
    assert_type(store.files("x"), list[str])
    assert_type(store.status("x"), Status)
    assert_type(store.statuses(), Iterator[Status])
    assert_type(store.manifest("x"), Manifest)
    assert_type(store.records("x", [0, 1], allow_pickle=True), Iterator[Any])
    assert_type(store.prune("*", keep=3, older_than=3600, dry_run=True), list[Removal])
    store.copy("x", CheckpointStore("other"))
    if (status := store.status("x")).state == "done":
        assert_type(status.records, int | None)


def events(event: Event) -> None:
    assert_type(event.name, str)
    if isinstance(event, PartitionStored):
        assert_type(event.index, int)
        assert_type(event.info.records, int)
    elif isinstance(event, PartitionFailed):
        assert_type(event.error, Exception)
    elif isinstance(event, Loaded | Committed):
        assert_type(event.manifest, Manifest)
    Checkpointer("root", on_event=events)
    Checkpointer("root", on_event=print)


def errors(ckpt: Checkpointer, bag: Bag) -> None:
    try:
        ckpt.checkpoint("x", bag, on_error="continue")
    except PartitionsFailedError as error:
        assert_type(error.partitions, dict[int, Exception])


def parse(text: str) -> int:
    return int(text)


def guards(any_bag: Any) -> None:
    assert_type(agatha_ckpt.guarded(parse)("1"), int | FailedRecord)
    any_bag.map(agatha_ckpt.guarded(lambda n: n + 1)).map(agatha_ckpt.guarded(int))


def tests() -> None:
    with memory_checkpointer(on_event=events, verbose=True) as ckpt:
        assert_type(ckpt, Checkpointer)
        with crash_after(2, ckpt):
            pass
    with memory_root(allow_pickle=True) as root, crash_after(2):
        assert_type(root, str)
