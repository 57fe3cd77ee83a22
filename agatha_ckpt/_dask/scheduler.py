"""The scheduler in force for a save, and the keyword arguments that it takes."""

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from functools import partial
from inspect import Parameter, signature
from typing import Any

import dask
from dask import multiprocessing, threaded
from dask.bag import Bag
from dask.base import get_scheduler
from dask.local import get_async, get_sync

from agatha_ckpt._dask.distributed import ASYNCHRONOUS, check_client
from agatha_ckpt._errors import ClusterError, InvalidValueError
from agatha_ckpt._settings import ClusterOptions, LocalOptions

_CLUSTER = frozenset(ClusterOptions.__annotations__) | {"optimize_graph"}
_LOCAL = frozenset(LocalOptions.__annotations__)


def scheduler_in_force(scheduler: object, kind: type = Bag) -> Callable[..., Any]:
    """Return the function that computes a collection: *scheduler*, or dask's choice.

    Parameters
    ----------
    scheduler : object
        The caller's; None where none was given.
    kind : type
        That of the collection, which has a default of its own; else that of a bag.

    Raises
    ------
    InvalidValueError
        dask does not have it.
    ClusterError
        It is an asynchronous client.
    """
    kind = kind if hasattr(kind, "__dask_scheduler__") else Bag
    try:
        schedule: Callable[..., Any] = get_scheduler(cls=kind, scheduler=scheduler)
    except (ValueError, RuntimeError) as error:  # of a wrong name, and without a client
        if "asynchronous" in str(error):  # which dask does not hand out
            raise ClusterError(ASYNCHRONOUS) from None
        where = "scheduler"
        if scheduler is None:
            where += " in dask's configuration"
            scheduler = dask.config.get("scheduler", None)
        raise InvalidValueError(
            f"invalid value {scheduler!r} for {where}: {error}"
        ) from None
    return schedule


def client_of(schedule: Callable[..., Any]) -> Any:
    """Return the distributed client whose method *schedule* is, or None."""
    owner = getattr(schedule, "__self__", None)
    return owner if type(owner).__module__.startswith("distributed.") else None


def check_scheduler(scheduler: object, kind: type) -> None:
    """Refuse a cluster that cannot save.

    Parameters
    ----------
    scheduler, kind : object
        As for `scheduler_in_force`.

    Raises
    ------
    ClusterError
    """
    client = client_of(scheduler_in_force(scheduler, kind))
    if client is not None:
        check_client(client)


def is_local(schedule: Callable[..., Any]) -> bool:
    """Return whether *schedule* is one of dask's own, which take callbacks."""
    is_executor = isinstance(schedule, partial) and schedule.func is get_async
    return is_executor or schedule in (get_sync, threaded.get, multiprocessing.get)


_MEANT = dict.fromkeys(("force", "recompute", "refresh"), "overwrite")


def check_keywords(
    given: Iterable[str], scheduler: object, kind: type, others: Collection[str]
) -> None:
    """Refuse keywords that the scheduler in force does not take.

    Parameters
    ----------
    given : iterable of str
    scheduler, kind : object
        As for `scheduler_in_force`.
    others : collection of str
        What the call itself takes, which the message may suggest.

    Raises
    ------
    TypeError
    """
    given = set(given)
    if not given:  # needs no scheduler, such as a client that is not connected
        return
    known = _keywords_of(scheduler_in_force(scheduler, kind))
    names = [*others, "scheduler", *sorted(known)]
    for name in sorted(given - known):
        near = _MEANT.get(name) or get_close_matches(name, names, 1, cutoff=0)[0]
        why = ""
        if name in _CLUSTER:
            why = ", which only a dask.distributed client takes"
        elif name in _LOCAL:
            why = ", which the scheduler in force does not take"
        raise TypeError(
            f"unexpected keyword argument {name!r}{why}; the nearest known one is "
            f"{near!r} (known here: {', '.join(names)})"
        )


def _keywords_of(schedule: Callable[..., Any]) -> frozenset[str]:
    if client_of(schedule):
        return _CLUSTER
    if is_local(schedule):
        bound = {"num_workers"} if isinstance(schedule, partial) else set()
        return _LOCAL - bound
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    try:
        parameters = [
            p.name for p in signature(schedule).parameters.values() if p.kind in named
        ]
    except (TypeError, ValueError):  # of some builtins
        parameters = []
    return frozenset(parameters[2:]) | {"optimize_graph"}  # after graph and keys
