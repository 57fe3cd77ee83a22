"""Calls that mypy and pyright refuse, each with the rule by which they do.

A comment that suppresses nothing fails the check.
"""

from dask.bag import Bag

import agatha_ckpt
from agatha_ckpt import Checkpointer, CheckpointStore, Event, PartitionStored
from agatha_ckpt.testing import crash_after, memory_checkpointer, memory_root


def a_call(ckpt: Checkpointer, bag: Bag) -> None:
    ckpt.checkpoint("x", bag, verison="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ckpt.checkpoint("x", bag, on_stale="recompte")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, compression="gzip")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, read_only="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, version=2)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, metadata=["a"])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, retries="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", bag, compute=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint("x", [1, 2, 3])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint(["x"], bag)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.checkpoint()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    agatha_ckpt.checkpoint("x", bag, verison="2")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    agatha_ckpt.checkpoint("x", [1, 2, 3])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ckpt.ckpt("bag", verison="2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ckpt.explain("x", bag, verison="2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ckpt.explain("x", [1, 2, 3])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ckpt.repair("x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ckpt.repair("x", bag, version="2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def results(ckpt: Checkpointer, bag: Bag) -> None:
    ckpt.checkpoint("x", bag).no_such_method()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ckpt.checkpoint("x", bag, textfile=True).map(str)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    len(ckpt.checkpoint("x", bag))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_checkpointer(store: CheckpointStore) -> None:
    Checkpointer(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Checkpointer(store, on_stael="error")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Checkpointer(store, on_stale="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Checkpointer(store, read_from=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Checkpointer(store).configure(verbos=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Checkpointer(store).settings.verbose = False  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Checkpointer.from_config(verbos=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    agatha_ckpt.set_on_stale("never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    agatha_ckpt.set_compression("gzip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    store.names().split()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    store.prune(keep="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    store.copy("x", "other")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def one(event: PartitionStored) -> None: ...


def events(event: Event) -> None:
    print(event.index)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Checkpointer("root", on_event=one)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Checkpointer("root", on_event="print")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def guards() -> None:
    agatha_ckpt.guarded("parse")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tests(ckpt: Checkpointer) -> None:
    crash_after(ckpt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    memory_checkpointer(verbos=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with memory_root(verbos=True):  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        pass
