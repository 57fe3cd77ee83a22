"""Executing what was decided: what one call reads of the store, and its effects."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from agatha_ckpt._dask.adapter import load_collection
from agatha_ckpt._dask.deferred import deferred_save, nothing
from agatha_ckpt._dask.failure import failed_partition
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.save import save_partitions
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._dask.scheduler import check_scheduler
from agatha_ckpt._dask.tracebacks import shorten
from agatha_ckpt._errors import (
    StaleCheckpointWarning,
    error_note,
    pickle_refusal,
)
from agatha_ckpt._format.base import WriteOptions
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.names import new_run
from agatha_ckpt._run.decision import (
    Action,
    Decision,
    Request,
    Stored,
    decide,
)
from agatha_ckpt._run.events import (
    Loaded,
    PartitionFailed,
    Publisher,
    Stale,
    Started,
    Subscriber,
)
from agatha_ckpt._run.explanation import Explanation
from agatha_ckpt._run.halt import halt_of
from agatha_ckpt._run.inputs import Inputs, edited
from agatha_ckpt._run.lookup import Found, find
from agatha_ckpt._run.progress import (
    WEAK_COMMIT,
    Reporter,
    loading,
    passing,
    saving,
    verified,
)
from agatha_ckpt._run.save import DeferredEnd, Save, publish_result
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.folder import Folder, Marker
from agatha_ckpt._store.resume import Reusable, find_reusable
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import verify

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


@dataclass(frozen=True)
class Call:
    """One call for a checkpoint.

    Attributes
    ----------
    store : CheckpointStore
    folder : Folder
        That of the checkpoint.
    inputs : Inputs, optional
        Those of the collection that was given.
    request : Request
        What is asked for.
    settings : Settings
        Those in force for this call.
    compute_kw : mapping
        For dask.
    pool : WarmPool
        For dask's process scheduler.
    read_from : sequence of CheckpointStore
        Other stores, in which what is done is looked for.
    on_event : Subscriber
        Called with each event, after the reporter.
    run : str
        8 hex digits, in the names of the files that it writes.
    """

    store: CheckpointStore
    folder: Folder
    inputs: Inputs | None
    request: Request
    settings: Settings
    compute_kw: Mapping[str, Any]
    pool: WarmPool
    read_from: Sequence[CheckpointStore] = ()
    on_event: Subscriber = field(default_factory=Subscriber)
    run: str = field(default_factory=new_run)

    @cached_property
    def reporter(self) -> Reporter:
        """What prints and logs progress messages."""
        return Reporter(self.folder.name, self.settings.verbose)

    def checkpoint(self) -> Any:
        """Execute the call; return the collection that its caller gets."""
        return self._execute(self._find())

    def repair(self) -> Any:
        """Read the done checkpoint in full, and compute again what is damaged."""
        if not self.settings.enabled:
            return self.checkpoint()
        data = self.folder.read_marker()
        manifest = self.folder.manifest_from(data) if data else self.folder.manifest()
        # Of the manifest read above: another run may repair it at the same moment.
        damaged = tuple(verify(self.folder, manifest, self.settings.allow_pickle))
        if damaged and self.folder.read_marker() != data:
            return self.repair()
        textfile = codec_for(manifest.plan.format).is_text
        call = replace(self, request=replace(self.request, textfile=textfile))
        call.reporter.report(verified(manifest, len(damaged)))
        compared = call._given.compare(self.store, self.folder.name, manifest)
        stored = Stored(Marker(data, manifest), damaged, comparison=compared)
        decision = decide(self.settings, call.request, stored)
        return call._execute(Found(self.store, self.folder, stored, decision))

    def explain(self) -> Explanation:
        """Return what the call would do, from the same look and decision.

        Raises
        ------
        CheckpointError
            As the call would.
        """
        found = self._find()
        stored, decision = found.stored, found.decision
        name, action, reason = self.folder.name, decision.action, decision.reason
        if action is Action.PASS_THROUGH:
            return Explanation(name, action, passing(decision), reason)
        if action is Action.LOAD:
            line = loading(decision, found.manifest)
            return Explanation(name, action, line, reason, halts=self._halts)
        save, line = self._plan_save(decision, stored)
        if action is Action.COMPUTE and save.kept:
            action = Action.RESUME
        kept = len(save.kept)
        return Explanation(name, action, line, reason, save.missing, kept, self._halts)

    @property
    def _halts(self) -> bool:
        return self.settings.halt_after == self.folder.name

    def _find(self) -> Found:
        stores = [self.store, *self.read_from]
        return find(stores, self.inputs, self.request, self.settings)

    @cached_property
    def _publish(self) -> Publisher:
        subscribers = (self.reporter, self.on_event)
        return Publisher(self.folder.name, self.folder.root, subscribers)

    # ---- effects ----

    def _execute(self, found: Found) -> Any:
        decision = found.decision
        publish = replace(self._publish, root=found.folder.root)
        if decision.stale and decision.action is not Action.PASS_THROUGH:
            publish(Stale, decision.stale)
        if decision.action is Action.PASS_THROUGH:
            self.reporter.report(passing(decision))
            given = self.inputs and self.inputs.source.collection
            return given if self.request.compute else nothing()
        if decision.action is Action.LOAD:
            manifest = self._ready(found, publish)
        elif not self.request.compute:
            return self._defer(decision, found.stored)
        else:
            try:
                manifest = self._save(decision, found.stored)
            except Exception as error:
                shorten(error, keep=1)
                raise
        if self._halts:
            self.reporter.report("Halting")
            raise halt_of(found.folder.describe())
        if not self.request.compute:
            return nothing()
        if self.request.textfile:
            return None
        is_stale = decision.action is Action.LOAD and decision.stale
        return load_collection(
            found.store,
            self.folder.name,
            manifest,
            self.settings.allow_pickle,
            bool(is_stale or self.request.stale_parents),
        )

    def _ready(self, found: Found, publish: Publisher) -> Manifest:
        """Report what is loaded, and return its manifest."""
        decision, manifest = found.decision, found.manifest
        is_own = found.store is self.store and not self.settings.read_only
        if self.inputs is not None and is_own:
            with suppress(OSError):  # a root that can only be read
                self.folder.sync()
        is_warned = bool(decision.stale)
        line, warn = loading(decision, manifest), decision.warn and not is_warned
        publish(Loaded, manifest, line, warn)
        if is_warned:
            with suppress(OSError, ValueError):  # of a stderr that is closed
                warnings.warn(
                    f"{found.folder.describe()} is stale ({decision.stale}) and was "
                    "loaded anyway; pass on_stale='recompute' to update it",
                    StaleCheckpointWarning,
                    stacklevel=_stacklevel(),
                )
        return manifest

    def _save(self, decision: Decision, stored: Stored) -> Manifest:
        source = self._given.source
        check_scheduler(self.compute_kw.get("scheduler"), type(source.collection))
        save, line = self._begin(decision, stored)
        kept = tuple(save.kept.values())
        self._publish(Started, save.plan.npartitions, kept, line, decision.warn)

        def compute() -> dict[int, PartitionInfo]:
            try:
                with self.reporter.bar(save.plan.npartitions, kept):
                    return save_partitions(
                        source,
                        save.missing,
                        save.fingerprints,
                        save.task,
                        self.compute_kw,
                        self.pool,
                        partial(publish_result, self._publish),
                    )
            except Exception as error:
                index = failed_partition(error, self.folder.name)
                if index is not None:
                    self._publish(PartitionFailed, index, error)
                raise

        return save.end(compute, self._publish)

    def _defer(self, decision: Decision, stored: Stored) -> Any:
        """Return a Delayed that saves."""
        save, line = self._begin(decision, stored)
        kept = tuple(save.kept.values())
        line += "; deferred until it is computed"
        self._publish(Started, save.plan.npartitions, kept, line, decision.warn)
        end = DeferredEnd(save, self.settings.verbose, self.on_event)
        source, fingerprints = self._given.source, save.fingerprints
        return deferred_save(source, save.missing, fingerprints, save.task, end)

    def _begin(self, decision: Decision, stored: Stored) -> tuple[Save, str]:
        """Make the folder; return what the save does, and the line of it."""
        self.folder.make()
        save, line = self._plan_save(decision, stored)
        with error_note(f"looking for locks on the folder of {self.request.where}"):
            is_atomic = self.folder.files.atomic_swap(self.folder.path)
        return save, line if is_atomic else f"{line}; {WEAK_COMMIT}"

    def _plan_save(self, decision: Decision, stored: Stored) -> tuple[Save, str]:
        """Return what a save keeps and what it computes, and the line of it."""
        inputs, plan, metadata = self._given, self.request.plan, self.request.metadata
        if stored.manifest and not self.request.overwrite:  # what is not given stays
            if plan.version is None:
                plan = replace(plan, version=stored.manifest.plan.version)
            if metadata is None:
                metadata = stored.manifest.metadata
        fingerprints = inputs.fingerprints(plan)
        if decision.keep_partial:
            reusable = find_reusable(
                self.folder,
                codec_for(plan.format),
                fingerprints.partitions,
                stored.marker,
                frozenset(partition.index for partition in stored.damaged),
            )
        else:
            self.folder.list()  # an error where there is no bucket
            reusable = Reusable({})
        kept = reusable.kept
        holds_pickle = any(info.holds_pickle for info in kept.values())
        if holds_pickle and not self.settings.allow_pickle:
            raise pickle_refusal(self.request.where)
        save = Save(
            self._task(plan, stored.marker),
            plan,
            metadata or {},
            fingerprints,
            inputs.source.description,
            kept,
            stored.marker,
        )
        steps = edited(kept, fingerprints)
        line = saving(decision, reusable, save.missing, steps, fingerprints.opaque)
        return save, line

    def _task(self, plan: Plan, marker: Marker) -> SavePartition:
        compression: str | None = self.settings.compression
        if compression == "auto":
            compression = "zstd" if self.folder.files.remote else None
        options = WriteOptions(
            plan.format,
            plan.npartitions,
            marker.base,
            self.run,
            compression,
            self.settings.allow_pickle,
        )
        return SavePartition(
            self.store,
            self.folder.name,
            options,
            self._given.source.prepare,
            self.settings.on_error == "continue",
            not self.request.compute,
        )

    @property
    def _given(self) -> Inputs:
        return cast(Inputs, self.inputs)


def _stacklevel() -> int:
    """Return the level of the first caller outside this package, for a warning."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
