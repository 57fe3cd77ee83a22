"""What a save keeps and what it computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agatha_ckpt._dask.fingerprint import Fingerprints
from agatha_ckpt._format.manifest import PartitionInfo, Plan
from agatha_ckpt._run.decision import Decision
from agatha_ckpt._run.inputs import edited
from agatha_ckpt._run.progress import saving
from agatha_ckpt._store.resume import Reusable


@dataclass(frozen=True)
class Save:
    """What a save keeps and what it computes.

    Attributes
    ----------
    plan : Plan
    metadata : mapping
        The caller's own.
    fingerprints : Fingerprints
    reusable : Reusable
    """

    plan: Plan
    metadata: Mapping[str, Any]
    fingerprints: Fingerprints
    reusable: Reusable

    @property
    def kept(self) -> dict[int, PartitionInfo]:
        """The partitions that are kept."""
        return self.reusable.kept

    @cached_property
    def missing(self) -> list[int]:
        """The numbers of the partitions that are computed."""
        return [i for i in range(self.plan.npartitions) if i not in self.kept]

    def line(self, decision: Decision) -> str:
        """Return the line of progress."""
        now = self.fingerprints
        steps = edited(self.kept, now)
        return saving(decision, self.reusable, self.missing, steps, now.opaque)
