"""Saving on a dask.distributed cluster.

The scheduler computes a lost result again, and the results that a worker holds are lost
with it. So the client gathers each result and releases its future as it lands.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import CancelledError
from inspect import signature
from typing import Any

from dask.bag import Bag

from agatha_ckpt._dask.tasks import fused, note_partition


class SavingBag(Bag):  # type: ignore[misc]
    """A bag whose partitions are what saving another bag's returns."""

    @staticmethod
    def __dask_optimize__(
        dsk: Mapping[Hashable, Any], keys: Any, **kwargs: Any
    ) -> dict[Hashable, Any]:
        """Optimise as any bag."""
        return fused(dsk, keys, **kwargs)[0]


def client_of(schedule: Callable[..., Any]) -> Any:
    """Return the distributed client whose method *schedule* is, or None."""
    owner = getattr(schedule, "__self__", None)
    return owner if type(owner).__module__.startswith("distributed.") else None


def as_they_land(
    client: Any,
    bag: SavingBag,
    compute_kw: Mapping[str, Any],
    describe: Callable[[int], str],
) -> Iterator[tuple[int, Any]]:
    """Compute the partitions of *bag* and yield number and result of each as it ends.

    Parameters
    ----------
    client : distributed.Client
    bag : SavingBag
    compute_kw : mapping
        For ``client.persist``: ``retries``, ``priority``, ``resources``, ``workers``
        and the like.
    describe : callable
        Says which partition has a number, in the notes of errors.
    """
    from distributed import as_completed, futures_of

    _check(client, compute_kw)
    futures: list[Any] = []
    landed = 0
    try:
        futures += futures_of(client.persist(bag, **compute_kw))
        completed = as_completed(
            futures, loop=client.loop, with_results=True, raise_errors=False
        )
        for future, result in completed:
            if future.status == "error":
                _, error, traceback = result
                note_partition(error, describe(future.key[1]))
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
        # Also where this was ended by an exception, whose traceback holds them.
        for future in futures:
            future.release()


def _check(client: Any, compute_kw: Mapping[str, Any]) -> None:
    if client.asynchronous:
        raise TypeError(
            "a save waits for the cluster, which it cannot do in the event loop of an "
            "asynchronous client; call it in a thread, with a client that is not"
        )
    # persist takes any others too, and does nothing with them.
    parameters = signature(client.persist).parameters.values()
    known = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    if unknown := sorted(compute_kw.keys() - known):
        raise TypeError(
            f"a dask.distributed client takes no {', '.join(unknown)}; give it "
            f"{', '.join(sorted(known - {'collections'}))}"
        )
