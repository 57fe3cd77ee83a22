"""Bags and values whose fingerprints are the same in every process.

    PYTHONHASHSEED=1 python -m tests.dask.fingerprint_cases FOLDER

prints them as JSON. ``test_fingerprint`` compares what several processes print.
"""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib.util
import ipaddress
import json
import math
import operator
import pathlib
import random
import re
import sys
import types
import typing
import uuid
import zoneinfo

import dask.bag as db
import fsspec
import numpy as np
import toolz
from dask import delayed, graph_manipulation

from agatha_ckpt import Checkpointer
from agatha_ckpt._dask.fingerprint import fingerprints_of

HAS_SCHEMA = importlib.util.find_spec("jsonschema") is not None
HAS_PROTOBUF = importlib.util.find_spec("google.protobuf") is not None
HAS_PANDAS = all(map(importlib.util.find_spec, ("pandas", "pyarrow")))


def add(x, y=0):
    return x + y


def even(x):
    return x % 2 == 0


def parse(part, *args, **kwargs):
    return list(part)


def total(part):
    return [sum(part)]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: float = 0.5


class Holder:
    """An object with state of any kind."""

    def __init__(self, **state):
        self.__dict__.update(state)

    def method(self, x):
        return x

    def __call__(self, x):
        return x


class Slotted:
    __slots__ = ("__private", "value")

    def __init__(self, value):
        self.value = value
        self.__private = [value]


class Stateful:
    def __init__(self, state):
        self.state = state
        self.cache = object()

    def __getstate__(self):
        return {"state": self.state}


class Tokenized:
    def __init__(self, token):
        self.token = token
        self.cache = object()

    def __dask_tokenize__(self):
        return self.token


class Labelled(dict):
    pass


Pair = collections.namedtuple("Pair", "first second")


def capturing(value):
    return lambda x: (x, value)


def local_dataclass(value):
    @dataclasses.dataclass(frozen=True)
    class Local:
        x: object

    return Local(value)


def circle():
    ring = ["ring"]
    ring.append({"ring": ring})
    return ring


def family():
    parent = Holder(name="parent", children=[])
    for name in ("a", "b"):
        parent.children.append(Holder(name=name, parent=parent))
    return parent


def numbers(npartitions=3):
    return db.from_sequence(range(12), npartitions=npartitions)


def bags(folder):
    """Return a function for each kind of bag."""
    one, item = numbers(), numbers().sum()
    for name in ("a", "b"):
        file = folder / f"{name}.txt"
        if not file.exists():  # another process may be reading it
            file.write_text(f"{name}\n" * 3)
    ckpt = Checkpointer(str(folder / "root"), verbose=False)
    found = {
        "from_sequence": one,
        "of records": db.from_sequence([{"a": {1, "b", 2.5}}, ("x", b"y"), None]),
        "of many words": db.from_sequence(list(map(str, range(300))), npartitions=2),
        "from_delayed": db.from_delayed([delayed(parse)(n) for n in ([1], [2])]),
        "from_delayed of delayed": db.from_delayed(
            [delayed(parse)(delayed([delayed(add)(1), 2]))]
        ),
        "from_delayed with keywords": db.from_delayed(
            [delayed(parse)([1], key=delayed(add)(1), other={"a": delayed(add)(2)})]
        ),
        "from_delayed of a set": db.from_delayed(
            [delayed(parse)({delayed(add)(1), delayed(add)(2)})]
        ),
        "delayed attributes": db.from_delayed([delayed(Holder)(a=[1]).a]),
        "read_text": db.read_text(str(folder / "*.txt")),
        "read_text by blocks": db.read_text(str(folder / "*.txt"), blocksize=4),
        "read_text with paths": db.read_text(
            str(folder / "*.txt"), include_path=True, files_per_partition=2
        ),
        "from_url": db.from_url(["http://localhost/a", "http://localhost/b"]),
        "range": db.range(10, npartitions=3),
        "map": one.map(add),
        "map with a value": one.map(add, 1),
        "map with a bag": one.map(add, one.map(add)),
        "map with an item": one.map(add, item),
        "map with keyword": one.map(add, y=2),
        "map with keyword bag": one.map(add, y=one),
        "map with keyword item": one.map(add, y=item),
        "map of lambda": one.map(lambda x: x),
        "map of method": one.map(Holder(a={1, 2, 3}).method),
        "map of object": one.map(Holder(a={"x", "y", "z"})),
        "map of partial": one.map(functools.partial(add, y={"x", "y"})),
        "map of builtin": one.map(str).map("-".join),
        "map of class": one.map(Point),
        "map of str method": one.map(str).str.replace("1", "2"),
        "map_partitions": one.map_partitions(parse),
        "map_partitions with values": one.map_partitions(parse, [1, 2], key={"a": 1}),
        "map_partitions with an item": one.map_partitions(parse, item),
        "map_partitions with keyword item": one.map_partitions(parse, key=item),
        "map_partitions with keyword bag": one.map_partitions(parse, key=one),
        "map_partitions with delayed": one.map_partitions(
            parse, delayed(add)(1), key=delayed([delayed(add)(3)])
        ),
        "starmap": db.zip(one, one).starmap(add),
        "starmap with keyword": one.map(lambda x: (x,)).starmap(add, y=5),
        "starmap with item": one.map(lambda x: (x,)).starmap(add, y=item),
        "filter": one.filter(even),
        "remove": one.remove(even),
        "pluck": db.from_sequence([{"a": 1}] * 4, npartitions=2).pluck("a", 0),
        "flatten": db.from_sequence([[1], [2, 3]]).flatten(),
        "unzip": db.zip(one, one).unzip(2)[1],
        "fold": as_bag(one.fold(operator.add)),
        "fold with initial": as_bag(one.fold(add, operator.add, initial=0)),
        "foldby": one.foldby(even, add, 0, add, 0),
        "foldby without initial": one.foldby(even, add),
        "reduction": as_bag(numbers(12).reduction(sum, sum, split_every=2)),
        "mean": as_bag(one.mean()),
        "std": as_bag(one.std()),
        "frequencies": one.frequencies(sort=True),
        "topk": one.topk(2, key=operator.neg),
        "distinct": one.distinct(key=even),
        "groupby tasks": one.groupby(even, shuffle="tasks"),
        "groupby tasks in stages": numbers(12).groupby(
            even, shuffle="tasks", max_branch=2
        ),
        "groupby disk": one.groupby(even, shuffle="disk"),
        "join": one.join([1, 2, 3], on_self=even),
        "join with delayed": one.join(delayed(parse)([1, 2]), on_self=even),
        "join with a bag": one.join(numbers(1), on_self=even, on_other=add),
        "product": one.product(numbers(2)),
        "concat": db.concat([one.map(lambda x: x + 1), one.map(lambda x: x - 1)]),
        "zip": db.zip(one, one.map(add)),
        "accumulate": one.accumulate(add),
        "accumulate with initial": one.accumulate(add, initial=3),
        "fewer partitions": one.repartition(2),
        "more partitions": one.repartition(5),
        "take": one.take(2, npartitions=2, compute=False),
        "sample": one.random_sample(0.5, random_state=7),
        "persisted": one.map(add).persist(scheduler="sync"),
        "fused": db.from_delayed(one.map(add).filter(even).to_delayed()),
        "fused and mapped": db.from_delayed(
            one.map(add, item).map_partitions(parse, key=item).to_delayed()
        ).map(add),
        "loaded": ckpt.checkpoint("numbers", one).map(add),
        "loaded and persisted": ckpt.checkpoint("numbers").persist(scheduler="sync"),
        "after another": graph_manipulation.bind(one, numbers(30).map(add)),
        "after itself": graph_manipulation.wait_on(numbers(30).map(add)),
        "clone": graph_manipulation.clone(one.map(add)),
        "checkpoint of dask": db.from_delayed(
            [graph_manipulation.checkpoint(numbers(30))]
        ),
        "counted": as_bag(ckpt.checkpoint("numbers").count()),
    }
    if HAS_PANDAS:
        found |= of_frames()
    return found


def of_frames():
    import dask.dataframe as dd

    frame = dd.from_pandas(pandas_frame(), npartitions=2)
    return {
        "frame": frame.to_bag(),
        "frame as dicts": frame[frame.a > 1].to_bag(index=True, format="dict"),
        "frame as delayed": db.from_delayed(frame.assign(c=1).to_delayed()),
        "to_dataframe": numbers()
        .map(lambda x: {"x": x})
        .to_dataframe(meta={"x": int})
        .to_bag(),
    }


def as_bag(item):
    return db.from_delayed([item.to_delayed()])


def pandas_frame():
    import pandas as pd

    return pd.DataFrame(
        {
            "a": [1, 2, 3],
            "b": ["x", None, "z"],
            "c": pd.Categorical(["u", "v", "u"], categories=["v", "u"]),
            "d": pd.date_range("2024", periods=3, tz="Europe/Berlin"),
            "e": pd.array([1, None, 3], dtype="Int64"),
            "f": [{"k": 1}, [2], None],
        },
        index=pd.MultiIndex.from_tuples([(1, "p"), (1, "q"), (2, "p")]),
    ).reset_index(drop=True)


def values():
    """Return values of many types; each is an argument of a function."""
    now = datetime.datetime(2026, 11, 27, 10, 30, tzinfo=datetime.UTC)
    found = {
        "None": None,
        "true": True,
        "ellipsis": ...,
        "not implemented": NotImplemented,
        "huge int": 10**5000,
        "floats": [0.0, -0.0, math.inf, math.nan, 1e-310],
        "many floats": [x / 7 for x in range(100)],
        "complex": 1 + 2j,
        "text": "a\ud800\N{SNOWMAN}",
        "bytes": [b"x", bytearray(b"x")],
        "set": {"a", "b", "c", 1, 2.5, None, ("t", 1)},
        "set of frozensets": {frozenset("abc"), frozenset("abd"), frozenset()},
        "dict": {"b": {"x", "y"}, "a": {}},
        "defaultdict": collections.defaultdict(list, a=[1]),
        "counter": collections.Counter("abca"),
        "ordered dict": collections.OrderedDict(b=1, a=2),
        "deque": collections.deque([1, 2], maxlen=3),
        "chain map": collections.ChainMap({"a": 1}, {"b": 2}),
        "namespace": types.SimpleNamespace(a=1, b={"x", "y"}),
        "named tuple": Pair(1, {"x", "y"}),
        "dict of a class": Labelled(a=1),
        "array": array.array("d", [1.0, 2.0]),
        "range and slice": [range(1, 10, 3), slice(1, None, 2)],
        "dates": [now, now.date(), now.timetz(), now - now, now.tzinfo],
        "zone": now.astimezone(zoneinfo.ZoneInfo("Europe/Berlin")),
        "views": [{"a": 1}.items(), {"a": 1}.keys(), memoryview(b"ab")],
        "proxy": types.MappingProxyType({"a": {"x", "y"}}),
        "local dataclass": local_dataclass({"x", "y"}),
        "unions": [int | str, typing.Literal[1], dict[str, int]],
        "address": ipaddress.ip_network("10.0.0.0/8"),
        "decimal": [decimal.Decimal("1.00"), fractions.Fraction(1, 3)],
        "uuid": uuid.UUID(int=7),
        "paths": [pathlib.PurePosixPath("/a"), pathlib.Path("b")],
        "regex": re.compile("a+", re.IGNORECASE),
        "enums": [Colour.RED, Level.LOW | Level.HIGH],
        "dataclass": Point(1),
        "object": Holder(a={"x", "y"}, b=[Holder()]),
        "slots": Slotted({"x", "y"}),
        "getstate": Stateful({"x", "y"}),
        "tokenized": Tokenized(["x", {"y", "z"}]),
        "exception": ValueError("a", {"b", "c"}),
        "circle": circle(),
        "family": family(),
        "classes": [Holder, int, list[int], type],
        "local class": type("Local", (Holder,), {"threshold": {"a", "b"}}),
        "functions": [add, len, str.join, "a".join, math.sqrt, dict.fromkeys],
        "closure": capturing({"x": {"y", "z"}}),
        "nested closure": capturing(capturing(functools.partial(add, 1))),
        "operators": [operator.itemgetter(1, 2), operator.methodcaller("f", a={1})],
        "toolz": [toolz.curry(add, 1), toolz.compose(add, str, even)],
        "cached": functools.lru_cache(add),
        "module": math,
        "random": [random.Random(3), random.choice, random.random],
        "filesystem": fsspec.filesystem("memory"),
        "open file": fsspec.open("memory://a/b.txt", "rt"),
        "ndarray": np.arange(12).reshape(3, 4).T,
        "object array": np.array([{"a", "b"}, None, [1]], dtype=object),
        "structured array": np.array([(1, 2.5)], dtype="i1,f8"),
        "masked array": np.ma.array([1, 2], mask=[0, 1]),
        "numpy scalars": [np.float32(1.5), np.datetime64("2026"), np.str_("x")],
        "dtypes": [np.dtype("<i4"), np.dtype([("a", "f8")]), np.int64],
        "numpy functions": [np.add, np.mean, np.random.default_rng(3)],
        "numpy's generator": [np.random.normal, Holder(random=np.random.mtrand._rand)],
    }
    return found | of_libraries() | (of_pandas() if HAS_PANDAS else {})


def of_libraries():
    """Return values that keep what they hold in the order of its hashes."""
    found = {}
    if HAS_SCHEMA:
        import jsonschema

        found["validator"] = jsonschema.Draft7Validator({"type": "object"}).is_valid
    if HAS_PROTOBUF:
        from google.protobuf.struct_pb2 import Struct

        found["message"] = Struct()
        found["message"].update(dict.fromkeys("abcdef", 1))
    return found


def of_pandas():
    import pandas as pd
    import pyarrow as pa

    table = pa.table({"a": [1, None, 3], "b": [["x"], [], None]})
    return {
        "pandas frame": pandas_frame(),
        "pandas series": pd.Series([1.5, None], index=["x", "y"], name="n"),
        "pandas scalars": [pd.Timestamp("2026", tz="UTC"), pd.NaT, pd.NA],
        "pandas spans": [pd.Timedelta("1h"), pd.Period("2026-01"), pd.Interval(0, 1)],
        "pandas offsets": [pd.offsets.MonthEnd(2), pd.DateOffset(months=1)],
        "pandas index": pd.MultiIndex.from_product([["a", "b"], [1, 2]]),
        "arrow table": table.slice(1),
        "arrow array": pa.array(["x", None, "z"]).slice(1),
        "arrow types": [pa.list_(pa.int8()), pa.schema([("a", pa.string())])],
        "arrow scalar": pa.scalar(1),
    }


def every_case(folder):
    """Return all bags and collections: one for each of the values as well."""
    folder.mkdir(exist_ok=True)
    found = bags(folder)
    for name, value in values().items():
        found[f"value: {name}"] = bag_with(value)
    if HAS_PANDAS:
        from tests.dask.fingerprint_collections import every_collection

        made = every_collection(folder).items()
        found |= {f"collection: {name}": make(1) for name, make in made}
    return found


def bag_with(value):
    """Return a bag whose only task has *value* for an argument."""
    # Not by map_partitions: dask's own hash does not take all of the values.
    return db.Bag({("bag", 0): (functools.partial(parse, key=value), [1])}, "bag", 1)


def fingerprints(folder):
    """Return what is known of each bag, as JSON holds it."""
    found = {}
    for name, bag in every_case(folder).items():
        known = fingerprints_of(bag, version=None, format="msgpack")
        found[name] = [known.partitions, known.codes, known.opaque]
    return json.loads(json.dumps(found))


if __name__ == "__main__":
    print(json.dumps(fingerprints(pathlib.Path(sys.argv[1]))))
