"""compute=False: a Delayed that saves and commits when it is computed."""

import dask
import dask.bag
import dask.dataframe
import pandas as pd
import pytest
from dask.delayed import Delayed
from dask.utils import key_split

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointHalt,
    InvalidValueError,
    PartitionsFailedError,
)
from tests.dask import error_cases as cases
from tests.dask.error_cases import BadRecord


@pytest.fixture(params=["sync", "threads", "processes", "cluster"])
def how(request):
    """The keywords by which a Delayed is computed."""
    if request.param == "cluster":
        request.getfixturevalue("small_cluster")
        return {}
    if request.param == "processes":
        return {"scheduler": "processes", "num_workers": 1}
    return {"scheduler": request.param}


@pytest.fixture
def ckpt(local):
    return Checkpointer(local, verbose=False)


def counted(tmp_path, number=4, at=frozenset()):
    """A bag that leaves a file for each partition that is computed."""
    return cases.numbers(number).map_partitions(cases.FailOnce(str(tmp_path), at))


def times(tmp_path):
    return len(list(tmp_path.glob("computed-*")))


def test_it_saves_when_it_is_computed(ckpt, how, tmp_path):
    bag = counted(tmp_path)
    deferred = ckpt.checkpoint("x", bag, compute=False, metadata={"a": [1]})
    assert isinstance(deferred, Delayed)
    assert (times(tmp_path), ckpt.status("x").state) == (0, "absent")
    assert deferred.compute(**how) is None
    assert sorted(ckpt.checkpoint("x", bag).compute(scheduler="sync")) == [0, 1, 2, 3]
    assert times(tmp_path) == 4
    assert ckpt.store.manifest("x").metadata == {"a": [1]}
    assert ckpt.store.verify("x") == []


def test_what_several_share_is_computed_once(ckpt, how, tmp_path):
    shared = counted(tmp_path)
    a = ckpt.checkpoint("a", shared, compute=False)
    b = ckpt.checkpoint("b", shared.map(str), compute=False)
    c = ckpt.checkpoint("c", shared.map(str).map(len), textfile=False, compute=False)
    assert dask.compute(a, b, c, **how) == (None, None, None)
    assert times(tmp_path) == 4
    assert ckpt.names() == ["a", "b", "c"]
    assert ckpt.checkpoint("b").compute(scheduler="sync") == ["0", "1", "2", "3"]
    assert ckpt.checkpoint("c").compute(scheduler="sync") == [1, 1, 1, 1]


def test_what_frames_share_is_computed_once(ckpt, how, tmp_path):
    frame = dask.dataframe.from_pandas(pd.DataFrame({"a": range(4)}), npartitions=4)
    count = cases.FailOnce(str(tmp_path), frozenset())
    shared = frame.map_partitions(lambda part: part + count([0]), meta=frame)
    a = ckpt.checkpoint("a", shared, compute=False)
    b = ckpt.checkpoint("b", shared.assign(b=shared.a + 1), compute=False)
    assert dask.compute(a, b, **how) == (None, None)
    assert times(tmp_path) == 4
    # The fingerprints are those of a save that is not deferred.
    assert ckpt.checkpoint("a", shared, on_stale="error").a.sum().compute() == 6
    again = shared.assign(b=shared.a + 1)
    assert ckpt.checkpoint("b", again, on_stale="error").b.sum().compute() == 10


def test_an_error_names_its_partition(ckpt, how, tmp_path):
    bag = counted(tmp_path, at={2})
    with pytest.raises(BadRecord) as raised:
        ckpt.checkpoint("x", bag, compute=False).compute(**how)
    assert "partition 2 of 'x' failed" in raised.value.__notes__
    assert not ckpt.is_done("x")


def test_it_resumes_and_computes_nothing_that_is_done(ckpt, how, tmp_path):
    bag = counted(tmp_path, at={2})
    with pytest.raises(PartitionsFailedError):
        ckpt.checkpoint("x", bag, compute=False, on_error="continue").compute(**how)
    assert (ckpt.status("x").partitions, times(tmp_path)) == (3, 4)
    ckpt.checkpoint("x", bag, compute=False).compute(**how)
    assert times(tmp_path) == 5
    done = ckpt.checkpoint("x", bag, compute=False)
    assert done.compute(**how) is None
    assert times(tmp_path) == 5
    assert ckpt.checkpoint("x", compute=False).compute(**how) is None


def test_all_kept_partitions_are_committed(ckpt, how):
    bag = cases.numbers(3)
    ckpt.checkpoint("x", bag, scheduler="sync")
    ckpt.store.done_marker("x").unlink()
    ckpt.checkpoint("x", bag, compute=False).compute(**how)
    assert ckpt.is_done("x")


def test_errors_are_collected_and_named(ckpt, how, tmp_path):
    bag = cases.numbers(4)
    failing = counted(tmp_path, at={1, 3})
    shared = bag.map(cases.add, bag.reduction(sum, cases.fail_for_all))
    one = ckpt.checkpoint("x", failing, compute=False, on_error="continue")
    with pytest.raises(PartitionsFailedError) as raised:
        one.compute(**how)
    assert list(raised.value.partitions) == [1, 3]
    assert {type(e) for e in raised.value.exceptions} == {BadRecord}
    assert ckpt.status("x").partitions == 2
    two = ckpt.checkpoint("y", shared, compute=False, on_error="continue")
    with pytest.raises(PartitionsFailedError) as raised:
        two.compute(**how)
    assert list(raised.value.partitions) == [0, 1, 2, 3]


def test_failures_do_not_reach_what_is_computed_beside_it(ckpt, tmp_path):
    bag = cases.numbers(4)
    total = bag.reduction(sum, cases.fail_for_all)
    one = ckpt.checkpoint(
        "x", bag.map(cases.add, total), compute=False, on_error="continue"
    )
    with pytest.raises(BadRecord):
        dask.compute(one, bag.map(cases.add, total), scheduler="sync")


def test_another_run_that_commits_first_is_adopted_or_excludes_it(ckpt, how, capfd):
    bag = cases.numbers(3)
    same = ckpt.checkpoint("x", bag, compute=False)
    other = ckpt.checkpoint("x", bag.map(str), compute=False)
    mine = ckpt.checkpoint("x", bag, scheduler="sync")
    same.compute(**how)
    with pytest.raises(CheckpointConflictError):
        other.compute(**how)
    assert ckpt.checkpoint("x").name == mine.name
    assert ckpt.store.verify("x") == []


def test_what_was_cleared_since_the_call_is_saved_again(ckpt, how):
    bag = cases.numbers(2)
    options = {"overwrite": {"overwrite": True}, "stale": {"on_stale": "recompute"}}
    for case in ("new", "overwrite", "stale"):
        if case != "new":
            ckpt.checkpoint(case, bag.map(str), scheduler="sync")
        given = options.get(case, {})
        deferred = ckpt.checkpoint(case, bag, compute=False, **given)
        ckpt.clear(case)
        deferred.compute(**how)
        assert ckpt.store.verify(case) == []
        assert ckpt.checkpoint(case, bag).compute(scheduler="sync") == [0, 1]


def test_what_it_was_to_keep_and_is_cleared_is_a_conflict(ckpt, tmp_path):
    bag = counted(tmp_path, at={2})
    with pytest.raises(BadRecord):
        ckpt.checkpoint("x", bag, scheduler="sync")
    deferred = ckpt.checkpoint("x", bag, compute=False)
    ckpt.clear("x")
    with pytest.raises(CheckpointConflictError, match="were removed") as raised:
        deferred.compute(scheduler="sync")
    assert "call checkpoint again" in raised.value.__notes__[-1]
    ckpt.checkpoint("x", bag, compute=False).compute(scheduler="sync")
    assert ckpt.is_done("x")


def test_it_can_be_computed_with_others_and_inside_others(ckpt, how, tmp_path):
    bag = counted(tmp_path)
    one = ckpt.checkpoint("x", bag, compute=False)
    two = ckpt.checkpoint("y", bag.sum(), compute=False)
    three = ckpt.checkpoint("z", dask.delayed(len)([1, 2]), compute=False)
    after = dask.delayed(lambda *_: ckpt.names())(one, two, three)
    assert after.compute(**how) == ["x", "y", "z"]
    _, listed = dask.compute(one, bag, **how)  # done already: adopted
    assert listed == [0, 1, 2, 3]
    again = ckpt.checkpoint("w", bag, compute=False)
    (persisted,) = dask.persist(again, **how)
    assert persisted.compute(**how) is None
    assert ckpt.is_done("w")


def test_the_client_of_a_cluster_prints_what_is_said(local, small_cluster, capsys):
    ckpt = Checkpointer(local)
    deferred = ckpt.checkpoint("x", cases.numbers(3), compute=False)
    capsys.readouterr()
    deferred.compute()
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("Checkpoint: x \t ")
    assert line == "\t- Done! 3 partitions, 3 records, 363 B"


def test_what_is_said(local, capsys):
    ckpt = Checkpointer(local)
    bag = cases.numbers(3)
    deferred = ckpt.checkpoint("x", bag, compute=False)
    assert "- Saving 3 of 3 partitions; deferred until it" in capsys.readouterr().out
    deferred.compute(scheduler="sync")
    assert "- Done! 3 partitions, 3 records, 363 B\n" in capsys.readouterr().out
    ckpt.checkpoint("x", bag, compute=False)
    assert "- Ready: 3 partitions" in capsys.readouterr().out
    ckpt.checkpoint("y", bag, compute=False, enabled=False).compute()
    assert "Returning the collection as it is" in capsys.readouterr().out
    assert not ckpt.is_done("y")


def test_what_it_cannot_heed_is_refused_and_nothing_is_touched(ckpt, local):
    bag = cases.numbers(2)
    with pytest.raises(TypeError, match=r"give scheduler, num_workers to the compute"):
        ckpt.checkpoint("x", bag, compute=False, scheduler="threads", num_workers=1)
    with pytest.raises(InvalidValueError, match="deferred and the last step"):
        ckpt.checkpoint("x", bag, compute=False, halt_after="x")
    with pytest.raises(InvalidValueError, match="compute of checkpoint 'x'"):
        ckpt.checkpoint("x", bag, compute=0)
    with pytest.raises(InvalidValueError, match="a deferred save"):
        ckpt.ckpt("bag", compute=False)
    with pytest.raises(TypeError, match="unexpected keyword argument 'compute'"):
        ckpt.repair("x", bag, compute=False)
    assert ckpt.status("x").state == "absent"
    other = ckpt.checkpoint("x", bag, compute=False, halt_after="later")
    other.compute(scheduler="sync")
    with pytest.raises(CheckpointHalt):
        ckpt.checkpoint("later", bag, halt_after="later", scheduler="sync")


@pytest.mark.parametrize(
    "name", ["sentences", "gene_sentences", "run-2", "a-b", "x.2-abcdef01", "ä-1 b"]
)
def test_dask_shows_the_whole_name_of_a_checkpoint(ckpt, name):
    seen = []

    def watching(graph, keys, **options):
        seen.extend(graph)
        return dask.get(graph, keys, **options)

    bag = cases.numbers(2).map(str)
    loaded = ckpt.checkpoint(name, bag, scheduler=watching)
    shown = {key_split(key) for key in seen}
    assert {each.replace("\N{HYPHEN}", "-") for each in shown} == {f"save:{name}"}
    label = key_split(loaded.name)
    assert label.replace("\N{HYPHEN}", "-") == f"load:{name}"
    assert label == f"load:{name}" or "-" in name
    child = loaded.map(len)
    ckpt.checkpoint("child", child, scheduler="sync", overwrite=True)
    assert [parent for parent, _ in ckpt.store.manifest("child").plan.parents] == [name]
    persisted = loaded.persist(scheduler="sync")
    ckpt.checkpoint("child", persisted, scheduler="sync", overwrite=True)
    assert [parent for parent, _ in ckpt.store.manifest("child").plan.parents] == [name]
