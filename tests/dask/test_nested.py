"""checkpoint() inside a task, on each scheduler; clusters that cannot save."""

import asyncio
import subprocess
import sys

import dask
import dask.bag
import pytest

import agatha_ckpt
from agatha_ckpt import Checkpointer, ClusterError
from tests.dask import error_cases as cases
from tests.dask.cluster_cases import a_cluster

SECONDS = 120


def save(root, depth):
    """Save a bag whose partitions save bags of their own, to a depth."""
    checkpointer = Checkpointer(root, verbose=False)
    bag = cases.numbers(2)
    if depth:
        bag = bag.map(save_below, root, depth - 1)
    loaded = checkpointer.checkpoint(f"at-{depth}", bag)
    checkpointer.close()
    return sum(loaded.compute())


def save_below(n, root, depth):
    return save(f"{root}/below-{n}", depth)


def in_worker_client(root):
    from distributed import worker_client

    with worker_client():
        return save(root, 0)


def save_or_fail(root):
    bag = cases.numbers(3).map(cases.fail_at_1)
    try:
        Checkpointer(root, verbose=False).checkpoint("x", bag)
    except cases.BadRecord as error:
        return error.__notes__


@pytest.fixture(scope="module")
def one_thread(tmp_path_factory):
    """The client of a cluster with one worker of one thread."""
    from distributed import Client

    folder = tmp_path_factory.mktemp("workers")
    with (
        a_cluster(folder, n_workers=1, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_task_of_a_cluster_with_one_thread_saves(one_thread, tmp_path):
    for name, depth in (("one", 0), ("two", 1), ("three", 2)):
        future = one_thread.submit(save, str(tmp_path / name), depth)
        assert future.result(timeout=SECONDS) == 2**depth
    future = one_thread.submit(in_worker_client, str(tmp_path / "client"))
    assert future.result(timeout=SECONDS) == 1


def test_a_save_inside_a_save_on_a_cluster_with_one_thread(one_thread, tmp_path):
    assert save(str(tmp_path), 2) == 4
    assert Checkpointer(tmp_path / "below-1").names() == ["at-1"]


def test_a_task_that_fails_to_save_frees_its_worker(one_thread, tmp_path):
    future = one_thread.submit(save_or_fail, str(tmp_path))
    (note,) = future.result(timeout=SECONDS)
    assert note.endswith("partition 1 of 'x' failed")
    assert one_thread.submit(cases.add, 1, 2).result(timeout=SECONDS) == 3


def save_inside(n, root):
    """Save with the scheduler that is dask's default in this process."""
    checkpointer = Checkpointer(f"{root}/below-{n}", verbose=False)
    loaded = checkpointer.checkpoint("x", cases.numbers(2), num_workers=1)
    checkpointer.close()
    return loaded.compute(scheduler="sync")


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_task_of_a_local_scheduler_saves(tmp_path, scheduler):
    checkpointer = Checkpointer(tmp_path / "top", verbose=False)
    bag = cases.numbers(2).map(save_inside, str(tmp_path))
    with dask.config.set(scheduler=scheduler):
        loaded = checkpointer.checkpoint("x", bag, num_workers=1)
    checkpointer.close()
    assert loaded.compute(scheduler="sync") == [[0, 1], [0, 1]]


# ---- clusters that cannot save ----


def set_version(version):
    agatha_ckpt.__version__ = version


def take_away():
    sys.modules["agatha_ckpt"] = None


def give_back():
    del sys.modules["agatha_ckpt"]


def test_workers_of_another_version_are_refused_first(one_thread, local):
    ours = agatha_ckpt.__version__
    one_thread.run(set_version, "0.0.1")
    try:
        with pytest.raises(ClusterError) as raised:
            Checkpointer(local, verbose=False).checkpoint("x", cases.numbers(2))
    finally:
        one_thread.run(set_version, ours)
    assert f"has version 0.0.1 of agatha-ckpt, and this program has version {ours}" in (
        str(raised.value)
    )
    assert local.status("x").state == "absent"


def test_workers_without_the_library_are_refused_first(one_thread, local):
    one_thread.run(take_away)
    try:
        with pytest.raises(
            ClusterError, match=r"no usable version \(ModuleNotFoundError: .* of agatha"
        ):
            Checkpointer(local, verbose=False).checkpoint("x", cases.numbers(2))
    finally:
        one_thread.run(give_back)
    assert local.status("x").state == "absent"


def test_an_asynchronous_client_is_refused_first(small_cluster, local):
    from distributed import Client

    address = small_cluster.scheduler.address
    checkpointer = Checkpointer(local, verbose=False)

    async def main():
        async with Client(address, asynchronous=True) as client:
            for given in ({}, {"scheduler": client}):
                with pytest.raises(ClusterError, match="compute=False"):
                    checkpointer.checkpoint("x", cases.numbers(2), **given)
            deferred = checkpointer.checkpoint("y", cases.numbers(2), compute=False)
            await client.compute(deferred)

    asyncio.run(main())
    assert local.names() == ["y"]
    assert local.status("x").state == "absent"


def test_a_closed_client_is_refused(small_cluster, local):
    from distributed import Client

    with Client(small_cluster.scheduler.address, set_as_default=False) as client:
        pass
    checkpointer = Checkpointer(local, verbose=False)
    with pytest.raises(ClusterError, match="client is closed; connect another"):
        checkpointer.checkpoint("x", cases.numbers(2), scheduler=client)


SCRIPT = """\
import sys
import dask.bag
from agatha_ckpt import Checkpointer
bag = dask.bag.from_sequence(range(2), npartitions=2)
Checkpointer(sys.argv[1], verbose=False).checkpoint("x", bag, num_workers=1)
"""


def test_a_script_without_a_guard_learns_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "root")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "0 of 2 partitions stored; 'x' is not done; a worker process"
    )
    assert "'if __name__ == \"__main__\":'" in last
