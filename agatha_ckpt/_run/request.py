"""What a caller asks for: checked before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from agatha_ckpt._dask.adapter import KNOWN, source_of
from agatha_ckpt._dask.load import parents_of
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.scheduler import check_keywords, scheduler_in_force
from agatha_ckpt._dask.source import Source
from agatha_ckpt._errors import EncodeError, InvalidValueError, read_only_refusal
from agatha_ckpt._run.advice import advice_for, named
from agatha_ckpt._run.decision import Request
from agatha_ckpt._run.events import Subscriber
from agatha_ckpt._run.execution import Call
from agatha_ckpt._run.inputs import Inputs
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
    collection: Any,
    given: Mapping[str, Any],
    asked: Collection[str],
    read_from: Sequence[CheckpointStore],
    on_event: Subscriber,
) -> Call:
    """Return the call that a caller asks for.

    Parameters
    ----------
    store : CheckpointStore
    settings : Settings
        Those of the Checkpointer.
    pool : WarmPool
    name : str or os.PathLike
    collection : dask collection, optional
    given : mapping
        The keyword arguments: settings, what dask takes, and others.
    asked : collection of str
        The names of those others.
    read_from : sequence of CheckpointStore
        Other stores, in which what is done is looked for.
    on_event : Subscriber

    Raises
    ------
    InvalidValueError
        A setting, the scheduler or another argument does not take its value.
    InvalidNameError
        The name is not legal.
    EncodeError
        *collection* is not one that can be stored, or *metadata* is not a dict that
        JSON can hold.
    TypeError
        Neither the call nor the scheduler in force takes an option.
    """
    known = ("bag", *_SETTINGS, *asked)
    compute_kw = {k: v for k, v in given.items() if k not in known}
    _check_options(compute_kw, type(collection), known)
    settings = settings.override_given(
        {k: v for k, v in given.items() if k in _SETTINGS}
    )
    folder = store._folder(name)
    if settings.read_only and (given.get("overwrite") or not asked):
        done = "computed again" if asked else "repaired"
        raise read_only_refusal(folder.describe(), done)
    if collection is None and not asked:  # of a repair
        source_for(collection, folder.describe())  # raises
    others = {k: v for k, v in given.items() if k in asked}
    if given.get("compute") is False:
        _check_deferred(folder.describe(), folder.name, settings, compute_kw)
    source, request = request_for(folder, collection, **others)
    inputs = None if source is None else Inputs(source)
    return Call(
        store,
        folder,
        inputs,
        request,
        settings,
        compute_kw,
        pool,
        read_from=read_from,
        on_event=on_event,
    )


def _check_deferred(
    where: str, name: str, settings: Settings, compute_kw: Mapping[str, Any]
) -> None:
    """Refuse what only a save that is computed now can heed."""
    if compute_kw:
        raise TypeError(
            f"{where} is not computed now, as compute=False; give "
            f"{', '.join(compute_kw)} to the compute() of what is returned"
        )
    if settings.halt_after == name:
        raise InvalidValueError(
            f"{where} cannot be both deferred and the last step: give compute=False or "
            "halt_after, not both"
        )


def _check_options(
    compute_kw: Mapping[str, Any], kind: type, known: Collection[str]
) -> None:
    scheduler = compute_kw.get("scheduler")
    check_keywords(compute_kw.keys() - {"scheduler"}, scheduler, kind, known)
    if scheduler is not None:  # else it is not asked for before it is needed
        scheduler_in_force(scheduler, kind)


def request_for(
    folder: Folder,
    collection: Any,
    *,
    textfile: bool = False,
    version: str | None = None,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
    compute: bool = True,
) -> tuple[Source | None, Request]:
    """Return the collection as a save sees it, and what a caller asks for.

    Raises
    ------
    InvalidValueError
        The version is not a str, or a flag is not a bool.
    EncodeError
        *collection* is not one that can be stored, or is not a bag where text is asked
        for, or *metadata* is not a dict that JSON can hold.
    """
    where = folder.describe()
    flags = {"textfile": textfile, "overwrite": overwrite, "compute": compute}
    for flag, value in flags.items():
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
        compute=compute,
    )
    if collection is None:
        return None, request
    source = source_for(collection, where)
    if textfile and source.kind != "bag":
        raise EncodeError(
            f"{where} cannot be saved as text, as it is of kind {source.kind!r}; omit "
            "textfile=True, which is for bags of strings"
        )
    parents = parents_of(source)
    return source, replace(
        request,
        npartitions=source.npartitions,
        parents=parents.ids,
        stale_parents=parents.stale,
        kind=source.kind,
        format=source.format,
    )


def source_for(collection: Any, where: str) -> Source:
    """Return what a save needs of a collection.

    Raises
    ------
    EncodeError
        It is not a known one, or cannot be stored faithfully.
    """
    source = source_of(collection, where)
    if source is None:
        raise EncodeError(
            f"{where} cannot be saved: {named(type(collection))} is not a collection "
            f"that can be stored ({', '.join(KNOWN)}); {advice_for(collection)}"
        )
    return source
