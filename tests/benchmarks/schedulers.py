"""Where bags are computed: in this process, on a warm pool, on a warm cluster."""

import asyncio
import contextlib
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from dask.multiprocessing import get_context, initialize_worker_process

PROCESSES = 4
TICK_SECONDS = 0.02


def new_pool(processes):
    """A pool like the one that dask's process scheduler makes for each compute."""
    # As dask does, so that the workers' hashes are the same.
    if os.environ.get("PYTHONHASHSEED") in (None, "0"):
        os.environ["PYTHONHASHSEED"] = "6640"
    initializer = partial(initialize_worker_process, user_initializer=None)
    return ProcessPoolExecutor(
        processes, mp_context=get_context(), initializer=initializer
    )


@contextlib.contextmanager
def ticking_loop():
    """Run an event loop in a thread that does a little work now and then.

    So does a worker of a cluster, beside the thread that computes.
    """
    loop = asyncio.new_event_loop()

    def tick():
        loop.call_later(TICK_SECONDS, tick)

    loop.call_soon(tick)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def scheduler(which, processes=PROCESSES):
    """Yield the keywords for ``compute`` that use the scheduler *which*.

    ``sync``; ``ticking``, the same beside an event loop in another thread;
    ``threads``; ``pool``, the process scheduler on a pool that is there
    already; ``processes``, the same as dask uses it for bags unasked, with a new pool
    each time; ``cluster``, a distributed client with processes of one thread.
    """
    if which == "cluster":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=processes,
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=50,
            ) as cluster,
            Client(cluster),
        ):
            yield {}
    elif which == "pool":
        with new_pool(processes) as pool:
            yield {"scheduler": "processes", "pool": pool}
    elif which == "ticking":
        with ticking_loop():
            yield {"scheduler": "sync"}
    elif which == "sync":
        yield {"scheduler": "sync"}
    else:
        yield {"scheduler": which, "num_workers": processes}
