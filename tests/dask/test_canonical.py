"""Values that differ have different fingerprints, and equal ones the same."""

import array
import collections
import copy
import copyreg
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import itertools
import math
import operator
import pathlib
import pickle
import random
import re
import struct
import time
import types
import typing
import zoneinfo

import fsspec
import numpy as np
import pytest
import toolz
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt._dask.fingerprint import fingerprints_of
from tests.dask import fingerprint_cases
from tests.dask.fingerprint_cases import (
    HAS_PANDAS,
    Colour,
    Holder,
    Labelled,
    Level,
    Pair,
    Point,
    Slotted,
    Stateful,
    Tokenized,
    add,
    bag_with,
    capturing,
    circle,
    even,
)

# Few, so that equal values are drawn as well.
SCALARS = st.sampled_from([None, False, True, 0, 1, -0.0, 1.0, "", "1", b"1", "ab"])
KEYS = st.recursive(
    SCALARS,
    lambda keys: st.one_of(st.tuples(keys), st.frozensets(keys, max_size=2)),
    max_leaves=3,
)
VALUES = st.recursive(
    SCALARS,
    lambda values: st.one_of(
        st.lists(values, max_size=3),
        st.lists(SCALARS, min_size=15, max_size=17),
        st.tuples(values, values),
        st.sets(KEYS, max_size=3),
        st.dictionaries(KEYS, values, max_size=2),
        st.builds(Point, values, values),
        st.builds(capturing, values),
    ),
    max_leaves=5,
)
needs_pandas = pytest.mark.skipif(not HAS_PANDAS, reason="pandas is not installed")


def known_of(value):
    return fingerprints_of(bag_with(value), version=None, format="msgpack")


def fingerprint_of(value):
    return known_of(value).partitions[0]


def nan_with(payload):
    return struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000000 | payload))[0]


def nested(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


def local_class(**content):
    return type("Local", (), content)


def class_with_closure(value):
    class Local:
        def method(self):
            return value

    return Local


def with_default(value):
    def function(x, y=value, *, z=value):
        return x, y, z

    return function


def with_attribute(value):
    def function(x):
        return x, function.value

    function.value = value
    return function


def wrapped(function, times):
    @functools.wraps(function)
    def wrapper(x):
        return [function(x)] * times

    return wrapper


def ring_of(*names):
    """Return objects that each refer to the next one, the last one to the first."""
    ring = [Holder(name=name) for name in names]
    for place, member in enumerate(ring):
        member.next = ring[(place + 1) % len(ring)]
    return ring[0]


class Other(enum.Enum):
    RED = 1


class Words(list):
    pass


class Text(str):
    __slots__ = ("language",)


class Number(int):
    pass


class Doubtful(str):
    """A string that tells other things about itself than are in it."""

    def __len__(self):
        return 0

    def __iter__(self):
        return iter(())

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__

    def __str__(self):
        return ""


class MyPath(pathlib.PurePosixPath):
    pass


class Weekday(datetime.date):
    pass


class Amount(decimal.Decimal):
    pass


class Ratio(fractions.Fraction):
    pass


class Delay(datetime.timedelta):
    pass


class Dice(random.Random):
    pass


class Metre(np.float64):
    pass


def labelled(*makes):
    """Yield values as they are, and with attributes that pickle leaves out."""
    for make in makes:
        yield make()
        for label in (1, 2):
            value = make()
            value.label = label
            yield value


class Unit(np.ma.MaskedArray):
    pass


class Places(fsspec.AbstractFileSystem):
    protocol = "places"

    def __init__(self, *places):
        super().__init__()


class Named:
    """Is stored by a name, which need not be its own."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return "named"


FIRST, SECOND = Named(1), Named(1)


class Meta(type):
    pass


COUNT = itertools.count()


class Compiled:
    """Like a function that numba has compiled: it has an id of its own."""

    def __init__(self, function):
        self.py_func, self.targetoptions = function, {"nopython": True}
        self.uuid = next(COUNT)


Compiled.__module__, Compiled.__qualname__ = "numba.core.dispatcher", "Dispatcher"


class Reduced:
    """Is stored by what *state* is."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return self.state


class Registered:
    """Is stored by what copyreg knows of its type, and by nothing else."""

    def __init__(self, value):
        self.value = value

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot be pickled")


copyreg.pickle(Registered, lambda made: (Registered, (made.value,)))


class Tensor:
    """Data in a type of a package whose types are opaque otherwise."""

    def __init__(self, values):
        self.values = np.array(values)

    def __array__(self):
        return self.values


Tensor.__module__ = "torch"


class Quoted(str):
    __slots__ = ()


Quoted.__module__ = "sqlalchemy.sql.elements"


def ordered(*last):
    """Return an ordered dict in which these keys were moved to the end."""
    found = collections.OrderedDict(a=1, b=2)
    for key in last:
        found.move_to_end(key)
    return found


def with_cache(value):
    function = functools.lru_cache(add)
    function.rate = value
    return function


# All of these are different from each other.
DISTINCT = {
    "scalars": lambda: [
        None, False, True, 0, 1, 2, -1, 1.0, 0.0, -0.0, 1j, 1 + 0j, complex(0.0, -0.0),
        "", "1", "None", b"", b"1", bytearray(b"1"), "True", ...,
        NotImplemented, 2**64, -(2**64), float(2**64), math.inf, -math.inf, math.nan,
        nan_with(7), "a", "A", "\ud800", "e\u0301", "\xe9", Number(1), Text("1"),
        np.str_("1"), np.bytes_(b"1"), np.int64(1), np.int32(1), np.float64(1),
        np.True_,
    ],
    "containers": lambda: [
        [], (), set(), frozenset(), {}, [[]], [()], ((),), [[], []], [[[]]], [None],
        [1, 2], [2, 1], (1, 2), {1, 2}, frozenset({1, 2}), [(1, 2)], [[1, 2]], [1, [2]],
        [[1], 2], {1: 2}, {"1": 2}, {1: "2"}, {1: 2, 3: 4}, {3: 4, 1: 2}, [1, 2, None],
        [True, 2], [1.0, 2], ["1", 2], ["a-b", "c"], ["a", "b-c"], ["ab", "c"],
        ["a", "bc"], [b"a", "bc"], ["a", b"bc"], {"a": {"b": 1}}, {"a": {}, "b": 1},
        Words([1, 2]), Labelled({1: 2}), Pair(1, 2), collections.deque([1, 2]),
        collections.deque([1, 2], maxlen=2), collections.OrderedDict({1: 2}),
        collections.defaultdict(list, {1: 2}), collections.defaultdict(int, {1: 2}),
        collections.Counter({1: 2}), types.MappingProxyType({1: 2}), {1: 2}.keys(),
        types.MappingProxyType({1: 3}), {1: 2}.items(), {1: 3}.items(), {1: 2}.values(),
        memoryview(b"a"), memoryview(b"b"), struct.Struct("i"), struct.Struct("d"),
        types.SimpleNamespace(a=1), types.SimpleNamespace(b=1),
        {frozenset({1})}, {frozenset({2})},
        {frozenset({1}), 2}, range(3), range(0, 4, 2), slice(3), [0, 1, 2],
        ordered(), ordered("a"), {"a": 1, "b": 2}, types.MappingProxyType(ordered()),
        types.MappingProxyType(ordered("a")), types.MappingProxyType(dict(ordered())),
    ],
    "long lists": lambda: [
        list(range(99)), list(range(98)), tuple(range(99)), [*range(98), 99],
        list(map(float, range(99))), list(map(str, range(99))), [*range(98), True],
        [*range(98), "98"], [*range(98), b"98"], [0.0] * 99, [-0.0] * 99, [0] * 99,
        [False] * 99, [None] * 99, [math.nan] * 99, [nan_with(1)] * 99, [""] * 99,
        [b""] * 99, ["a" * 99], ["a"] * 99, [Number(0)] * 99, [np.float64(0)] * 99,
        [*range(98), 98.0], list(map(Text, range(99))),
    ],
    "arrays": lambda: [
        array.array("d", [1]), array.array("f", [1]), array.array("d", [1, 2]),
        np.arange(4), np.arange(4).reshape(2, 2), np.arange(4).reshape(2, 2).T,
        np.arange(4).reshape(4, 1), np.arange(4).reshape(1, 4), np.arange(4.0),
        np.arange(4, dtype="<i4"), np.arange(4, dtype=">i4"), np.arange(4)[::-1],
        np.arange(4).astype(object), np.array(list("0123"), dtype=object),
        np.array(["a-b", "c"], dtype=object), np.array(["a", "b-c"], dtype=object),
        np.array(["a", "b-c"]), np.array([None, 1]), np.array([math.nan, 1], object),
        np.array([[1], [2]], dtype=object), np.array([1, 2], dtype=object), np.array(1),
        np.array([]), np.zeros((0, 2)), np.zeros((2, 0)), np.zeros(0, "i4"),
        np.array([1], dtype="M8[s]"), np.array([1], dtype="M8[ns]"),
        np.array([1]).view("m8[s]"), np.array([(1, 2.0)], dtype="i4,f8"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([(1, 2.0)], dtype=[("b", "i4"), ("a", "f8")]),
        np.array([(1, 2.0)], dtype={"names": ["a", "b"], "formats": ["i4", "f8"],
                                    "offsets": [0, 16]}),
        np.array([(1, [2])], dtype=[("a", "i4"), ("b", object)]),
        np.array([(1, [3])], dtype=[("a", "i4"), ("b", object)]),
        np.ma.array([1, 2]), np.ma.array([1, 2], mask=[0, 1]),
        np.ma.array([1, 2], mask=[0, 1], fill_value=9),
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.dtype("i4"), np.dtype(">i4"), np.dtype("i4,f8"), np.int32, np.dtype("V4"),
        np.datetime64(1, "s"), np.datetime64(1, "ms"), np.datetime64("NaT", "s"),
        np.timedelta64(1, "s"), np.float32(0.1), np.float64(0.1), np.longdouble(0.1),
        np.random.default_rng(1), np.random.default_rng(2), np.random.RandomState(1),
        np.add, np.subtract, np.mean, np.sum, np.nan, np.array("a"), np.array(["",
        "a"]), np.frompyfunc(add, 2, 1), np.frompyfunc(capturing(1), 1, 1),
        np.frompyfunc(capturing(2), 1, 1), np.vectorize(capturing(1)),
        np.vectorize(capturing(2)), np.vectorize(capturing(2), otypes=[float]),
        np.dtype("i4", metadata={"a": 1}), np.dtype("i4", metadata={"a": 2}),
        np.busdaycalendar("1111100"), np.busdaycalendar("1111110"), np.ma.masked,
    ],
    "dates": lambda: [
        datetime.date(2026, 1, 2), datetime.date(2026, 2, 1), Weekday(2026, 1, 2),
        datetime.datetime(2026, 1, 2), datetime.datetime(2026, 1, 2, fold=1),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
        datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        datetime.datetime(2026, 1, 2, 0, 0, 0, 1), datetime.time(0), datetime.time(1),
        datetime.timedelta(1), datetime.timedelta(seconds=1), datetime.UTC,
        datetime.timezone(datetime.timedelta(hours=1)),
        datetime.timezone(datetime.timedelta(hours=1), "CET"),
        zoneinfo.ZoneInfo("UTC"), zoneinfo.ZoneInfo("Europe/Rome"),
        decimal.Decimal(1), decimal.Decimal("1.0"),
        decimal.Decimal("1.00"), decimal.Decimal("NaN"), decimal.Decimal("-0"),
        re.compile("a"), re.compile("b"), re.compile("a", re.IGNORECASE),
        re.compile(b"a"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"),
        pathlib.PurePosixPath("a/b"), MyPath("a"), pathlib.Path("a"), "2026-01-02",
    ],
    "objects": lambda: [
        Colour.RED, Colour.BLUE, Other.RED, Level.LOW, Level.HIGH,
        Level.LOW | Level.HIGH,
        Point(1), Point(2), Point(1.0), Point(1, 1), Holder(), Holder(a=1), Holder(b=1),
        Holder(a=1, b=2), Holder(b=2, a=1), Holder(a=[1]), Holder(a=(1,)), Holder,
        Holder(a=frozenset({1})), Holder(a=frozenset({2})), Holder(a=Holder(a=1)),
        Holder(a=np.arange(4)), Holder(a=np.arange(4).reshape(2, 2)), Slotted(1),
        Slotted(2), Stateful(1), Stateful(2), Tokenized(1), Tokenized(2),
        Tokenized([1]),
        ValueError(1), ValueError(2), TypeError(1), OSError(2, "x"), OSError(2, "y"),
        OSError(2, "x", "a"), OSError(2, "x", "b"), ImportError("a", name="b"),

        Doubtful("a"), Doubtful("b"), [Doubtful("b"), Doubtful("a")], io.BytesIO(b"a"),
        io.BytesIO(b"b"), io.StringIO("a"), {"a": 1}, local_class(a=1),
        local_class(a=2),
        local_class(a=1)(), local_class(a=2)(), local_class(), class_with_closure(1),
        class_with_closure(2), class_with_closure(1)(), class_with_closure(2)(),
        class_with_closure(1)().method, class_with_closure(2)().method,
        *map(Reduced, [None, 0, 0.0, False, "", [], {}, (), np.zeros(1), np.zeros(2)]),
        Reduced(itertools.count(1)), Reduced(itertools.count(2)),
        *map(Reduced, [np.arange(2), ({"a": 1}, None), (None, {"a": 1}), {"a": 1}]),
        Registered(1), Registered(2), Tensor([1]), Tensor([2]), Quoted("a"),
        Quoted("b"),
    ],
    "left out by pickle": lambda: [
        *labelled(
            lambda: Weekday(2026, 1, 2), lambda: Amount(1), lambda: Ratio(1),
            lambda: Delay(1), lambda: Metre(1), lambda: Dice(1), lambda: Unit([1]),
        ),
        FIRST, SECOND, Named(1), Named(2),
        typing.NewType("A", int), typing.NewType("A", str), typing.TypeVar("A"),
        tuple[int], *tuple[int], Meta("Local", (), {}),
        type("Local", (), {}), typing.NamedTuple("A", [("a", int)]),
        typing.NamedTuple("A", [("a", str)]), *errors(), time.gmtime(0),
        time.struct_time(time.gmtime(0), {"tm_zone": "CET", "tm_gmtoff": 3600}),
    ],
    "circles": lambda: [
        circle(), [circle()], ring_of("a"), ring_of("b"), ring_of("a", "b"),
        ring_of("b", "a"), ring_of("a", "a"), ring_of("a", "b", "c"),
        ring_of("a", "c", "b"), [ring_of("a"), ring_of("a")], nested(3), nested(4),
        [ring_of("a", "b"), 1], [ring_of("a", "b").next, 1],
    ],
    "functions": lambda: [
        add, even, len, sum, str.join, "a".join, "b".join, [].append, [1].append,
        {"a": 1}.get, {"a": 2}.get, dict.get, dict.fromkeys, math.sqrt, int, str, list,
        capturing(1), capturing(2), capturing(True), capturing([1]), capturing((1,)),
        capturing(np.arange(4).reshape(2, 2)), capturing(np.arange(4).reshape(2, 2).T),
        capturing(pathlib.PurePath("a")), capturing(re.compile("a")),
        capturing(datetime.date(2026, 1, 1)), capturing(datetime.date(2026, 1, 2)),
        capturing(capturing(1)), capturing(capturing(2)), capturing(add),
        capturing(even),
        with_default(1), with_default(2), with_default({"a": 1}), with_attribute(1),
        with_attribute(2), wrapped(add, 1), wrapped(add, 2), wrapped(even, 1),
        functools.partial(add), functools.partial(add, 1), functools.partial(add, 2),
        functools.partial(add, y=1), functools.partial(add, x=1),
        functools.partial(add, x=1, y=2), functools.partial(add, y=2, x=1),
        functools.partial(even, 1), functools.partial(functools.partial, add, 1),
        toolz.curry(add, 1), toolz.curry(add, 2), toolz.curry(add, y=1),
        toolz.compose(add, even), toolz.compose(even, add), toolz.compose(add, even,
        str),
        functools.lru_cache(add), functools.lru_cache(even), operator.itemgetter(1),
        operator.itemgetter(1, 2), operator.itemgetter("1"), operator.attrgetter("a"),
        operator.methodcaller("a"), operator.methodcaller("a", 1),
        operator.methodcaller("a", x=1), Holder(a=1).method, Holder(a=2).method,
        Holder.method, Holder(a=1), Pair._make, staticmethod(add), property(add),
        functools.reduce, types.MethodType(add, 1), types.MethodType(add, 2),
        iter([1]), iter([2]), iter((1,)), map(str, [1]), map(str, [2]),
        (1).__add__, (2).__add__, (1).__sub__, add.__code__, even.__code__,
        list[int], list[str], dict[str, int], int | str, int | float,
        typing.Annotated[int, 1], typing.Annotated[int, 2], typing.Hashable,
        re.compile("a").sub, re.compile("b").sub, re.compile("a").match,
        re.compile("a").search, with_cache(1), with_cache(2),
        functools.cmp_to_key(add), functools.cmp_to_key(even),
        Cached.__dict__["size"],
        functools.cached_property(add), types.CellType(1), types.CellType(2),
        Compiled(capturing(1)), Compiled(capturing(2)),
    ],
    "filesystems": lambda: [
        fsspec.filesystem("memory"), fsspec.filesystem("file"),
        fsspec.filesystem("http"), s3("http://a"), s3("http://b"), s3(None),
        fsspec.filesystem("dir", path="/a", target_protocol="file"),
        fsspec.filesystem("dir", path="/b", target_protocol="file"),
        fsspec.filesystem("dir", path="/a", target_protocol="memory"),
        Places("a"), Places("a", "b", "c"), Places("a", "b", "d"),
        fsspec.open("memory://a"), fsspec.open("memory://b"), fsspec.open("/a"),
        fsspec.open("memory://a", "rt"), fsspec.open("memory://a", compression="gzip"),
        fsspec.open("memory://a", "rt", encoding="latin-1"), references("a"),
        references("b"),
    ],
}  # fmt: skip


def errors():
    """Yield errors that differ in what is not among their arguments."""
    for number in (1, 2):
        error = SyntaxError("a")
        error.lineno = number
        yield error
        yield NameError("a", name=f"b{number}")
        error = ValueError("a")
        error.__cause__ = ValueError(number)
        yield error


def references(content):
    """Return a filesystem of one file, whose name looks like that of a secret."""
    return fsspec.filesystem("reference", fo={"version": 1, "refs": {"key": content}})


def s3(endpoint, **options):
    from s3fs import S3FileSystem

    return S3FileSystem(
        endpoint_url=endpoint, key="a", secret="b", skip_instance_cache=True, **options
    )


# The two of each pair are equal.
EQUAL = {
    "zone": lambda: (
        zoneinfo.ZoneInfo("UTC"),
        zoneinfo.ZoneInfo.no_cache("UTC"),
    ),
    "cached property": lambda: (Cached(1), used(Cached(1), "size")),
    "address": lambda: (
        ipaddress.ip_network("10.0.0.0/8"),
        used(ipaddress.ip_network("10.0.0.0/8"), "hostmask"),
    ),
    "memoize": lambda: (toolz.memoize(add), filled(toolz.memoize(add))),
    "lru_cache": lambda: (functools.lru_cache(add), filled(functools.lru_cache(add))),
    "masked array": lambda: (
        np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]),
        np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]], order="F"),
    ),
    "path": lambda: (pathlib.Path("a/b"), used(pathlib.Path("a/b"), "parts")),
    "pattern": lambda: (re.compile("a"), copy.deepcopy(re.compile("a"))),
    "generator": lambda: (np.random.default_rng(1), np.random.default_rng(1)),
    "vectorized": lambda: (
        np.vectorize(even, otypes=[bool]),
        filled(np.vectorize(even, otypes=[bool])),
    ),
    "cached property beside slots": lambda: (
        SlottedCached(),
        used(SlottedCached(), "size"),
    ),
    "cached property of a list": lambda: (Lines(), used(Lines(), "size")),
    "id of an attribute": lambda: (Holder(a=LINES), Holder(a=LINES, b=id(LINES))),
    "file of xarray": lambda: (opened("a"), opened("a")),
    "compiled": lambda: (Compiled(add), Compiled(add)),
    "hash": lambda: (Holder(a=1), Holder(a=1, _attrs_cached_hash=7)),
}


def mapped(folder, values):
    """Return an array in a file."""
    array = np.memmap(folder / f"{len(list(folder.iterdir()))}", "i8", "w+", shape=2)
    array[:] = values
    return array


class SlottedCached:
    __slots__ = ("__dict__", "value")

    @functools.cached_property
    def size(self):
        return 1


class Lines(list):
    @functools.cached_property
    def size(self):
        return 1

    def __hash__(self):
        return 1


LINES = ["a"]


class Cached:
    def __init__(self, value):
        self.value = value

    @functools.cached_property
    def size(self):
        return [self.value] * 3


def used(value, attribute):
    hash(value)
    getattr(value, attribute)
    return value


def filled(function):
    function(1)
    return function


@pytest.mark.parametrize("kind", EQUAL)
def test_equal_values_have_equal_fingerprints(kind):
    one, two = EQUAL[kind]()
    assert known_of(one) == known_of(two)


@pytest.mark.parametrize("kind", DISTINCT)
def test_different_values_have_different_fingerprints(kind):
    found = {}
    for value in DISTINCT[kind]():
        found.setdefault(fingerprint_of(value), []).append(value)
    assert [same for same in found.values() if len(same) > 1] == []


def strict(value):
    """Return what is equal for values of equal type and content."""
    kind = type(value).__name__
    if isinstance(value, float):
        return kind, struct.pack("<d", value)
    if isinstance(value, list | tuple):
        return kind, tuple(map(strict, value))
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(strict, value))
    if isinstance(value, dict):
        return kind, tuple(strict(item) for item in value.items())
    if isinstance(value, Point):
        return kind, strict(value.x), strict(value.y)
    if callable(value):
        return kind, strict(value.__closure__[0].cell_contents)
    return kind, value


def test_a_method_with_a_name_of_its_own_counts_by_its_object(monkeypatch):
    found = set()
    for value in (1, 2):
        method = Holder(a=value).method
        monkeypatch.setattr(fingerprint_cases, "method", method, raising=False)
        found.add(fingerprint_of(method))
    assert len(found) == 2


def test_an_array_in_a_file_counts_by_its_content(tmp_path):
    one, same, other = (mapped(tmp_path, values) for values in (1, 1, 2))
    assert known_of(one) == known_of(same)
    assert known_of(one).opaque == ()
    assert fingerprint_of(one) != fingerprint_of(other)


def test_a_class_with_more_than_its_attributes_is_opaque():
    msgspec = pytest.importorskip("msgspec")
    made = msgspec.defstruct("Made", [("a", int, 1)])
    assert known_of(made).opaque == (
        "argument 'key' of 'parse', a msgspec._core.StructMeta",
    )


def test_an_id_of_hdf5_is_not_compared(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "array.h5", "w") as file:
        file["a"] = [1]
        expected = "argument 'key' of 'parse', a h5py.h5d.DatasetID"
        assert known_of(file["a"].id).opaque == (expected,)
        assert known_of(file["a"].attrs).opaque == (
            f"{expected} in a h5py._hl.attrs.AttributeManager",
        )


@given(VALUES, VALUES)
def test_fingerprints_are_equal_for_equal_values_only(one, two):
    same = fingerprint_of(one) == fingerprint_of(two)
    assert same == (strict(one) == strict(two))
    assert fingerprint_of(copy.deepcopy(one)) == fingerprint_of(one)


def points(values, unit):
    """Return an array of another library, with more to it than its members."""
    import pandas as pd

    class Kind(pd.api.extensions.ExtensionDtype):
        name, type = "points", int
        __repr__ = object.__repr__  # has an address in it

    class Points(pd.api.extensions.ExtensionArray):
        dtype, nbytes, ndim = Kind(), 8, 1

        def __init__(self, values, unit):
            self.values, self.unit = values, unit

        def __len__(self):
            return len(self.values)

        def __getitem__(self, place):
            return self.values[place]

        def copy(self):
            return Points(self.values, self.unit)

    return Points(values, unit)


def frames():
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    texts = pd.DataFrame({"a": ["x-y", "z"]}, dtype=object)
    yield frame
    yield frame[["b", "a"]]
    yield frame.rename(columns={"a": "c"})
    yield frame.rename(index={0: 5})
    yield frame.rename_axis("i")
    yield frame.rename_axis("c", axis="columns")
    yield frame.astype({"a": "int32"})
    yield frame.astype({"a": float})
    yield frame.astype({"a": object})
    yield frame.astype({"a": "Int64"})
    yield frame.T
    yield frame.iloc[::-1]
    yield frame.iloc[:1]
    yield pd.DataFrame({"a": [1, 3], "b": [2, 4]})
    yield frame.set_flags(allows_duplicate_labels=False)
    labelled = frame.copy()
    labelled.attrs["unit"] = "m"
    yield labelled
    yield frame.set_index("a")
    yield frame.set_index(["a", "b"])
    yield texts
    yield pd.DataFrame({"a": ["x", "y-z"]}, dtype=object)
    yield texts.astype("string")
    yield texts.astype("category")
    yield from [frame.a, frame.b, frame.a.rename("c"), frame.a.rename(None)]
    yield from [frame.index, pd.Index([0, 1]), pd.Index([0, 1], name="n")]
    yield from [pd.Index(["a", "b"], dtype=kind) for kind in ("string", object)]
    for categories in (["a", "b"], ["b", "a"], ["a", "b", "c"]):
        yield pd.Categorical(["a", "b"], categories)
        yield pd.Categorical(["a", "b"], categories, ordered=True)
    days = pd.date_range("2026", periods=2)
    yield from [days, days.tz_localize("UTC"), days.tz_localize("Europe/Berlin")]
    yield from [days.as_unit("ms"), days.to_series(), days.to_period("D"), days.array]
    yield from [pd.array([1, None]), pd.array([1, 0]), pd.array([1.0, None])]
    yield from [pd.array([True, None]), pd.array(["x", None]), pd.array([1, 2])]
    yield from [pd.Timestamp("2026"), pd.Timestamp("2026", tz="UTC"), pd.NaT, pd.NA]
    yield from [pd.Timestamp("2026").as_unit("ms"), pd.Timedelta(1), pd.Timedelta(2)]
    yield from [pd.Timestamp(1), pd.Timestamp(2), pd.Period("2026"), pd.Period("2027")]
    yield from [pd.Period("2026", "M"), pd.Interval(0, 1), pd.Interval(0, 1, "left")]
    yield from [pd.interval_range(0, 2), pd.interval_range(0, 2, closed="left")]
    yield from [pd.offsets.Day(1), pd.offsets.Day(2), pd.offsets.Hour(1)]
    yield from [pd.DateOffset(months=1), pd.DateOffset(months=2), pd.DateOffset(days=1)]
    yield from [
        pd.arrays.SparseArray([0, 1]),
        pd.arrays.SparseArray([0, 1], fill_value=1),
    ]
    yield from [pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"])]
    yield from [pd.Grouper(key="a"), pd.Grouper(key="b")]
    time = pd.ArrowDtype(pa.time64("ns"))
    yield from [pd.array([1], dtype=time), pd.array([2], dtype=time)]
    yield from [points([1], "m"), points([1], "km"), pd.Series(points([2], "m"))]
    yield from [pd.Series(points([1], unit)) for unit in ("m", "km")]


def arrow():
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.fs

    whole = pa.array([1, 2, 3, 4])
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    yield from [whole, whole[1:3], whole[2:], whole[:0], pa.array([1, None])]
    yield from [pa.array([1, 2], kind) for kind in ("int8", "uint8", "float32")]
    yield from [
        pa.array(["a-b", "c"]),
        pa.array(["a", "b-c"]),
        pa.array([b"a", b"b-c"]),
    ]
    yield from [
        pa.array([0], pa.timestamp(u, z)) for u in ("s", "ns") for z in (None, "UTC")
    ]
    yield from [pa.array([[1], [2, 3]]), pa.array([[1, 2], [3]]), pa.array([[1], None])]
    yield from [table, table.select(["b", "a"]), table.rename_columns(["a", "c"])]
    yield from [table.select([]), table.slice(1).select([])]
    yield from [table.slice(1), table.slice(0, 1), table.to_batches()[0]]
    yield from [table.replace_schema_metadata({"a": "1"}), table.schema]
    yield from [pa.int8(), pa.int16(), pa.list_(pa.int8()), pa.field("a", pa.int8())]
    yield from [pa.scalar(1), pa.scalar(2), pa.chunked_array([[1, 2]])]
    for number in (1, 2):
        time = pa.scalar(number, pa.time64("ns"))
        yield from [time, pa.repeat(time, 1), pa.array([[time]])]
        yield pa.py_buffer(b"%d" % number)
        yield pa.Tensor.from_numpy(np.full(2, number))
        yield pa.compute.StrptimeOptions(f"%Y{number}", "s")
        local = pa.fs.LocalFileSystem()
        yield pa.fs.SubTreeFileSystem(f"/{number}", local)
        words = pa.DictionaryArray.from_arrays([0], ["a", f"{number}"])
        kind, same = pa.array([number - 1], "int8"), pa.array([1])
        choice = pa.UnionArray.from_sparse(kind, [same, same])
        yield from [words, pa.table({"a": words}), choice, choice[0]]
        field = pa.field("a", pa.int8(), metadata={"a": f"{number}"})
        yield from [field, pa.struct([field]), pa.list_(field)]


def opened(path):
    """Return what xarray holds of a file that it reads when it is computed."""
    from xarray.backends import CachingFileManager

    return CachingFileManager(open, path)


def tables_of_polars():
    import polars as pl

    for kind in (pl.Datetime("ns"), pl.Duration("ns"), pl.Time):
        for number in (1, 2):
            yield pl.Series([number], dtype=kind)
            yield pl.Series([{"x": number}], dtype=pl.Struct({"x": kind}))
    yield from [pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})]
    yield from [pl.Series(["a"], dtype=pl.Enum(list(n))) for n in ("ab", "ba", "abc")]


def arrays_of_xarray():
    import xarray

    yield from map(opened, "ab")

    square = np.arange(4).reshape(2, 2)
    for values in (square, square.T, square[::-1]):
        yield xarray.DataArray(values)
        yield xarray.Dataset({"a": (("x", "y"), values)})
        yield xarray.Variable(("x", "y"), values)
    yield xarray.DataArray(square, dims=["x", "y"])
    yield from [xarray.DataArray(square, {"dim_0": [1, n]}) for n in (2, 3)]
    yield from [xarray.DataArray(square, attrs={"unit": n}) for n in "ab"]
    yield xarray.DataArray(square, name="a")
    yield xarray.Dataset({"a": ("x", [1])}, attrs={"unit": "a"})
    for texts in (["a-b", "c"], ["a", "b-c"]):
        yield xarray.DataArray(np.array(texts, dtype=object))


def queries():
    import sqlite3

    import sqlalchemy as sql

    files = sqlite3.connect(":memory:")
    files.row_factory = sqlite3.Row
    for query in ("SELECT 1 AS a", "SELECT 2 AS a", "SELECT 1 AS b"):
        yield from files.execute(query)
    files.close()

    a, b = map(sql.column, "ab")
    yield from [a, b, a > 1, a > 2, sql.text("a"), sql.table("a"), sql.table("b")]
    yield from [sql.select(a), sql.select(b), sql.select(a).where(b > 1)]
    yield from [sql.select(a).where(b > 2), sql.literal("a"), sql.literal("b")]
    yield from [sql.Table(name, sql.MetaData()) for name in ("c", "d")]
    for kind in (sql.Integer, sql.String, sql.String(2)):
        table = sql.Table("t", sql.MetaData(), sql.Column("x", kind))
        yield from [table, table.c.x, sql.column("x", kind), sql.select(table)]
        yield from [sql.text("x").columns(x=kind), sql.type_coerce(a, kind)]
    yield from [table.alias(), table.alias("u"), a.label("x"), a.label("y")]
    yield from [sql.select(a).cte(name) for name in (None, "u", "v")]
    moved = {"schema_translate_map": {None: "x"}}
    yield sql.select(a, b).execution_options(**moved)
    yield from [
        sql.select(a, b),
        sql.create_engine("sqlite://", execution_options=moved),
    ]
    yield from map(sql.create_engine, ["sqlite://", "sqlite:///a"])
    yield from map(sql.engine.make_url, ["sqlite://", "sqlite:///a"])
    with sql.create_engine("sqlite://").connect() as connection:
        for query in ("SELECT 1 AS a", "SELECT 2 AS a", "SELECT 1 AS b"):
            yield connection.execute(sql.text(query)).one()


@needs_pandas
def test_a_part_of_a_parquet_dataset_is_equal_after_a_pickle(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet
    from dask.dataframe.dask_expr.io.parquet import FragmentWrapper

    for name in ("a", "b"):
        pa.parquet.write_table(pa.table({"x": [1]}), tmp_path / f"{name}.parquet")
    parts = pa.parquet.ParquetDataset(tmp_path).fragments
    one, other = (FragmentWrapper(part, None) for part in parts)
    before = fingerprint_of(one)
    assert fingerprint_of(pickle.loads(pickle.dumps(one))) == before
    assert fingerprint_of(one) == before != fingerprint_of(other)


@needs_pandas
@pytest.mark.parametrize(
    "kind", [frames, arrow, tables_of_polars, arrays_of_xarray, queries]
)
def test_different_tables_have_different_fingerprints(kind):
    found = {}
    for value in kind():
        assert known_of(value).opaque == ()
        found.setdefault(fingerprint_of(value), []).append(value)
    assert [same for same in found.values() if len(same) > 1] == []
