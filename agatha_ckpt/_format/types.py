"""Values that msgpack does not have, as values that it has, and back.

There are two forms. A *leaf* becomes one extension value with a payload. A *container*
becomes a list that begins with a marker, an empty extension value: its members are
packed by the same packer, which measured five times as fast as packing each container
into a payload of its own.

The extension codes are negative. ``msgpack.ExtType`` refuses to make those, so a
record that itself holds an ``ExtType`` is never mistaken for one of ours.
"""

import operator
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import astuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgpack

from agatha_ckpt._errors import (
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.advice import advice_for
from agatha_ckpt._format.arrays import (
    ARRAY,
    SCALAR,
    Refused,
    Unstorable,
    decode_array,
    decode_scalar,
    encode_array,
    encode_numpy,
)
from agatha_ckpt._format.failed_record import FailedRecord
from agatha_ckpt._format.main_classes import PickleWriter

_PICKLE = -70


def _extension(code: int, payload: bytes = b"") -> msgpack.ExtType:
    # The constructor admits only codes from 0 on; the packer writes any.
    return tuple.__new__(msgpack.ExtType, (code, payload))


class Bytearray:
    """A bytearray while it is packed: msgpack would make it bytes."""

    __slots__ = ("content",)

    def __init__(self, content: bytearray):
        self.content = content


# ---- leaves ----


class _Leaf(NamedTuple):
    code: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _encode_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


# What follows the 16 bytes of a UUID: whether it was made safely by many processes.
_SAFE = {b"": SafeUUID.unknown, b"\0": SafeUUID.safe, b"\1": SafeUUID.unsafe}
_SAFE_BYTES = {safe: data for data, safe in _SAFE.items()}


def _encode_uuid(value: UUID) -> bytes:
    return value.bytes + _SAFE_BYTES[value.is_safe]


# Codes are part of the format: never reuse one for another meaning.
_LEAVES: dict[type, _Leaf] = {
    int: _Leaf(-50, _encode_int, lambda b: int.from_bytes(b, "little", signed=True)),
    complex: _Leaf(
        -51,
        lambda v: struct.pack("<dd", v.real, v.imag),
        lambda b: complex(*struct.unpack("<dd", b)),
    ),
    Decimal: _Leaf(-52, lambda v: str(v).encode(), lambda b: Decimal(b.decode())),
    UUID: _Leaf(-53, _encode_uuid, lambda b: UUID(bytes=b[:16], is_safe=_SAFE[b[16:]])),
    date: _Leaf(
        -54, lambda v: str(v).encode(), lambda b: date.fromisoformat(b.decode())
    ),
    Bytearray: _Leaf(-55, lambda v: bytes(v.content), bytearray),
}
_DECODERS = {leaf.code: leaf.decode for leaf in _LEAVES.values()}
_DECODERS |= {ARRAY: decode_array, SCALAR: decode_scalar}


def _encode_leaf(value: Any) -> msgpack.ExtType | None:
    """Return the extension value of a leaf; None where *value* is not one."""
    cls = type(value)
    if leaf := _LEAVES.get(cls):
        return _extension(leaf.code, leaf.encode(value))
    found = encode_numpy(value) if cls.__module__ == "numpy" else None
    return _extension(*found) if found else None


# ---- containers ----


class Kind:
    """A type of container. Precedes the members of one until it is built again.

    *split* gives the members of a value, and *build* a value of them. Sets have no
    *split*: their members need an order.
    """

    __slots__ = ("build", "code", "marker", "split")

    def __init__(self, code: int, split: Any, build: Callable[[list[Any]], Any]):
        self.code = code
        self.split = split
        self.build = build
        self.marker = _extension(code)


def _flatten(mapping: Any) -> list[Any]:
    return [member for pair in mapping.items() for member in pair]


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _split_default_dict(value: Any) -> list[Any]:
    if value.default_factory is not None:
        raise Unstorable(
            "a defaultdict with a factory", "map it to a dict (dict(value))"
        )
    return _flatten(value)


def _clock(value: datetime | time) -> list[Any]:
    clock = [value.hour, value.minute, value.second, value.microsecond]
    return [*clock, value.tzinfo, value.fold]


def _build_fraction(items: list[Any]) -> Fraction:
    # From text or a Decimal it would compute 10**exponent, for hours.
    numerator, denominator = map(operator.index, items)
    return Fraction(numerator, denominator)


def _split_zone(value: ZoneInfo) -> list[str]:
    if value.key is None:
        raise Unstorable("a ZoneInfo without a key")
    # By another one, times are converted and zones compared in another way.
    if _known_zone(value.key) is not value:
        raise Refused(
            f"a ZoneInfo that is not ZoneInfo({value.key!r}), but made by from_file or "
            "no_cache, or before clear_cache",
            f"replace it by ZoneInfo({value.key!r})",
        )
    return [value.key]


def _known_zone(key: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(key)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return None


def _build_zone(items: list[Any]) -> Any:
    (key,) = items
    if type(key) is not str:  # it would be compared with every known key
        raise CorruptCheckpointError("a record holds a time zone without a name")
    return _build_any_zone([key])


def _split_path(value: Any) -> list[str]:
    cls, text = type(value), str(value)
    if not _is_same_path(cls(text), value):  # such as PureWindowsPath("./c:a")
        # A pickle has the parts.
        error = Unstorable if _is_same_path(cls(*value.parts), value) else Refused
        raise error(f"a {cls.__name__} whose text does not restore it")
    return [text]


def _is_same_path(left: Any, right: Any) -> bool:
    # In Python 3.11, some that are equal differ in these.
    pairs = (left.drive, right.drive), (left.root, right.root), (str(left), str(right))
    return left == right and all(a == b for a, b in pairs)


def _build(cls: Any) -> Callable[[list[Any]], Any]:
    """Return a builder for a type that takes the members as arguments."""

    def build(items: list[Any]) -> Any:
        try:
            return cls(*items)
        except (NotImplementedError, KeyError) as error:
            raise UnsupportedFormatError(
                f"a record holds a {cls.__name__} that this machine cannot make "
                f"({error}); load it where it was saved, or store it as a str"
            ) from error

    return build


_build_any_zone = _build(ZoneInfo)


# Codes are part of the format: never reuse one for another meaning.
_CONTAINERS: dict[type, Kind] = {
    tuple: Kind(-100, list, tuple),
    set: Kind(-101, None, set),
    frozenset: Kind(-102, None, frozenset),
    # Counter(mapping) keeps the counts as they are, whatever type they have.
    Counter: Kind(-103, _flatten, lambda items: Counter(dict(_pairs(items)))),
    OrderedDict: Kind(-104, _flatten, lambda items: OrderedDict(_pairs(items))),
    deque: Kind(
        -105, lambda v: [v.maxlen, *v], lambda items: deque(items[1:], items[0])
    ),
    defaultdict: Kind(
        -106, _split_default_dict, lambda items: defaultdict(None, _pairs(items))
    ),
    datetime: Kind(
        -107,
        lambda v: [v.year, v.month, v.day, *_clock(v)],
        lambda items: datetime(*items[:-1]).replace(fold=items[-1]),
    ),
    time: Kind(-108, _clock, lambda items: time(*items[:-1]).replace(fold=items[-1])),
    timedelta: Kind(
        -109, lambda v: [v.days, v.seconds, v.microseconds], _build(timedelta)
    ),
    timezone: Kind(-110, lambda v: v.__getinitargs__(), _build(timezone)),
    Fraction: Kind(-111, lambda v: [v.numerator, v.denominator], _build_fraction),
    ZoneInfo: Kind(-112, _split_zone, _build_zone),
    PurePosixPath: Kind(-113, _split_path, _build(PurePosixPath)),
    PosixPath: Kind(-114, _split_path, _build(PosixPath)),
    PureWindowsPath: Kind(-115, _split_path, _build(PureWindowsPath)),
    WindowsPath: Kind(-116, _split_path, _build(WindowsPath)),
    FailedRecord: Kind(-117, astuple, _build(FailedRecord)),
}
_KINDS = {kind.code: kind for kind in _CONTAINERS.values()}
_TUPLE = _CONTAINERS[tuple]
_TUPLE_MARKER = _TUPLE.marker


def attributes(value: Any) -> dict[str, Any] | None:
    """Return the attributes that a caller has set on *value*, if it can have any."""
    return getattr(value, "__dict__", None)


def _split(kind: Kind, value: Any, sort_key: Callable[[Any], bytes]) -> Iterable[Any]:
    """Return what follows the marker of the container *value*."""
    if kind.split is None:
        # In a fixed order, so that equal records give equal bytes in every process.
        return sorted(value, key=None if _is_ordered(value) else sort_key)
    if attributes(value):
        name = type(value).__name__
        error = Refused if name == "Counter" else Unstorable  # whose pickle loses them
        raise error(f"a {name} with attributes of its own")
    members: Iterable[Any] = kind.split(value)
    return members


def _is_ordered(members: Iterable[Any]) -> bool:
    """Return whether *members* have an order of their own that is always the same."""
    return len(kinds := set(map(type, members))) == 1 and kinds <= {str, bytes, int}


# ---- what msgpack calls ----


def make_default(
    sort_key: Callable[[Any], bytes], pickles: PickleWriter | None, used: set[str]
) -> Callable[[Any], Any]:
    """Return the packer's ``default``: a value of ours as values msgpack has.

    *sort_key* returns the bytes that order a member of a set. Without *pickles*, values
    of unknown types are refused. *used* gets ``"hooks"`` when decoding will need the
    hooks of `make_hooks`, and ``"pickle"`` when something was pickled.

    Raises
    ------
    Unstorable
        By the function returned, for a value that cannot be stored faithfully.
    """
    ndarray: Any = None  # numpy's, from the first one on

    def default(value: Any) -> Any:
        nonlocal ndarray
        cls = type(value)
        used.add("hooks")
        if cls is tuple:
            return [_TUPLE_MARKER, *value]
        reason = None
        try:
            if cls is ndarray:
                return _extension(ARRAY, encode_array(value))
            if kind := _CONTAINERS.get(cls):
                return [kind.marker, *_split(kind, value, sort_key)]
            if leaf := _encode_leaf(value):
                ndarray = cls if leaf[0] == ARRAY else ndarray
                return leaf
        except Unstorable as error:
            if isinstance(error, Refused) or cls in (set, frozenset):  # of a member
                raise
            reason = str(error)
        used.add("pickle")
        return _pickled(value, pickles, reason)

    return default


def _pickled(
    value: Any, pickles: PickleWriter | None, reason: str | None
) -> msgpack.ExtType:
    cls = type(value)
    name = reason or f"a value of type {cls.__module__}.{cls.__qualname__}"
    if pickles is None:
        reason = f"{name}, which is stored only as a pickle"
        raise Unstorable(reason, advice_for(value))
    try:
        return _extension(_PICKLE, pickles.dumps(value))
    except Exception as error:
        reason = f"{name}, which cannot be pickled ({error})"
        raise Refused(reason, advice_for(value)) from error


def make_hooks(
    loads: Callable[[bytes], Any] | None,
) -> tuple[Callable[[int, bytes], Any], Callable[[Any], Any], Callable[[], int]]:
    """Return the unpacker's hooks for one block, and a count of unused markers.

    The ``ext_hook`` returns leaves, and the markers of containers; the ``list_hook``
    returns the container of an array with a marker at its head, and other arrays as
    they are. A marker in any other place would be a value of the record: the caller
    checks that none is unused. *loads* returns the value of a pickle.

    Raises
    ------
    PickleNotAllowedError
        By the ``ext_hook``, for a pickle without *loads*.
    CorruptCheckpointError
        By the ``ext_hook``, for a code that the format does not have.
    """
    markers = 0

    def ext_hook(code: int, payload: bytes) -> Any:
        nonlocal markers
        if not payload and code in _KINDS:
            markers += 1
            return _KINDS[code]
        if decode := _DECODERS.get(code):
            return decode(payload)
        if code >= 0:
            return msgpack.ExtType(code, payload)  # the record's own
        if code == _PICKLE:
            if loads is None:
                raise PickleNotAllowedError("a record was pickled")
            return loads(payload)
        raise CorruptCheckpointError(f"a record holds the unknown extension {code}")

    def list_hook(items: Any) -> Any:
        nonlocal markers
        if items:
            head = items[0]
            if head is _TUPLE:
                markers -= 1
                return tuple(items[1:])
            if type(head) is Kind:
                markers -= 1
                return head.build(items[1:])
        return items

    return ext_hook, list_hook, lambda: markers
