"""Saves on dask's process scheduler: which processes they use, and how those end."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dask
import dask.bag
import psutil
import pytest

from agatha_ckpt import Checkpointer

DRIVER = Path(__file__).with_name("pool_driver.py")
SECONDS = 300  # within which what must come about has come about


def who(part):
    return [os.getpid() for _ in part]


def fail(part):
    raise LookupError(f"in partition {list(part)}")


def numbers():
    return dask.bag.from_sequence(range(2), npartitions=2)


def is_alive(pid):
    try:
        # A zombie has ended; its parent may not have been told yet.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid):
    until = time.monotonic() + SECONDS
    while is_alive(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def ckpt(tmp_path):
    ckpt = Checkpointer(tmp_path, verbose=False)
    yield ckpt
    ckpt.close()


def worker_of(ckpt, **compute_kw):
    """Save a bag under a new name and return the process that computed it."""
    name = f"saved-{len(ckpt.names())}"
    options = {"num_workers": 1} | compute_kw
    saved = ckpt.checkpoint(name, numbers().map_partitions(who), **options)
    (pid,) = set(saved.compute(scheduler="sync"))
    return pid


def test_one_save_after_another_uses_the_same_process_until_it_is_closed(ckpt):
    first = worker_of(ckpt)
    assert first != os.getpid()
    assert worker_of(ckpt, scheduler="processes") == first
    ckpt.close()
    assert ends(first)
    ckpt.close()  # twice is no error
    assert worker_of(ckpt) != first


def test_a_process_that_was_killed_at_rest_is_replaced(ckpt):
    first = worker_of(ckpt)
    os.kill(first, signal.SIGKILL)
    assert ends(first)
    assert worker_of(ckpt) != first


def test_what_a_new_process_would_find_changed_starts_one(
    ckpt, monkeypatch, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("sources")
    source = folder / "edited_between_saves.py"
    source.write_text("import os\ndef who(part):\n    return [(1, os.getpid())]\n")
    monkeypatch.syspath_prepend(str(folder))
    import edited_between_saves

    def saved(name):
        bag = numbers().map_partitions(edited_between_saves.who)
        loaded = ckpt.checkpoint(name, bag, num_workers=1)
        (found,) = set(loaded.compute(scheduler="sync"))
        return found

    version, first = saved("a")
    assert version == 1
    source.write_text("import os\ndef who(part):\n    return [(22, os.getpid())]\n")
    version, second = saved("b")
    assert version == 22
    assert second != first
    monkeypatch.setenv("OF_THE_PROGRAM", "changed")
    assert saved("c")[1] != second


def test_an_error_in_a_task_reaches_the_caller_and_the_next_save_works(ckpt):
    first = worker_of(ckpt)
    with pytest.raises(LookupError, match="in partition"):
        ckpt.checkpoint("x", numbers().map_partitions(fail), num_workers=1)
    assert ends(first)  # nothing of a save that failed goes on
    assert worker_of(ckpt) != first


def test_a_pool_of_the_callers_own_is_used_instead(ckpt):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        own = pool.submit(os.getpid).result()
        assert worker_of(ckpt, pool=pool) == own
        with dask.config.set(pool=pool):
            assert worker_of(ckpt) == own
    assert worker_of(ckpt, scheduler="threads") == os.getpid()


@pytest.mark.skipif(
    sys.version_info >= (3, 12) or not hasattr(os, "fork"),
    reason="from Python 3.12 on, any fork of a process that has threads warns",
)
def test_a_forked_child_has_processes_of_its_own_and_leaves_its_parents(ckpt):
    first = worker_of(ckpt)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if worker_of(ckpt) != first else 2
            ckpt.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker_of(ckpt) == first


@pytest.mark.parametrize(
    "end, status", [("exit", 0), ("raise", 1), ("kill", -signal.SIGKILL)]
)
def test_the_processes_end_with_the_program_however_it_ends(tmp_path, end, status):
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(DRIVER), str(tmp_path), end],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        (worker,) = map(int, driver.stdout.readline().split())
        assert driver.wait(SECONDS) == status
        said = driver.stderr.read()
    assert ends(worker)
    assert ("KeyError" in said) == (end == "raise")
    assert "Exception ignored" not in said


def test_the_pool_of_a_forgotten_checkpointer_has_ended_with_it(tmp_path):
    # Else its thread ends by and by, and Python's exit meets it half-way and complains.
    before = set(threading.enumerate())
    ckpt = Checkpointer(tmp_path, verbose=False)
    ckpt.checkpoint("x", numbers(), scheduler="processes", num_workers=2)
    pools = set(threading.enumerate()) - before
    assert pools
    del ckpt
    assert not any(thread.is_alive() for thread in pools)
