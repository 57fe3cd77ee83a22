"""Executing what was decided: what one call reads of the store, and its effects."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import dask
from dask.bag import Bag

from agatha_ckpt._dask.load import load_bag, parents_of
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._dask.save import (
    Fingerprints,
    SavePartition,
    fingerprint_bag,
    save_partitions,
)
from agatha_ckpt._errors import (
    CheckpointConflictError,
    CheckpointHalt,
    CorruptCheckpointError,
    EncodeError,
    InvalidNameError,
)
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import new_run
from agatha_ckpt._run.decision import Action, Decision, Request, Stored, decide
from agatha_ckpt._run.explanation import Explanation
from agatha_ckpt._run.progress import (
    Reporter,
    done,
    figures,
    loading,
    passing,
    saving,
)
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.commit import commit
from agatha_ckpt._store.folder import Folder, Marker, make_folder
from agatha_ckpt._store.partition import WriteOptions
from agatha_ckpt._store.resume import Reusable, find_reusable
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import find_missing, verify

_ADOPTED = "Another run with the same inputs was first; taking its records"


def request_for(
    folder: Folder,
    bag: Bag | None,
    version: str | None,
    textfile: bool,
    overwrite: bool,
) -> Request:
    """Return what a caller asks for.

    Raises
    ------
    InvalidNameError
        The version is not a str.
    EncodeError
        *bag* is not a bag.
    """
    where, name = folder.describe(), folder.name
    if not isinstance(version, str | None):
        raise InvalidNameError(
            f"the version of {where} must be a str, not "
            f"{type(version).__name__}; use str({version!r})"
        )
    if bag is None:
        return Request(where, None, (), version, textfile, name, overwrite)
    check_bag(bag)
    parents = parents_of(bag)
    return Request(where, bag.npartitions, parents, version, textfile, name, overwrite)


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


@dataclass(frozen=True)
class Call:
    """One call for a checkpoint.

    Attributes
    ----------
    store : CheckpointStore
    folder : Folder
        That of the checkpoint.
    bag : dask.bag.Bag, optional
    request : Request
        What is asked for.
    settings : Settings
        Those in force for this call.
    compute_kw : mapping
        For dask.
    pool : WarmPool
        For dask's process scheduler.
    run : str
        8 hex digits, in the names of the files that it writes.
    """

    store: CheckpointStore
    folder: Folder
    bag: Bag | None
    request: Request
    settings: Settings
    compute_kw: Mapping[str, Any]
    pool: WarmPool
    run: str = field(default_factory=new_run)

    @cached_property
    def reporter(self) -> Reporter:
        """What prints and logs progress messages."""
        return Reporter(self.folder.name, self.settings.verbose)

    def look(self) -> Stored:
        """Return what is stored; with a bag, also which partitions are missing."""
        if self.bag is not None and not self.settings.enabled:
            return Stored()
        data = self.folder.read_marker()
        if data is None:
            return Stored()
        try:
            manifest = self.folder.manifest_from(data)
        except CorruptCheckpointError as error:
            if self.bag is None:
                raise
            return Stored(Marker(data), problem=str(error).split(";")[0])
        marker = Marker(data, manifest)
        if self.bag is None:
            return Stored(marker)
        return Stored(marker, tuple(find_missing(self.folder, manifest)))

    @property
    def halts(self) -> bool:
        """Whether the program is to stop after this checkpoint."""
        return self.settings.halt_after == self.folder.name

    def explain(self) -> Explanation:
        """Return what the call would do, from the same look, decision and survey.

        Raises
        ------
        CheckpointError
            As the call would.
        """
        stored = self.look()
        decision = decide(self.settings, self.request, stored)
        action, reason, halts = decision.action, decision.reason, self.halts
        if action is Action.PASS_THROUGH:
            return Explanation(self.folder.name, action, passing(decision), reason)
        if action is Action.LOAD or self.bag is None:
            assert stored.manifest is not None
            line = loading(decision, stored.manifest)
            return Explanation(self.folder.name, action, line, reason, halts=halts)
        reusable = self._reusable(decision, stored)
        missing = self._missing(reusable)
        if action is Action.COMPUTE and reusable.kept:
            action = Action.RESUME
        return Explanation(
            self.folder.name,
            action,
            saving(decision, reusable, missing),
            reason,
            tuple(missing),
            len(reusable.kept),
            halts,
        )

    def checkpoint(self) -> Bag | None:
        """Execute the call; return the bag that its caller gets."""
        return self._finish(self.look())

    def repair(self) -> Bag | None:
        """Read the done checkpoint in full, and compute again what is damaged."""
        if not self.settings.enabled:
            return self.checkpoint()
        data = self.folder.read_marker()
        manifest = self.folder.manifest_from(data) if data else self.folder.manifest()
        plan = manifest.plan
        textfile = codec_for(plan.format).suffix == "txt"
        request = replace(self.request, version=plan.version, textfile=textfile)
        # Of the manifest read above: another run may repair it at the same moment.
        damaged = tuple(verify(self.folder, manifest, self.settings.allow_pickle))
        call = replace(self, request=request)
        return call._finish(Stored(Marker(data, manifest), damaged))

    def _finish(self, stored: Stored) -> Bag | None:
        decision = decide(self.settings, self.request, stored)
        if decision.action is Action.PASS_THROUGH:
            self.reporter.say(passing(decision))
            return self.bag
        manifest = self.act(decision, stored)
        if self.halts:
            self.reporter.say("Halting")
            raise CheckpointHalt(f"halted after {self.request.where}, as asked for")
        if self.request.textfile:
            return None
        allow_pickle = self.settings.allow_pickle
        return load_bag(self.store, self.folder.name, manifest, allow_pickle)

    def act(self, decision: Decision, stored: Stored) -> Manifest:
        """Execute a decision and return the manifest that is then in place."""
        if decision.action is Action.LOAD or self.bag is None:
            assert stored.manifest is not None
            if self.bag is not None:
                with suppress(OSError):  # a root that can only be read
                    self.folder.sync()
            self.reporter.say(loading(decision, stored.manifest), decision.warn)
            return stored.manifest
        where = self.folder.describe()
        make_folder(self.folder.files, self.folder.path, f"the folder of {where}")
        return self._save_all(self.bag, decision, stored)

    def _save_all(self, bag: Bag, decision: Decision, stored: Stored) -> Manifest:
        started = perf_counter()
        reusable = self._reusable(decision, stored)
        missing = self._missing(reusable)
        self.reporter.say(saving(decision, reusable, missing), decision.warn)
        try:
            infos = reusable.kept | self._save(bag, missing, reusable.kept, stored)
            manifest = self._commit(infos, stored.marker)
        except CheckpointConflictError:
            raise
        except Exception as error:
            error.add_note(
                f"{self.request.where} is not known to be done; what was saved stays, "
                "and the next call with the same bag keeps it"
            )
            raise
        if manifest.files != {info.file for info in infos.values()}:
            self.reporter.say(f"{_ADOPTED}: {figures(manifest)}")
        else:
            self.reporter.say(done(manifest, missing, perf_counter() - started))
        return manifest

    def _commit(self, infos: dict[int, PartitionInfo], marker: Marker) -> Manifest:
        plan = self.request.plan
        fingerprints = self._fingerprints
        manifest = Manifest(
            plan,
            # The same fingerprint may have been stored by a run with other code.
            tuple(infos[i] for i in range(plan.npartitions)),
            name=self.folder.name,
            scheme=fingerprints.scheme,
            dask=dask.__version__,
            opaque=fingerprints.opaque,
        )
        return commit(self.folder, manifest, marker, self.run)

    @cached_property
    def _fingerprints(self) -> Fingerprints:
        assert self.bag is not None
        plan = self.request.plan
        return fingerprint_bag(self.bag, version=plan.version, format=plan.format)

    def _reusable(self, decision: Decision, stored: Stored) -> Reusable:
        """Return the partitions that need not be computed."""
        marker = stored.marker
        damaged = frozenset(partition.index for partition in stored.damaged)
        if decision.action is Action.REPAIR and marker.manifest:
            infos = enumerate(marker.manifest.partitions)
            return Reusable({i: info for i, info in infos if i not in damaged})
        if not decision.keep_partial:
            return Reusable({})
        codec = codec_for(self.request.plan.format)
        wanted = self._fingerprints.partitions
        return find_reusable(self.folder, codec, wanted, marker, damaged)

    def _missing(self, reusable: Reusable) -> list[int]:
        count = self.request.plan.npartitions
        return [i for i in range(count) if i not in reusable.kept]

    def _save(
        self,
        bag: Bag,
        indexes: list[int],
        kept: dict[int, PartitionInfo],
        stored: Stored,
    ) -> dict[int, PartitionInfo]:
        plan = self.request.plan
        options = WriteOptions(
            plan.format,
            plan.npartitions,
            stored.marker.base,
            self.run,
            self._compression(),
            self.settings.allow_pickle,
        )
        save = SavePartition(self.store, self.folder.name, options)
        with self.reporter.bar(bag.npartitions, kept.values()) as landed:
            return save_partitions(
                bag,
                indexes,
                self._fingerprints,
                save,
                dict(self.compute_kw),
                self.pool,
                landed,
            )

    def _compression(self) -> str | None:
        if self.settings.compression == "auto":
            return "zstd" if self.folder.files.remote else None
        return self.settings.compression
