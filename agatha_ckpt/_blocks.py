"""Records <-> blocks: the unit of encoding inside a partition file.

A block holds about 64 KiB of records. Loaded in blocks of that size, records die
young, stay in the processor's cache, and give the garbage collector nothing to walk.
"""

import sys
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from gc import get_referents
from itertools import accumulate, chain
from struct import Struct
from typing import Any, NamedTuple

import msgpack

from agatha_ckpt._errors import (
    CheckpointError,
    CorruptCheckpointError,
    EncodeError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._numpy import Refused, Unstorable
from agatha_ckpt._types import (
    lifting,
    lowering,
    mark_bytearrays,
    rebuild,
)

BLOCK_BYTES = 64 * 1024
_recursion_lock = threading.Lock()

# What decoding a block takes; part of the format.
HOOKS, PICKLE, TUPLES, SURROGATES = 1, 2, 4, 8

_ARRAY_HEAD = Struct(">BI")  # msgpack's array 32
_SCALARS = frozenset({str, int, float, bool, type(None), bytes})
_CONTAINERS = frozenset(
    {list, tuple, dict, set, frozenset, deque, OrderedDict, Counter, defaultdict}
)
_WALKED = _SCALARS | {list, tuple, dict}
_BUFFERS = frozenset({bytearray, memoryview})
_NOT_PACKED = (
    BufferError,
    OverflowError,
    RecursionError,
    TypeError,
    Unstorable,
    ValueError,
)
_BIN_HEADS = ((b"\xc4", 1), (b"\xc5", 2), (b"\xc6", 4))  # and the length's width


class Block(NamedTuple):
    """Some records, encoded: a msgpack array, before compression."""

    flags: int
    records: int
    payload: bytes


class _Packer:
    """Packs single records and notes what decoding them will take."""

    def __init__(self, allow_pickle: bool) -> None:
        self.used: set[str] = set()
        self._members: dict[int, bytes] = {}
        self._lower = lowering(self._pack_member, allow_pickle, self.used)
        self.strict = self._make().pack
        # Of a tuple subclass, an IntEnum and the like this one makes the plain
        # value: only for records of which `_all_flat` holds.
        self.flat = msgpack.Packer(strict_types=False).pack

    def _make(self, **options: Any) -> msgpack.Packer:
        return msgpack.Packer(strict_types=True, default=self._lower, **options)

    def begin_block(self) -> None:
        self.used.clear()
        self._members.clear()

    def _pack_member(self, value: Any) -> bytes:
        known = self._members.get(id(value))
        if known is None:
            known = self._pack_alone(value)
            if type(value) is frozenset:
                # Sets in sets would be packed once more with each level. The id is
                # good while the block holds the record.
                self._members[id(value)] = known
        return known

    def _pack_alone(self, value: Any) -> bytes:
        # A packer cannot be used again from inside its own default.
        packer = self._make(unicode_errors="surrogatepass", buf_size=1024)
        packed: bytes = packer.pack(value)
        return packed

    def with_surrogates(self, record: Any) -> bytes:
        packed = self._pack_alone(record)
        self.used.add("surrogates")
        return packed

    def with_buffers(self, record: Any) -> Any:
        """Return a copy of *record* that says where its bytearrays are."""
        self._members.clear()  # the copy's members are new
        with deep_recursion():
            return mark_bytearrays(record)


def encode_blocks(
    records: Iterable[Any], allow_pickle: bool, where: str
) -> Iterator[Block]:
    """Yield *records* as blocks; holds no more than one block's worth of them.

    Parameters
    ----------
    records : iterable
        Anything; what it raises passes through unchanged.
    allow_pickle : bool
        Whether values of other types than the format's own may be pickled.
    where : str
        What is being encoded, for messages.

    Raises
    ------
    EncodeError
        A record holds a value that cannot be stored faithfully.
    """
    packer = _Packer(allow_pickle)
    source = iter(records)
    position = 0
    for first in source:
        # A tuple of scalars gives hope that the whole block holds such tuples.
        hope = type(first) is tuple and _SCALARS.issuperset(map(type, first))
        pack = packer.flat if hope else packer.strict
        packer.begin_block()
        block: list[Any] = []
        packed: list[bytes] = []
        size = 0
        for record in chain((first,), source):
            try:
                data = pack(record)
            except _NOT_PACKED:
                pack = packer.strict
                data = _repack(packer, record, where, position + len(block))
            block.append(record)
            packed.append(data)
            size += len(data)
            if size >= BLOCK_BYTES:
                break
        flat = hope and pack is packer.flat and _all_flat(block)
        if hope and not flat:
            packed = [
                _repack(packer, record, where, position + i)
                for i, record in enumerate(block)
            ]
        yield _finish(packer, flat, block, packed, where, position)
        position += len(block)


def _finish(
    packer: _Packer,
    flat: bool,
    block: list[Any],
    packed: list[bytes],
    where: str,
    position: int,
) -> Block:
    flags = TUPLES if flat else 0
    payload = b"".join([_ARRAY_HEAD.pack(0xDD, len(block)), *packed])
    suspects = [] if flags else _may_hold_bytes(packed, payload)
    if _holds_buffer([block[i] for i in suspects]):
        for i in suspects:
            if not _holds_buffer([block[i]]):
                continue
            packed[i] = _repack(packer, block[i], where, position + i, buffers=True)
        payload = b"".join([payload[: _ARRAY_HEAD.size], *packed])
    used = packer.used
    flags |= HOOKS * ("hooks" in used) | PICKLE * ("pickle" in used)
    flags |= SURROGATES * ("surrogates" in used)
    return Block(flags, len(block), payload)


def _all_flat(block: list[Any]) -> bool:
    """Say whether all records are tuples of scalars (so no list is among them)."""
    return set(map(type, block)) == {tuple} and _SCALARS.issuperset(
        map(type, chain.from_iterable(block))
    )


def _may_hold_bytes(packed: list[bytes], payload: bytes) -> list[int]:
    """Return which records may hold a bin value, by looking for the heads of one.

    The heads (C4, C5, C6 and a length) also occur inside numbers and text, so a
    record is named only where a value of that length could end inside it.
    """
    ends = list(accumulate(map(len, packed), initial=_ARRAY_HEAD.size))[1:]
    found = set()
    for head, width in _BIN_HEADS:
        if width == 4 and len(packed[-1]) < BLOCK_BYTES:
            break  # so long a value fills a block, and is in the last record
        at = payload.find(head)
        while at >= 0:
            index = bisect_right(ends, at)
            start = at + 1 + width
            if start + int.from_bytes(payload[at + 1 : start]) <= ends[index]:
                found.add(index)
                at = ends[index] - 1
            at = payload.find(head, at + 1)
    return sorted(found)


def _holds_buffer(records: list[Any]) -> bool:
    """Say whether a bytearray or memoryview is in *records*, level by level.

    The packer takes both for bytes and asks nobody, so they must be looked for.
    """
    level = records
    while level:
        kinds = set(map(type, level))
        if not kinds.isdisjoint(_BUFFERS):
            return True
        if not kinds <= _WALKED:
            level = [x for x in level if type(x) in _CONTAINERS]
        level = get_referents(*level)
    return False


def _repack(
    packer: _Packer, record: Any, where: str, position: int, buffers: bool = False
) -> bytes:
    try:
        if buffers:
            record = packer.with_buffers(record)
        try:
            data: bytes = packer.strict(record)
        except UnicodeEncodeError:
            data = packer.with_surrogates(record)
        return data
    except Refused as error:
        reason, advice = f"holds {error}", "change the records"
    except Unstorable as error:
        reason = f"holds {error}"
        advice = (
            "change the records, or allow pickle (set_allow_pickle(True), or "
            "Checkpointer(..., allow_pickle=True)) if you trust whoever can write to "
            "the root"
        )
    except _NOT_PACKED as error:
        reason = f"(of type {type(record).__qualname__}) cannot be packed: {error}"
        advice = "change the records"
    raise EncodeError(f"record {position} of {where} {reason}; {advice}")


def decode_block(block: Block, allow_pickle: bool, where: str) -> Any:
    """Return the records of a block that is what was written.

    Raises
    ------
    PickleNotAllowedError
        It holds a pickle and *allow_pickle* is false.
    UnsupportedFormatError
        It holds a value that this installation cannot make.
    CorruptCheckpointError
        It does not decode to the number of records that it states.
    """
    flags, count, payload = block
    if flags & PICKLE and not allow_pickle:
        raise pickle_refusal(where)
    options: dict[str, Any] = {
        "strict_map_key": False,
        "use_list": not flags & TUPLES,
    }
    if flags & HOOKS:
        options |= {"ext_hook": lifting(allow_pickle), "list_hook": rebuild}
    if flags & SURROGATES:
        options["unicode_errors"] = "surrogatepass"
    try:
        try:
            records = msgpack.unpackb(payload, **options)
        except msgpack.StackError:
            records = _unpack_deep(payload, options)
        if len(records) != count:
            raise CorruptCheckpointError("a block holds another number of records")
    except PickleNotAllowedError:
        raise pickle_refusal(where) from None
    except CheckpointError as error:
        raise type(error)(f"{where}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        if flags & PICKLE:
            raise UnsupportedFormatError(
                f"{where} holds a pickle that cannot be loaded here "
                f"({type(error).__name__}: {error}); load it where the module it "
                "comes from can be imported"
            ) from error
        raise CorruptCheckpointError(
            f"{where} holds a block that does not decode "
            f"({type(error).__name__}: {error}); give the bag to repair it, or clear it"
        ) from error
    return records


def pickle_refusal(where: str) -> PickleNotAllowedError:
    """Return the error for pickled values that the caller did not allow."""
    return PickleNotAllowedError(
        f"{where} holds pickled values, and unpickling can run any code; allow it "
        "(set_allow_pickle(True), or Checkpointer(..., allow_pickle=True)) if you "
        "trust whoever can write to the root"
    )


def _unpack_deep(payload: bytes, options: dict[str, Any]) -> Any:
    # msgpack's compiled packer nests a little deeper (1,024) than its unpacker;
    # its Python unpacker has no limit but the interpreter's.
    from msgpack.fallback import unpackb

    with deep_recursion():
        return unpackb(payload, **options)


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
