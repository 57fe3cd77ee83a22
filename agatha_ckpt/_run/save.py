"""A save: what it keeps, what it computes, and how it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any

import dask

from agatha_ckpt._dask.failure import Failure, carried
from agatha_ckpt._dask.fingerprint import SCHEME, Fingerprints
from agatha_ckpt._dask.save import stored
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._errors import CheckpointConflictError
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._run.events import (
    Committed,
    PartitionFailed,
    PartitionStored,
    Publisher,
    Subscriber,
)
from agatha_ckpt._run.progress import Reporter, adopted, done
from agatha_ckpt._store.commit import adopt, commit
from agatha_ckpt._store.folder import Marker
from agatha_ckpt._store.partition import ClearedError


@dataclass(frozen=True)
class Save:
    """What a save keeps and what it computes; a deferred one is pickled for a worker.

    Attributes
    ----------
    task : SavePartition
        What writes a partition.
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
    started : float
        When it was decided, by `time.perf_counter` of that process.
    """

    task: SavePartition
    plan: Plan
    metadata: Mapping[str, Any]
    fingerprints: Fingerprints
    description: Mapping[str, Any]
    kept: Mapping[int, PartitionInfo]
    marker: Marker
    started: float = field(default_factory=perf_counter)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the partitions that are computed."""
        return tuple(i for i in range(self.plan.npartitions) if i not in self.kept)

    def end(
        self, compute: Callable[[], Mapping[int, PartitionInfo]], publish: Publisher
    ) -> Manifest:
        """Compute what is missing, commit, and publish that it is done.

        Parameters
        ----------
        compute : callable
            Returns the partitions that were missing.
        publish : Publisher

        Returns
        -------
        Manifest
            The one that is then in place.
        """
        try:
            manifest, is_ours = self._commit(compute())
        except ClearedError:
            # The commit of another run may have removed a file that was being written.
            manifest, is_ours = self._adopt(), False
        seconds = perf_counter() - self.started
        # How long the tasks of a deferred save took is not known.
        measured = None if self.task.deferred else seconds
        line = done(manifest, self.missing, measured) if is_ours else adopted(manifest)
        publish(Committed, manifest, seconds, line)
        return manifest

    def _commit(self, computed: Mapping[int, PartitionInfo]) -> tuple[Manifest, bool]:
        """Return the manifest that is then in place, and whether this run wrote it."""
        folder, infos = self.task.folder, {**self.kept, **computed}
        ours = Manifest(
            self.plan,
            tuple(infos[index] for index in range(self.plan.npartitions)),
            name=folder.name,
            metadata=self.metadata,
            scheme=SCHEME,
            dask=dask.__version__,
            opaque=self.fingerprints.opaque,
            collection=self.description,
        )
        try:
            manifest = commit(folder, ours, self._replaced(), self.task.options.run)
        except CheckpointConflictError:
            raise
        except Exception as error:
            error.add_note(
                f"{folder.describe()} is not known to be done; what was saved stays, "
                "and the next call with the same inputs keeps it"
            )
            raise
        return manifest, manifest is ours

    def _replaced(self) -> Marker:
        """Return the marker that the commit replaces."""
        may_be_cleared = self.task.deferred and self.marker.data and not self.kept
        if may_be_cleared and self.task.folder.read_marker() is None:
            return Marker()  # it was cleared before the save was computed
        return self.marker

    def _adopt(self) -> Manifest:
        """Return the manifest of the run whose commit removed what this one wrote."""
        return adopt(
            self.task.folder,
            self.plan.format,
            self.description,
            self.fingerprints.partitions,
            self.marker,
            self.task.options.run,
            {info.file for info in self.kept.values()},
        )


def publish_result(
    publish: Publisher, index: int, result: PartitionInfo | Failure
) -> None:
    """Publish what became of a partition."""
    if isinstance(result, Failure):
        publish(PartitionFailed, index, result.error)
    else:
        publish(PartitionStored, index, result)


@dataclass(frozen=True)
class DeferredEnd:
    """The task that ends a deferred save; it is pickled for the workers.

    Attributes
    ----------
    save : Save
    verbose : bool
    on_event : Subscriber
        Which has no function in another process.
    """

    save: Save
    verbose: bool
    on_event: Subscriber

    __name__ = "commit"

    def __call__(self, *results: PartitionInfo | Failure) -> None:
        """Commit what the other tasks have stored, or raise what they failed by."""
        task = self.save.task
        try:
            self._end(dict(zip(self.save.missing, results, strict=True)))
            return
        except Exception as error:
            if isinstance(error, CheckpointConflictError):
                error.add_note(
                    "what a deferred save keeps and replaces is decided by the call; "
                    "call checkpoint again"
                )
            failed = error
        raise failed if task.is_at_home else carried(failed)

    def _end(self, results: Mapping[int, PartitionInfo | Failure]) -> None:
        task = self.save.task
        reporter = Reporter(task.name, self.verbose)
        publish = Publisher(task.name, task.folder.root, (reporter, self.on_event))
        for index, result in results.items():
            publish_result(publish, index, result)
        where = task.folder.describe()
        self.save.end(lambda: stored(results, task, where), publish)
