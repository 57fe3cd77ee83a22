"""Values of every type, how they compare, and hostile ones."""

import struct
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agatha_ckpt import Checkpointer
from agatha_ckpt._format.blocks import CLASSES, decode_block, encode_blocks
from agatha_ckpt._format.main_classes import PickleReader, decode_definitions

WHERE = "partition 1 of checkpoint 'x'"
ZONES = sorted(zoneinfo.available_timezones() & {"Europe/Berlin", "Asia/Kolkata"})


# ---- equal in value and type ----


def assert_same(left, right):
    """Fail unless both are equal in value and type, all the way down."""
    pairs = [(left, right)]
    while pairs:  # no recursion: records are nested deeper than the interpreter allows
        a, b = pairs.pop()
        assert type(a) is type(b), (a, b)
        if isinstance(a, set | frozenset):
            assert sorted(map(_fingerprint, a)) == sorted(map(_fingerprint, b)), (a, b)
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
            assert_same_dtype(a.dtype, b.dtype)
            assert in_fortran_order(a) == in_fortran_order(b)
            if a.dtype.names:
                pairs.extend((a[name], b[name]) for name in a.dtype.names)
            elif isinstance(a, str | bytes):
                assert (len(a), a) == (len(b), b)
            elif a.dtype.char in "gG":  # a long double has bytes that mean nothing
                assert repr(a) == repr(b)
            else:
                assert a.tobytes() == b.tobytes()
        else:
            assert _atom(a) == _atom(b), (a, b)


def assert_same_dtype(a, b):
    """Fail unless dtypes are equal, and in what numpy leaves out of that as well."""
    assert a == b
    assert (a.num, a.char, a.type) == (b.num, b.char, b.type)
    assert (a.isnative, a.metadata or None) == (b.isnative, b.metadata or None)
    assert (a.isalignedstruct, a.itemsize) == (b.isalignedstruct, b.itemsize)
    if a.subdtype:
        assert a.shape == b.shape
        assert_same_dtype(a.base, b.base)
    for name in a.names or ():
        assert a.fields[name][1:] == b.fields[name][1:]  # offset, title
        assert_same_dtype(a.fields[name][0], b.fields[name][0])


def in_fortran_order(array):
    return (
        array.ndim > 1
        and array.nbytes
        and array.flags.f_contiguous
        and not array.flags.c_contiguous
    )


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
        return value.key, id(value)  # another one converts in another way
    if isinstance(value, PurePath):
        return value.parts, value.drive, value.root, str(value)
    if isinstance(value, UUID):
        return value, value.is_safe
    return value


def _fingerprint(value):
    if isinstance(value, tuple):
        return repr((type(value), [_fingerprint(x) for x in value]))
    if isinstance(value, frozenset):
        return repr((type(value), sorted(map(_fingerprint, value))))
    return repr((type(value), _atom(value), getattr(value, "fold", None)))


def round_trip(records, allow_pickle=False):
    """Encode and decode *records* as blocks."""
    found, pickles = [], PickleReader()
    for block in encode_blocks(iter(records), allow_pickle, WHERE):
        if block.flags == CLASSES:
            pickles.definitions |= decode_definitions(block.payload)
        else:
            found += decode_block(block, allow_pickle, WHERE, pickles)
    return found


def load(root, name="a", **settings):
    """Return the records of a checkpoint."""
    bag = Checkpointer(root, verbose=False, **settings).checkpoint(name)
    return bag.compute(scheduler="sync")


class CreatesFile:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


# ---- values of every type ----

texts = st.text(st.integers(0, 0x10FFFF).map(chr))  # with lone surrogates
big_ints = st.integers(-(2**200), 2**200)
offsets = st.timedeltas(
    timedelta(hours=-24, microseconds=1), timedelta(hours=24, microseconds=-1)
)
zones = st.sampled_from([None, UTC]) | st.builds(timezone, offsets)
zones |= st.builds(timezone, offsets, texts)
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
    msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 999_999_999)
)
decimals = st.sampled_from(["-0", "0E+3", "-Infinity", "NaN7", "1E+999"]).map(Decimal)


def _aligned(dtype):
    """Return a structured dtype with the padding that a C compiler would give it."""
    if dtype.subdtype:
        return np.dtype((_aligned(dtype.base), dtype.shape))
    if not dtype.names:
        return dtype
    fields = [(name, _aligned(dtype.fields[name][0])) for name in dtype.names]
    return np.dtype(fields, align=True)


uuids = st.uuids() | st.builds(
    lambda u, safe: UUID(bytes=u.bytes, is_safe=safe),
    st.uuids(),
    st.sampled_from(SafeUUID),
)
# NaNs of all signs and payloads: any bits are a float.
bits = st.binary(min_size=8, max_size=8).map(lambda b: struct.unpack("<d", b)[0])
numbers = st.one_of(
    *[st.booleans(), st.integers(-(2**65), 2**65), big_ints, st.floats(), bits],
    *[st.complex_numbers(), st.decimals(allow_nan=False), decimals, st.fractions()],
)
atoms = st.one_of(
    *[st.none(), numbers, texts, st.binary(), uuids, st.dates(), datetimes],
    *[times, st.timedeltas(), zones, paths, ext_types, timestamps],
)
hashables = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3)
    ),
    max_leaves=5,
)
dtypes = st.one_of(
    hnp.array_dtypes(),
    hnp.nested_dtypes(),
    hnp.nested_dtypes().map(_aligned),
    st.sampled_from("qQgG").map(np.dtype),
)
arrays = hnp.arrays(
    dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
)
unhashables = st.one_of(
    st.just(Decimal("-sNaN12")),
    st.binary().map(bytearray),
    arrays,
    arrays.map(np.asfortranarray),
    arrays.map(np.transpose),
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
