"""A pool of worker processes that one save after another uses.

dask's process scheduler starts new processes for every bag that it computes, and they
import everything again: about two seconds each time, that a pipeline of small steps
pays at each of them.

What a new process would have, a process of the pool has: where the environment, the
search path, the working directory or a source file of the program has changed since,
the pool is started anew.
"""

import os
import signal
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from typing import Any

import dask
from dask.multiprocessing import get as process_scheduler
from dask.multiprocessing import get_context, initialize_worker_process
from dask.system import CPU_COUNT

_INSTALLED = (sys.prefix, *{path for path in sysconfig.get_paths().values() if path})
_inherited: list[ProcessPoolExecutor] = []  # by a fork: never touched, never freed


class WarmPool:
    """Worker processes for the saves of one Checkpointer; none before the first.

    Any number of threads may use it; while one does, the others get none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._made_for: object = None
        self._forgotten: weakref.finalize[Any, WarmPool] | None = None

    @contextmanager
    def lend(
        self, schedule: Callable[..., Any], compute_kw: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Give the keywords by which a scheduler uses the pool.

        None, where *schedule* is not dask's process scheduler or the caller has made
        other arrangements. What is raised meanwhile ends the pool, as tasks may be at
        work in it.
        """
        if not _is_wanted(schedule, compute_kw) or not self._lock.acquire(False):
            yield {}
            return
        try:
            workers = compute_kw.get("num_workers") or dask.config.get(
                "num_workers", None
            )
            workers = workers or CPU_COUNT
            yield {"pool": _Submitter(self._fitting(workers), workers)}
        except BaseException:
            self._end()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the processes, if there are any; the next save starts new ones."""
        with self._lock:
            self._end()

    def _fitting(self, workers: int) -> ProcessPoolExecutor:
        _fix_hashes()
        wanted = (os.getpid(), workers, get_context(), _surroundings())
        if self._pool is not None and self._made_for == wanted:
            try:
                self._pool.submit(os.getpid).result()
                return self._pool
            except BrokenProcessPool:  # somebody killed a process
                pass
        self._end()
        self._made_for = wanted
        self._pool = ProcessPoolExecutor(
            workers, mp_context=get_context(), initializer=_begin_worker
        )
        # One that is only forgotten ends in a thread of its own, which Python's exit
        # would meet half-way.
        self._forgotten = weakref.finalize(self, _end_pool, self._pool, os.getpid())
        self._forgotten.atexit = False  # Python's own does it then
        return self._pool

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        assert self._forgotten is not None
        self._forgotten()


def _end_pool(pool: ProcessPoolExecutor, owner: int) -> None:
    if owner == os.getpid():
        # A thread of the pool's own may be who forgets it, and cannot wait for itself.
        waits = threading.current_thread() is threading.main_thread()
        pool.shutdown(wait=waits, cancel_futures=True)
    else:
        _inherited.append(pool)


class _Submitter:
    """What dask needs of a pool; lets a worker know when it is at work."""

    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self._pool = pool
        self._max_workers = workers

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(_at_work, function, *args)


def _is_wanted(schedule: Callable[..., Any], compute_kw: Mapping[str, Any]) -> bool:
    return (
        schedule is process_scheduler
        and not compute_kw.keys() & {"pool", "initializer"}
        and not dask.config.get("pool", None)
        and not dask.config.get("multiprocessing.initializer", None)
        # What is forked has the memory of the moment, for whoever chose that.
        and get_context().get_start_method() != "fork"
    )


def _fix_hashes() -> None:
    # As dask does before it makes a pool: all processes hash strings alike.
    if os.environ.get("PYTHONHASHSEED") in (None, "0"):
        os.environ["PYTHONHASHSEED"] = "6640"


def _surroundings() -> object:
    """Return what a new process would find that may have changed since."""
    sources = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(_INSTALLED):
            try:
                found = os.stat(path)
            except OSError:
                continue
            sources[path] = (found.st_mtime_ns, found.st_size)
    return os.getcwd(), list(sys.path), dict(os.environ), sources


# ---- in the workers ----

_busy = threading.Lock()


def _begin_worker() -> None:
    initialize_worker_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that it works for was killed.

    It would wait for work for ever. What it is at is finished, as by dask's own.
    """
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    with _busy:
        os._exit(0)


def _at_work(function: Callable[..., Any], *args: Any) -> Any:
    with _busy:
        # Ctrl-C reaches all processes of a terminal; those at rest let it pass.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return function(*args)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
