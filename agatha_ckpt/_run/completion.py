"""What ends a save: its commit, in the caller or in a task of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agatha_ckpt._dask.failure import Failure, carried
from agatha_ckpt._dask.fingerprint import Fingerprints
from agatha_ckpt._dask.save import stored
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._errors import CheckpointConflictError
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._run.inputs import make_manifest
from agatha_ckpt._run.progress import Reporter, adopted, done
from agatha_ckpt._store.commit import adopt, commit
from agatha_ckpt._store.folder import Folder, Marker
from agatha_ckpt._store.partition import ClearedError
from agatha_ckpt._store.store import CheckpointStore


@dataclass(frozen=True)
class Completion:
    """What the commit of a save needs, but the partitions that it computes.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    plan : Plan
    metadata : mapping
        The caller's own.
    fingerprints : Fingerprints
    description : mapping
        Of the collection.
    kept : dict of int to PartitionInfo
        The partitions that were stored before.
    marker : Marker
        The done marker that the save is to replace.
    run : str
        8 hex digits, in the names of the files that it writes.
    """

    store: CheckpointStore
    name: str
    plan: Plan
    metadata: Mapping[str, Any]
    fingerprints: Fingerprints
    description: Mapping[str, Any]
    kept: Mapping[int, PartitionInfo]
    marker: Marker
    run: str

    @cached_property
    def folder(self) -> Folder:
        """That of the checkpoint."""
        return self.store._folder(self.name)

    def commit(self, computed: Mapping[int, PartitionInfo]) -> tuple[Manifest, bool]:
        """Return the manifest that is then in place, and whether this run wrote it."""
        ours = make_manifest(
            self.name,
            self.plan,
            {**self.kept, **computed},
            self.fingerprints,
            self.metadata,
            self.description,
        )
        try:
            manifest = commit(self.folder, ours, self.marker, self.run)
        except CheckpointConflictError:
            raise
        except Exception as error:
            error.add_note(
                f"{self.folder.describe()} is not known to be done; what was saved "
                "stays, and the next call with the same inputs keeps it"
            )
            raise
        return manifest, manifest is ours

    def adopt(self) -> Manifest:
        """Return the manifest of the run whose commit removed what this one wrote."""
        kept = {info.file for info in self.kept.values()}
        wanted = self.fingerprints.partitions
        return adopt(self.folder, self.plan.format, wanted, self.marker, self.run, kept)


@dataclass(frozen=True)
class DeferredCommit:
    """The task that ends a deferred save; it is pickled for the workers.

    Attributes
    ----------
    completion : Completion
    missing : tuple of int
        The numbers of the partitions that are computed.
    task : SavePartition
    verbose : bool
    """

    completion: Completion
    missing: tuple[int, ...]
    task: SavePartition
    verbose: bool

    __name__ = "commit"

    def __call__(self, *results: PartitionInfo | Failure) -> None:
        """Commit what the other tasks have stored, or raise what they failed by."""
        try:
            self._end(dict(zip(self.missing, results, strict=True)))
            return
        except Exception as error:
            failed = error
        raise failed if self.task.is_at_home else carried(failed)

    def _end(self, results: Mapping[int, PartitionInfo | Failure]) -> None:
        completion = self.completion
        try:
            computed = stored(results, self.task, completion.folder.describe())
            manifest, is_ours = completion.commit(computed)
        except ClearedError:
            manifest, is_ours = completion.adopt(), False
        line = done(manifest, self.missing) if is_ours else adopted(manifest)
        Reporter(completion.name, self.verbose).report(line)
