"""Saving on a dask.distributed cluster: each partition is done with as it lands.

The scheduler computes a lost result again, and a worker that dies takes the results it
holds with it. So the driver takes each result and lets go of it at once; and what is
computed a second time looks in the store first.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from time import sleep
from typing import Any

from dask.bag import Bag

from agatha_ckpt._dask.tasks import Step, around, fused, in_turn, note_partition


class SavingBag(Bag):  # type: ignore[misc]
    """A bag whose partitions are what saving another bag's returns.

    Its tasks are called with a partition and `index`, and have a method ``find``
    that returns what an earlier try of the same task returned, if it was stored.
    """

    @staticmethod
    def __dask_optimize__(
        dsk: Mapping[Hashable, Any], keys: Any, **kwargs: Any
    ) -> dict[Hashable, Any]:
        """Optimise as any bag, then let each task look first when it is tried again.

        The look comes before what was fused into the task: the bag's own functions.
        """
        graph, saves = fused(dsk, keys, **kwargs)
        for key, (save, index) in saves.items():
            graph[key] = around(key, graph[key], _LookFirst, save, index, key)
        return graph


@dataclass(frozen=True)
class _LookFirst:
    """A task that first looks whether an earlier try of it has stored its partition."""

    save: Any
    index: int
    key: Any
    steps: tuple[Step, ...]
    needs: tuple[Any, ...]

    def __call__(self, *values: Any) -> Any:
        if _tries(self.key) and (found := self.save.find(self.index)):
            return found
        return in_turn(self.steps, self.needs, values)


def _tries(key: tuple[str, int]) -> int:
    """Return how often a task was begun before, and count this time.

    The scheduler keeps the count, because a worker does not know of others' tries.
    """
    from distributed import get_worker
    from distributed.utils import sync

    scheduler, path = get_worker().scheduler, list(key)

    async def count() -> int:
        tries: int | None = await scheduler.get_metadata(keys=path, default=None)
        if tries is None:  # the save has ended
            return 0
        await scheduler.set_metadata(keys=path, value=tries + 1)
        return tries

    tries = 0
    with suppress(OSError):  # no way to the scheduler: it gives the task to another
        tries = sync(get_worker().loop, count)
    return tries


def _forget_tries(layer: str, dask_scheduler: Any) -> None:
    dask_scheduler.task_metadata.pop(layer, None)


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
    client.set_metadata([bag.name], dict.fromkeys(range(bag.npartitions), 0))
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
        with suppress(Exception):  # it would hide what happened before
            client.run_on_scheduler(_forget_tries, bag.name)
            if landed < len(futures):  # a task that was just counting itself
                sleep(0.1)
                client.run_on_scheduler(_forget_tries, bag.name)


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
