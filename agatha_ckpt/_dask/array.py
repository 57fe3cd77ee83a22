"""Arrays: a partition for each block, numbered in C order."""

import ast
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._dask.source import Source
from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import NPY
from agatha_ckpt._format.npy import dtype_fault_of, fault_of, read_array
from agatha_ckpt._store.partition import read_partition

Chunks = Sequence[Sequence[int]]


def source_of(array: da.Array, where: str) -> Source:
    """Return what a save needs of an array.

    Raises
    ------
    EncodeError
        Its chunks or its dtype are not known, or numpy's files do not keep it.
    """
    if any(math.isnan(size) for sizes in array.chunks for size in sizes):
        raise EncodeError(
            f"{where} cannot be saved: the sizes of some chunks of the array are not "
            "known; call its method compute_chunk_sizes() first, which computes it"
        )
    if array.dtype is None:
        raise EncodeError(
            f"{where} cannot be saved: the dtype of the array is not known; give "
            "dtype= or meta= where it is made"
        )
    if fault := fault_of(array._meta) or dtype_fault_of(array.dtype):
        raise EncodeError(f"{where} cannot be saved: of the array, {fault}")
    chunks = [list(map(int, sizes)) for sizes in array.chunks]
    keys: list[Hashable] = list(flatten(array.__dask_keys__()))
    return Source(
        array,
        array.name,
        array.__dask_graph__(),
        tuple(keys),
        tuple(array.__dask_layers__()),
        NPY,
        {
            "kind": "array",
            "shape": [sum(sizes) for sizes in chunks],
            "chunks": chunks,
            "dtype": _described(array.dtype),
        },
        prepare=_CheckBlock(chunks, array.dtype),
        layout=itemgetter("chunks"),
    )


@dataclass(frozen=True)
class _CheckBlock:
    """Refuses a block that is not what the array promises."""

    chunks: Chunks
    dtype: np.dtype[Any]

    def __call__(self, value: Any, index: int, where: str) -> Any:
        fault = fault_of(value)
        if not fault and not _is_of(value, self.dtype):
            fault = (
                f"it has dtype {value.dtype}, and the array promises {self.dtype}; "
                "give the right dtype= or meta= where the array is made, or use astype"
            )
        shape = _shape_of(self.chunks, index)
        if not fault and value.shape != shape:
            fault = (
                f"it has the shape {value.shape}, and the chunks of the array promise "
                f"{shape}; give the right chunks= where the array is made"
            )
        if fault:
            raise EncodeError(f"{where} cannot be stored: {fault}")
        return value


def _is_of(value: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether a block has a dtype, or is a scalar out of an array that has it.

    A scalar has the byte order of the machine, and a text no more room than it needs.
    """
    found = value.dtype
    if found == dtype or not isinstance(value, np.generic):
        return bool(found == dtype)
    casting: Any = "safe" if dtype.kind in "SU" else "equiv"
    return found.kind == dtype.kind and np.can_cast(found, dtype, casting)


def _shape_of(chunks: Chunks, index: int) -> tuple[int, ...]:
    place = np.unravel_index(index, [len(sizes) for sizes in chunks])
    return tuple(sizes[int(i)] for sizes, i in zip(chunks, place, strict=True))


def _described(dtype: np.dtype[Any]) -> str:
    description: Any = np.lib.format.dtype_to_descr(dtype)
    return description if isinstance(description, str) else repr(description)


def _dtype_of(description: str) -> np.dtype[Any]:
    if description.startswith("["):
        return np.lib.format.descr_to_dtype(ast.literal_eval(description))
    return np.dtype(description)


class LoadBlock(LoadPartition):
    """The task that reads one block of an array."""

    def __call__(self, index: int, info: PartitionInfo) -> Any:
        folder = self.store._folder(self.name)
        return read_partition(folder, index, info, read_array)


def load_array(load: LoadPartition, layer: str, manifest: Manifest) -> da.Array:
    """Return an array that reads a done checkpoint when it is computed."""
    described = manifest.collection
    chunks = tuple(map(tuple, described["chunks"]))
    block = LoadBlock(**vars(load))
    keys = product([layer], *(range(len(sizes)) for sizes in chunks))
    tasks = {
        key: (block, index, info)
        for index, (key, info) in enumerate(zip(keys, manifest.partitions, strict=True))
    }
    graph = HighLevelGraph.from_collections(layer, tasks)
    return da.Array(graph, layer, chunks, dtype=_dtype_of(described["dtype"]))
