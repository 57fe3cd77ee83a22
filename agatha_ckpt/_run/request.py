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
from agatha_ckpt._format.blocks import encode_blocks
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
    if given.get("compute") is False:
        _check_deferred(folder.describe(), folder.name, settings, compute_kw)
    request = _request(folder, {k: v for k, v in given.items() if k in asked})
    inputs = None
    if collection is not None or not asked:  # a repair needs one
        inputs = Inputs(_source(collection, request, settings.allow_pickle))
        request = _of_collection(request, inputs.source)
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


def _request(folder: Folder, given: dict[str, Any]) -> Request:
    """Return what is asked for, but of which collection."""
    where = folder.describe()
    for flag in ("textfile", "overwrite", "compute"):
        if fault := fault_of(flag, given.get(flag, True), f"{flag} of {where}"):
            raise InvalidValueError(fault)
    version, metadata = given.get("version"), given.get("metadata")
    if not isinstance(version, str | None):
        raise InvalidValueError(
            f"the version of {where} must be a str, not "
            f"{type(version).__name__}; use str({version!r})"
        )
    if version is not None:  # the manifest has no subclasses of str
        given["version"] = str.__str__(version)
    if metadata is not None:
        given["metadata"] = checked_metadata(metadata, where)
    return Request(where, folder.name, **given)


def _source(collection: Any, request: Request, allow_pickle: bool) -> Source:
    """Return what a save needs of a collection; refuse what cannot be stored."""
    source = source_of(collection, request.where)
    if source is None:
        raise EncodeError(
            f"{request.where} cannot be saved: {named(type(collection))} is not a "
            f"collection that can be stored ({', '.join(KNOWN)}); "
            f"{advice_for(collection)}"
        )
    if request.textfile and source.kind != "bag":
        raise EncodeError(
            f"{request.where} cannot be saved as text, as it is of kind "
            f"{source.kind!r}; omit textfile=True, which is for bags of strings"
        )
    for _ in encode_blocks(source.known, allow_pickle, request.where):
        pass  # what cannot be stored is refused
    return source


def _of_collection(request: Request, source: Source) -> Request:
    parents = parents_of(source)
    return replace(
        request,
        npartitions=source.npartitions,
        parents=parents.ids,
        stale_parents=parents.stale,
        kind=source.kind,
        format=source.format,
    )
