"""All that a checkpoint goes through, on each server other than moto."""

import json

import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import Checkpointer, CheckpointNotFoundError
from agatha_ckpt._cli.main import main
from tests.conftest import OTHER_SERVERS

pytestmark = pytest.mark.parametrize("root", OTHER_SERVERS, indirect=True)
N = 12


class Stopped(Exception):
    """Whatever ends a run in the middle."""


class Run:
    """Notes which partitions are computed, and stops at one."""

    def __init__(self, stop=-1):
        self.computed, self.stop = [], stop

    def __dask_tokenize__(self):
        return "run"

    def __call__(self, part):
        (index,) = part
        if index == self.stop:
            raise Stopped
        self.computed.append(index)
        return [(index, i) for i in range(3)]

    @property
    def bag(self):
        return dask.bag.from_sequence(range(N), npartitions=N).map_partitions(self)


RECORDS = [(p, i) for p in range(N) for i in range(3)]


def run(*arguments):
    ended = CliRunner().invoke(main, [*arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def save(ckpt, run, **options):
    loaded = ckpt.checkpoint("x", run.bag, scheduler="threads", **options)
    assert loaded.compute(scheduler="threads") == RECORDS


def test_a_checkpoint_is_saved_resumed_verified_repaired_and_removed(root):
    ckpt = Checkpointer(root, verbose=False)
    store = ckpt.store
    assert not ckpt.is_done("x")
    assert ckpt.names() == []

    interrupted = Run(stop=1)  # the last are computed first
    with pytest.raises(Stopped):
        ckpt.checkpoint("x", interrupted.bag, scheduler="sync")
    status = ckpt.status("x")
    assert (status.state, status.partitions) == ("partial", N - 2)
    with pytest.raises(CheckpointNotFoundError):
        ckpt.checkpoint("x")

    resumed = Run()
    save(ckpt, resumed)
    assert sorted(resumed.computed) == [0, 1]
    assert ckpt.is_done("x")
    assert ckpt.names() == ["x"]
    assert store.verify("x") == []

    manifest = store.manifest("x")
    folder = f"{store._root.base}/x"
    store.fs.rm_file(f"{folder}/{manifest.partitions[3].file}")
    store.fs.pipe_file(f"{folder}/{manifest.partitions[7].file}", b"damaged")
    assert [damaged.index for damaged in store.verify("x")] == [3, 7]
    repaired = Run()
    ckpt.repair("x", repaired.bag, scheduler="threads")
    assert sorted(repaired.computed) == [3, 7]
    assert store.verify("x") == []
    again = Run()
    save(ckpt, again)
    assert again.computed == []

    (listed,) = json.loads(run("ls", root, "--json"))
    assert (listed["name"], listed["state"], listed["partitions"]) == ("x", "done", N)
    save(ckpt, Run(), version="2")
    assert store.manifest("x").plan.version == "2"
    assert "all" in run("prune", root, "--older-than", "0s", "--dry-run")
    assert ckpt.is_done("x")
    run("prune", root, "--older-than", "0s", "--yes")
    assert ckpt.names() == []

    save(ckpt, Run())
    assert ckpt.clear("x")
    assert not ckpt.clear("x")
    assert ckpt.status("x").state == "absent"
