"""Worker processes that one save after another uses, on dask's process scheduler.

dask starts new processes for each computation, and they import everything again: one
to two seconds for each save. A pool that is kept must not differ from a new one, so it
is replaced where the environment, the search path, the working directory or a source
file of the program has changed.
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
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from typing import Any

import dask
from dask.multiprocessing import get as process_scheduler
from dask.multiprocessing import get_context, initialize_worker_process
from dask.system import CPU_COUNT

_INSTALLED = (sys.prefix, *{path for path in sysconfig.get_paths().values() if path})
_inherited: list[ProcessPoolExecutor] = []  # by a fork: never used, never freed


class WarmPool:
    """The worker processes of one Checkpointer; there are none before a save."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: _Pool | None = None
        self._finalizer: weakref.finalize[..., WarmPool]

    @contextmanager
    def lend(
        self, schedule: Callable[..., Any], options: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the keywords by which a scheduler uses the pool.

        None where *schedule* is not dask's process scheduler, where *options* or dask's
        configuration choose a pool, or where another thread uses this one. An exception
        ends the pool, as tasks may be running in it.
        """
        if not _is_usable(schedule, options) or not self._lock.acquire(blocking=False):
            yield {}
            return
        try:
            configured = dask.config.get("num_workers", None)
            yield {"pool": self._fitting(options.get("num_workers") or configured)}
        except BaseException:
            self._end()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the processes, if there are any; the next save starts new ones."""
        with self._lock:
            self._end()

    def _fitting(self, workers: int | None) -> "_Pool":
        # As dask does for its own pools: all processes hash strings alike.
        if os.environ.get("PYTHONHASHSEED") in (None, "0"):
            os.environ["PYTHONHASHSEED"] = "6640"
        made_for = os.getpid(), workers or CPU_COUNT, get_context(), _surroundings()
        if self._pool is not None and self._pool.made_for == made_for:
            try:
                self._pool.submit(os.getpid).result()
                return self._pool
            except BrokenProcessPool:  # a process was killed
                pass
        self._end()
        self._pool = _Pool(made_for)
        # The executor of a WarmPool that is garbage would end in a thread of its own,
        # and Python reports an error where that is not finished at exit.
        self._finalizer = weakref.finalize(self, _end_pool, self._pool)
        self._finalizer.atexit = False  # Python's own handler ends executors then
        return self._pool

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._finalizer()


class _Pool(ProcessPoolExecutor):
    """Processes that ignore Ctrl-C between tasks, and end with their parent."""

    def __init__(self, made_for: tuple[int, int, Any, object]) -> None:
        self.made_for = made_for
        self.owner, workers, context, _ = made_for
        super().__init__(workers, mp_context=context, initializer=_begin_worker)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(_run_task, fn, *args, **kwargs)


def _end_pool(pool: _Pool) -> None:
    if pool.owner != os.getpid():
        _inherited.append(pool)
        return
    # In a thread of the pool's own, waiting would be for itself.
    is_main = threading.current_thread() is threading.main_thread()
    pool.shutdown(wait=is_main, cancel_futures=True)


def _is_usable(schedule: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    return (
        schedule is process_scheduler
        and not options.keys() & {"pool", "initializer"}
        and not dask.config.get("pool", None)
        and not dask.config.get("multiprocessing.initializer", None)
        # A fork is chosen for the memory that it shares, which changes.
        and get_context().get_start_method() != "fork"
    )


def _surroundings() -> object:
    """Return what a new process would find, and what may have changed."""
    sources = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and not path.startswith(_INSTALLED):
            with suppress(OSError):
                found = os.stat(path)
                sources[path] = found.st_mtime_ns, found.st_size
    return os.getcwd(), list(sys.path), dict(os.environ), sources


# ---- in the workers ----


def _begin_worker() -> None:
    initialize_worker_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed; it would wait for work forever."""
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(0)


def _run_task(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(*args, **kwargs)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
