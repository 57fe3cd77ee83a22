"""A dask collection as a save sees it, whatever its kind."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BAG = {"kind": "bag"}


@dataclass(frozen=True)
class Source:
    """What a save needs of a collection.

    It has the methods by which dask knows a collection, so that a graph can be built
    on top of it.

    Attributes
    ----------
    collection : dask collection
        As the caller gave it.
    name : str
        The name that dask gives it; of a loaded one, that of `layer_of`.
    graph : mapping
        Its tasks; those of a frame after dask has optimised it.
    keys : tuple
        The key of each partition, in order.
    layers : tuple of str
        The layers of *graph* that *keys* are in.
    format : str
        Name of the format that its partitions are stored in.
    description : mapping
        What a manifest has of it, as JSON: its kind, and what a load needs.
    prepare : callable, optional
        Called in the task with the value of a partition, its number, and the words for
        it in messages. Returns what the codec encodes; raises `EncodeError` where the
        value is not what the collection promises.
    known : sequence
        Records that the graph has as they are, so that they can be checked first.
    optimizer : callable, optional
        In place of what dask does to a graph of the collection before it computes it.
    shared : callable, optional
        Returns *graph* and *keys* with a task for each step, where *graph* has steps
        fused, so that what is computed with it can share them.
    layout : callable
        Returns how a description places equal partitions: what no fingerprint covers.
    """

    collection: Any
    name: str
    graph: Mapping[Any, Any]
    keys: tuple[Hashable, ...]
    layers: tuple[str, ...]
    format: str
    description: Mapping[str, Any] = field(default_factory=lambda: BAG)
    prepare: Callable[[Any, int, str], Any] | None = None
    known: Sequence[Any] = ()
    optimizer: Callable[..., Any] | None = None
    shared: Callable[[], tuple[Mapping[Any, Any], tuple[Hashable, ...]]] | None = None
    layout: Callable[[Mapping[str, Any]], object] = lambda described: None

    @property
    def optimize(self) -> Callable[..., Any]:
        """What dask does to a graph on top of this one before it is computed."""
        found: Callable[..., Any] = self.optimizer or self.collection.__dask_optimize__
        return found

    @property
    def kind(self) -> str:
        """The kind of the collection."""
        return str(self.description["kind"])

    @property
    def npartitions(self) -> int:
        """Number of partitions."""
        return len(self.keys)

    def __dask_graph__(self) -> Mapping[Any, Any]:
        return self.graph

    def __dask_keys__(self) -> list[Hashable]:
        return list(self.keys)

    def __dask_layers__(self) -> Sequence[str]:
        return self.layers
