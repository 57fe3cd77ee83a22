"""What a call asks for, and how its inputs compare with what is stored."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import dask
from dask.bag import Bag

from agatha_ckpt._dask.fingerprint import SCHEME, Fingerprints, fingerprints_of
from agatha_ckpt._dask.load import layer_of, parents_of
from agatha_ckpt._errors import EncodeError, InvalidValueError
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._run.decision import Comparison, Request, edited_steps
from agatha_ckpt._store.folder import Folder
from agatha_ckpt._store.store import CheckpointStore


def request_for(
    folder: Folder,
    bag: Bag | None,
    version: str | None,
    textfile: bool,
    overwrite: bool,
    metadata: Mapping[str, Any] | None,
) -> Request:
    """Return what a caller asks for.

    Raises
    ------
    InvalidValueError
        The version is not a str.
    EncodeError
        *bag* is not a bag, or *metadata* is not a mapping that JSON can hold.
    """
    where = folder.describe()
    if not isinstance(version, str | None):
        raise InvalidValueError(
            f"the version of {where} must be a str, not "
            f"{type(version).__name__}; use str({version!r})"
        )
    if version is not None:  # the manifest has no subclasses of str
        version = str.__str__(version)
    check_metadata(metadata, where)
    request = Request(
        where,
        folder.name,
        version=version,
        textfile=textfile,
        overwrite=overwrite,
        metadata=metadata,
    )
    if bag is None:
        return request
    check_bag(bag)
    parents = parents_of(bag)
    return replace(
        request,
        npartitions=bag.npartitions,
        parents=parents.ids,
        stale_parents=parents.stale,
    )


def check_bag(bag: object) -> None:
    """Refuse what is not a bag.

    Raises
    ------
    EncodeError
    """
    if not isinstance(bag, Bag):
        raise EncodeError(
            f"bag must be a dask bag, not a {type(bag).__name__}; "
            "dask.bag.from_sequence makes one"
        )


def check_metadata(metadata: object, where: str) -> None:
    """Refuse metadata that JSON does not keep as it is.

    Raises
    ------
    EncodeError
    """
    if metadata is None:
        return
    try:
        text = json.dumps(metadata, allow_nan=False)
        kept = isinstance(metadata, dict) and json.loads(text)
    except (TypeError, ValueError, RecursionError):
        kept = None
    if kept != metadata:
        raise EncodeError(
            f"the metadata of {where} must be a dict that JSON can hold; use strings "
            "as keys, and strings, numbers, booleans, None, lists and dicts as values"
        )


class Inputs:
    """The inputs of a bag, as fingerprints.

    Parameters
    ----------
    bag : dask.bag.Bag
    """

    def __init__(self, bag: Bag) -> None:
        self.bag = bag
        self._of = cache(self._fingerprints)

    def fingerprints(self, plan: Plan) -> Fingerprints:
        """Return the fingerprints of the partitions, if they are stored by *plan*."""
        return self._of(plan.version, plan.format)

    def _fingerprints(self, version: str | None, format: str) -> Fingerprints:
        return fingerprints_of(self.bag, version=version, format=format)

    def compare(
        self, store: CheckpointStore, name: str, manifest: Manifest
    ) -> Comparison:
        """Return how they compare with those of a done checkpoint."""
        if self.bag.name == layer_of(store, name, manifest):
            return Comparison(is_own=True)
        if manifest.is_agatha:
            return Comparison()
        if (manifest.scheme, manifest.dask) != (SCHEME, dask.__version__):
            return Comparison(
                incomparable="it was saved with another version of dask "
                f"({manifest.dask or 'unknown'}), whose fingerprints cannot be compared"
            )
        if self.bag.npartitions != manifest.plan.npartitions:
            return Comparison()  # which is what is reported
        now = self.fingerprints(manifest.plan)
        same = {
            index: info
            for index, info in enumerate(manifest.partitions)
            if info.fingerprint == now.partitions[index]
        }
        return Comparison(self.bag.npartitions - len(same), edited(same, now))


def edited(kept: dict[int, PartitionInfo], now: Fingerprints) -> tuple[str, ...]:
    """Return the steps whose code has changed since partitions were stored."""
    pairs = {(info.code, now.codes[index]) for index, info in kept.items()}
    steps = [step for pair in sorted(pairs) for step in edited_steps(*pair)]
    return tuple(dict.fromkeys(steps))


def make_manifest(
    name: str,
    plan: Plan,
    infos: dict[int, PartitionInfo],
    now: Fingerprints,
    metadata: Mapping[str, Any],
) -> Manifest:
    """Return the manifest of a save."""
    return Manifest(
        plan,
        tuple(infos[index] for index in range(plan.npartitions)),
        name=name,
        metadata=metadata,
        scheme=SCHEME,
        dask=dask.__version__,
        opaque=now.opaque,
    )
