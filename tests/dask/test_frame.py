"""DataFrames and Series, through the same call as bags."""

import datetime as dt
import io
import sys
import zoneinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

import dask
import dask.bag
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dateutil.tz import tzoffset, tzutc
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
    EncodeError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.dtypes import UnstorableFrame
from agatha_ckpt._format.frame_reader import frame_in, to_pandas
from agatha_ckpt._format.frames import to_arrow, write_table
from agatha_ckpt._format.pieces import PieceWriter

N = 7
BASE = pd.DataFrame({"i": np.arange(N), "f": np.linspace(0, 1, N)})
DAYS = pd.date_range("2020", periods=N)
PARIS = pd.date_range("2020", periods=N, tz="Europe/Paris")
HOURS_2 = dt.timezone(dt.timedelta(hours=2))


def objects(*values):
    return pd.Series([*values, *[values[0]] * (N - len(values))], dtype=object)


def arrow(values, kind):
    return pd.array([*values, *[values[0]] * (N - len(values))], pd.ArrowDtype(kind))


def nullable(*values, dtype):
    return pd.array([*values, *[values[0]] * (N - len(values))], dtype)


COLUMNS = {
    "str": list("abcdefg"),
    "str, missing": ["a", None, "b", None, "", "é", "c"],
    "NaN": [1.0, np.nan, np.inf, -0.0, 2, 3, 4],
    "bool": [True, False] * 3 + [True],
    "uint8": np.arange(N, dtype="u1"),
    "half": np.arange(N, dtype="f2"),
    **{f"datetime {u}": DAYS.astype(f"M8[{u}]") for u in ("s", "ms", "us", "ns")},
    "NaT": [pd.Timestamp("2020-01-01"), pd.NaT] * 3 + [pd.NaT],
    "timedelta": pd.to_timedelta(range(N), unit="s").astype("m8[ms]"),
    "zone": PARIS,
    "UTC, seconds": PARIS.tz_convert("UTC").as_unit("s"),
    "fixed offset": PARIS.tz_convert(HOURS_2),
    "UTC of zoneinfo": PARIS.tz_convert(ZoneInfo("UTC")),
    "UTC of datetime": PARIS.tz_convert(dt.UTC),
    "categories": pd.Categorical(list("abcabca"), list("zcba"), ordered=True),
    "categories, int": pd.Categorical([3, 1, 3, 1, 1, 3, None], [9, 3, 1]),
    "categories, float": pd.Categorical([0.5] * N, [0.5, 0.25]),
    "categories, timedelta": pd.Categorical(pd.to_timedelta(range(N), unit="h")),
    "categories, zone": pd.Categorical([*PARIS[:-1], None]),
    "categories, UTC": pd.Categorical(PARIS.tz_convert("UTC")),
    "categories, UTC of zoneinfo": pd.Categorical(PARIS.tz_convert(ZoneInfo("UTC"))),
    "categories, named": pd.Categorical(["a"] * N, pd.Index(["b", "a"], name="k")),
    "categories, range": pd.Categorical([2] * N, pd.RangeIndex(3)),
    "categories, frequency": pd.Categorical(DAYS),
    "period": pd.period_range("2020", periods=N, freq="M"),
    "interval": pd.interval_range(0, N),
    "Int64": nullable(1, None, 2**62, dtype="Int64"),
    "Float32": nullable(1.5, None, dtype="Float32"),
    "Float64, NaN and NA": pd.arrays.FloatingArray(
        np.array([np.nan, 1, -0.0, 3, 4, 5, 6]), np.arange(N) == 1
    ),
    "boolean": nullable(True, None, dtype="boolean"),
    "string": nullable("a", None, dtype="string"),
    "string[python]": nullable("a", None, dtype=pd.StringDtype("python")),
    "int32[pyarrow]": arrow([1, None], pa.int32()),
    "string[pyarrow]": arrow(["a", None], pa.string()),
    "large_string[pyarrow]": arrow(["a", None], pa.large_string()),
    "timestamp[s][pyarrow]": arrow([dt.datetime(2020, 1, 1), None], pa.timestamp("s")),
    "time32[pyarrow]": arrow([dt.time(1, 2), None], pa.time32("s")),
    "decimal[pyarrow]": arrow([Decimal("1.10"), None], pa.decimal128(5, 2)),
    "list[pyarrow]": arrow([[1, 2], None, []], pa.list_(pa.int64())),
    "struct[pyarrow]": arrow([{"a": 1}, None], pa.struct([("a", pa.int64())])),
    "objects, str": objects("a", None, ""),
    "objects, str and NaN": objects("a", np.nan),
    "objects, NA": objects("a", pd.NA),
    "objects, bytes": objects(b"a", None),
    "objects, int": objects(1, 2**40),
    "objects, bool": objects(True, None, False),
    "objects, date": objects(dt.date(2020, 1, 1), None),
    "objects, time": objects(dt.time(1, 2, 3, 4), None),
    "objects, Decimal": objects(Decimal("1.10"), Decimal("2.20")),
    "objects, times of two folds": objects(dt.time(2), dt.time(3)),
    "objects, ndarray of dates": objects(np.array(["2020"], "M8[s]")),
    "objects, list": objects([1, 2], [], None, [3]),
    "objects, list of str": objects(["a", "b"], []),
    "objects, ndarray": objects(np.ones(2, "f4"), np.zeros(0, "f4")),
    "objects, dict": objects({"a": 1, "b": "x"}, {"a": 2, "b": None}),
    "objects, all missing": objects(None),
}
FRAMES = {
    "plain": BASE,
    **{name: BASE.assign(c=values) for name, values in COLUMNS.items()},
    "one row": BASE.iloc[:1],
    "no rows": BASE.iloc[:0],
    "no columns": pd.DataFrame(index=range(N)),
    "named index": BASE.set_index(pd.Index(np.arange(N) * 2, name="k")),
    "index of str": BASE.set_index(pd.Index(list("abcdefg"), name="k")),
    "index of objects": BASE.set_index(pd.Index(list("abcdefg"), dtype=object)),
    "index with duplicates": BASE.set_index(pd.Index([1, 1, 1, 2, 2, 3, 3])),
    "index with a frequency": BASE.set_index(DAYS),
    "index of periods": BASE.set_index(pd.period_range("2020", periods=N, freq="M")),
    "index with a zone": BASE.set_index(PARIS),
    "index of categories": BASE.set_axis(
        pd.CategoricalIndex(list("aabbccc"), list("cbaz"))
    ),
    "index named as a column": BASE.rename_axis("i"),
    "index with an int as name": BASE.rename_axis(0),
    "index named as a column that is an int": pd.DataFrame(
        np.ones((N, 2)), pd.MultiIndex.from_arrays([range(N)] * 2, names=[1, 1])
    ),
    "index with an int like the text of a column": pd.DataFrame(
        {"0": range(N)}, pd.Index([*range(1, N + 1)], name=0)
    ),
    "range index": BASE.set_index(pd.RangeIndex(10, 10 + 2 * N, 2, name="r")),
    "two index levels": BASE.set_index([pd.Index(list("aabbccd")), pd.Index([*DAYS])]),
    "a range as an index level": BASE.set_index([list("aabbccd")], append=True),
    "no columns, two index levels": pd.DataFrame(
        index=pd.MultiIndex.from_arrays([range(0, 2 * N, 2), range(N)])
    ),
    "columns are a range": pd.DataFrame(np.ones((N, 3))),
    "columns are int": pd.DataFrame(np.ones((N, 3)), columns=[3, 1, 2]),
    "columns are objects": BASE.set_axis(pd.Index(["a", "b"], dtype=object), axis=1),
    "columns are categories": BASE.set_axis(
        pd.CategoricalIndex(["b", "a"], list("zab"), ordered=True), axis=1
    ),
    "columns are named categories": BASE.set_axis(
        pd.CategoricalIndex([1, 0], pd.RangeIndex(2, name="k")), axis=1
    ),
    "columns of two levels": BASE.set_axis(
        pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["p", None]), axis=1
    ),
    "columns of two levels, of objects": BASE.set_axis(
        pd.MultiIndex.from_product([pd.Index(["a", "b"], dtype=object), ["x"]]), axis=1
    ),
    "columns of two levels, none of them": pd.DataFrame(
        index=range(N), columns=pd.MultiIndex.from_product([[1], ["x"]])[:0]
    ),
    "labels are unique": BASE.set_flags(allows_duplicate_labels=False),
    "columns have a name": BASE.rename_axis(columns="columns"),
    "a dot in a name": BASE.assign(**{"a.b": 1, "a": [[1]] * N}),
    "attributes": BASE.assign(),
}
FRAMES["attributes"].attrs["unit"] = {"f": "m", "n": [1, None]}


def assert_same(found, wanted):
    if isinstance(wanted, pd.Series):
        assert_series_equal(found, wanted, check_index_type="exact", check_freq=True)
        values = [(found, wanted)]
    else:
        assert_frame_equal(
            found,
            wanted,
            check_index_type="exact",
            check_column_type="exact",
            check_freq=True,
        )
        columns = range(wanted.shape[1])
        values = [(found.iloc[:, n], wanted.iloc[:, n]) for n in columns]
    assert found.attrs == wanted.attrs
    assert found.flags == wanted.flags
    assert_index_equal(found.index, wanted.index, exact=True)
    if isinstance(wanted.index, pd.MultiIndex):
        assert [*map(type, found.index.levels)] == [*map(type, wanted.index.levels)]
    for a, b in values:
        assert type(a.dtype) is type(b.dtype)
        assert a.dtype == b.dtype
        assert type(getattr(a.dtype, "tz", None)) is type(getattr(b.dtype, "tz", None))
        assert [*map(type, a.array)] == [*map(type, b.array)]
        if isinstance(a.dtype, pd.CategoricalDtype):
            both = a.cat.categories, b.cat.categories
            assert_index_equal(*both, exact=True)
            assert [*map(str, map(type, both[0]))] == [*map(str, map(type, both[1]))]
            zones = [type(getattr(each, "tz", None)) for each in both]
            assert zones[0] is zones[1]
            assert getattr(both[0], "freq", None) == getattr(both[1], "freq", None)


def through_parquet(value, columns=None):
    sink = io.BytesIO()
    write_table(to_arrow(value), PieceWriter(sink), "zstd")
    return frame_in(pq.ParquetFile(sink), columns)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_p9_a_frame_comes_back(frame):
    assert_same(through_parquet(frame), frame)
    for place, label in enumerate(frame.columns):
        assert_same(through_parquet(frame.iloc[:, place]), frame.iloc[:, place])
        if not isinstance(frame.columns, pd.MultiIndex):
            assert_same(through_parquet(frame, [label]), frame[[label]])


def test_p9_names_of_columns_do_not_depend_on_options_of_pandas():
    with pd.option_context("mode.string_storage", "python"):
        frame = BASE.set_axis(pd.MultiIndex.from_product([["a"], ["x", "y"]]), axis=1)
        table = to_arrow(frame)
    with pd.option_context("mode.string_storage", "pyarrow"):
        assert [*to_pandas(table).columns.dtypes] == [*frame.columns.dtypes]


@pytest.mark.parametrize("kind", ["NaN", "NaT", "str", "zone", "categories", "Int64"])
def test_a_frame_that_came_back_can_be_changed(kind):
    frame = pd.DataFrame({"x": COLUMNS[kind]})
    expected = frame.copy()
    back = through_parquet(frame)
    for each in (back, expected):
        each.loc[each.index[1:3], "x"] = None
    assert_same(back, expected)


@pytest.mark.parametrize("name", [None, "a", 0, np.int64(1), ("a", 1)])
def test_p9_the_name_of_a_series_comes_back(name):
    series = pd.Series([1, 2], name=name)
    found = through_parquet(series)
    assert_same(found, series)
    assert repr(found.name) == repr(name)


REFUSED = {
    "columns of two types": BASE.set_axis(pd.Index([1, "1"], dtype=object), axis=1),
    "complex": BASE.assign(c=1j),
    "sparse": BASE.assign(c=pd.arrays.SparseArray([0] * N)),
    "objects of two types": BASE.assign(c=objects(1, "a")),
    "objects of an own class": BASE.assign(c=objects(object())),
    "objects, two missing values": BASE.assign(c=objects("a", None, np.nan)),
    "objects, dicts with other keys": BASE.assign(c=objects({"a": 1}, {"b": 1})),
    "objects, keys that are equal to str": BASE.assign(c=objects([{np.str_("a"): 1}])),
    "objects, Decimals of other scales": BASE.assign(
        c=objects(Decimal("1.1"), Decimal("1.10"))
    ),
    "objects, int subclass": BASE.assign(c=objects(True, 1)),
    "objects, an int that no column holds": BASE.assign(c=objects(1, 2**70)),
    "categories, interval": BASE.assign(c=pd.cut(range(N), 3)),
    "categories, Decimals of other scales": BASE.assign(
        c=pd.Categorical(objects(Decimal("1.1"), Decimal("2.20")))
    ),
    "categories, period": BASE.assign(
        c=pd.Categorical(pd.period_range("2020", periods=N))
    ),
    "objects, the second of two equal times": BASE.assign(
        c=objects(dt.datetime(2020, 1, 1, fold=1))
    ),
    "objects, Timestamps of seconds": BASE.assign(
        c=objects(pd.Timestamp("2020").as_unit("s"))
    ),
    "objects, a zone with another name": BASE.assign(
        c=objects(dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "Z")))
    ),
    "objects, a zone that Arrow does not know": BASE.assign(
        c=objects(dt.datetime(2020, 1, 1, tzinfo=tzoffset("x", 3600)))
    ),
    "arrow, a union": BASE.assign(
        c=pd.arrays.ArrowExtensionArray(
            pa.UnionArray.from_sparse(pa.array([0] * N, pa.int8()), [pa.array([1] * N)])
        )
    ),
    "arrow, a dictionary of numbers": BASE.assign(
        c=arrow([1, None], pa.dictionary(pa.int64(), pa.int64()))
    ),
    "a name that is a list": BASE.set_axis(
        pd.Index([["i"], ["f"]], dtype=object), axis=1
    ),
    "name of a series that is a half": BASE["i"].rename(np.float16(1)),
    "objects, text that is not Unicode": BASE.assign(c=objects("\ud800")),
    "a frequency with holidays": BASE.set_index(
        pd.date_range(
            "2020",
            periods=N,
            freq=pd.offsets.CustomBusinessDay(holidays=["2020-01-02"]),
        )
    ),
    "a frequency without a text": BASE.set_index(
        pd.date_range("2020", periods=N, freq=pd.offsets.Easter())
    ),
    "a frequency that normalizes": BASE.set_index(
        pd.date_range("2020", periods=N, freq=pd.offsets.BDay(normalize=True))
    ),
    "a MultiIndex of one level": BASE.set_axis(pd.MultiIndex.from_arrays([range(N)])),
    "columns with a level of categories": BASE.set_axis(
        pd.MultiIndex.from_arrays([pd.Categorical(["a", "b"]), ["x", "y"]]), axis=1
    ),
    "name of a series that is not Unicode": BASE["i"].rename("\ud800"),
    "objects, tuple": BASE.assign(c=objects((1, 2))),
    "duplicate names": pd.DataFrame(np.ones((N, 2)), columns=["a", "a"]),
    "a name that is a float": BASE.set_axis([1.5, 2.5], axis=1),
    "attributes that JSON changes": BASE.assign(),
    "attributes with a key that is equal to str": BASE.assign(),
}
REFUSED["attributes that JSON changes"].attrs["a"] = (1, 2)
REFUSED["attributes with a key that is equal to str"].attrs[np.str_("a")] = 1


@pytest.mark.parametrize("frame", REFUSED.values(), ids=REFUSED)
def test_p9_what_parquet_does_not_keep_is_refused(frame):
    with pytest.raises(UnstorableFrame, match="; ") as raised:
        to_arrow(frame)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "values", [pd.cut(range(N), 3), [1j] * N, PARIS.tz_convert(tzutc()), objects(1, "")]
)
def test_a_refusal_names_the_column(values):
    with pytest.raises(UnstorableFrame, match=r"column '?cc"):
        to_arrow(BASE.assign(cc=values))


class Text(str):
    __slots__ = ()


LOOK_ALIKE = {
    "categories": [
        BASE.assign(c=pd.Categorical(objects(kind("a")))) for kind in (str, np.str_)
    ],
    "index of categories": [
        BASE.set_axis(pd.CategoricalIndex(objects(kind("a")))) for kind in (str, Text)
    ],
    "name": [BASE["i"].rename(kind("i")) for kind in (str, Text)],
}


@pytest.mark.parametrize("alike, other", LOOK_ALIKE.values(), ids=LOOK_ALIKE)
def test_p9_what_was_stored_before_makes_nothing_storable(alike, other):
    assert_same(through_parquet(alike), alike)
    with pytest.raises(UnstorableFrame, match="; "):
        to_arrow(other)


UNWRITABLE = {
    "a dict without keys": BASE.assign(c=objects({})),
    "seconds beyond what Parquet counts": BASE.assign(
        c=np.full(N, 2**62).view("M8[s]")
    ),
    "an interval of months": BASE.assign(
        c=pd.array(
            [pa.MonthDayNano([1, 2, 3])] * N,
            pd.ArrowDtype(pa.month_day_nano_interval()),
        )
    ),
}


@pytest.mark.parametrize("frame", UNWRITABLE.values(), ids=UNWRITABLE)
def test_p9_what_parquet_does_not_have_is_refused(frame, checkpointer):
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.from_map(lambda _, part=frame: part, [0], meta=frame.iloc[:0])
    with pytest.raises(EncodeError, match=r"Parquet cannot hold it .*; convert"):
        checkpointer.checkpoint("x", frame)


# ---- collections ----


@pytest.fixture
def sync():
    with dask.config.set(scheduler="sync"):
        yield


def numbers(npartitions=3, rows=30):
    frame = pd.DataFrame(
        {
            "a": np.arange(rows),
            "b": np.arange(rows) / 3,
            "c": [f"n{n}" for n in range(rows)],
        }
    )
    return dd.from_pandas(frame, npartitions=npartitions)


COLLECTIONS = {
    "from_pandas": lambda: numbers(),
    "unknown divisions": lambda: numbers().clear_divisions(),
    "series": lambda: numbers()["b"],
    "projection": lambda: numbers()[["c", "a"]],
    "empty partitions": lambda: numbers().query("a < 5"),
    "computed": lambda: numbers().assign(d=lambda d: d.a * 2).groupby("a").sum(),
    "divisions of str": lambda: numbers().set_index("c"),
    "divisions of dates": lambda: dd.from_pandas(BASE.set_index(PARIS), npartitions=2),
    "categories": lambda: numbers().assign(
        k=lambda d: d.c.astype("category").cat.as_known()
    ),
    "unknown categories": lambda: numbers().assign(k=lambda d: d.c.astype("category")),
    "merged": lambda: numbers().merge(numbers(2).compute(), on="a"),
    "of a bag": lambda: dask.bag.from_sequence(
        [{"x": n, "y": str(n)} for n in range(6)], npartitions=2
    ).to_dataframe(meta={"x": "i8", "y": "string"}),
    "of delayed": lambda: dd.from_delayed([dask.delayed(BASE.copy)()], meta=BASE),
}


@pytest.mark.parametrize("make", COLLECTIONS.values(), ids=COLLECTIONS)
def test_a_collection_comes_back(checkpointer, make):
    with dask.config.set(scheduler="sync"):
        frame = make()
        loaded = checkpointer.checkpoint("x", frame)
        assert type(loaded) is type(frame)
        assert loaded.divisions == frame.optimize().divisions
        assert_same(loaded._meta, frame._meta.iloc[:0])
        expected = frame.compute()
        assert_same(loaded.compute(), expected)
        again = checkpointer.checkpoint("x")
        assert_same(again.compute(), expected)
        assert checkpointer.store.verify("x") == []
        assert len(checkpointer.checkpoint("x", again, on_stale="error")) == len(
            expected
        )
        assert checkpointer.checkpoint("x", frame, on_stale="error") is not None


@pytest.mark.parametrize("root", ["local", "memory", "s3"], indirect=True)
def test_only_the_columns_that_are_needed_are_read(root):
    wide = pd.DataFrame(
        {f"c{n}": np.random.default_rng(n).random(60_000) for n in range(9)}
    )
    frame = dd.from_pandas(wide, npartitions=1)
    store = CheckpointStore(root) if isinstance(root, str) else root
    checkpointer = Checkpointer(store, verbose=False)
    loaded = checkpointer.checkpoint("x", frame, scheduler="sync")
    name = checkpointer.store.manifest("x").partitions[0].file
    path = f"{checkpointer.store.path('x')}/{name}"
    fs = checkpointer.store.fs
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 1  # in a column of the middle
    fs.pipe_file(path, bytes(data))
    with dask.config.set(scheduler="sync"):
        for column in ("c0", "c8"):
            assert_series_equal(loaded[column].compute(), wide[column])
        assert_frame_equal(loaded[["c8", "c0"]].compute(), wide[["c8", "c0"]])
        with pytest.raises(CorruptCheckpointError, match="partition 0 of checkpoint"):
            loaded.compute()


def test_no_column_is_none_of_them(checkpointer):
    frame = numbers()
    loaded = checkpointer.checkpoint("x", frame)
    assert_same(loaded[[]].compute(), frame[[]].compute())


# dask's own frames cannot select a tuple, and those of older dask give a frame.
A_TUPLE = pytest.param(
    ("p", "r"), marks=pytest.mark.skipif(dask.__version__ < "2026", reason="older dask")
)


@pytest.mark.parametrize("chosen", [A_TUPLE, "p", ["z"], [("z", "q"), ("p", "q")]])
def test_columns_of_two_levels_are_selected(checkpointer, chosen):
    labels = pd.MultiIndex.from_tuples([("p", "q"), ("p", "r"), ("z", "q")])
    frame = BASE.assign(k=1).set_axis(labels, axis=1)
    loaded = checkpointer.checkpoint("x", dd.from_pandas(frame, npartitions=2))
    assert_same(loaded[chosen].compute(), frame[chosen])


def test_a_filter_and_a_count_are_as_of_the_frame_in_memory(checkpointer):
    frame = numbers()
    loaded = checkpointer.checkpoint("x", frame, scheduler="sync")
    with dask.config.set(scheduler="sync"):
        for use in (
            len,
            lambda d: d[d.a > 7].b.sum().compute(),
            lambda d: d.c.nunique().compute(),
            lambda d: d.partitions[1].a.sum().compute(),
            lambda d: d.loc[3:20].b.max().compute(),
        ):
            assert use(loaded) == use(frame)


def test_the_rows_of_a_partition_are_dicts(checkpointer):
    checkpointer.checkpoint("x", numbers(2, 4), scheduler="sync")
    rows = [
        {k: v for k, v in row.items() if k in "abc"}
        for row in checkpointer.store.records("x")
    ]
    assert rows == [{"a": n, "b": n / 3, "c": f"n{n}"} for n in range(4)]
    assert checkpointer.status("x").records == 4


def test_a_time_that_python_does_not_have_is_one_of_numpy(checkpointer):
    years = pd.DataFrame({"n": [1, 2], "y": np.array(["20000", "NaT"], "M8[s]")})
    frame = dd.from_pandas(years, npartitions=1)
    checkpointer.checkpoint("x", frame, scheduler="sync")
    rows = list(checkpointer.store.records("x"))
    assert [row["n"] for row in rows] == [1, 2]
    assert rows[0]["y"] == np.datetime64("20000")
    assert np.isnat(rows[1]["y"])


ROWS = {
    "a period": (
        pd.DataFrame({"x": pd.period_range("2020", periods=1, freq="M")}),
        [{"x": pd.Period("2020-01", "M")}],
    ),
    "a time with nanoseconds": (
        pd.DataFrame({"x": pd.array([1], pd.ArrowDtype(pa.time64("ns")))}),
        [{"x": pd.Timedelta(1)}],
    ),
    "no columns": (pd.DataFrame(index=range(2)), [{}, {}]),
}


@pytest.mark.parametrize("frame, rows", ROWS.values(), ids=ROWS)
def test_the_rows_of_a_partition_have_all_that_is_in_them(checkpointer, frame, rows):
    saved = dd.from_map(lambda _: frame, [0], meta=frame.iloc[:0])
    checkpointer.checkpoint("x", saved, scheduler="sync")
    assert list(checkpointer.store.records("x")) == rows


BROKEN = set()  # global, as what a function captures counts in its fingerprint


def without_columns(number):
    if number in BROKEN:
        raise OSError
    return pd.DataFrame(index=range(3))


def test_a_resume_counts_the_rows_of_a_frame_without_columns(checkpointer):
    frame = dd.from_map(without_columns, [0, 1], meta=without_columns(1).iloc[:0])
    BROKEN.add(0)
    try:
        with pytest.raises(OSError, match="1 of 2 partitions stored"):
            checkpointer.checkpoint("x", frame, scheduler="sync")
    finally:
        BROKEN.clear()
    assert checkpointer.explain("x", frame).kept == 1
    checkpointer.checkpoint("x", frame, scheduler="sync")
    assert checkpointer.status("x").records == 6


def test_a_row_that_python_cannot_have_is_not_damage(checkpointer):
    twice = [pa.field("a", pa.int64())] * 2
    values = pa.StructArray.from_arrays([pa.array([1])] * 2, fields=twice)
    part = pd.DataFrame({"x": pd.Series(values, dtype=pd.ArrowDtype(values.type))})
    frame = dd.from_map(lambda _: part, [0], meta=part.iloc[:0])
    checkpointer.checkpoint("x", frame, scheduler="sync")
    with pytest.raises(UnsupportedFormatError, match="load the frame"):
        list(checkpointer.store.records("x"))


@pytest.fixture
def no_zones(monkeypatch):
    """Return a function after which this process finds no time zone."""

    def forget(key):
        ZoneInfo.clear_cache(only_keys=[key])
        monkeypatch.setitem(sys.modules, "tzdata", None)
        zoneinfo.reset_tzpath([])

    yield forget
    zoneinfo.reset_tzpath()


def test_a_zone_that_is_not_known_here_is_not_damage(checkpointer, no_zones):
    key = "Indian/Kerguelen"
    times = DAYS.tz_localize(key)
    frame = dd.from_pandas(pd.DataFrame({"x": times}), npartitions=1)
    loaded = checkpointer.checkpoint("x", frame, scheduler="sync")
    no_zones(key)
    with pytest.raises(UnsupportedFormatError, match="pip install tzdata"):
        loaded.compute(scheduler="sync")
    with pytest.raises(UnsupportedFormatError, match="pip install tzdata"):
        checkpointer.checkpoint("x")


@pytest.mark.usefixtures("sync")
def test_a_frame_made_of_a_loaded_bag_has_it_as_parent(checkpointer):
    bag = dask.bag.from_sequence([{"x": n} for n in range(4)], npartitions=2)
    loaded = checkpointer.checkpoint("bag", bag, scheduler="sync")
    frame = checkpointer.checkpoint("frame", loaded.to_dataframe(), scheduler="sync")
    array = frame.x.to_dask_array(lengths=True)
    checkpointer.checkpoint("array", array, scheduler="sync")
    checkpointer.checkpoint("total", frame.x.sum().to_delayed(), scheduler="sync")

    def parents(name):
        return [n for n, _ in checkpointer.store.manifest(name).plan.parents]

    assert parents("frame") == ["bag"]
    assert parents("array") == parents("total") == ["frame"]


def test_another_input_makes_it_stale(checkpointer):
    checkpointer.checkpoint("x", numbers(), scheduler="sync")
    with pytest.raises(CheckpointConflictError, match="3 of 3 partitions"):
        checkpointer.checkpoint(
            "x", numbers().assign(b=1.0), on_stale="error", scheduler="sync"
        )


def wrong(change):
    return numbers().map_partitions(
        change, meta=numbers()._meta, enforce_metadata=False
    )


BROKEN_PROMISES = {
    "dtype": (lambda d: d.astype({"a": "i4"}), "has the dtype int32, not int64"),
    "columns": (lambda d: d[["b", "a", "c"]], "has the columns"),
    "name of columns": (lambda d: d.rename_axis("k", axis=1), "columns have the names"),
    "index": (lambda d: d.set_index(d.b), "index has the names"),
    "index dtype": (lambda d: d.set_axis(d.b.tolist()), "index has the dtype float64"),
    "type": (lambda d: d.a, "not a pandas.DataFrame"),
}


@pytest.mark.parametrize(
    "change, reason", BROKEN_PROMISES.values(), ids=BROKEN_PROMISES
)
def test_a_partition_that_is_not_as_promised_is_refused(checkpointer, change, reason):
    with pytest.raises(EncodeError, match=reason) as raised:
        checkpointer.checkpoint("x", wrong(change), scheduler="sync")
    assert "of checkpoint 'x'" in str(raised.value)
    assert not checkpointer.is_done("x")


def test_an_empty_partition_has_the_dtypes_of_the_meta(checkpointer):
    frame = wrong(lambda d: d[["a", "b", "c"]].iloc[:0].astype(object))
    loaded = checkpointer.checkpoint("x", frame, scheduler="sync")
    assert_same(loaded.compute(scheduler="sync"), numbers()._meta)


BAD = {
    "duplicate names": lambda: numbers().rename(columns={"b": "a"}),
    "complex": lambda: numbers().assign(z=1j),
    "Index": lambda: numbers().index,
    "Scalar": lambda: numbers().a.sum(),
    "pandas": lambda: BASE,
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_bad_input_is_refused_first(tmp_path, make):
    with pytest.raises(EncodeError, match=r"checkpoint 'x'.*; "):
        Checkpointer(tmp_path / "root").checkpoint("x", make(), scheduler="sync")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 10, 2000, -1, -5])
def test_p5_a_changed_byte_is_reported(tmp_path, place):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    frame = numbers()
    loaded = checkpointer.checkpoint("x", frame, scheduler="sync")
    path = tmp_path / "x" / checkpointer.store.manifest("x").partitions[1].file
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match="partition 1 of checkpoint 'x'"):
        loaded.compute(scheduler="sync")
    assert [d.index for d in checkpointer.store.verify("x")] == [1]
    repaired = checkpointer.repair("x", frame, scheduler="sync")
    assert_same(repaired.compute(scheduler="sync"), frame.compute(scheduler="sync"))


@pytest.fixture
def files(tmp_path):
    """The files of a frame with many kinds of columns."""
    frame = BASE.assign(
        word=COLUMNS["str, missing"],
        day=DAYS,
        zone=PARIS,
        kind=pd.Categorical(list("abcabca")),
        count=COLUMNS["Int64"],
        day_object=COLUMNS["objects, date"],
        items=COLUMNS["objects, list"],
    )
    checkpointer = Checkpointer(tmp_path, verbose=False)
    with dask.config.set({"dataframe.convert-string": False}):
        collection = dd.from_pandas(frame, npartitions=2)
    checkpointer.checkpoint("x", collection, scheduler="sync")
    found = checkpointer.store.files("x")
    assert all(file.endswith(".parquet") for file in found)
    return found


def test_pandas_reads_the_files(files):
    read = pd.concat([pd.read_parquet(file) for file in files])
    assert read.i.tolist() == BASE.i.tolist()
    assert read.kind.tolist() == list("abcabca")
    assert read.zone.dtype == PARIS.dtype
    assert read["count"].sum() == 5 + 2**62
    assert read.index.tolist() == [*range(N)]


@pytest.mark.cloud
def test_polars_and_duckdb_read_the_files(files):
    import duckdb
    import polars

    read = polars.read_parquet(files)
    assert read["i"].to_list() == BASE.i.tolist()
    assert read["word"].to_list() == COLUMNS["str, missing"]
    assert read["kind"].to_list() == list("abcabca")
    assert read["items"].to_list()[:4] == [[1, 2], [], None, [3]]
    query = "select count(*), sum(f), max(day), count(word) from read_parquet(?)"
    total = duckdb.execute(query, [files]).fetchone()
    assert total == (N, BASE.f.sum(), DAYS[-1].to_pydatetime(), N - 2)
    rows = duckdb.execute("select kind from read_parquet(?) where i = 2", [files])
    assert rows.fetchall() == [("c",)]
