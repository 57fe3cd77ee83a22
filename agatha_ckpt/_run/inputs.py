"""The inputs of a call, and how they compare with what is stored."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import dask

from agatha_ckpt._dask.fingerprint import SCHEME, Fingerprints, fingerprints_of
from agatha_ckpt._dask.load import layer_of
from agatha_ckpt._dask.source import Source
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._run.decision import Comparison, edited_steps
from agatha_ckpt._store.store import CheckpointStore


class Inputs:
    """The inputs of a collection, as fingerprints.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._of = cache(self._fingerprints)

    def fingerprints(self, plan: Plan) -> Fingerprints:
        """Return the fingerprints of the partitions, if they are stored by *plan*."""
        return self._of(plan.version, plan.format)

    def _fingerprints(self, version: str | None, format: str) -> Fingerprints:
        # Bags and single values share a format, and their records differ.
        kind = self.source.kind
        form = format if kind == "bag" else f"{kind} {format}"
        return fingerprints_of(self.source, version=version, format=form)

    def compare(
        self, store: CheckpointStore, name: str, manifest: Manifest
    ) -> Comparison:
        """Return how they compare with those of a done checkpoint."""
        if self.source.name == layer_of(store, name, manifest):
            return Comparison(is_own=True)
        if manifest.is_agatha:
            return Comparison()
        if (manifest.scheme, manifest.dask) != (SCHEME, dask.__version__):
            return Comparison(
                incomparable="it was saved with another version of dask "
                f"({manifest.dask or 'unknown'}), whose fingerprints cannot be compared"
            )
        is_alike = self.source.kind == manifest.collection["kind"]
        if not is_alike or self.source.npartitions != manifest.plan.npartitions:
            return Comparison()  # which is what is reported
        now = self.fingerprints(manifest.plan)
        same = {
            index: info
            for index, info in enumerate(manifest.partitions)
            if info.fingerprint == now.partitions[index]
        }
        return Comparison(
            self.source.npartitions - len(same),
            edited(same, now),
            is_moved=self._is_moved(manifest.collection),
        )

    def _is_moved(self, described: Mapping[str, Any]) -> bool:
        """Return whether a description places equal partitions in another way."""
        layout = self.source.layout
        try:
            return bool(layout(described) != layout(self.source.description))
        except (KeyError, ValueError, TypeError):  # which the load reports
            return False


def edited(kept: Mapping[int, PartitionInfo], now: Fingerprints) -> tuple[str, ...]:
    """Return the steps whose code has changed since partitions were stored."""
    pairs = {(info.code, now.codes[index]) for index, info in kept.items()}
    steps = [step for pair in sorted(pairs) for step in edited_steps(*pair)]
    return tuple(dict.fromkeys(steps))
