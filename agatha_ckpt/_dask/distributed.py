"""Saving on a dask.distributed cluster.

The results that a worker holds are lost when it dies, and the scheduler computes them
again. So the client gathers each result and releases its future as it lands.
"""

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

from dask.bag import Bag

from agatha_ckpt._dask.failure import Failure
from agatha_ckpt._errors import ClusterError
from agatha_ckpt._format.manifest import library_version

ASYNCHRONOUS = (
    "a save waits for its tasks, which an asynchronous client cannot do in its event "
    "loop; defer it with compute=False and await client.compute(...) of the result, or "
    "call it in a thread, with a client made with asynchronous=False"
)
_VERSION = "__import__('agatha_ckpt').__version__"


def check_client(client: Any) -> None:
    """Refuse a cluster that cannot save, before anything is computed.

    Parameters
    ----------
    client : distributed.Client

    Raises
    ------
    ClusterError
        The client is asynchronous or closed, or a worker lacks this library or has
        another version of it.
    """
    if client.asynchronous:
        raise ClusterError(ASYNCHRONOUS)
    if client.status == "closed":
        raise ClusterError(
            "the client is closed; connect another, or give another scheduler"
        )
    # By what any worker has, as a function of this library is pickled by its name.
    found = client.run(eval, _VERSION, on_error="return")
    ours = library_version()
    for address, version in sorted(found.items()):
        if version == ours:
            continue
        has = f"version {version}"
        if isinstance(version, BaseException):
            has = f"no usable version ({type(version).__name__}: {version})"
        raise ClusterError(
            f"the worker {address} has {has} of agatha-ckpt, and this program has "
            f"version {ours}; install the same version on all workers"
        )


@contextmanager
def seceded() -> Iterator[None]:
    """Wait outside the thread pool of the worker, if this is one of its tasks.

    As dask's own ``compute`` in a task: the threads of a worker are free for what the
    task waits for.
    """
    from distributed import rejoin, secede

    has_seceded = False
    with suppress(ValueError, KeyError):  # not in a task, or in ``worker_client``
        secede()
        has_seceded = True
    try:
        yield
    finally:
        if has_seceded:
            rejoin()


def gather(
    client: Any, bag: Bag, options: Mapping[str, Any]
) -> Generator[tuple[int, Any], None, None]:
    """Compute the partitions of *bag* and yield number and result of each as it ends.

    The result of one that failed is a `Failure`.

    Parameters
    ----------
    client : distributed.Client
    bag : dask.bag.Bag
        Which is computed as it is.
    options : mapping
        For ``client.persist``.
    """
    from distributed import as_completed, futures_of

    futures: list[Any] = []
    landed = 0
    try:
        futures += futures_of(client.persist(bag, optimize_graph=False, **options))
        completed = as_completed(
            futures, loop=client.loop, with_results=True, raise_errors=False
        )
        for future, result in completed:
            if future.status == "error":
                _, error, traceback = result
                result = Failure(error.with_traceback(traceback))
            elif isinstance(result, BaseException):  # it was cancelled
                break
            landed += 1
            yield future.key[1], result
            future.release()
        if landed < len(futures):
            raise CancelledError(
                f"the cluster or its client was closed when {landed} of {len(futures)} "
                "partitions were saved; connect to a cluster and run again"
            )
    finally:
        # Also after an exception, whose traceback refers to them.
        for future in futures:
            future.release()
