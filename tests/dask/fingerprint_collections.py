"""Frames, arrays and delayed values of equal fingerprints in every process."""

import importlib.util

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask import delayed

HAS_ZARR = importlib.util.find_spec("zarr") is not None
HAS_HDF5 = importlib.util.find_spec("h5py") is not None
HAS_SQL = importlib.util.find_spec("sqlalchemy") is not None


def load(x, y=0):
    return pd.DataFrame({"a": [x], "y": [y]})


def plus(part, other=1, **kwargs):
    return part + other


def with_column(frame, value):
    return frame.assign(value=value)


def pandas_frame(x=1):
    return pd.DataFrame({"a": [x, 2, 3, 4], "b": list("xyzx"), "c": [1.5, x, None, 0]})


def frame(x=1):
    return dd.from_pandas(pandas_frame(x), npartitions=2)


def matrix(x=1):
    return da.from_array(np.arange(x, 16 + x).reshape(4, 4), chunks=2)


def write_files(folder):
    """Write what the collections read, unless another process has."""
    for name in ("one", "two"):
        place = folder / name
        if not (place / "table.csv").exists():
            place.mkdir(exist_ok=True)
            frame().to_parquet(str(place / "table.parquet"))
            if HAS_ZARR:
                da.arange(12, chunks=4).to_zarr(str(place / "array.zarr"))
            pandas_frame().to_csv(place / "table.csv", index=False)
    if HAS_HDF5 and not (folder / "array.h5").exists():
        import h5py

        with h5py.File(folder / "array.h5", "w") as file:
            file["one"], file["two"] = np.arange(4), np.arange(4)
    if HAS_SQL and not (folder / "tables.db").exists():
        pandas_frame().to_sql("one", database(folder))
        pandas_frame().to_sql("two", database(folder))


def database(folder):
    return f"sqlite:///{folder / 'tables.db'}"


def frames(folder):
    """Return a function that makes each kind of frame, from 1 or from 2."""

    def path(x, name="table.parquet"):
        return str(folder / ["one", "two"][x - 1] / name)

    table, other = frame(), frame(7)
    parquet = dd.read_parquet(path(1))
    found = {
        "from_pandas": frame,
        "read_parquet": lambda x: dd.read_parquet(path(x)),
        "read_parquet by fsspec": lambda x: dd.read_parquet(
            path(x), filesystem="fsspec"
        ),
        "read_parquet by arrow": lambda x: dd.read_parquet(path(x), filesystem="arrow"),
        "columns of read_parquet": lambda x: parquet[["a", "bc"[x - 1]]],
        "filters of read_parquet": lambda x: dd.read_parquet(
            path(1), filters=[("a", ">", x)]
        ),
        "rows of read_parquet": lambda x: parquet[parquet.a > x],
        "read_csv": lambda x: dd.read_csv(path(x, "table.csv")),
        "read_csv by blocks": lambda x: dd.read_csv(path(x, "table.csv"), blocksize=20),
        "read_csv with a type": lambda x: dd.read_csv(
            path(1, "table.csv"), dtype={"a": f"f{4 * x}"}
        ),
        "from_map": lambda x: dd.from_map(load, [x, 3 + x]),
        "from_map with keyword": lambda x: dd.from_map(load, [1, 2], y=x),
        "from_delayed": lambda x: dd.from_delayed([delayed(load)(x)], meta=load(1)),
        "from_array": lambda x: dd.from_array(np.arange(x, x + 4), chunksize=2),
        "from_dict": lambda x: dd.from_dict({"a": [x, 2]}, npartitions=1),
        "map_partitions": lambda x: table.map_partitions(with_column, x),
        "map_partitions by keyword": lambda x: table.map_partitions(
            with_column, value=x
        ),
        "map_partitions of closure": lambda x: table.map_partitions(
            lambda part: part.assign(value=x)
        ),
        "map_partitions with a sum": lambda x: table.map_partitions(
            with_column, frame(x).a.sum()
        ),
        "assign": lambda x: table.assign(value=table.a + x),
        "apply": lambda x: table.a.apply(lambda a: a + x, meta=("a", "i8")),
        "filter": lambda x: table[table.a > x],
        "merge": lambda x: table.merge(frame(x), on="a"),
        "merge by tasks": lambda x: other.merge(
            frame(x), on="b", shuffle_method="tasks"
        ),
        "merge on a column": lambda x: table.merge(other, on="ab"[x - 1]),
        "merge with pandas": lambda x: table.merge(pandas_frame(x), on="a"),
        "groupby": lambda x: frame(x).groupby("b").a.sum(),
        "groupby by a column": lambda x: table.groupby("bc"[x - 1]).a.sum(),
        "groupby with functions": lambda x: table.groupby("b").agg(
            {"a": ["sum", ["mean", "max"][x - 1]]}, split_out=2
        ),
        "groupby apply": lambda x: table.groupby("b").a.apply(
            lambda part: part.sum() + x, meta=("a", "i8")
        ),
        "set_index": lambda x: frame(x).set_index("c"),
        "set_index by tasks": lambda x: frame(x).set_index("c", shuffle_method="tasks"),
        "set_index on disk": lambda x: frame(x).set_index("c", shuffle_method="disk"),
        "set_index with divisions": lambda x: table.set_index(
            "a", divisions=[x, 3, 4]
        ),
        "sort_values": lambda x: frame(x).sort_values("c"),
        "shuffle": lambda x: frame(x).shuffle("b", shuffle_method="tasks"),
        "drop_duplicates": lambda x: table.drop_duplicates(subset="bc"[x - 1]),
        "value_counts": lambda x: frame(x).a.value_counts(),
        "rolling": lambda x: table.a.rolling(x).mean(),
        "sample": lambda x: table.sample(frac=0.5, random_state=x),
        "persisted frame": lambda x: frame(x).persist(scheduler="sync"),
        "frame from an array": lambda x: dd.from_dask_array(matrix(x), list("abcd")),
    }  # fmt: skip
    if HAS_SQL:
        found["read_sql_table"] = lambda x: dd.read_sql_table(
            ["one", "two"][x - 1], database(folder), "index", npartitions=2
        )
    return found


def arrays(folder):
    """Return a function that makes each kind of array, from 1 or from 2."""
    square = matrix()
    found = {
        "from_array": matrix,
        "from_array transposed": lambda x: da.from_array(
            np.arange(4).reshape(2, 2) if x > 1 else np.arange(4).reshape(2, 2).T
        ),
        "arange": lambda x: da.arange(x, x + 4, chunks=2),
        "full": lambda x: da.full(4, x, chunks=4),
        "random": lambda x: da.random.default_rng(x).random((4, 4), chunks=2),
        "random state": lambda x: da.random.RandomState(x).normal(size=4, chunks=2),
        "random with arguments": lambda x: da.random.default_rng(3).normal(x, size=4),
        "map_blocks": lambda x: square.map_blocks(plus, x),
        "map_blocks by keyword": lambda x: square.map_blocks(plus, other=x),
        "map_blocks with places": lambda x: square.map_blocks(
            lambda block, block_info=None, block_id=None: block + x, dtype=int
        ),
        "map_overlap": lambda x: square.map_overlap(plus, depth=x),
        "arithmetic": lambda x: square * 2 + x,
        "where": lambda x: da.where(square > x, square, 0),
        "dot": lambda x: square.dot(matrix(x).T),
        "sum": lambda x: matrix(x).sum(axis=0),
        "rechunk": lambda x: square.rechunk((4, x)).map_blocks(plus),
        "places": lambda x: square[[0, x]],
        "apply_gufunc": lambda x: da.apply_gufunc(
            plus, "(i)->(i)", square.rechunk((2, 4)), other=x, output_dtypes=int
        ),
        "histogram": lambda x: da.histogram(square, bins=x, range=(0, 16))[0],
        "from_delayed array": lambda x: da.from_delayed(
            delayed(np.full)(3, x), (3,), int
        ),
        "array of a frame": lambda x: frame(x)[["a", "c"]].to_dask_array(lengths=True),
        "persisted array": lambda x: matrix(x).persist(scheduler="sync"),
    }  # fmt: skip
    if HAS_HDF5:
        import h5py

        file = h5py.File(folder / "array.h5", "r")
        found["from HDF5"] = lambda x: da.from_array(file[["one", "two"][x - 1]])
    if HAS_ZARR:
        found["from_zarr"] = lambda x: da.from_zarr(
            str(folder / ["one", "two"][x - 1] / "array.zarr")
        )
    return found


def delayed_values():
    """Return a function that makes each kind of delayed value, from 1 or from 2."""
    return {
        "delayed": lambda x: delayed(load)(x),
        "delayed by keyword": lambda x: delayed(load)(1, y=x),
        "delayed that is not pure": lambda x: delayed(load, pure=False)(1, x),
        "delayed value": lambda x: delayed([x]),
        "delayed in containers": lambda x: delayed(len)([{"a": delayed(load)(1, x)}]),
        "delayed method": lambda x: delayed(load)(x).sum(),
        "delayed item": lambda x: delayed([1, 2, 3])[x],
        "delayed operator": lambda x: delayed(1) + delayed(x),
        "delayed with outputs": lambda x: delayed(divmod, nout=2)(7, 2)[x - 1],
        "delayed of a bag": lambda x: delayed(len)(db.range(x, npartitions=1)),
        "delayed of a frame": lambda x: delayed(len)(frame(x)),
        "delayed of an array": lambda x: delayed(np.sum)(matrix(x)),
    }


def every_collection(folder):
    """Return a function for each kind of collection that is not a bag."""
    write_files(folder)
    return frames(folder) | arrays(folder) | delayed_values()
