"""The tasks of a graph, without making those that dask keeps as a pattern.

``map_partitions`` adds a layer that holds one task for all partitions. dask makes a
task for each of them when the bag is computed, which takes longer than to read it.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from dask._task_spec import Alias, GraphNode, Task, TaskRef
from dask.blockwise import Blockwise, blockwise_token
from dask.highlevelgraph import HighLevelGraph


@dataclass(frozen=True)
class SamePartition:
    """Stands for the partition of a bag that has the number of the task."""

    bag: str


@dataclass(frozen=True)
class Block:
    """The tasks of a layer that has one for each partition.

    Attributes
    ----------
    function : callable
    arguments : tuple
        Values, nodes and :class:`SamePartition`.
    keywords : mapping
    """

    function: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def at(self, key: Any) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the task *key*."""
        index = key[1:]
        arguments = [
            TaskRef((part.bag, *index)) if type(part) is SamePartition else part
            for part in self.arguments
        ]
        if not self.keywords:
            return arguments, {}
        keywords = {
            name: TaskRef((part.bag, *index)) if type(part) is SamePartition else part
            for name, part in self.keywords.items()
        }
        return arguments, keywords


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
    wanted = layer.output_indices
    blocks = tuple(layer.dims[index] for index in wanted)
    parts: dict[str, Any] = {}
    for place, (part, index) in enumerate(layer.indices):
        if index is None:
            parts[blockwise_token(place)] = part
        elif index == wanted and tuple(layer.numblocks[part]) == blocks:
            parts[blockwise_token(place)] = SamePartition(part)
        else:
            return None
    task = layer.task
    if type(task) is not Task:
        return None
    found = []
    for part in (*task.args, *task.kwargs.values()):
        key = None
        if type(part) in (Alias, TaskRef):  # which of them depends on dask's version
            key = getattr(part, "target", None) or part.key
        if key in parts:
            found.append(parts[key])
        elif isinstance(part, GraphNode) and part.dependencies & parts.keys():
            return None  # inside of another node
        else:
            found.append(part)
    count = len(task.args)
    keywords = dict(zip(task.kwargs, found[count:], strict=True))
    return Block(task.func, tuple(found[:count]), keywords)
