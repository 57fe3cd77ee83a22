"""The commands on frames, arrays and single values."""

import json
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dask import delayed

from agatha_ckpt import Checkpointer, UnsupportedFormatError
from agatha_ckpt._cli.main import main
from tests.cli.cases import refused

TABLE = pd.DataFrame(
    {
        "n": np.arange(4),
        "word": ["a", "é", None, "d"],
        "day": pd.date_range("2020-01-01", periods=4, unit="ns"),
        "kind": pd.Categorical(list("abab")),
    }
)


@pytest.fixture
def root(tmp_path):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    with dask.config.set(scheduler="sync"):
        checkpointer.checkpoint("frame", dd.from_pandas(TABLE, npartitions=2))
        matrix = da.arange(400, chunks=200).reshape(20, 20)
        checkpointer.checkpoint("array", matrix)
        checkpointer.checkpoint("total", matrix.sum())
        checkpointer.checkpoint("value", delayed(dict)(a=1.5))
    return str(tmp_path)


def run(*arguments):
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def lines(*arguments):
    return [json.loads(line) for line in run("head", *arguments).splitlines()]


def test_head_prints_the_rows_of_a_frame(root):
    day = {"$datetime": "2020-01-02T00:00:00"}
    assert lines(root, "frame", "-n", "3")[1:] == [
        {"n": 1, "word": "é", "day": day, "kind": "b"},
        {
            "n": 2,
            "word": None,
            "day": {"$datetime": "2020-01-03T00:00:00"},
            "kind": "a",
        },
    ]


def test_head_prints_a_corner_of_an_array(root):
    assert lines(root, "array", "-n", "2") == [[*range(10)], [*range(20, 30)]]
    assert lines(root, "value") == [{"a": 1.5}]
    [total] = lines(root, "total")
    assert total["$numpy"]["value"] == 79800


def test_show_describes_what_was_saved(root):
    blocks = "array, 20 x 20 in blocks of 10 x 20, dtype <i8"
    assert blocks in run("show", root, "array")
    assert "kind        dataframe" in run("show", root, "frame")
    assert "array, no dimensions, dtype <i8" in run("show", root, "total")


def test_the_other_commands_take_every_kind(root):
    found = {each["name"]: each for each in json.loads(run("ls", root, "--json"))}
    kinds = {name: (each["kind"], each["format"]) for name, each in found.items()}
    assert kinds == {
        "array": ("array", "npy"),
        "frame": ("dataframe", "parquet"),
        "total": ("array", "npy"),
        "value": ("delayed", "msgpack"),
    }
    assert run("verify", root).count(" ok") == 4
    assert "4 checkpoints" in run("report", root, "--output", f"{root}/report.html")


@pytest.mark.parametrize(
    "name, package, extra",
    [("frame", "pyarrow", "dataframe"), ("array", "numpy", "array")],
)
def test_a_package_that_is_not_installed_is_named(
    root, monkeypatch, name, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"agatha_ckpt._dask.{name}", None)
    assert f"needs the package '{package}'" in refused("head", root, name)
    assert run("verify", root, name).count(" ok") == 1
    with pytest.raises(UnsupportedFormatError, match=rf"agatha-ckpt\[{extra}\]"):
        Checkpointer(root, verbose=False).checkpoint(name)
