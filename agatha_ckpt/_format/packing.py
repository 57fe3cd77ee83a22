"""Records -> msgpack, one at a time, or the reason why one cannot be stored."""

import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from gc import get_referents
from typing import Any

import msgpack

from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.advice import CHANGE
from agatha_ckpt._format.arrays import Refused, Unstorable
from agatha_ckpt._format.main_classes import PickleWriter
from agatha_ckpt._format.types import Bytearray, attributes, make_default

SCALARS = frozenset({str, int, float, bool, type(None), bytes})
NOT_PACKED = (
    BufferError,
    OverflowError,
    RecursionError,
    TypeError,
    Unstorable,
    ValueError,
)
# At first: the default of a megabyte takes longer to allocate than a small partition
# to pack.
_BUFFER_BYTES = 16 * 1024
# The first byte of packed bytes; the latter two from lengths of 256 and 65,536 on.
BIN_8, BIN_16, BIN_32 = 0xC4, 0xC5, 0xC6

_BUFFERS = frozenset({bytearray, memoryview})
_CONTAINERS = frozenset(
    {list, tuple, dict, set, frozenset, deque, OrderedDict, Counter, defaultdict}
)
_BUFFERS_AND_CONTAINERS = _BUFFERS | _CONTAINERS
_NUMBERS = frozenset({int, float})
_MANY = 16  # members, of which adding them up is faster than a look at each type

_recursion_lock = threading.Lock()


class Packer:
    """Packs records, and notes in `used` what decoding them takes."""

    def __init__(self, allow_pickle: bool, where: str) -> None:
        self.used: set[str] = set()  # of "hooks", "pickle", "surrogates"
        # Packs scalars, tuples of scalars, and lists of both; a subclass as its base.
        self.plain = msgpack.Packer(strict_types=False, buf_size=_BUFFER_BYTES).pack
        self._where = where
        self._keys: dict[int, tuple[Any, bytes]] = {}
        self.pickles = PickleWriter()
        pickles = self.pickles if allow_pickle else None
        self._default = make_default(self._sort_key, pickles, self.used)
        # Packs a record, but makes bytes of a bytearray in it: see `may_hold_buffer`.
        self.strict = self._make().pack

    def _make(self, buf_size: int = _BUFFER_BYTES, **options: Any) -> msgpack.Packer:
        return msgpack.Packer(
            strict_types=True, default=self._default, buf_size=buf_size, **options
        )

    def forget(self) -> None:
        """Forget what was recorded for the last block."""
        self.used.clear()
        self._keys.clear()

    def pack_carefully(
        self, record: Any, position: int, *, mark: bool = False
    ) -> bytes:
        """Pack a record that `strict` does not pack, or raise the reason.

        *position* is its number in the partition, for messages. *mark* where it holds a
        bytearray or memoryview.

        Raises
        ------
        EncodeError
            It holds a value that cannot be stored faithfully.
        """
        kind = type(record).__qualname__
        try:
            if mark:
                with deep_recursion():
                    record = _mark_bytearrays(record)
            try:
                data: bytes = self.strict(record)
            except UnicodeEncodeError:
                data = self._pack_alone(record)
                self.used.add("surrogates")
            return data
        except Unstorable as error:
            reason, advice = f"holds {error}", error.advice
            if not isinstance(error, Refused):
                advice += (
                    ", or allow pickle (set_allow_pickle(True), or "
                    "Checkpointer(..., allow_pickle=True)) if you trust everyone who "
                    "can write to the root"
                )
        except NOT_PACKED as error:
            reason = f"(of type {kind}) cannot be packed: {error}"
            advice = CHANGE
        raise EncodeError(f"record {position} of {self._where} {reason}; {advice}")

    def _pack_alone(self, value: Any) -> bytes:
        # A packer cannot be used again inside its own default.
        packer = self._make(unicode_errors="surrogatepass", buf_size=1024)
        packed: bytes = packer.pack(value)
        return packed

    def _sort_key(self, member: Any) -> bytes:
        """Return the bytes that order *member* in its set.

        Kept for sets in sets, which would be packed twice as often at each level.
        """
        if type(member) not in (frozenset, tuple):
            return self._pack_alone(member)
        known = self._keys.get(id(member))
        if known is None:
            # With the member itself, so that its id stays its own.
            known = self._keys[id(member)] = member, self._pack_alone(member)
        return known[1]


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Let Python functions nest as deeply as msgpack's do."""
    with _recursion_lock:  # the limit is the whole interpreter's
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + 10_000)
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)


# ---- bytearray and memoryview ----


def may_hold_buffer(data: bytes) -> bool:
    """Return whether there may be a bytearray or memoryview in a packed record.

    msgpack packs both like bytes, and does not call the default. A look at all values
    of a record takes about as long as packing it, so *data* is searched for bytes
    first. Their first byte is common; in what is long, the length distinguishes them.
    """
    if BIN_8 in data:
        return True
    for first, width in ((BIN_16, 2), (BIN_32, 4)):
        at = data.find(first)
        while at >= 0:
            content = at + 1 + width
            if content + int.from_bytes(data[at + 1 : content]) <= len(data):
                return True
            at = data.find(first, at + 1)
    return False


def holds_buffer(record: Any) -> bool:
    """Return whether a bytearray or memoryview is in *record*, level by level."""
    if type(record) not in _CONTAINERS:
        return type(record) in _BUFFERS
    level = get_referents(record)
    while level:
        if len(level) >= _MANY and _are_numbers(level):
            return False
        kinds = _BUFFERS_AND_CONTAINERS.intersection(map(type, level))
        if not kinds:
            return False
        if not kinds.isdisjoint(_BUFFERS):
            return True
        level = get_referents(*[x for x in level if type(x) in _CONTAINERS])
    return False


def _are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all *values* are certainly int, float or bool.

    Adding them up is four times as fast as a look at the type of each. A buffer cannot
    be added to a number.
    """
    if not {type(values[0]), type(values[-1])} <= _NUMBERS:
        return False
    try:
        return type(sum(values)) in _NUMBERS
    except Exception:  # from a type's own __radd__
        return False


def _mark_bytearrays(value: Any) -> Any:
    """Return *value* with each bytearray in a builtin container marked as one.

    Subclasses and all other containers reach the packer's default.

    Raises
    ------
    Refused
        For a memoryview, which cannot be restored.
    """
    # No map: what C code calls may not nest as deeply, from Python 3.12 on.
    cls = type(value)
    mark = _mark_bytearrays
    if cls is bytearray:
        return Bytearray(value)
    if cls is memoryview:
        raise Refused(
            "a memoryview, which belongs to other memory",
            "map it to bytes (bytes(value))",
        )
    if cls in (list, tuple, set, frozenset):
        return cls([mark(member) for member in value])
    if cls is dict:
        return {mark(key): mark(member) for key, member in value.items()}
    if cls is deque:
        return deque([mark(member) for member in value], value.maxlen)
    # One with a factory or attributes is not packed but pickled, as it is.
    is_packed = not (attributes(value) or getattr(value, "default_factory", None))
    if cls in (Counter, OrderedDict, defaultdict) and is_packed:
        copy = value.copy()
        copy.clear()
        for key, member in value.items():
            copy[mark(key)] = mark(member)
        return copy
    return value
