"""What a call has to do, and why: decided before anything is touched."""

from dataclasses import dataclass, field
from enum import StrEnum

from agatha_ckpt._errors import (
    CheckpointConflictError,
    CheckpointNotFoundError,
)
from agatha_ckpt._format.blocks import pickle_refusal
from agatha_ckpt._format.manifest import Manifest, Plan
from agatha_ckpt._format.names import MSGPACK, TEXT
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
        The checkpoint, as messages speak of it.
    npartitions : int, optional
        Number of partitions of the bag that was given; None where none was.
    parents : tuple of (name, id)
        The checkpoints that the bag was built from.
    version : str, optional
        The caller's label.
    textfile : bool
        Whether a text checkpoint is asked for.
    name : str
        Name of the checkpoint.
    overwrite : bool
        Whether all partitions are to be computed, whatever is stored.
    """

    where: str
    npartitions: int | None = None
    parents: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    textfile: bool = False
    name: str = ""
    overwrite: bool = False

    @property
    def has_bag(self) -> bool:
        """Whether a bag was given."""
        return self.npartitions is not None

    @property
    def plan(self) -> Plan:
        """What a save of the bag would be a run of."""
        return Plan(
            npartitions=self.npartitions or 0,
            format=TEXT if self.textfile else MSGPACK,
            version=self.version,
            parents=self.parents,
        )


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
    problem : str, optional
        Why a marker that is there does not count.
    """

    marker: Marker = field(default_factory=Marker)
    damaged: tuple[DamagedPartition, ...] = ()
    problem: str | None = None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest; None where the checkpoint is not done."""
        return self.marker.manifest


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    Attributes
    ----------
    action : Action
    reason : str
        Half a sentence, for people; empty where there is nothing to say.
    keep_partial : bool
        Whether partitions of an unfinished run may be kept.
    warn : bool
        Whether the reason is something to look at.
    """

    action: Action
    reason: str = ""
    keep_partial: bool = False
    warn: bool = False


def decide(settings: Settings, request: Request, stored: Stored) -> Decision:
    """Return what a call has to do.

    Raises
    ------
    CheckpointNotFoundError
        The checkpoint is not done, and no bag was given.
    CheckpointConflictError
        A checkpoint in the other format is done under the name, or it is stale and
        the settings say that this is an error.
    PickleNotAllowedError
        It holds pickled values, and the settings do not allow them.
    """
    if not settings.enabled and request.has_bag:
        return Decision(Action.PASS_THROUGH, "checkpoints are disabled")
    if request.overwrite:
        return _overwrite(request, stored)
    if stored.manifest is None:
        return _without_manifest(settings, request, stored)
    return _with_manifest(settings, request, stored, stored.manifest)


def _overwrite(request: Request, stored: Stored) -> Decision:
    if not request.has_bag:
        raise CheckpointNotFoundError(
            f"{request.where} cannot be computed again, because no bag was given; give "
            "the bag, or call without overwrite=True"
        )
    action = Action.RECOMPUTE if stored.manifest else Action.COMPUTE
    return Decision(action, "overwrite=True")


def _without_manifest(settings: Settings, request: Request, stored: Stored) -> Decision:
    if not request.has_bag:
        raise CheckpointNotFoundError(
            f"{request.where} is not done and no bag was given; give the bag, or run "
            "the program that saves it first"
        )
    keep = settings.allow_partial
    if stored.problem:
        return Decision(Action.COMPUTE, stored.problem, keep, warn=True)
    return Decision(Action.COMPUTE, keep_partial=keep)


def _with_manifest(
    settings: Settings, request: Request, stored: Stored, manifest: Manifest
) -> Decision:
    if request.textfile and manifest.plan.format != TEXT:
        raise CheckpointConflictError(
            f"{request.where} is done as {manifest.plan.format}, and textfile=True "
            "asks for text; clear it first, or use another name"
        )
    stale = _stale(request, manifest)
    if stale and settings.on_stale == "error":
        raise CheckpointConflictError(
            f"{request.where} is stale: {stale}; clear it, give it another name, or "
            "set on_stale to 'warn' or 'recompute'"
        )
    if stale and settings.on_stale == "recompute":
        if not request.has_bag:
            raise CheckpointNotFoundError(
                f"{request.where} is stale ({stale}) and no bag was given to compute "
                "it again; give the bag, or set on_stale to 'warn'"
            )
        return Decision(Action.RECOMPUTE, f"stale: {stale}", settings.allow_partial)
    if stored.damaged and request.has_bag:
        decision = _mend(settings, request, stored, manifest, stale)
        if decision.action is Action.RECOMPUTE:
            return decision
    else:
        decision = Decision(Action.LOAD)
    if manifest.holds_pickle and not settings.allow_pickle:
        raise pickle_refusal(request.where)
    if stale:
        return Decision(Action.LOAD, f"stale, loaded all the same: {stale}", warn=True)
    if request.npartitions and not manifest.plan.npartitions:
        reason = (
            f"its done marker is empty, as if made by hand, and the bag has "
            f"{request.npartitions:,} partitions; clear it to save them"
        )
        return Decision(Action.LOAD, reason, warn=True)
    return decision


def _mend(
    settings: Settings,
    request: Request,
    stored: Stored,
    manifest: Manifest,
    stale: str | None,
) -> Decision:
    """Repair where old and new partitions can be of one run; else start again."""
    first = stored.damaged[0]
    reason = f"partition {first.index} is damaged ({first.reason})"
    if len(stored.damaged) > 1:
        reason += f", and {len(stored.damaged) - 1} more"
    obstacle = stale
    if request.npartitions != manifest.plan.npartitions:
        obstacle = (
            f"the bag has {request.npartitions} partitions, and the checkpoint "
            f"{manifest.plan.npartitions}"
        )
    elif request.plan.format != manifest.plan.format:
        obstacle = f"the checkpoint is stored as {manifest.plan.format}"
    elif manifest.is_agatha:
        obstacle = "the checkpoint was written by Agatha"
    elif not settings.allow_partial:
        obstacle = "allow_partial is off"
    if obstacle:
        reason = f"{reason}, and the rest cannot be kept: {obstacle}"
        return Decision(Action.RECOMPUTE, reason, settings.allow_partial, warn=True)
    return Decision(Action.REPAIR, reason, warn=True)


def _stale(request: Request, manifest: Manifest) -> str | None:
    """Return why what is done is not what is asked for; None where it is."""
    plan = manifest.plan
    asked_for = request.has_bag or request.version is not None
    if asked_for and request.version != plan.version:
        return f"it has version {plan.version!r}, not {request.version!r}"
    if not request.has_bag or manifest.is_agatha:
        return None
    if (request.name, manifest.id) in request.parents:
        return None  # the bag was loaded from this very checkpoint
    # Two roots can hold parents of the same name. What they hold counts.
    asked = {parent_id: name for name, parent_id in request.parents}
    found = {parent_id: name for name, parent_id in plan.parents}
    new = {asked[parent_id] for parent_id in asked.keys() - found.keys()}
    gone = {found[parent_id] for parent_id in found.keys() - asked.keys()}
    if not new and not gone:
        return None
    if remade := sorted(new & gone):
        return f"its parent {remade[0]!r} has other records now"
    other = sorted(new or gone)
    return f"it was built from other checkpoints (see {other[0]!r})"
