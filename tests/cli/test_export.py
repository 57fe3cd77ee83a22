"""``agatha-ckpt export``."""

import csv
import datetime
import io
import json
import sys
import tracemalloc
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from agatha_ckpt import Checkpointer, FailedRecord
from agatha_ckpt._cli.plain import NotPlainError, plain_line
from tests.cli.cases import damage_one_partition, refused, run, save

DAY = datetime.datetime(2026, 1, 2, 3, 4, 5, 600, datetime.UTC)
DICTS = [
    {"id": 1, "text": 'Sätze, "x"\n', "score": None},
    {"id": 2, "text": "", "score": 2.5, "day": DAY},
    {"text": "t", "id": 3, "score": 3},
]


@pytest.mark.parametrize(
    "value, shown",
    [
        ([1, 2.5, True, None, "é文"], [1, 2.5, True, None, "é文"]),
        ((1, (2, [3])), [1, [2, [3]]]),
        ({3, 1, 2}, [1, 2, 3]),
        ({1: 3, None: 2, (1, "b"): 4}, {"1": 3, "null": 2, '[1, "b"]': 4}),
        ({b"a": {"$tuple": 1}}, {"YQ==": {"$tuple": 1}}),
        ([float("nan"), float("-inf")], ["nan", "-inf"]),
        ([10**5000], [hex(10**5000)]),
        (b"\x00", "AA=="),
        (DAY, "2026-01-02T03:04:05.000600+00:00"),
        ([DAY.date(), DAY.time()], ["2026-01-02", "03:04:05.000600"]),
        (datetime.timedelta(days=1, seconds=2), "1 day, 0:00:02"),
        ([Decimal("1.20"), Fraction(1, 3), 1j], ["1.20", "1/3", "1j"]),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([np.float32(1.5), np.int8(1), np.bool_(True)], [1.5, 1, True]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.zeros(1, [("a", "i4"), ("b", "U1")]), [[0, ""]]),
        (np.array(["2026-01-02", "NaT"], "M8[ns]"),
         ["2026-01-02T00:00:00.000000000", "NaT"]),
        (np.datetime64(2**60, "Y"), str(np.datetime64(2**60, "Y"))),
        ("\ud800", "\ud800"),
        (FailedRecord("1", "KeyError", "2", ""),
         {"repr": "1", "error_type": "KeyError", "message": "2", "traceback": ""}),
    ],
)  # fmt: skip
def test_a_value_becomes_plain_json(value, shown):
    assert json.loads(plain_line(value)) == shown
    plain_line(value).encode()


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [{None: 1, "null": 2}]])
def test_keys_that_would_be_one_are_refused(value):
    with pytest.raises(NotPlainError, match="two keys that are both"):
        plain_line(value)


def test_jsonl_is_a_record_a_line_in_order(tmp_path):
    save(tmp_path, [(1, "é"), {"a": {2}}, "x"], 2)
    lines = ['[1, "é"]', '{"a": [2]}', '"x"']
    assert run("export", tmp_path, "x").stdout.splitlines() == lines
    path = tmp_path / "x.jsonl"
    ended = run("export", tmp_path, "x", "-o", path)
    assert (ended.exit_code, ended.output) == (0, "")
    assert path.read_text("utf-8").splitlines() == lines


def test_csv_has_a_line_of_names_for_dicts(tmp_path):
    save(tmp_path, DICTS, 2)
    read = list(
        csv.reader(io.StringIO(run("export", tmp_path, "x", "--format=csv").stdout))
    )
    assert read == [
        ["id", "text", "score", "day"],
        ["1", 'Sätze, "x"\n', "", ""],
        ["2", "", "2.5", DAY.isoformat()],
        ["3", "t", "3", ""],
    ]


def test_csv_has_no_line_of_names_for_rows(tmp_path):
    save(tmp_path, [("a", 1), ("b", None)], 2)
    ended = run("export", tmp_path, "x", "--format", "csv")
    assert ended.stdout == "a,1\nb,\n"


def test_parquet_has_the_types_of_the_values(tmp_path):
    save(tmp_path, DICTS, 2)
    path = tmp_path / "x.parquet"
    ended = run("export", tmp_path, "x", "--format", "parquet", "-o", path)
    assert (ended.exit_code, ended.output) == (0, "")
    table = pyarrow.parquet.read_table(path)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "id": "int64",
        "text": "string",
        "score": "double",
        "day": "timestamp[us, tz=UTC]",
    }
    assert table.to_pylist() == [{"day": None} | record for record in DICTS]


@pytest.mark.parametrize(
    "records, fmt, why",
    [
        ([1, 2], "csv", "record 0 is a int, not a dict or a row"),
        ([{"a": 1}, {"a": [1]}], "csv", "record 1 has a list in column 'a'"),
        ([{"a": {"b": 1}}], "parquet", "record 0 has a dict in column 'a'"),
        ([(np.zeros(2),)], "csv", "record 0 has a ndarray in column '0'"),
        ([{1: 2}], "csv", "record 0 has the key 1"),
        ([(1, 2), (3,)], "csv", "record 1 has other columns than those before"),
        ([{"0": 1}, (1,)], "csv", "record 1 has other columns than those before"),
        ([{"a": 1}, {"a": "x"}], "parquet", "column 'a' has values of two types"),
        ([{"a": "x"}, {"a": b"x"}], "parquet", "column 'a' has values of two types"),
        ([{"a": DAY}, {"a": DAY.date()}], "parquet", "column 'a' has values of two"),
        ([{"a": DAY}, {"a": DAY.replace(tzinfo=None)}], "parquet", "column 'a' has va"),
        ([{"a": 2**53 + 1}, {"a": 0.5}], "parquet", "9007199254740993"),
        ([{"a": 2**64}], "parquet", "holds what Arrow does not take"),
        ([{1: 1, "1": 2}], "jsonl", "two keys that are both '1'"),
    ],
)  # fmt: skip
def test_what_a_format_does_not_have_is_refused_and_nothing_is_written(
    tmp_path, records, fmt, why
):
    save(tmp_path / "root", records, 2)
    path = tmp_path / "out"
    path.write_text("before")
    message = refused("export", tmp_path / "root", "x", "--format", fmt, "-o", path)
    assert why in message
    assert path.read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"root", "out"}
    if fmt != "jsonl":
        assert "use --format jsonl" in message
        assert refused("export", tmp_path / "root", "x", "--format", fmt) == message


def test_a_damaged_checkpoint_leaves_the_file_before(tmp_path):
    save(tmp_path / "root", range(1000), 2)
    damage_one_partition(tmp_path / "root", "x")
    path = tmp_path / "out"
    path.write_text("before")
    assert "partition 0 of checkpoint 'x'" in refused(
        "export", tmp_path / "root", "x", "-o", path
    )
    assert path.read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"root", "out"}


def test_an_array_is_written_by_row_unless_its_blocks_hold_parts_of_rows(tmp_path):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    array = dask.array.arange(8).reshape(4, 2)
    for name, chunks in (("rows", (2, 2)), ("blocks", (2, 1))):
        checkpointer.checkpoint(name, array.rechunk(chunks), scheduler="sync")
    lines = run("export", tmp_path, "rows").stdout.splitlines()
    assert lines == ["[0, 1]", "[2, 3]", "[4, 5]", "[6, 7]"]
    assert "parts of rows; save it" in refused("export", tmp_path, "blocks")
    csv = run("export", tmp_path, "rows", "--format", "csv").stdout
    assert csv == "0,1\n2,3\n4,5\n6,7\n"


def test_a_frame_without_rows_keeps_its_columns(tmp_path):
    frame = pd.DataFrame({"a": [1], "b": pd.Categorical(["x"])}).iloc[:0]
    parts = dask.dataframe.from_map(lambda _: frame, range(2), meta=frame)
    Checkpointer(tmp_path / "root", verbose=False).checkpoint("x", parts)
    assert run("export", tmp_path / "root", "x", "--format", "csv").stdout == "a,b\n"
    path = tmp_path / "x.parquet"
    run("export", tmp_path / "root", "x", "--format", "parquet", "-o", path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame, check_categorical=False)


def save_frame(root, **columns):
    frame = pd.DataFrame(columns, index=pd.Index([10, 20, 40], name="key"))
    bag = dask.dataframe.from_pandas(frame, npartitions=2)
    Checkpointer(root, verbose=False).checkpoint("x", bag, scheduler="sync")
    return frame


def test_a_frame_keeps_its_types_in_parquet_and_is_flat_in_the_others(tmp_path):
    frame = save_frame(
        tmp_path / "root",
        number=np.array([1, 2, 3], "i2"),
        kind=pd.Categorical(["a", "b", "a"]),
        when=pd.to_datetime(
            ["2026-01-02T03:04:05.000000006", None, "2026-01-03"], format="ISO8601"
        ),
    )
    path = tmp_path / "x.parquet"
    ended = run("export", tmp_path / "root", "x", "--format=parquet", "-o", path)
    assert (ended.exit_code, ended.output) == (0, "")
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    rows = run("export", tmp_path / "root", "x", "--format", "csv").stdout.split()
    assert rows[:2] == [
        "number,kind,when,key",
        f"1,a,{frame.when.iloc[0].isoformat()},10",
    ]
    first = json.loads(run("export", tmp_path / "root", "x").stdout.splitlines()[0])
    assert first["when"] == frame.when.iloc[0].isoformat()


@pytest.mark.parametrize("nested", [[[1], [2, 3], []], [None, {"a": 1}, {"a": 2}]])
def test_a_nested_column_of_a_frame_is_for_parquet_and_jsonl(tmp_path, nested):
    with dask.config.set({"dataframe.convert-string": False}):
        frame = save_frame(tmp_path / "root", number=[1, 2, 3], nested=nested)
    path = tmp_path / "x"
    message = refused("export", tmp_path / "root", "x", "--format=csv", "-o", path)
    assert "in column 'nested'" in message
    assert not path.exists()
    assert refused("export", tmp_path / "root", "x", "--format=csv") == message
    lines = run("export", tmp_path / "root", "x").stdout.splitlines()
    assert [json.loads(line)["nested"] for line in lines] == nested
    run("export", tmp_path / "root", "x", "--format", "parquet", "-o", path)
    table = pyarrow.parquet.read_table(path)
    assert table.column("nested").to_pylist() == list(frame.nested)


def test_pickled_values_need_a_permission(tmp_path):
    save(tmp_path, [range(3)], allow_pickle=True)
    assert "give --allow-pickle" in refused("export", tmp_path, "x")
    assert run("export", tmp_path, "x", "--allow-pickle").stdout == '"range(0, 3)"\n'


def test_parquet_without_pyarrow_names_it(tmp_path, monkeypatch):
    save(tmp_path, DICTS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    message = refused("export", tmp_path, "x", "--format", "parquet", "-o", "y")
    assert "pip install pyarrow" in message


@pytest.mark.parametrize("fmt", ["jsonl", "csv"])
def test_memory_does_not_grow_with_the_checkpoint(tmp_path, fmt):
    save(tmp_path, [{"text": f"{i}" * 10_000} for i in range(1000)])
    command = ["export", tmp_path, "x", "--format", fmt, "-o", tmp_path / "out"]
    run(*command)  # imports what it needs
    tracemalloc.start()
    try:
        assert run(*command).exit_code == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > 20_000_000
    assert peak < 5_000_000
