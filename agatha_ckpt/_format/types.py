"""Values that msgpack does not know, as values that it does, and back.

Two shapes. A *leaf* becomes one extension value with a payload. A *container*
becomes a list that begins with a marker, an empty extension value: its members
stay where they are and are packed by the same packer, which measured five times as
fast as packing each container into a payload of its own.

The extension codes are negative. ``msgpack.ExtType`` refuses to make those, so a
record that itself holds an ``ExtType`` can never be mistaken for one of ours.
"""

import operator
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import (
    PosixPath,
    PurePosixPath,
    PureWindowsPath,
    WindowsPath,
)
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack

from agatha_ckpt._errors import (
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
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


def _extension(code: int, payload: bytes = b"") -> msgpack.ExtType:
    # The constructor admits only codes from 0 on; the packer writes any.
    return tuple.__new__(msgpack.ExtType, (code, payload))


class Kind:
    """What stands at the head of a decoded container until it is rebuilt."""

    __slots__ = ("build", "code", "marker")

    def __init__(self, code: int, build: Callable[[list[Any]], Any]):
        self.code = code
        self.build = build
        self.marker = _extension(code)


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _build_default_dict(items: list[Any]) -> Any:
    return defaultdict(None, _pairs(items))


def _build_counter(items: list[Any]) -> Any:
    # Counter(mapping) keeps the counts as they are, whatever type they have.
    return Counter(dict(_pairs(items)))


def _build_datetime(items: list[Any]) -> datetime:
    *fields, fold = items
    return datetime(*fields).replace(fold=fold)


def _build_time(items: list[Any]) -> time:
    *fields, fold = items
    return time(*fields).replace(fold=fold)


def _build_fraction(items: list[Any]) -> Fraction:
    # From text or a Decimal it would compute 10**exponent, for hours.
    numerator, denominator = map(operator.index, items)
    return Fraction(numerator, denominator)


def _build_zone(items: list[Any]) -> Any:
    (key,) = items
    if type(key) is not str:  # it would be compared with every key that is known
        raise CorruptCheckpointError("a record holds a time zone without a name")
    return _zone_of_this_machine([key])


def _of_this_machine(cls: Any) -> Callable[[list[Any]], Any]:
    """Return a builder for values that not every machine can hold."""

    def build(items: list[Any]) -> Any:
        try:
            return cls(*items)
        except (NotImplementedError, KeyError) as error:
            raise UnsupportedFormatError(
                f"a record holds a {cls.__name__} that this machine cannot make "
                f"({error}); load it where it was saved, or store it as a str"
            ) from error

    return build


_zone_of_this_machine = _of_this_machine(ZoneInfo)


def _kinds(*kinds: tuple[int, Any, Callable[[list[Any]], Any]]) -> dict[Any, Kind]:
    return {cls: Kind(code, build) for code, cls, build in kinds}


# Codes are part of the format: never reuse one for another meaning.
_CONTAINERS = _kinds(
    (-100, tuple, tuple),
    (-101, set, set),
    (-102, frozenset, frozenset),
    (-103, Counter, _build_counter),
    (-104, OrderedDict, lambda items: OrderedDict(_pairs(items))),
    (-105, deque, lambda items: deque(items[1:], items[0])),
    (-106, defaultdict, _build_default_dict),
    (-107, datetime, _build_datetime),
    (-108, time, _build_time),
    (-109, timedelta, lambda items: timedelta(*items)),
    (-110, timezone, lambda items: timezone(*items)),
    (-111, Fraction, _build_fraction),
    (-112, ZoneInfo, _build_zone),
    (-113, PurePosixPath, lambda items: PurePosixPath(*items)),
    (-114, PosixPath, _of_this_machine(PosixPath)),
    (-115, PureWindowsPath, lambda items: PureWindowsPath(*items)),
    (-116, WindowsPath, _of_this_machine(WindowsPath)),
)
_KINDS = {kind.code: kind for kind in _CONTAINERS.values()}
_TUPLE = _CONTAINERS[tuple]
_TUPLE_MARKER = _TUPLE.marker

_INT, _COMPLEX, _DECIMAL, _UUID, _DATE, _BYTEARRAY = -50, -51, -52, -53, -54, -55
_PICKLE = -70


def _members(value: Any, pack: Callable[[Any], bytes]) -> list[Any]:
    """Return what follows the marker of the container *value*."""
    cls = type(value)
    if cls is set or cls is frozenset:
        # In a fixed order, so that equal records give equal bytes in every process.
        return sorted(value, key=None if _is_ordered(value) else pack)
    if attributes(value):
        if cls is Counter:  # it forgets them when it is pickled
            raise Refused("a Counter with attributes of its own")
        raise Unstorable(f"a {cls.__name__} with attributes of its own")
    if cls in (Counter, OrderedDict, defaultdict):
        if cls is defaultdict and value.default_factory is not None:
            raise Unstorable("a defaultdict with a factory")
        return [member for pair in value.items() for member in pair]
    if cls is deque:
        return [value.maxlen, *value]
    if cls is datetime:
        day = [value.year, value.month, value.day]
        return [*day, *_clock(value)]
    if cls is time:
        return _clock(value)
    if cls is timedelta:
        return [value.days, value.seconds, value.microseconds]
    if cls is timezone:
        return list(value.__getinitargs__())
    if cls is Fraction:
        return [value.numerator, value.denominator]
    if cls is ZoneInfo:
        if value.key is None:
            raise Unstorable("a ZoneInfo without a key")
        return [value.key]
    if cls(str(value)) != value:  # such as PureWindowsPath("./c:a")
        raise Unstorable(f"a {cls.__name__} that its text does not give back")
    return [str(value)]


def _is_ordered(members: Iterable[Any]) -> bool:
    """Say whether *members* have an order of their own that is always the same."""
    return len(kinds := set(map(type, members))) == 1 and kinds <= {str, bytes, int}


def attributes(value: Any) -> dict[str, Any] | None:
    """Return the attributes that a caller hung on *value*, if it can have any."""
    return getattr(value, "__dict__", None)


def _clock(value: datetime | time) -> list[Any]:
    clock = [value.hour, value.minute, value.second, value.microsecond]
    return [*clock, value.tzinfo, value.fold]


def _leaf(value: Any) -> msgpack.ExtType | None:
    """Return the extension value for a leaf; None where *value* is none."""
    cls = type(value)
    if cls.__module__ == "numpy":
        found = encode_numpy(value)
        return _extension(*found) if found else None
    if cls is int:
        return _extension(
            _INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        )
    if cls is complex:
        return _extension(_COMPLEX, struct.pack("<dd", value.real, value.imag))
    if cls is Decimal:
        return _extension(_DECIMAL, str(value).encode())
    if cls is UUID:
        return _extension(_UUID, value.bytes)
    if cls is date:
        return _extension(_DATE, value.isoformat().encode())
    if cls is Bytearray:
        return _extension(_BYTEARRAY, bytes(value.content))
    return None


class Bytearray:
    """Stands for a bytearray while it is packed: msgpack would make it bytes."""

    __slots__ = ("content",)

    def __init__(self, content: bytearray):
        self.content = content


def make_default(
    pack: Callable[[Any], bytes], allow_pickle: bool, used: set[str]
) -> Callable[[Any], Any]:
    """Return the packer's ``default``: a value of ours as values msgpack knows.

    Parameters
    ----------
    pack : callable
        Gives the bytes of any value; orders the members of sets.
    allow_pickle : bool
        Whether values of unknown types are pickled or refused.
    used : set of str
        Gets ``"hooks"`` when decoding will need the hooks of `make_hooks`, and
        ``"pickle"`` when something was pickled.

    Raises
    ------
    Unstorable
        By the function returned, for a value that cannot be stored faithfully.
    """
    ndarray: Any = None  # numpy's, from the first one on

    def lower(value: Any) -> Any:
        nonlocal ndarray
        cls = type(value)
        if cls is tuple:
            used.add("hooks")
            return [_TUPLE_MARKER, *value]
        reason = None
        try:
            if cls is ndarray:
                lowered: Any = _extension(ARRAY, encode_array(value))
            elif kind := _CONTAINERS.get(cls):
                lowered = [kind.marker, *_members(value, pack)]
            else:
                lowered = _leaf(value)
                if lowered and lowered[0] == ARRAY:
                    ndarray = cls
        except Refused:
            raise
        except Unstorable as error:
            lowered, reason = None, str(error)
        if lowered is None:
            lowered = _pickled(value, allow_pickle, reason)
            used.add("pickle")
        used.add("hooks")
        return lowered

    return lower


def _pickled(value: Any, allow_pickle: bool, reason: str | None) -> msgpack.ExtType:
    cls = type(value)
    name = reason or f"a value of type {cls.__module__}.{cls.__qualname__}"
    if not allow_pickle:
        raise Unstorable(f"{name}, which is stored only as a pickle")
    import cloudpickle

    try:
        return _extension(_PICKLE, cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        raise Unstorable(f"{name}, which cannot be pickled ({error})") from error


def make_hooks(
    allow_pickle: bool,
) -> tuple[Callable[[int, bytes], Any], Callable[[Any], Any], Callable[[], int]]:
    """Return the unpacker's hooks for one block, and how many markers are left over.

    The ``ext_hook`` gives leaves, and the heads of containers; the ``list_hook``
    gives the container that an array with a marker at its head stands for, and other
    arrays as they are. A marker in any other place would be a value of the record:
    whoever used the hooks has to ask whether there was one.

    Raises
    ------
    PickleNotAllowedError
        By the ``ext_hook``, for a pickle without *allow_pickle*.
    CorruptCheckpointError
        By the ``ext_hook``, for a code that the format does not have.
    """
    markers = 0

    def ext_hook(code: int, payload: bytes) -> Any:
        nonlocal markers
        if code == ARRAY:
            return decode_array(payload)
        kind = _KINDS.get(code)
        if kind is not None and not payload:
            markers += 1
            return kind
        if code >= 0:
            return msgpack.ExtType(code, payload)  # the record's own
        if code == _PICKLE:
            if not allow_pickle:
                _refuse_pickle()
            import cloudpickle

            return cloudpickle.loads(payload)
        return _leaf_from(code, payload)

    def rebuild(items: Any) -> Any:
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

    return ext_hook, rebuild, lambda: markers


def _refuse_pickle() -> NoReturn:
    raise PickleNotAllowedError("a record was pickled")


def _leaf_from(code: int, payload: bytes) -> Any:
    if code == SCALAR:
        return decode_scalar(payload)
    if code == _INT:
        return int.from_bytes(payload, "little", signed=True)
    if code == _COMPLEX:
        return complex(*struct.unpack("<dd", payload))
    if code == _DECIMAL:
        return Decimal(payload.decode())
    if code == _UUID:
        return UUID(bytes=payload)
    if code == _DATE:
        return date.fromisoformat(payload.decode())
    if code == _BYTEARRAY:
        return bytearray(payload)
    raise CorruptCheckpointError(f"a record holds the unknown extension {code}")
