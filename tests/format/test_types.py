"""Single values: what comes back, what is refused, what needs pickle."""

import enum
import math
import struct
import threading
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from agatha_ckpt import EncodeError, FailedRecord, PickleNotAllowedError
from agatha_ckpt._format.blocks import PICKLE, decode_block, encode_blocks
from tests.format.values import (
    WHERE,
    ZONES,
    assert_same,
    round_trip,
    values,
)


# The first value takes seconds: hypothesis builds the strategies then.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(values)
def test_p9_any_value_comes_back_equal_in_value_and_type(value):
    assert_same(round_trip([value]), [value])


EDGES = [
    *(n + d for n in (2**63, 2**64, -(2**63), -(2**64), 2**1000) for d in (-1, 0, 1)),
    *[math.nan, -0.0, 5e-324, complex(-0.0, math.nan), Decimal("sNaN")],
    *[Decimal("-0.00"), "\ud800", {"\udfff": ("\ud800", {"\udc00"})}, "a\0", ""],
    *[b"", (), [], {}, set(), frozenset({frozenset(), ()}), [[()], [[]], ([],)]],
    {(1, ("a", frozenset({2}))): {"k": (None,)}},
    {1: "int", 1.5: "float", None: "none", b"b": "bytes", (): "tuple"},
    *[{True: 1, "True": 2}, {math.nan: 1}, bytearray(), bytearray(b"\xc4\x00")],
    [b"x", bytearray(b"x"), (bytearray(b"x"), {"k": bytearray()})],
    deque([bytearray(b"1"), 2], maxlen=2),
    defaultdict(None, {"a": bytearray(b"1")}),
    *[OrderedDict({"z": bytearray(b"1"), "a": 2}), bytearray(70_000)],
    *[[1, b"y" * 70_000, bytearray(b"z" * 70_000)], deque(maxlen=0)],
    *[Counter({"a": -1, "b": 2.5, "c": None}), msgpack.ExtType(0, b"")],
    *[[msgpack.ExtType(100, b""), 1, 2], [msgpack.ExtType(127, b"x"), (1,)]],
    *[(msgpack.ExtType(0, b""), 1), msgpack.Timestamp(0, 0)],
    (msgpack.Timestamp(-1, 1), datetime(1, 1, 1)),
    *[datetime(2025, 10, 26, 2, 30, fold=1), datetime(2025, 1, 1, tzinfo=UTC)],
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-23, minutes=-59))),
    time(1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2), "CEST"), fold=1),
    *[timezone(timedelta(0), "UTC"), timezone(timedelta(microseconds=1))],
    *[timedelta.min, timedelta.max, date.min, Fraction(-(2**80), 3), UUID(int=0)],
    *(UUID(int=5, is_safe=safe) for safe in SafeUUID),
    *[Path("."), Path("/a/ह/\udcff"), PureWindowsPath("C:\\a\\b")],
    FailedRecord("'ह'", "ValueError", "not a number", "File ..."),
    PurePosixPath("C:\\a"),
    *(ZoneInfo(key) for key in ZONES),
    *(datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo(key), fold=1) for key in ZONES),
]


@pytest.mark.parametrize("value", EDGES, ids=lambda v: repr(v)[:40])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: (0, {"k": v})])
def test_p9_edge_values_come_back_equal_in_value_and_type(value, wrap):
    assert_same(round_trip([wrap(value)]), [wrap(value)])


# ---- what is refused, and stored when pickle is allowed ----


class Plain:
    def __eq__(self, other):
        return type(other) is Plain and vars(other) == vars(self)

    __hash__ = None


Colour = enum.Enum("Colour", "RED")
Number = enum.IntEnum("Number", "ONE")
Str, Int = type("Str", (str,), {}), type("Int", (int,), {})
Float, Bytes = type("Float", (float,), {}), type("Bytes", (bytes,), {})
List, Dict = type("List", (list,), {}), type("Dict", (dict,), {})
Set, Buffer = type("Set", (set,), {}), type("Buffer", (bytearray,), {})
Datetime = type("Datetime", (datetime,), {})
Pair = namedtuple("Pair", "a b")


def _with_attribute(value):
    value.note = "mine"
    return value


OUT_OF_ORDER = np.dtype(
    {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}
)
ONLY_PICKLED = [
    (Plain(), "Plain"),
    (Colour.RED, "Colour"),
    (Number.ONE, "Number"),
    (Pair(1, 2), "Pair"),
    (Str("a"), "Str"),
    (Int(1), "Int"),
    (Float(1), "Float"),
    (Bytes(b"a"), "Bytes"),
    (List([1]), "List"),
    (Dict(a=1), "Dict"),
    (Set({1}), "Set"),
    (Datetime(2025, 1, 1), "Datetime"),
    (Buffer(b"a"), "Buffer"),
    (range(3), "range"),
    (slice(1), "slice"),
    (..., "ellipsis"),
    (len, "builtin_function_or_method"),
    (int, "type"),
    (types.SimpleNamespace(a=1), "SimpleNamespace"),
    (defaultdict(list, a=[1]), "defaultdict with a factory"),
    (defaultdict(list, a=[bytearray(b"b")]), "defaultdict with a factory"),
    (_with_attribute(OrderedDict(a=1)), "OrderedDict with attributes"),
    (_with_attribute(OrderedDict(a=bytearray(b"b"))), "OrderedDict with attributes"),
    (np.array([None, "a"]), "dtype object"),
    (np.zeros(1, [("a", "O")]), r"dtype \[\('a', 'O'\)\]"),
    (np.array(["a"], np.dtypes.StringDType()), "StringDType"),
    (np.ones((1, 2)).view(np.matrix), "numpy.matrix"),
    (np.ma.masked_array([1, 2], [0, 1]), "MaskedArray"),
    (np.rec.array([(1, 2.0)]), "recarray"),
    (np.dtype("i4"), "Int32DType"),
    (np.zeros(2, np.dtype("i4", metadata={"unit": "m"})), "metadata"),
    (np.zeros(2, [("a", np.dtype("i4", metadata={"unit": "m"}))]), "metadata"),
    (np.zeros(2, OUT_OF_ORDER), "ndarray|dtype"),
]
# Its own pickle loses the attribute.
COUNTER = (_with_attribute(Counter("a")), "Counter with attributes")
# The machine has a zone of this key, and it is another object, or has other rules.
TOKYO = (
    b"TZif"
    + bytes(16)
    + struct.pack(">6LlBB4s", 0, 0, 0, 0, 1, 4, 32_400, 0, 0, b"JST")
)
OTHER_ZONES = [ZoneInfo.no_cache(key) for key in ZONES]
OTHER_ZONES += [ZoneInfo.from_file(BytesIO(TOKYO), key) for key in (*ZONES, "Mine")]
# Before Python 3.12, neither its text nor its parts make it again.
SHARES = map(PureWindowsPath, ["//host/", "./c:", "./c:/a"])
SHARES = [path for path in SHARES if PureWindowsPath(str(path)).drive != path.drive]
NEVER_STORED = [
    *((zone, "ZoneInfo that is not") for zone in OTHER_ZONES),
    (datetime(2025, 1, 1, tzinfo=OTHER_ZONES[-1]), "ZoneInfo that is not"),
    *((path, "PureWindowsPath whose text") for path in SHARES),
    (memoryview(b"abc"), "memoryview"),
    (memoryview(b"abc")[::2], "memoryview"),
    (OrderedDict({memoryview(b"abc"): 1}), "memoryview"),
    (Counter({(1, memoryview(b"abc")): 1}), "memoryview"),
    (frozenset({memoryview(b"abc")}), "memoryview"),
    ((i for i in range(3)), "generator"),
    (threading.Lock(), "lock"),
]


def _identify(value):
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(
    "value, kind",
    ONLY_PICKLED + NEVER_STORED + [COUNTER, (lambda: 0, "function")],
    ids=_identify,
)
@pytest.mark.parametrize(
    "wrap",
    [lambda v: v, lambda v: [v], lambda v: ("a", v), lambda v: {"k": deque([v])}],
)
def test_p9_what_cannot_be_stored_faithfully_is_refused(value, kind, wrap):
    records = [(1, "a"), None, wrap(value)]
    with pytest.raises(EncodeError, match=kind) as caught:
        list(encode_blocks(records, False, WHERE))
    assert str(caught.value).startswith(f"record 2 of {WHERE} ")
    hopeless = any(kind in never for _, never in [*NEVER_STORED[:-2], COUNTER])
    assert ("allow_pickle" in str(caught.value)) is not hopeless


@pytest.mark.parametrize("value", [key for key, _ in NEVER_STORED], ids=_identify)
def test_what_cannot_be_pickled_is_refused_even_where_pickle_is_allowed(value):
    with pytest.raises(EncodeError, match=f"record 1 of {WHERE}"):
        list(encode_blocks([1, [value]], True, WHERE))


@pytest.mark.parametrize("value, kind", ONLY_PICKLED, ids=_identify)
def test_p8_what_needs_pickle_is_stored_and_loaded_only_when_allowed(value, kind):
    records = ["a", [value], (value, bytearray(b"b"))]
    blocks = list(encode_blocks(records, True, WHERE))
    assert [block.flags & PICKLE for block in blocks] == [PICKLE]
    _, (loaded,), (again, mutable) = decode_block(blocks[0], True, WHERE)
    assert_same(mutable, bytearray(b"b"))
    for found in (loaded, again):
        assert type(found) is type(value)
        if isinstance(value, np.ndarray):
            assert found.dtype == value.dtype
            assert found.tolist() == value.tolist()
        else:
            assert found == value
            assert getattr(found, "__dict__", None) == getattr(value, "__dict__", None)
    with pytest.raises(PickleNotAllowedError, match=WHERE):
        decode_block(blocks[0], False, WHERE)


@pytest.mark.parametrize(
    "key", [Colour.RED, Str("a"), Number.ONE, range(2)], ids=_identify
)
def test_dict_keys_and_set_members_are_refused_and_pickled_like_values(key):
    for record in ({key: 1}, {key}, OrderedDict({key: 1}), {(1, key): 2}):
        with pytest.raises(EncodeError, match=type(key).__name__):
            round_trip([record])
        assert_same(round_trip([record], allow_pickle=True), [record])


@pytest.mark.parametrize(
    "make",
    [
        list,
        dict,
        deque,
        OrderedDict,
        Counter,
        lambda: defaultdict(None),
    ],
)
def test_a_value_that_holds_itself_is_refused(make):
    cyclic = make()
    add = getattr(cyclic, "append", None) or (lambda v: cyclic.update({"k": v}))
    add((1, [cyclic]))
    with pytest.raises(
        EncodeError, match=f"record 1 of {WHERE}.*{type(cyclic).__name__}"
    ):
        round_trip([0, cyclic])
