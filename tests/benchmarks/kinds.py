"""Frames and arrays, against dask's own writers and readers of the same files.

    python -m tests.benchmarks.kinds [--quick] [--scale 0.25] [--only frame]

A frame has 32 partitions of 20 MB: 20 columns of 125,000 rows, of which 12 are
float64, 6 int64 and 2 strings. The peer is `to_parquet` and `read_parquet` of dask,
with the same options of the writer. An array has 64 blocks of 16 MB in float64. The
peers are `to_npy_stack` and `from_npy_stack`, which maps the files and checks nothing,
and `to_zarr` without compression. Partitions and blocks are in memory before, so that
computing them takes no time; all run on dask's threads and nothing is synced. A load
adds up every number that it reads. An array is also loaded again, as the checksums of
a file are taken once in a process, and then as one array of numpy.
"""

import importlib.util
import shutil
import warnings
from functools import cache
from pathlib import Path

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._format.parquet import ROW_GROUP
from tests.benchmarks import common

COLUMNS = [f"f{n}" for n in range(12)] + [f"i{n}" for n in range(6)] + ["s0", "s1"]
TWO = ["f3", "i2"]
HEADS = ["what", "ours", "against", "ratio"]


@cache
def frame_of(rows):
    random = np.random.default_rng(1)
    data = {name: random.normal(size=rows) for name in COLUMNS if name[0] == "f"}
    data |= {n: random.integers(0, 2**40, rows) for n in COLUMNS if n[0] == "i"}
    words = np.array([f"word {n}" for n in range(1000)], object)
    data |= {n: words[random.integers(0, 1000, rows)] for n in COLUMNS if n[0] == "s"}
    return pd.DataFrame(data)[COLUMNS].astype({"s0": "string", "s1": "string"})


@cache
def block_of(rows):
    return np.random.default_rng(1).normal(size=(rows, 1024))


def partition(number, rows):
    return frame_of(rows).copy(deep=False)


def block(block_info=None, rows=0):
    return block_of(rows)


def added(frame):
    numbers = frame.select_dtypes("number").to_numpy()
    return pd.DataFrame({"total": [float(numbers.sum())], "rows": [len(frame)]})


class Frames:
    """The contestants for frames."""

    def __init__(self, root, npartitions, rows):
        self.root = Path(root)
        meta = frame_of(rows).iloc[:0]
        self.frame = dd.from_map(partition, range(npartitions), rows=rows, meta=meta)
        self.rows = npartitions * rows

    def _loads(self, open_frame):
        return {
            "load": common.seconds(self._touch, open_frame),
            "load 2 of 20": common.seconds(self._touch, lambda: open_frame()[TWO]),
        }

    def _touch(self, open_frame):
        totals = open_frame().map_partitions(
            added, meta={"total": "f8", "rows": "i8"}, enforce_metadata=False
        )
        assert totals.compute()["rows"].sum() == self.rows

    def ours(self):
        root = self.root / "ours"
        ckpt = Checkpointer(CheckpointStore(root, fsync=False), verbose=False)
        found = {"save": common.seconds(ckpt.checkpoint, "x", self.frame)}
        found |= self._loads(lambda: ckpt.checkpoint("x"))
        shutil.rmtree(root)
        return found

    def parquet(self):
        root = str(self.root / "parquet")
        found = {
            "save": common.seconds(
                self.frame.to_parquet,
                root,
                write_index=False,
                compression="none",
                row_group_size=ROW_GROUP,
                use_dictionary=["s0", "s1"],
            )
        }
        found |= self._loads(lambda: dd.read_parquet(root))
        shutil.rmtree(root)
        return found


class Arrays:
    """The contestants for arrays."""

    def __init__(self, root, npartitions, rows):
        self.root = Path(root)
        chunks = ((rows,) * npartitions, (1024,))
        self.array = da.map_blocks(block, rows=rows, chunks=chunks, dtype="f8")
        self.right = float(block_of(rows).sum()) * npartitions

    def _loads(self, open_array):
        return {
            "load": common.seconds(self._touch, open_array),
            "load again": common.seconds(self._touch, open_array),
            "load as one": common.seconds(lambda: open_array().compute()),
        }

    def _touch(self, open_array):
        assert np.isclose(open_array().sum().compute(), self.right)

    def ours(self):
        root = self.root / "ours"
        ckpt = Checkpointer(CheckpointStore(root, fsync=False), verbose=False)
        found = {"save": common.seconds(ckpt.checkpoint, "x", self.array)}
        found |= self._loads(lambda: ckpt.checkpoint("x"))
        shutil.rmtree(root)
        return found

    def npy(self):
        root = self.root / "npy"
        found = {"save": common.seconds(da.to_npy_stack, root, self.array)}
        found |= self._loads(lambda: da.from_npy_stack(root))
        shutil.rmtree(root)
        return found

    def zarr(self):
        root = self.root / "zarr"
        found = {
            "save": common.seconds(self.array.to_zarr, str(root), compressors=None)
        }
        shutil.rmtree(root)
        return found


TARGETS = {
    ("frame", "parquet", "save"): 1.15,
    ("frame", "parquet", "load"): 1.15,
    ("frame", "parquet", "load 2 of 20"): 1.15,
    ("array", "npy", "save"): 1.15,
    ("array", "zarr", "save"): 1.0,
    ("array", "npy", "load"): 1.3,
    ("array", "npy", "load again"): 1.3,
    ("array", "npy", "load as one"): 1.3,
}


def main():
    arguments = common.parser(__doc__).parse_args()
    # Of pandas, for what dask's reader does.
    warnings.filterwarnings("ignore", "The inplace keyword")
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    scale = 0.02 if arguments.quick else arguments.scale
    count = 4 if arguments.quick else 32
    report = common.Report("kinds.py", arguments)
    table = []
    with common.folder(arguments) as root:
        if common.is_wanted(arguments, "frame"):
            case = Frames(root, count, max(int(125_000 * scale), 100))
            peers = {"ours": case.ours, "parquet": case.parquet}
            measure(report, table, "frame", peers, rounds)
        if common.is_wanted(arguments, "array"):
            case = Arrays(root, 2 * count, max(int(2048 * scale), 1))
            peers = {"ours": case.ours, "npy": case.npy}
            if importlib.util.find_spec("zarr"):
                peers["zarr"] = case.zarr
            measure(report, table, "array", peers, rounds)
    report.table("Time taken, against dask's own writers", HEADS, table)
    report.finish()


def measure(report, table, kind, contestants, rounds):
    report.say(kind)
    samples = common.in_turn(contestants, rounds, report, warm=True)
    for (who, what), values in samples.items():
        report.row(kind=kind, who=who, what=what, values=values)
    for (of, peer, what), most in TARGETS.items():
        if of == kind and (peer, what) in samples:
            value = common.ratio(samples["ours", what], samples[peer, what])
            report.target(f"{kind}: {what}, against {peer}", value, at_most=most)
            ours = common.spread(samples["ours", what])
            table.append([f"{kind}, {what}", ours, peer, value])


if __name__ == "__main__":
    main()
