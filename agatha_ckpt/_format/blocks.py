"""Records <-> blocks: the unit of encoding inside a partition file.

A block holds about 64 KiB of records. Loaded in blocks of that size, records die
young, stay in the processor's cache, and give the garbage collector nothing to walk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from gc import get_referents
from itertools import chain, groupby, islice
from math import sqrt
from struct import Struct
from typing import Any, NamedTuple

import msgpack

from agatha_ckpt._errors import (
    CheckpointError,
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.base import pickle_refusal as pickle_refusal
from agatha_ckpt._format.buffers import find_bin_candidates, holds_buffer
from agatha_ckpt._format.packing import NOT_PACKED, Packer, deep_recursion
from agatha_ckpt._format.types import make_hooks

BLOCK_BYTES = 64 * 1024
MAX_RECORDS = 1 << 20  # part of the format; no writer comes near, but a bomb does

# What decoding a block takes; part of the format.
HOOKS, PICKLE, TUPLES, SURROGATES = 1, 2, 4, 8
_ALL_FLAGS = HOOKS | PICKLE | TUPLES | SURROGATES

_ARRAY_HEAD = Struct(">BI")  # msgpack's array 32
_SCALARS = frozenset({str, int, float, bool, type(None), bytes})


class Block(NamedTuple):
    """Some records, encoded: a msgpack array, before compression."""

    flags: int
    records: int
    payload: bytes


def encode_blocks(
    records: Iterable[Any], allow_pickle: bool, where: str
) -> Iterator[Block]:
    """Yield *records* as blocks; holds no more than one block's worth of them.

    Which records make a block, and its bytes, depend on nothing but the records.

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
    packer = Packer(allow_pickle)
    source = iter(records)
    ahead: Iterator[Any] = iter(())  # what was pulled and is in no block yet
    position, kind, size_of_one = 0, None, 0.0
    while True:
        block = None
        packer.begin_block()
        if kind is not None:
            # Plain records need not be packed as they come, as nothing can change
            # them; for small ones a call takes longer than the packing.
            coming = chain(ahead, source)
            block, rest = _pack_many(packer, coming, kind, size_of_one)
            ahead = iter([*rest, *ahead])
        if block is None:
            coming = chain(ahead, source)
            block, kind = _pack_each(packer, coming, where, position)
        if not block.records:
            return
        yield block
        if len(block.payload) < BLOCK_BYTES:  # there are no more
            return
        position += block.records
        size_of_one = len(block.payload) / block.records


# ---- record by record ----


def _pack_each(
    packer: Packer, source: Iterator[Any], where: str, position: int
) -> tuple[Block, type | None]:
    """Return the next block, and the type that all its records have if it is plain.

    Each record is packed as it comes: what yields it may change it afterwards.
    """
    block: list[Any] = []
    packed: list[bytes] = []
    size = 0
    first = list(islice(source, 1))
    # Such a tuple gives hope that the whole block holds no others.
    hope = bool(first) and type(first[0]) is tuple and _are_scalars(first[0])
    pack = packer.loose if hope else packer.strict
    for record in chain(first, source):
        try:
            data = pack(record)
        except NOT_PACKED:
            pack = packer.strict
            data = packer.pack_carefully(record, where, position + len(block))
        block.append(record)
        packed.append(data)
        size += len(data)
        if size >= BLOCK_BYTES:
            break
    flat = hope and pack is packer.loose and _are_flat(block)
    if hope and not flat:
        packed = [
            packer.pack_carefully(record, where, position + i)
            for i, record in enumerate(block)
        ]
    payload = b"".join([_ARRAY_HEAD.pack(0xDD, len(block)), *packed])
    if flat:
        return Block(TUPLES, len(block), payload), tuple
    suspects = find_bin_candidates(packed, payload, _ARRAY_HEAD.size)
    if suspects and holds_buffer([block[i] for i in suspects]):
        for i in suspects:
            if holds_buffer([block[i]]):
                packed[i] = packer.pack_carefully(
                    block[i], where, position + i, buffers=True
                )
        payload = b"".join([payload[: _ARRAY_HEAD.size], *packed])
    used = packer.used
    flags = HOOKS * ("hooks" in used) | PICKLE * ("pickle" in used)
    flags |= SURROGATES * ("surrogates" in used)
    kinds = set(map(type, block))
    plain = kinds.pop() if len(kinds) == 1 and kinds <= _SCALARS else None
    return Block(flags, len(block), payload), plain


def _are_flat(records: Sequence[Any]) -> bool:
    """Say whether all *records* are tuples of scalars (so no list is among them)."""
    return set(map(type, records)) == {tuple} and _are_scalars(get_referents(*records))


def _are_scalars(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= _SCALARS


# ---- many records by one call ----


def _pack_many(
    packer: Packer, source: Iterator[Any], kind: type, size_of_one: float
) -> tuple[Block | None, list[Any]]:
    """Return the block that `_pack_each` would return, where its records are plain.

    Parameters
    ----------
    packer : Packer
    source : iterator
    kind : type
        That of the records so far.
    size_of_one : float
        Bytes that one of them took.

    Returns
    -------
    Block or None
        None where it takes `_pack_each`.
    list
        Records that were pulled and are not in the block.
    """
    # Nothing is pulled beyond a record of another type, which is to be packed as it
    # comes.
    groups = groupby(source, type)
    of, group = next(groups, (kind, iter(())))
    if of is not kind:
        return None, [next(group)]
    block: list[Any] = []
    packed: list[Any] = []
    again: list[Any] = []
    size, most = 0, MAX_RECORDS
    while size < BLOCK_BYTES:
        # Rather a few less than the block takes, so as to pack few of them twice.
        expected = (BLOCK_BYTES - size) / size_of_one
        count = min(max(int(expected - sqrt(expected)), 1), most)
        if again:
            batch, again = again[:count], again[count:]
        else:
            batch = list(islice(group, count))
            if len(batch) < count:
                others = [next(other) for _, other in islice(groups, 1)]
                if others:
                    return None, [*block, *batch, *others]
        if not batch:
            break
        data = _pack_batch(packer, kind, batch)
        if data is None:
            return None, [*block, *batch, *again]
        if len(batch) > 1 and size + len(data) >= BLOCK_BYTES:
            # The block ends with one of these.
            again, most = batch + again, len(batch) // 2
            continue
        block += batch
        packed.append(data)
        size += len(data)
    payload = b"".join([_ARRAY_HEAD.pack(0xDD, len(block)), *packed])
    flags = TUPLES if kind is tuple else 0
    return Block(flags, len(block), payload), again


def _pack_batch(packer: Packer, kind: type, batch: list[Any]) -> memoryview | None:
    """Return records, packed without a head; None where they are not plain."""
    pack = packer.strict
    if kind is tuple:
        pack = packer.loose
        if not _are_scalars(get_referents(*batch)):
            return None
    try:
        data = pack(batch)
    except NOT_PACKED:
        return None
    head = 1 if len(batch) < 16 else 3  # bytes that msgpack takes for it
    return None if packer.used else memoryview(data)[head:]


# ---- reading ----


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
    if flags > _ALL_FLAGS:
        raise UnsupportedFormatError(
            f"{where} holds a block of a form that this version of agatha_ckpt does "
            "not know; upgrade agatha_ckpt"
        )
    if flags & PICKLE and not allow_pickle:
        raise pickle_refusal(where)
    try:
        try:
            records = _unpack(msgpack.unpackb, payload, flags, allow_pickle)
        except msgpack.StackError:
            records = _unpack_deep(payload, flags, allow_pickle)
        if type(records) is not (tuple if flags & TUPLES else list):
            raise CorruptCheckpointError("a block is no array of records")
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


def _unpack(
    unpackb: Callable[..., Any], payload: bytes, flags: int, allow_pickle: bool
) -> Any:
    options: dict[str, Any] = {
        "strict_map_key": False,
        "use_list": not flags & TUPLES,
    }
    if flags & SURROGATES:
        options["unicode_errors"] = "surrogatepass"
    if not flags & HOOKS:
        return unpackb(payload, **options)
    ext_hook, rebuild, left_over = make_hooks(allow_pickle)
    records = unpackb(payload, ext_hook=ext_hook, list_hook=rebuild, **options)
    if left_over():
        raise CorruptCheckpointError("a block holds a marker at the head of no array")
    return records


def _unpack_deep(payload: bytes, flags: int, allow_pickle: bool) -> Any:
    # msgpack's compiled packer nests a little deeper (1,024) than its unpacker;
    # its Python unpacker has no limit but the interpreter's.
    from msgpack.fallback import unpackb

    with deep_recursion():
        return _unpack(unpackb, payload, flags, allow_pickle)
