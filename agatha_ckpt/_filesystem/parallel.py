"""Many small reads at once, in order, with few of them in flight."""

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

    If not *concurrent*, the calls are made one after the other by this thread. Items
    are taken as results are, so that neither needs to fit into memory. What
    *function* raises is raised in its place, and no further call begins.

    Examples
    --------
    >>> list(map_ordered(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if not concurrent:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
