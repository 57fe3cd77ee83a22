"""What a call does, and why: decided from values, before anything is written."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agatha_ckpt._errors import (
    CheckpointConflictError,
    CheckpointNotFoundError,
    pickle_refusal,
)
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import Manifest, Plan
from agatha_ckpt._format.names import MSGPACK, TEXT
from agatha_ckpt._human import format_count
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.folder import Marker
from agatha_ckpt._store.verify import DamagedPartition


class Action(StrEnum):
    """What a call does."""

    PASS_THROUGH = "pass through"
    LOAD = "load"
    COMPUTE = "compute"
    RESUME = "resume"  # compute, where partitions are kept
    REPAIR = "repair"
    RECOMPUTE = "recompute"
    ERROR = "error"


@dataclass(frozen=True)
class Request:
    """What a caller asks for.

    Attributes
    ----------
    where : str
        The checkpoint, for messages.
    name : str
        Name of the checkpoint.
    npartitions : int, optional
        Number of partitions of the collection; None where none was given.
    parents : tuple of (name, id)
        The checkpoints that the bag was built from.
    version : str, optional
        The caller's version label.
    textfile : bool
        Whether a text checkpoint is asked for.
    overwrite : bool
        Whether all partitions are to be computed, whatever is stored.
    stale_parents : tuple of str
        Names of parents that were loaded although they were stale.
    metadata : mapping, optional
        The caller's own.
    kind : str
        Kind of the collection.
    format : str
        Name of the format for it, where no text is asked for.
    compute : bool
        Whether the save is computed now; else it is deferred.
    """

    where: str
    name: str
    npartitions: int | None = None
    parents: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    textfile: bool = False
    overwrite: bool = False
    stale_parents: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None
    kind: str = "bag"
    format: str = MSGPACK
    compute: bool = True

    @property
    def has_bag(self) -> bool:
        """Whether a bag was given."""
        return self.npartitions is not None

    @property
    def plan(self) -> Plan:
        """The plan of a save of the bag."""
        return Plan(
            npartitions=self.npartitions or 0,
            format=TEXT if self.textfile else self.format,
            version=self.version,
            parents=self.parents,
        )


@dataclass(frozen=True)
class Comparison:
    """How the inputs of a bag compare with those of a done checkpoint.

    Attributes
    ----------
    changed : int
        Number of partitions with another fingerprint.
    edited : tuple of str
        Steps with other code, of partitions with the same fingerprint.
    incomparable : str
        Why fingerprints cannot be compared; empty where they can.
    is_own : bool
        Whether the bag is the one that loads the checkpoint.
    is_moved : bool
        Whether equal partitions have other places: other chunks, or divisions.
    """

    changed: int = 0
    edited: tuple[str, ...] = ()
    incomparable: str = ""
    is_own: bool = False
    is_moved: bool = False


@dataclass(frozen=True)
class Stored:
    """What is stored under the name.

    Attributes
    ----------
    marker : Marker
        The done marker.
    damaged : tuple of DamagedPartition
        Partitions of a done checkpoint whose file is missing, of another size, or
        damaged inside.
    problem : str
        Why a marker that exists does not count; empty where it does.
    comparison : Comparison
    """

    marker: Marker = field(default_factory=Marker)
    damaged: tuple[DamagedPartition, ...] = ()
    problem: str = ""
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def manifest(self) -> Manifest | None:
        """The manifest; None where the checkpoint is not done."""
        return self.marker.manifest


@dataclass(frozen=True)
class Decision:
    """What a call does, and why.

    Attributes
    ----------
    action : Action
    reason : str
        For people; empty where the action needs no reason.
    keep_partial : bool
        Whether stored partitions with the right fingerprint are kept.
    warn : bool
        Whether the reason needs attention.
    stale : str
        Why a done checkpoint is stale; empty where it is not.
    """

    action: Action
    reason: str = ""
    keep_partial: bool = False
    warn: bool = False
    stale: str = ""


def decide(settings: Settings, request: Request, stored: Stored) -> Decision:
    """Return what a call does.

    Raises
    ------
    CheckpointNotFoundError
        The checkpoint is not done, and no collection was given.
    CheckpointConflictError
        A checkpoint in the other format is done under the name; or it is stale, and
        that is an error by the settings; or it has another version, and cannot be
        computed again.
    PickleNotAllowedError
        It holds pickled values, and the settings do not allow them.
    """
    if not settings.enabled and request.has_bag:
        return Decision(Action.PASS_THROUGH, "checkpoints are disabled")
    if request.overwrite:
        decision = _overwrite(request, stored)
    elif stored.manifest is None:
        decision = _without_manifest(settings, request, stored)
    else:
        decision = _with_manifest(settings, request, stored, stored.manifest)
    if settings.read_only and decision.action is not Action.LOAD:
        reason = f"read_only=True; {decision.reason or 'it is not done'}"
        return Decision(Action.PASS_THROUGH, reason, warn=decision.warn)
    return decision


def _overwrite(request: Request, stored: Stored) -> Decision:
    if not request.has_bag:
        raise CheckpointNotFoundError(
            f"{request.where} cannot be computed again, because no collection was "
            "given; give the collection, or call without overwrite=True"
        )
    action = Action.RECOMPUTE if stored.manifest else Action.COMPUTE
    return Decision(action, "overwrite=True")


def _without_manifest(settings: Settings, request: Request, stored: Stored) -> Decision:
    if not request.has_bag:
        raise CheckpointNotFoundError(
            f"{request.where} is not done and no collection was given; give the "
            "collection, or run the program that saves it first"
        )
    reasons = [stored.problem, *_stale_parents(request)]
    return Decision(
        Action.COMPUTE,
        "; ".join(filter(None, reasons)),
        settings.allow_partial,
        warn=any(reasons),
    )


def _with_manifest(
    settings: Settings, request: Request, stored: Stored, manifest: Manifest
) -> Decision:
    if request.textfile and not codec_for(manifest.plan.format).is_text:
        raise CheckpointConflictError(
            f"{request.where} is done as {manifest.plan.format}, and textfile=True "
            "asks for text; use another name, or pass overwrite=True"
        )
    kind = manifest.collection["kind"]
    if request.has_bag and request.kind != kind:
        raise CheckpointConflictError(
            f"{request.where} is done as a checkpoint of kind {kind}, and the "
            f"collection is of kind {request.kind}; use another name, or pass "
            "overwrite=True"
        )
    if other_version := _other_version(request, manifest):
        _check_version(request, stored, other_version)
    stale = other_version or _other_inputs(request, stored, manifest)
    if stale and settings.on_stale == "error":
        raise CheckpointConflictError(
            f"{request.where} is stale: {stale}; pass on_stale='recompute' to update "
            "it, or use another name"
        )
    if other_version or (stale and settings.on_stale == "recompute"):
        reason = f"stale: {stale}"
        if not request.textfile and codec_for(manifest.plan.format).is_text:
            reason += "; it was stored as text and becomes msgpack"
        if stored.comparison.incomparable:
            reason += f"; no partition is kept: {stored.comparison.incomparable}"
        return Decision(Action.RECOMPUTE, reason, settings.allow_partial, stale=stale)
    if stored.damaged and request.has_bag:
        return _repair(settings, request, stored, manifest, stale)
    if manifest.holds_pickle and not settings.allow_pickle:
        raise pickle_refusal(request.where)
    return _load(request, stored, manifest, stale)


def _load(request: Request, stored: Stored, manifest: Manifest, stale: str) -> Decision:
    reasons = [*_stale_parents(request)]
    if stale:
        advice = "pass on_stale='recompute' to update it"
        reasons.append(f"stale ({stale}), loaded anyway; {advice}")
    elif request.npartitions and not manifest.plan.npartitions:
        reasons.append(
            "its done marker is empty, as if made by hand, and the collection has "
            f"{request.npartitions:,} partitions; clear it to save them"
        )
    reasons += edited_code(stored.comparison.edited)
    reason = "; ".join(reasons)
    return Decision(Action.LOAD, reason, warn=bool(reason), stale=stale)


def _repair(
    settings: Settings,
    request: Request,
    stored: Stored,
    manifest: Manifest,
    stale: str,
) -> Decision:
    """Repair, where the partitions of the checkpoint are right; else recompute."""
    first = stored.damaged[0]
    reason = f"partition {first.index} is damaged ({first.reason})"
    if len(stored.damaged) > 1:
        reason += f", and {len(stored.damaged) - 1} more"
    obstacle = ""
    if manifest.is_agatha:
        obstacle = "Agatha wrote the checkpoint"
    elif request.textfile != codec_for(manifest.plan.format).is_text:
        obstacle = f"the checkpoint is stored as {manifest.plan.format}"
    elif not settings.allow_partial:
        obstacle = "allow_partial is off"
    elif stored.comparison.incomparable:
        obstacle = stored.comparison.incomparable
    if obstacle:
        reason += f"; no partition is kept: {obstacle}"
    elif stale:
        reason += f"; stale: {stale}"
    action = Action.RECOMPUTE if obstacle or stale else Action.REPAIR
    keep = settings.allow_partial and not obstacle
    return Decision(action, reason, keep, warn=True, stale=stale)


def _other_version(request: Request, manifest: Manifest) -> str:
    """Return how the version differs, where one was given; else an empty string."""
    if request.version is None or request.version == manifest.plan.version:
        return ""
    stored = manifest.plan.version
    found = "no version" if stored is None else f"version {stored!r}"
    return f"it has {found}, not {request.version!r}"


def _check_version(request: Request, stored: Stored, difference: str) -> None:
    """Refuse another version where there is nothing to compute it from."""
    if stored.comparison.is_own:
        raise CheckpointConflictError(
            f"{request.where} cannot be computed again: {difference}, and the "
            "collection was loaded from this checkpoint; build it again"
        )
    if not request.has_bag:
        raise CheckpointConflictError(
            f"{request.where} cannot be loaded: {difference}, and no collection was "
            "given; give the collection to compute it again, or ask for the version "
            "that is stored"
        )


def _other_inputs(request: Request, stored: Stored, manifest: Manifest) -> str:
    """Return how the inputs differ; an empty string where they do not."""
    if not request.has_bag or stored.comparison.is_own:
        return ""
    asked, found = request.npartitions, manifest.plan.npartitions
    if asked != found:
        is_touched = manifest.is_agatha and not found  # a marker made by hand
        text = f"the collection has {asked:,} partitions, and the checkpoint {found:,}"
        return "" if is_touched else text
    reasons = [] if manifest.is_agatha else [*_other_parents(request, manifest)]
    if changed := stored.comparison.changed:
        verb = "has" if changed == 1 else "have"
        total = format_count(found, "partition")
        reasons.append(f"{changed:,} of {total} {verb} other inputs")
    elif stored.comparison.is_moved:
        reasons.append(f"the {request.kind} has other chunks or divisions")
    return "; ".join(reasons)


def _other_parents(request: Request, manifest: Manifest) -> Iterator[str]:
    # By id: two roots can hold parents of the same name.
    asked = {parent_id: name for name, parent_id in request.parents}
    found = {parent_id: name for name, parent_id in manifest.plan.parents}
    new = {asked[parent_id] for parent_id in asked.keys() - found.keys()}
    gone = {found[parent_id] for parent_id in found.keys() - asked.keys()}
    if (request.name, manifest.id) in request.parents:
        yield "the collection was built from this checkpoint"
    elif remade := sorted(new & gone):
        yield f"its parent {remade[0]!r} has other records now"
    elif other := sorted(new or gone):
        yield f"it was built from other checkpoints, such as {other[0]!r}"


def _stale_parents(request: Request) -> Iterator[str]:
    for name in request.stale_parents:
        yield f"its parent {name!r} is stale"


def edited_code(steps: Iterable[str]) -> list[str]:
    """Return that the code of *steps* has changed, and what to do; or nothing."""
    names = ", ".join(repr(step.rpartition(".")[2]) for step in steps)
    if names:
        return [
            f"the code of {names} has changed since; version= or overwrite=True "
            "recomputes"
        ]
    return []


def edited_steps(stored: str, now: str) -> list[str]:
    """Return the steps whose code differs between two `PartitionInfo.code`.

    Examples
    --------
    >>> edited_steps("read=00000000;parse=11111111", "read=00000000;parse=22222222")
    ['parse']
    """
    before = stored.split(";")
    known = {entry.rpartition("=")[0] for entry in before}
    new = [e.rpartition("=")[0] for e in now.split(";") if e and e not in before]
    return [step for step in dict.fromkeys(new) if step in known]
