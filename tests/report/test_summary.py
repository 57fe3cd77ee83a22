"""What a report gathers of a root, and what needs attention."""

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._report.summary import gather
from tests.report import samples
from tests.store.locked import Locked
from tests.store.test_requests import counting


def make_bag(values="abcdef", fail_after=None):
    computed = []

    def compute(value):
        if len(computed) == fail_after:
            raise ZeroDivisionError
        computed.append(value)
        return value

    return dask.bag.from_sequence(values, npartitions=3).map(compute)


@pytest.fixture
def save(local):
    checkpointer = Checkpointer(local, verbose=False)

    def save(name, bag, **options):
        return checkpointer.checkpoint(name, bag, scheduler="sync", **options)

    return save


@pytest.fixture
def filled(local, save):
    """A store with a checkpoint of each state."""
    child = save("child", save("parent", make_bag()).map(str.upper), version="2")
    save("grandchild", child.map(str.isupper))
    save("lines", make_bag(), textfile=True)
    with pytest.raises(ZeroDivisionError):
        save("unfinished", make_bag(fail_after=4))
    save("cut", make_bag())
    marker = local.done_marker("cut")
    marker.write_bytes(marker.read_bytes()[:-10])
    save("robbed", make_bag("ghijkl"))
    local.path("robbed").joinpath(local.manifest("robbed").partitions[1].file).unlink()
    return local


def test_each_state_is_found_and_nothing_is_written(filled):
    before = {p: p.read_bytes() for p in filled.root.rglob("*") if p.is_file()}
    report = gather(filled)
    entries = {entry.name: entry for entry in report.entries}
    assert {name: entry.state for name, entry in entries.items()} == {
        "parent": "done",
        "child": "done",
        "grandchild": "done",
        "lines": "done",
        "unfinished": "partial",
        "cut": "damaged",
        "robbed": "damaged",
    }
    assert entries["robbed"].reasons == ["partition 1: its file is missing"]
    (reason,) = entries["cut"].reasons
    assert reason.startswith("the done marker is empty, cut or changed")
    assert report.records == 5 * 6
    assert report.partitions == 6 * 3 + 2
    assert report.bytes == sum(entry.status.bytes for entry in report.entries)
    assert before == {p: p.read_bytes() for p in filled.root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "locked, reason",
    [
        (("read", "/parent/__done__"), "it cannot be read: no permission"),
        (("list", "/parent"), "its files cannot be listed: no permission"),
    ],
)
def test_what_is_denied_is_unreadable_and_makes_nothing_stale(locked, reason):
    fs = Locked()
    store = CheckpointStore("/locked", fs=fs)
    checkpointer = Checkpointer(store, verbose=False)
    parent = checkpointer.checkpoint("parent", make_bag(), scheduler="sync")
    checkpointer.checkpoint("child", parent.map(str.upper), scheduler="sync")
    fs.locked = locked
    child, parent = gather(store).entries
    fs.locked = ("", "")
    store.clear_all()
    assert (child.state, parent.state) == ("done", "unreadable")
    assert parent.reasons[0].startswith(reason)


def test_a_report_sends_one_read_and_one_listing_for_each_checkpoint(s3):
    with counting(s3) as counted:
        for name in "abc":
            counted.save(3, name)
        cost = counted.cost(gather, counted.ckpt.store)
    assert cost == {"LIST": 1 + 3, "GET marker": 3}


def listed(report):
    return [[concern.entry.name for concern in group] for group in report.concerns]


def test_causes_come_before_what_follows_from_them():
    """The partial is the cause of all, and would else be in the last group."""
    children = [f"c_child_{k}" for k in range(7)]
    groups = listed(samples.broken())
    assert groups[0] == ["a_late", "z_partial", "b_middle", "c_child_3"]
    assert groups[1:] == [[c for c in children if c != "c_child_3"], children]


def test_groups_come_in_the_order_of_urgency():
    assert listed(samples.pipeline()) == [
        ["lemmas", "topic_model"],
        ["graph_edges", "edges_tsv", "ngrams_frequent"],
        ["embeddings"],
        ["sentences_with_entities"],
    ]
    (partial,), (skewed,) = samples.pipeline().concerns[2:]
    assert partial.reasons == ["37 of 64 partitions stored"]
    assert skewed.reasons[0].startswith("partition 133 has 670.69 MiB, 7.0")
