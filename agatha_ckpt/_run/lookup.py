"""What is stored under a name, in one store or in several, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from agatha_ckpt._errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._run.decision import Action, Decision, Request, Stored, decide
from agatha_ckpt._run.inputs import Inputs
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.folder import Folder, Marker
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import find_missing


@dataclass(frozen=True)
class Found:
    """What is stored under the name in one store, and what a call does with it.

    Attributes
    ----------
    store : CheckpointStore
    folder : Folder
    stored : Stored
    decision : Decision
    error : CheckpointError, optional
        What the call raises instead.
    """

    store: CheckpointStore
    folder: Folder
    stored: Stored = field(default_factory=Stored)
    decision: Decision = field(default_factory=lambda: Decision(Action.ERROR))
    error: CheckpointError | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of what is done."""
        return cast(Manifest, self.stored.manifest)

    @property
    def is_match(self) -> bool:
        """Whether it is done, and is what was asked for."""
        return self.decision.action is Action.LOAD and not self.decision.stale

    @property
    def is_done(self) -> bool:
        """Whether it is done, as asked for or not."""
        is_absent = isinstance(self.error, CheckpointNotFoundError)
        return self.stored.manifest is not None or bool(self.error and not is_absent)

    @property
    def problem(self) -> str:
        """Why it cannot be loaded as it is; empty where nothing is known."""
        reason = str(self.error).split(";")[0] if self.error else self.decision.reason
        return reason if self.is_done or self.stored.problem else ""


def find(
    stores: Sequence[CheckpointStore],
    inputs: Inputs | None,
    request: Request,
    settings: Settings,
) -> Found:
    """Return what is stored in the store that decides, and what a call does.

    That is the first store that has what is asked for; where none has, the first in
    which something is done under the name. The call writes to the first store only.

    Parameters
    ----------
    stores : sequence of CheckpointStore
        The store of the call, and those that it reads from.
    inputs : Inputs, optional
        Of the collection that was given.
    request : Request
    settings : Settings

    Raises
    ------
    CheckpointError
        As `decide`; or the done marker cannot be read.
    """
    own = first = _look_in(stores[0], inputs, request, settings)
    others = stores[1:]
    if own.is_match or request.overwrite or (inputs and not settings.enabled):
        others = ()
    elsewhere = replace(settings, read_only=False)  # for the reasons
    for store in others:
        other = _look_in(store, inputs, request, elsewhere)
        if other.is_match:
            return _loaded_from(other, own)
        if other.is_done and not first.is_done:
            first = other
    if first.error:
        if not first.is_done and others:
            roots = ", ".join(repr(store) for store in others)
            first.error.add_note(f"it is not done in {roots} either")
        raise first.error
    if first is own:
        return own
    if first.decision.action is Action.LOAD:
        return _loaded_from(first, own)
    reasons = [own.decision.reason, f"under {first.folder.root!r}: {first.problem}"]
    reason = "; ".join(filter(None, reasons))
    return replace(own, decision=replace(own.decision, reason=reason, warn=True))


def _loaded_from(other: Found, own: Found) -> Found:
    reasons = [f"from {other.folder.root!r}", other.decision.reason]
    if own.problem:
        reasons.append(f"not from {own.folder.root!r}: {own.problem}")
    decision = replace(
        other.decision,
        reason="; ".join(filter(None, reasons)),
        warn=other.decision.warn or bool(own.problem),
    )
    return replace(other, decision=decision)


def _look_in(
    store: CheckpointStore,
    inputs: Inputs | None,
    request: Request,
    settings: Settings,
) -> Found:
    folder = store._folder(request.name)
    request = replace(request, where=folder.describe())
    stored = Stored()
    try:
        if settings.enabled or inputs is None:
            stored = _stored(store, folder, inputs, request)
        return Found(store, folder, stored, decide(settings, request, stored))
    except CheckpointError as error:
        return Found(store, folder, stored, error=error)


def _stored(
    store: CheckpointStore, folder: Folder, inputs: Inputs | None, request: Request
) -> Stored:
    """Return what is stored; with a collection, also how it compares."""
    data = folder.read_marker()
    if data is None:
        return Stored()
    try:
        manifest = folder.manifest_from(data)
    except (CorruptCheckpointError, UnsupportedFormatError) as error:
        is_corrupt = isinstance(error, CorruptCheckpointError)
        if inputs is None or not (is_corrupt or request.overwrite):
            raise
        return Stored(Marker(data), problem=str(error).split(";")[0])
    marker = Marker(data, manifest)
    if inputs is None or request.overwrite:
        return Stored(marker)
    damaged = tuple(find_missing(folder, manifest))
    if damaged and folder.read_marker() != data:  # another run has replaced it
        return _stored(store, folder, inputs, request)
    compared = inputs.compare(store, folder.name, manifest)
    return Stored(marker, damaged, comparison=compared)
