"""Frames: DataFrames and Series, a Parquet file for each partition."""

import io
from base64 import b64decode, b64encode
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import dask.config
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dask.dataframe.utils import has_known_categories
from dask.delayed import optimize

from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._dask.source import Source
from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.dtypes import (
    UnstorableFrame,
    difference,
    index_fault,
    same_dtype,
)
from agatha_ckpt._format.frame_reader import frame_in
from agatha_ckpt._format.frames import to_arrow, write_table
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import PARQUET
from agatha_ckpt._format.parquet import read_frame
from agatha_ckpt._format.pieces import PieceWriter
from agatha_ckpt._store.partition import read_partition

DATAFRAME, SERIES = "dataframe", "series"


def source_of(frame: Any, where: str) -> Source:
    """Return what a save needs of a DataFrame or a Series.

    Raises
    ------
    EncodeError
        Parquet does not keep its columns, its index or its divisions.
    """
    optimized = frame.optimize()
    meta = optimized._meta.iloc[:0]  # it may have rows
    is_series = isinstance(frame, dd.Series)
    try:
        described = _encoded(meta)
        divisions = _divisions(optimized)
    except UnstorableFrame as error:
        raise EncodeError(f"{where} cannot be saved: of the frame, {error}") from None
    graph, keys = _tasks(optimized)
    return Source(
        frame,
        _load_label(frame) or frame._name,
        graph,
        keys,
        (),
        PARQUET,
        {
            "kind": SERIES if is_series else DATAFRAME,
            "meta": described,
            "divisions": divisions,
        },
        prepare=_CheckFrame(meta),
        optimizer=optimize,
        shared=lambda: _tasks(frame.optimize(fuse=False)),
        layout=_divisions_in,
    )


def _tasks(optimized: Any) -> tuple[Mapping[Any, Any], tuple[Hashable, ...]]:
    return optimized.__dask_graph__(), tuple(optimized.__dask_keys__())


def _encoded(frame: Any) -> str:
    """Return a small frame as the bytes of a Parquet file, in base64."""
    sink = io.BytesIO()
    write_table(to_arrow(frame), PieceWriter(sink), None)
    return b64encode(sink.getvalue()).decode()


def _decoded(text: str) -> Any:
    return frame_in(pq.ParquetFile(pa.BufferReader(b64decode(text))))


def _divisions(frame: Any) -> str | None:
    """Return known divisions, as the index of a frame without columns."""
    if not frame.known_divisions:
        return None
    divisions = list(frame.divisions)
    encoded = _encoded(pd.DataFrame(index=pd.Index(divisions)))
    if list(_decoded(encoded).index) != divisions:
        raise UnstorableFrame(
            f"its divisions are not kept, such as {divisions[0]!r}; use its method "
            "clear_divisions()"
        )
    return encoded


def _divisions_in(described: Mapping[str, Any]) -> tuple[Any, ...] | None:
    divisions = described["divisions"]
    return None if divisions is None else tuple(_decoded(divisions).index)


def _load_label(frame: Any) -> str | None:
    """Return the name of the load, of a frame that was loaded and is unchanged."""
    expr = frame.expr
    kind = type(expr).__name__
    if kind not in ("FromMap", "FromMapProjectable"):
        return None
    is_projected = kind != "FromMap" and expr.operand("columns") is not None
    if is_projected or expr.operand("_partitions") is not None:
        return None
    label: str | None = expr.operand("label")
    return label


@dataclass(frozen=True)
class _CheckFrame:
    """Refuses a partition that is not what the meta of the frame promises."""

    meta: Any

    def __call__(self, value: Any, index: int, where: str) -> Any:
        meta = self.meta
        if type(value) is not type(meta):
            kind = type(value)
            fault = (
                f"it is a {kind.__module__}.{kind.__qualname__}, not a "
                f"pandas.{type(meta).__name__}"
            )
        elif isinstance(meta, pd.DataFrame):
            fault = _frame_fault(value, meta)
        else:
            fault = _series_fault(value, meta)
        if not fault and (found := index_fault(value.index, meta.index)):
            fault = f"its index {found}"
        if (
            fault
            and len(getattr(value, "index", "-")) == 0
            and _same_labels(value, meta)
        ):
            return meta  # operations on nothing often give other dtypes
        if fault:
            raise EncodeError(
                f"{where} cannot be stored: {fault}, which the meta of the frame has; "
                "give the right meta= where the frame is made, or use astype or rename"
            )
        return value


def _same_labels(value: Any, meta: Any) -> bool:
    if isinstance(meta, pd.DataFrame) and isinstance(value, pd.DataFrame):
        return list(value.columns) == list(meta.columns)
    return isinstance(meta, pd.Series) and isinstance(value, pd.Series)


def _frame_fault(frame: pd.DataFrame, meta: pd.DataFrame) -> str:
    if not frame.columns.equals(meta.columns):
        return f"it has the columns {list(frame.columns)}, not {list(meta.columns)}"
    names = [list(each.columns.names) for each in (frame, meta)]
    if names[0] != names[1]:
        return f"its columns have the names {names[0]}, not {names[1]}"
    for place, (found, wanted) in enumerate(
        zip(frame.dtypes, meta.dtypes, strict=True)
    ):
        # Most are numpy's, which are equal by identity.
        if found is not wanted:
            fault = _dtype_fault(frame.iloc[:, place], meta.iloc[:, place])
            if fault:
                return fault
    return ""


def _series_fault(series: pd.Series, meta: pd.Series) -> str:
    if series.name != meta.name and not (series.name is None and meta.name is None):
        return f"it has the name {series.name!r}, not {meta.name!r}"
    return _dtype_fault(series, meta)


def _dtype_fault(series: pd.Series, meta: pd.Series) -> str:
    found, wanted = series.dtype, meta.dtype
    are_categories = [isinstance(each, pd.CategoricalDtype) for each in (found, wanted)]
    if all(are_categories) and not has_known_categories(meta):
        if found.ordered == wanted.ordered:
            return ""
    elif same_dtype(found, wanted):
        return ""
    return f"its column {series.name!r} has {difference(found, wanted)}"


class LoadWhole(LoadPartition):
    """The task that reads one partition of a Series, or of a DataFrame, in full."""

    def __call__(self, index: int, info: PartitionInfo) -> Any:
        return self._read(index, info, None)

    def _read(self, index: int, info: PartitionInfo, columns: Any) -> Any:
        def read(file: Any, info: PartitionInfo) -> Any:
            return read_frame(file, info, columns)

        return read_partition(self.store._folder(self.name), index, info, read)


class LoadFrame(LoadWhole):
    """The task that reads one partition of a DataFrame, or some of its columns."""

    # columns must have no default: with one, dask leaves out an empty list.
    def __call__(  # type: ignore[override]
        self, index: int, info: PartitionInfo, width: int, columns: list[Any]
    ) -> Any:
        if len(columns) < width:
            return self._read(index, info, columns)
        frame = self._read(index, info, None)
        return frame if list(frame.columns) == columns else frame[columns]


def load_frame(load: LoadPartition, layer: str, manifest: Manifest) -> Any:
    """Return a DataFrame or a Series that reads a done checkpoint when computed."""
    described = manifest.collection
    meta = _decoded(described["meta"])
    # dask selects no columns of several levels in a load.
    is_wide = meta.ndim > 1 and meta.columns.nlevels == 1
    task = LoadFrame if is_wide else LoadWhole
    # Else dask would make strings of all objects.
    with dask.config.set({"dataframe.convert-string": False}):
        return dd.from_map(
            task(**vars(load)),
            range(len(manifest.partitions)),
            manifest.partitions,
            args=[meta.shape[1]] if is_wide else [],
            meta=meta,
            divisions=_divisions_in(described),
            label=layer,
        )
