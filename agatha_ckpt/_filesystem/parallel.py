"""Many small reads at once, with their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_THREADS = 16  # reading and checksums both let other threads run
_AHEAD = 4 * _THREADS

T = TypeVar("T")
R = TypeVar("R")


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], concurrent: bool = True
) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order, computed in threads.

    Unless *concurrent*, the calls are made one after the other in this thread. Only a
    few items are taken before their results are asked for, so that neither needs to
    fit into memory. An error of *function* is raised in place of its result, and no
    further call begins.

    Examples
    --------
    >>> list(map_ordered(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if not concurrent:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(_THREADS)
    waits = True
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except KeyboardInterrupt:
        waits = False  # a server may be silent for minutes
        raise
    finally:
        pool.shutdown(waits, cancel_futures=True)
