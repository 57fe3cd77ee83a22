"""The tasks of a graph, without making those that dask keeps as a pattern.

``map_partitions`` adds a layer that holds one task for all partitions. dask makes a
task for each of them when the bag is computed, which takes longer than to read it.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

from dask._task_spec import DataNode, GraphNode, Task, TaskRef
from dask.blockwise import Blockwise, blockwise_token
from dask.highlevelgraph import HighLevelGraph


class SamePartition(NamedTuple):
    """A key that stands for the partition of a bag with the number of the task."""

    bag: str


class Block(NamedTuple):
    """The tasks of a layer that has one for each partition, as one.

    Attributes
    ----------
    task : GraphNode
        Refers to partitions by :class:`SamePartition`.
    """

    task: GraphNode


def tasks_of(graph: Any) -> dict[Hashable, Any]:
    """Return the tasks of a graph by key; those of a pattern as one :class:`Block`."""
    if not isinstance(graph, HighLevelGraph):
        return dict(graph)
    tasks: dict[Hashable, Any] = {}
    for layer in graph.layers.values():  # in dask's order, as one key may be in two
        block = _block_of(layer) if type(layer) is Blockwise else None
        if block is None:
            tasks.update(layer)
        else:
            tasks.update(dict.fromkeys(layer.get_output_keys(), block))
    return tasks


def _block_of(layer: Blockwise) -> Block | None:
    """Return the tasks of a layer if each needs the partitions of its own number."""
    if layer.io_deps or layer.new_axes or layer.concatenate or layer.output_blocks:
        return None
    if type(layer.task) is not Task:
        return None
    wanted = layer.output_indices
    blocks = tuple(layer.dims[index] for index in wanted)
    parts: dict[str, Any] = {}
    for place, (part, index) in enumerate(layer.indices):
        if index is None:
            if not isinstance(part, GraphNode | TaskRef):
                part = DataNode(None, part)
        elif index == wanted and tuple(layer.numblocks[part]) == blocks:
            part = SamePartition(part)
        else:
            return None
        parts[blockwise_token(place)] = part
    return Block(layer.task.substitute(parts))
