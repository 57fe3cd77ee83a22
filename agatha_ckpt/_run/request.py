"""What a caller asks for: checked before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from dask.bag import Bag

from agatha_ckpt._dask.load import parents_of
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.scheduler import check_keywords, scheduler_in_force
from agatha_ckpt._errors import EncodeError, InvalidValueError
from agatha_ckpt._run.advice import advice_for, named
from agatha_ckpt._run.decision import Request
from agatha_ckpt._run.execution import Call
from agatha_ckpt._run.metadata import checked_metadata
from agatha_ckpt._settings import Settings, fault_of
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.store import CheckpointStore

_SETTINGS = tuple(field.name for field in fields(Settings))


def call_for(
    store: CheckpointStore,
    settings: Settings,
    pool: WarmPool,
    name: str | os.PathLike[str],
    bag: Bag | None,
    given: Mapping[str, Any],
    asked: Collection[str],
) -> Call:
    """Return the call that a caller asks for.

    Parameters
    ----------
    store : CheckpointStore
    settings : Settings
        Those of the Checkpointer.
    pool : WarmPool
    name : str or os.PathLike
    bag : dask.bag.Bag, optional
    given : mapping
        The keyword arguments: settings, what dask takes, and others.
    asked : collection of str
        The names of those others.

    Raises
    ------
    InvalidValueError
        A setting, the scheduler or another argument does not take its value.
    InvalidNameError
        The name is not legal.
    EncodeError
        *bag* is not a bag, or *metadata* is not a dict that JSON can hold.
    TypeError
        Neither the call nor the scheduler in force takes an option.
    """
    known = ("bag", *_SETTINGS, *asked)
    compute_kw = {k: v for k, v in given.items() if k not in known}
    _check_options(compute_kw, known)
    settings = settings.override_given(
        {k: v for k, v in given.items() if k in _SETTINGS}
    )
    folder = store._folder(name)
    request = request_for(folder, bag, **{k: v for k, v in given.items() if k in asked})
    return Call(store, folder, bag, request, settings, compute_kw, pool)


def _check_options(compute_kw: Mapping[str, Any], known: Collection[str]) -> None:
    scheduler = compute_kw.get("scheduler")
    check_keywords(compute_kw.keys() - {"scheduler"}, scheduler, known)
    if scheduler is not None:  # else it is not asked for before it is needed
        scheduler_in_force(scheduler)


def request_for(
    folder: Folder,
    bag: Bag | None,
    *,
    textfile: bool = False,
    version: str | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Request:
    """Return what a caller asks for, as a value.

    Raises
    ------
    InvalidValueError
        The version is not a str, or a flag is not a bool.
    EncodeError
        *bag* is not a bag, or *metadata* is not a dict that JSON can hold.
    """
    where = folder.describe()
    for flag, value in {"textfile": textfile, "overwrite": overwrite}.items():
        if fault := fault_of(flag, value, f"{flag} of {where}"):
            raise InvalidValueError(fault)
    if not isinstance(version, str | None):
        raise InvalidValueError(
            f"the version of {where} must be a str, not "
            f"{type(version).__name__}; use str({version!r})"
        )
    if version is not None:  # the manifest has no subclasses of str
        version = str.__str__(version)
    request = Request(
        where,
        folder.name,
        version=version,
        textfile=textfile,
        overwrite=overwrite,
        metadata=None if metadata is None else checked_metadata(metadata, where),
    )
    if bag is None:
        return request
    check_bag(bag, where)
    parents = parents_of(bag)
    return replace(
        request,
        npartitions=bag.npartitions,
        parents=parents.ids,
        stale_parents=parents.stale,
    )


def check_bag(bag: object, where: str) -> None:
    """Refuse what is not a bag.

    Raises
    ------
    EncodeError
    """
    if not isinstance(bag, Bag):
        raise EncodeError(
            f"{where} cannot be saved: {named(type(bag))} is not a dask bag; "
            f"{advice_for(bag)}"
        )
