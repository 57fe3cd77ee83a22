"""Saving on a dask.distributed cluster.

The results that a worker holds are lost when it dies, and the scheduler computes them
again. So the client gathers each result and releases its future as it lands.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any

from dask.bag import Bag


def gather(
    client: Any,
    bag: Bag,
    options: Mapping[str, Any],
    note: Callable[[BaseException, int], None],
) -> Iterator[tuple[int, Any]]:
    """Compute the partitions of *bag* and yield number and result of each as it ends.

    Parameters
    ----------
    client : distributed.Client
    bag : dask.bag.Bag
    options : mapping
        For ``client.persist``.
    note : callable
        Called with an error, and the number of its partition, before it is raised.
    """
    from distributed import as_completed, futures_of

    if client.asynchronous:
        raise TypeError(
            "a save cannot run in the event loop of an asynchronous client; call it "
            "in a thread, with a client made with asynchronous=False"
        )
    futures: list[Any] = []
    landed = 0
    try:
        futures += futures_of(client.persist(bag, **options))
        completed = as_completed(
            futures, loop=client.loop, with_results=True, raise_errors=False
        )
        for future, result in completed:
            if future.status == "error":
                _, error, traceback = result
                note(error, future.key[1])
                raise error.with_traceback(traceback)
            if isinstance(result, BaseException):  # it was cancelled
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
