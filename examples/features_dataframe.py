"""From documents to a model: a bag, a DataFrame, an Array and a Delayed, each stored.

The documents are the topics of the reference manual of Python, which Python carries for
its ``help()``. Their features are a table, the table becomes a matrix, and a model is
fitted to the matrix. The first run is killed while it computes the table; the second
computes what is missing. At the end pandas, and DuckDB where it is installed, read the
files of the table as they lie.

    pip install 'agatha-ckpt[dataframe]'
    python examples/features_dataframe.py

It clears its checkpoints when it begins, so that it prints the same each time.
"""

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pydoc_data.topics import topics

import dask
import dask.bag as db
import numpy as np
import pandas as pd

from agatha_ckpt import Checkpointer

NAMES = ["documents", "features", "matrix", "weights"]
COLUMNS = {
    "topic": "string",
    "characters": "int64",
    "words": "int64",
    "long_words": "int64",
    "code": "float64",
    "references": "int64",
}
PREDICTORS = ["words", "long_words", "code", "references"]
is_to_be_killed = False


def describe(document):
    """Return one row of the table."""
    topic, text = document
    if is_to_be_killed and topic == "numbers":
        os.kill(os.getpid(), signal.SIGKILL)
    words = re.findall(r"[A-Za-z]+", text)
    lines = text.splitlines() or [""]
    return {
        "topic": topic,
        "characters": len(text),
        "words": len(words),
        "long_words": sum(len(word) >= 8 for word in words),
        "code": sum(line.startswith("   ") for line in lines) / len(lines),
        "references": text.count('"'),
    }


def fit(products, moments):
    """Return the weights of a least-squares fit, by name."""
    weights = np.linalg.solve(products, moments)
    return {
        name: round(float(w), 3) for name, w in zip(PREDICTORS, weights, strict=True)
    }


def pipeline(ckpt):
    documents = db.from_sequence(sorted(topics.items()), npartitions=8)
    documents = ckpt.checkpoint("documents", documents)

    table = documents.map(describe).to_dataframe(meta=COLUMNS)
    table = ckpt.checkpoint("features", table)

    # Only these columns are read. Lengths are known: the table is stored.
    matrix = table[[*PREDICTORS, "characters"]].to_dask_array(lengths=True)
    matrix = ckpt.checkpoint("matrix", matrix.astype("f8"))

    x, y = matrix[:, :-1], matrix[:, -1]
    weights = dask.delayed(fit)(x.T @ x, x.T @ y)
    weights = ckpt.checkpoint("weights", weights)
    return table, weights


def killed(root):
    headline("The first run is killed while it computes the table")
    command = [sys.executable, __file__, "--root", root, "--to-be-killed"]
    done = subprocess.run(command, check=False)
    print(f"\nKilled by signal {-done.returncode}")


def resumed(ckpt):
    headline("The second run keeps what the first one stored")
    table, weights = pipeline(ckpt)
    print(f"\nThe table has {len(table):,} rows; the weights are {weights.compute()}")


def read_by_others(ckpt):
    headline("Other programs read the table from its files")
    files = ckpt.store.files("features")
    table = pd.concat([pd.read_parquet(file) for file in files])
    print(table.nlargest(5, "words").to_string(index=False))
    if importlib.util.find_spec("duckdb"):
        import duckdb

        query = "select count(*), sum(words) from read_parquet(?) where code > 0.5"
        count, words = duckdb.execute(query, [files]).fetchone()
        print(f"\nDuckDB: {count} topics are code for the most part, {words:,} words")


def headline(text):
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def main():
    global is_to_be_killed
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        default="features-checkpoints",
        help="path of the folder of the checkpoints (default: %(default)s)",
    )
    parser.add_argument("--to-be-killed", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ckpt = Checkpointer(arguments.root)
    dask.config.set(scheduler="sync")  # the documents are few
    if arguments.to_be_killed:
        is_to_be_killed = True
        pipeline(ckpt)
        return
    print(f"Checkpoints under {arguments.root}")
    for name in NAMES:
        ckpt.clear(name)
    killed(arguments.root)
    resumed(ckpt)
    read_by_others(ckpt)


if __name__ == "__main__":
    main()
