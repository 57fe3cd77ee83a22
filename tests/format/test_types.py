"""Single values: what comes back, what is refused, what needs pickle."""

import enum
import math
import struct
import sys
import threading
import types
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agatha_ckpt import CorruptCheckpointError, EncodeError, PickleNotAllowedError
from agatha_ckpt._format.arrays import encode_numpy
from agatha_ckpt._format.blocks import HOOKS, PICKLE, Block, decode_block, encode_blocks

WHERE = "partition 3 of checkpoint 'x'"
ZONES = sorted(zoneinfo.available_timezones() & {"Europe/Berlin", "Asia/Kolkata"})


# ---- equal in value and type ----


def assert_same(left, right):
    """Fail unless both are equal in value and type, all the way down."""
    pairs = [(left, right)]
    while pairs:  # no recursion: records are nested deeper than the interpreter allows
        a, b = pairs.pop()
        assert type(a) is type(b), (a, b)
        if isinstance(a, set | frozenset):
            assert sorted(map(_fingerprint, a)) == sorted(map(_fingerprint, b))
        elif isinstance(a, dict | list | tuple | deque):
            assert len(a) == len(b)
            assert getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
            assert getattr(a, "default_factory", 0) == getattr(b, "default_factory", 0)
            if isinstance(a, dict):  # order counts
                pairs.extend(zip(a.values(), b.values(), strict=True))
            pairs.extend(zip(a, b, strict=True))
        elif isinstance(a, datetime | time):
            assert a.replace(tzinfo=None) == b.replace(tzinfo=None)
            assert a.fold == b.fold
            pairs.append((a.tzinfo, b.tzinfo))
        elif isinstance(a, np.ndarray | np.generic):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            # numpy calls dtypes equal that make another class: here, records.
            assert (a.dtype.type is np.record) == (b.dtype.type is np.record)
            if a.dtype.names:
                pairs.extend((a[name], b[name]) for name in a.dtype.names)
            elif isinstance(a, str | bytes):
                assert (len(a), a) == (len(b), b)
            elif a.dtype.char in "gG":  # a long double has bytes that mean nothing
                assert repr(a) == repr(b)
            else:
                assert a.tobytes() == b.tobytes()
        else:
            assert _atom(a) == _atom(b)


def _atom(value):
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, complex):
        return struct.pack("<dd", value.real, value.imag)
    if isinstance(value, Decimal):
        return value.as_tuple()
    if isinstance(value, timezone):
        return value.__getinitargs__()
    if isinstance(value, ZoneInfo):
        return value.key
    return value


def _fingerprint(value):
    if isinstance(value, tuple):
        return repr((type(value), [_fingerprint(x) for x in value]))
    if isinstance(value, frozenset):
        return repr((type(value), sorted(map(_fingerprint, value))))
    return repr((type(value), _atom(value), getattr(value, "fold", None)))


def round_trip(records, allow_pickle=False):
    """Encode and decode *records* as blocks."""
    return [
        record
        for block in encode_blocks(iter(records), allow_pickle, WHERE)
        for record in decode_block(block, allow_pickle, WHERE)
    ]


# ---- values of every type ----

texts = st.text(st.integers(0, 0x10FFFF).map(chr))  # with lone surrogates
big_ints = st.integers(-(2**200), 2**200)
offsets = st.timedeltas(
    timedelta(hours=-24, microseconds=1), timedelta(hours=24, microseconds=-1)
)
zones = (
    st.none()
    | st.just(UTC)
    | st.builds(timezone, offsets)
    | st.builds(timezone, offsets, texts)
)
if ZONES:
    zones |= st.sampled_from(ZONES).map(ZoneInfo)
times = st.times(timezones=zones) | st.times().map(lambda t: t.replace(fold=1))
datetimes = st.datetimes() | st.builds(
    datetime.replace, st.datetimes(), tzinfo=zones, fold=st.sampled_from([0, 1])
)
segments = st.lists(st.text("abcäह .", min_size=1), max_size=4)
paths = st.one_of(
    st.builds(lambda cls, anchor, parts: cls(anchor, *parts), cls, anchors, segments)
    for cls, anchors in [
        (st.sampled_from([PurePosixPath, Path]), st.sampled_from(["", "/", ".."])),
        (st.just(PureWindowsPath), st.sampled_from(["", "C:", "C:/", "//h/s/", "\\"])),
    ]
)
ext_types = st.builds(msgpack.ExtType, st.integers(0, 127), st.binary())
timestamps = st.builds(
    msgpack.Timestamp,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 999_999_999),
)
atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    big_ints,
    st.floats(),
    texts,
    st.binary(),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.sampled_from(["-0", "0E+3", "-Infinity", "NaN7", "1E+999"]).map(Decimal),
    st.fractions(),
    st.uuids(),
    st.dates(),
    datetimes,
    times,
    st.timedeltas(),
    zones,
    paths,
    ext_types,
    timestamps,
)
hashables = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3)
    ),
    max_leaves=5,
)
arrays = hnp.arrays(
    hnp.array_dtypes() | hnp.nested_dtypes(),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
unhashables = st.one_of(
    st.just(Decimal("-sNaN12")),
    st.binary().map(bytearray),
    arrays,
    arrays.map(np.asfortranarray),
    arrays.filter(lambda a: a.size and not a.dtype.names).map(lambda a: a.ravel()[0]),
)


def _containers(inner):
    members = st.lists(inner, max_size=4)
    maps = st.dictionaries(hashables, inner, max_size=4)
    return st.one_of(
        members,
        members.map(tuple),
        maps,
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.builds(Counter, st.dictionaries(hashables, st.integers() | st.floats())),
        maps.map(OrderedDict),
        maps.map(lambda m: defaultdict(None, m)),
        st.builds(deque, members, st.none() | st.integers(0, 5)),
    )


values = st.recursive(hashables | unhashables, _containers, max_leaves=12)


# The first value takes seconds: hypothesis builds the strategies then.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(values)
def test_p9_any_value_comes_back_equal_in_value_and_type(value):
    assert_same(round_trip([value]), [value])


EDGES = [
    *(n + d for n in (2**63, 2**64, -(2**63), -(2**64), 2**1000) for d in (-1, 0, 1)),
    math.nan,
    -0.0,
    5e-324,
    complex(-0.0, math.nan),
    Decimal("sNaN"),
    Decimal("-0.00"),
    "\ud800",
    {"\udfff": ("\ud800", {"\udc00"})},
    "a\0",
    "",
    b"",
    (),
    [],
    {},
    set(),
    frozenset({frozenset(), ()}),
    [[()], [[]], ([],)],
    {(1, ("a", frozenset({2}))): {"k": (None,)}},
    {1: "int", 1.5: "float", None: "none", b"b": "bytes", (): "tuple"},
    {True: 1, "True": 2},
    {math.nan: 1},
    bytearray(),
    bytearray(b"\xc4\x00"),
    [b"x", bytearray(b"x"), (bytearray(b"x"), {"k": bytearray()})],
    deque([bytearray(b"1"), 2], maxlen=2),
    defaultdict(None, {"a": bytearray(b"1")}),
    OrderedDict({"z": bytearray(b"1"), "a": 2}),
    bytearray(70_000),
    [1, b"y" * 70_000, bytearray(b"z" * 70_000)],
    deque(maxlen=0),
    Counter({"a": -1, "b": 2.5, "c": None}),
    msgpack.ExtType(0, b""),
    [msgpack.ExtType(100, b""), 1, 2],
    [msgpack.ExtType(127, b"x"), (1,)],
    (msgpack.ExtType(0, b""), 1),
    msgpack.Timestamp(0, 0),
    (msgpack.Timestamp(-1, 1), datetime(1, 1, 1)),
    datetime(2025, 10, 26, 2, 30, fold=1),
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-23, minutes=-59))),
    time(1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2), "CEST"), fold=1),
    timezone(timedelta(0), "UTC"),
    timezone(timedelta(microseconds=1)),
    timedelta.min,
    timedelta.max,
    date.min,
    Fraction(-(2**80), 3),
    UUID(int=0),
    Path("."),
    Path("/a/ह/\udcff"),
    PureWindowsPath("C:\\a\\b"),
    PurePosixPath("C:\\a"),
    *(ZoneInfo(key) for key in ZONES),
    *(datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo(key), fold=1) for key in ZONES),
]


@pytest.mark.parametrize("value", EDGES, ids=lambda v: repr(v)[:40])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: (0, {"k": v})])
def test_p9_edge_values_come_back_equal_in_value_and_type(value, wrap):
    assert_same(round_trip([wrap(value)]), [wrap(value)])


# Times with a unit: numpy is giving up those without.
CODES = [*"?bhilBHILefdgFDG", "m8[s]", "M8[s]"]
STRUCTURED = np.dtype([("a", "<i4"), ("b", "S3"), ("c", ">f8", (2, 2))])
NUMPY = [
    *(np.ones((2, 3), code) for code in CODES),
    *(np.ones(1, code)[0] for code in CODES),
    np.arange(6, dtype=">i2").reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(10)[::-3],
    np.broadcast_to(np.float32(1), (3, 2)),
    np.array(5),
    np.array("x"),
    np.zeros((0, 3)),
    np.zeros((3, 0, 2), "<M8[25s]"),
    np.zeros(3, "V0"),
    np.zeros(3, []),
    np.zeros(3, [("a", "S0")])["a"],
    np.zeros((2, 0), [("a", "U0")])["a"],
    np.array(["a", "bcd", "ह"]),
    np.array([b"a", b"\0b"]),
    np.array([(1, b"x", np.ones((2, 2)))], STRUCTURED),
    np.array([(1, b"x", np.ones((2, 2)))], STRUCTURED)[0],
    np.zeros(2, np.dtype([("a", "i1"), ("b", "i8")], align=True)),
    np.zeros(2, np.dtype([(("title", "a"), "i1"), ("n", [("x", "U2")])])),
    np.array(["2025-01-01", "NaT"], "M8[D]"),
    np.datetime64("NaT", "s"),
    np.datetime64(5, "25us"),
    np.timedelta64(-3, "W"),
    np.str_("ह"),
    np.str_(""),
    np.bytes_(b"x"),
    np.void(b"a\0"),
    np.float64("nan"),
    np.bool_(True),
    # numpy takes zeros at the end of fixed-width text for padding.
    np.str_("a\0"),
    np.bytes_(b"a\0\0"),
    np.rec.array([(1, 2.0)])[0],
    np.asarray(np.rec.array([(1, 2.0)])),
]


@pytest.mark.parametrize("value", NUMPY, ids=lambda v: f"{type(v).__name__}-{v.dtype}")
def test_p9_numpy_values_come_back_equal_in_value_and_type(value):
    for record in (value, [value], {"k": (value, 1)}):
        assert_same(round_trip([record]), [record])


def test_a_loaded_numpy_array_can_be_written_to():
    for array in (np.arange(3), np.arange(3), np.zeros(3, [("a", "i4")])):
        (loaded,) = round_trip([array])
        loaded[0] = loaded[1]
        assert loaded.flags.aligned
        assert loaded.flags.owndata


def test_p9_arrays_whose_dtype_and_shape_were_met_before_come_back_as_well():
    """What is known of one array is used for the next, of equal dtype and shape."""
    plain = np.arange(6, dtype="i4").reshape(2, 3)
    arrays = [
        plain,
        np.asfortranarray(plain + 1),
        np.arange(12, dtype="i4").reshape(2, 6)[:, ::2],
        plain.astype(">i4"),
        np.broadcast_to(np.int32(7), (2, 3)),
        plain.view("f4"),
        plain > 2,
        np.zeros((2, 0), "i4"),
        np.zeros((0, 2), "i4"),
        np.array(5, "i4"),
        *(np.arange(n % 1100, dtype="i2") for n in range(3_000)),
    ]
    assert_same(round_trip(arrays + arrays), arrays + arrays)
    described = plain.astype(np.dtype("i4", metadata={"unit": "m"}))
    with pytest.raises(EncodeError, match="metadata"):
        round_trip([plain, described])


# ---- what is refused, and stored when pickle is allowed ----


class Plain:
    def __eq__(self, other):
        return type(other) is Plain and vars(other) == vars(self)

    __hash__ = None


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Str(str):
    pass


class Int(int):
    pass


class Float(float):
    pass


class Bytes(bytes):
    pass


class List(list):
    pass


class Dict(dict):
    pass


class Set(set):
    pass


class Datetime(datetime):
    pass


class Buffer(bytearray):
    pass


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
    (_with_attribute(OrderedDict(a=1)), "OrderedDict with attributes"),
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
# Its own pickle forgets the attribute: refused, and no promise beyond.
COUNTER = (_with_attribute(Counter("a")), "Counter with attributes")
NEVER_STORED = [
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
    # Advice that cannot help is none.
    hopeless = kind in ("memoryview", "Counter with attributes")
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


class CreatesFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize(
    "flags, error",
    [
        (HOOKS | PICKLE, PickleNotAllowedError),
        (HOOKS, PickleNotAllowedError),
        # Without hooks nobody lifts extensions, and msgpack refuses the code.
        (0, CorruptCheckpointError),
    ],
)
def test_p8_a_pickle_is_not_loaded_whatever_its_block_says(tmp_path, flags, error):
    victim = tmp_path / "created-by-unpickling"
    (block,) = encode_blocks([[CreatesFile(str(victim))]], True, WHERE)
    assert victim.name.encode() in block.payload
    with pytest.raises(error, match=WHERE):
        decode_block(Block(flags, block.records, block.payload), False, WHERE)
    assert not victim.exists()


# ---- cost ----


def test_packing_nested_sets_does_not_double_with_each_level():
    def calls(depth):
        record, count = frozenset(), 0
        for _ in range(depth):
            record = frozenset({record})

        def note(frame, event, argument):
            nonlocal count
            count += event == "call"

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            list(encode_blocks([record], False, WHERE))
        finally:
            sys.setprofile(before)
        return count

    assert calls(12) < 8 * calls(6)


@pytest.mark.parametrize(
    "value, elements",
    [
        (np.str_(""), 4 * b"\0"),  # what numpy takes for it
        (np.bytes_(b""), b"\0"),
        (np.bytes_(b"ab"), b"ab"),
        (np.int16(258), b"\2\1"),
        (np.datetime64(1, "s"), b"\1" + 7 * b"\0"),
    ],
)
def test_the_payload_of_a_numpy_scalar_stays_what_it_is(value, elements):
    """Equal records give equal digests in whatever version stored them."""
    _, payload = encode_numpy(value)
    head = 4 + int.from_bytes(payload[:4], "little")
    assert payload[head:] == elements
