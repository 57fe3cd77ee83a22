"""Single values, Delayed or Item: one partition with one record."""

from typing import Any

from dask._task_spec import DataNode, GraphNode
from dask.bag import Item
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._dask.source import Source
from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._format.names import MSGPACK

DELAYED, ITEM = "delayed", "item"


def source_of(value: Delayed | Item, where: str) -> Source:
    """Return what a save needs of a Delayed or an Item.

    Raises
    ------
    EncodeError
        It is a function that was not called.
    """
    graph = value.__dask_graph__()
    literal, known = graph.get(value.key), []
    if isinstance(literal, DataNode):  # older versions of dask have the bare value
        literal = literal.value
        known = [literal]
    if callable(literal) and not isinstance(literal, GraphNode):
        raise EncodeError(
            f"{where} cannot be saved: the Delayed is a function that was not called; "
            "call it, and give the Delayed that it returns"
        )
    return Source(
        value,
        value.key,
        graph,
        (value.key,),
        tuple(value.__dask_layers__()),
        MSGPACK,
        {"kind": ITEM if isinstance(value, Item) else DELAYED} | _length_of(value),
        prepare=_one_record,
        known=known,
    )


def _length_of(value: Any) -> dict[str, int]:
    """Return how many values it can be unpacked into, of a Delayed with ``nout=``."""
    try:
        return {"length": len(value)}
    except TypeError:
        return {}


def _one_record(value: Any, index: int, where: str) -> list[Any]:
    return [value]


def load_value(load: LoadPartition, layer: str, manifest: Manifest) -> Delayed | Item:
    """Return a Delayed or an Item that reads a done checkpoint when it is computed."""
    (info,) = manifest.partitions
    task = (_only_record, (load, 0, info))
    graph = HighLevelGraph.from_collections(layer, {layer: task})
    if manifest.collection["kind"] == ITEM:
        return Item(graph, layer)
    return Delayed(layer, graph, manifest.collection.get("length"))


def _only_record(records: Any) -> Any:
    (record,) = records
    return record
