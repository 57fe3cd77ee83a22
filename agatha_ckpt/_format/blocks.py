"""Records <-> blocks: the unit of encoding inside a partition file.

A block holds about 64 KiB of records. Loaded in blocks of that size, records die
young, stay in the processor's cache, and give the garbage collector nothing to walk.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby, islice
from struct import Struct
from sys import getsizeof
from typing import Any, NamedTuple

import msgpack

from agatha_ckpt._errors import (
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
    damaged,
    pickle_refusal,
)
from agatha_ckpt._format.main_classes import PickleReader
from agatha_ckpt._format.packing import (
    BIN_8,
    BIN_16,
    BIN_32,
    NOT_PACKED,
    SCALARS,
    Packer,
    deep_recursion,
    holds_buffer,
    may_hold_buffer,
)
from agatha_ckpt._format.types import make_hooks

BLOCK_BYTES = 64 * 1024
MAX_RECORDS = 1 << 20  # part of the format; no writer comes near, but a bomb does

# What decoding a block takes; part of the format.
HOOKS, PICKLE, TUPLES, SURROGATES = 1, 2, 4, 8
_ALL_FLAGS = HOOKS | PICKLE | TUPLES | SURROGATES
# A block without records that defines classes; the digest of a file does not cover it.
CLASSES = 16 | PICKLE

_ARRAY_HEAD = Struct(">BI")  # msgpack's array 32
_BATCH = 16  # plain records that are pulled before they are packed by one call
_SMALL_BATCH_BYTES = BLOCK_BYTES // 4
_SMALL_BYTES = _SMALL_BATCH_BYTES // _BATCH


class Block(NamedTuple):
    """Some records, encoded: a msgpack array, before compression."""

    flags: int
    records: int
    payload: bytes


def encode_blocks(
    records: Iterable[Any], allow_pickle: bool, where: str
) -> Iterator[Block]:
    """Yield *records* as blocks; holds no more than one block's worth of them.

    Which records make a block, and its bytes, depend on nothing but the records. A
    record may change once the next one is pulled: an iterator may fill one list again
    and again. So it is packed before that, except plain records, which cannot change:
    scalars, and tuples of scalars. Of those a few are packed by one call.

    What *records* raises passes through unchanged; *where* is for messages.

    Raises
    ------
    EncodeError
        A record holds a value that cannot be stored faithfully.
    """
    packer = Packer(allow_pickle, where)
    for block in _blocks(records, _BlockBuilder(packer)):
        if block.flags & PICKLE and (new := packer.pickles.new_definitions()):
            yield Block(CLASSES, 0, new)
        yield block


def _blocks(records: Iterable[Any], builder: "_BlockBuilder") -> Iterator[Block]:
    for kind, group in groupby(records, type):
        if kind in SCALARS:
            yield from builder.add_plain(_scalar_batches(builder, group))
        elif kind is tuple:
            yield from _add_tuples(builder, group)
        else:
            yield from builder.end_unmarked()
            while block := builder.fill(group):
                yield block
    if builder.records:
        yield builder.finish()


def _add_tuples(builder: "_BlockBuilder", records: Iterator[Any]) -> Iterator[Block]:
    if builder.marked and (block := builder.fill(records)):
        yield block
    more = True
    while more:
        other: list[Any] = []
        batches = _tuple_batches(builder, records, other)
        yield from builder.add_plain(batches, tuples=True)
        if more := bool(other):
            yield from builder.end_unmarked()
            if block := builder.fill(chain(other, records)):
                yield block


def _scalar_batches(
    builder: "_BlockBuilder", scalars: Iterator[Any]
) -> Iterator[list[Any]]:
    while batch := list(islice(scalars, builder.batch)):
        # Of small ones four times as many, but at most `_BATCH` large ones.
        for full in (_BATCH, 2 * _BATCH, 3 * _BATCH):
            if len(batch) < full or getsizeof(batch[-1]) > _SMALL_BYTES:
                break
            batch += islice(scalars, _BATCH)
        yield batch


def _tuple_batches(
    builder: "_BlockBuilder", tuples: Iterator[Any], other: list[Any]
) -> Iterator[list[Any]]:
    """Yield tuples of scalars, until *other* gets one that is not."""
    batch: list[Any] = []
    scalars = SCALARS
    for record in tuples:
        for value in record:
            if type(value) not in scalars:
                other.append(record)
                break
        else:
            batch.append(record)
            if len(batch) < builder.batch:
                continue
        if batch:
            yield batch
        if other:
            return
        batch = []
    if batch:
        yield batch


class _BlockBuilder:
    """The block that is being filled."""

    def __init__(self, packer: Packer) -> None:
        self.batch = _BATCH  # plain records to add by one call
        self._packer = packer
        self._position = 0  # of its first record in the partition
        self._begin()

    def _begin(self) -> None:
        self._packer.forget()
        # Whether tuples in it are marked; None as long as it holds none.
        self.marked: bool | None = None
        self.records = self._size = 0
        self._packed: list[bytes] = []

    def add_plain(
        self, batches: Iterator[list[Any]], tuples: bool = False
    ) -> Iterator[Block]:
        """Add scalars, or tuples of scalars; yield the blocks that they complete."""
        for batch in batches:
            try:
                data = b"" if tuples and self.marked else self._packer.plain(batch)
            except NOT_PACKED:
                data = b""
            if len(batch) == 1 or not 0 < len(data) <= _SMALL_BATCH_BYTES:
                yield from self._add_each(batch, tuples)
                continue
            head = 1 if len(batch) < 16 else 3  # bytes before the first record
            if block := self._append(data[head:], len(batch), tuples):
                yield block

    def _add_each(self, batch: list[Any], tuples: bool) -> Iterator[Block]:
        for record in batch:
            try:
                data = None if tuples and self.marked else self._packer.plain(record)
            except NOT_PACKED:  # such as a lone surrogate
                data = None
            if data is None:
                yield from self.end_unmarked()
                block = self.fill(iter((record,)))
            else:
                block = self._append(data, 1, tuples)
            if block:
                yield block

    def _append(self, data: bytes, records: int, tuples: bool) -> Block | None:
        self._packed.append(data)
        self._size += len(data)
        self.records += records
        if tuples:
            self.marked = False
        return self.finish() if self._size >= BLOCK_BYTES else None

    def end_unmarked(self) -> Iterator[Block]:
        """Yield the block if it holds tuples without markers."""
        if self.marked is False:
            yield self.finish()

    def fill(self, records: Iterator[Any]) -> Block | None:
        """Add any records until the block is full; None where they end before."""
        packer, strict = self._packer, self._packer.strict
        packed, size, position = self._packed, self._size, self._position + self.records
        for record in records:
            self.marked = True
            try:
                data = strict(record)
            except NOT_PACKED:
                data = packer.pack_carefully(record, position)
            # Tested here as well: a call for each record would take longer.
            may_hold = BIN_8 in data or BIN_16 in data or BIN_32 in data
            if may_hold and may_hold_buffer(data) and holds_buffer(record):
                data = packer.pack_carefully(record, position, mark=True)
            packed.append(data)
            size += len(data)
            position += 1
            if size >= BLOCK_BYTES:
                break
        self._size, self.records = size, position - self._position
        return self.finish() if size >= BLOCK_BYTES else None

    def finish(self) -> Block:
        """Return the block, and begin the next one."""
        used = self._packer.used
        flags = TUPLES * (self.marked is False) | HOOKS * ("hooks" in used)
        flags |= PICKLE * ("pickle" in used) | SURROGATES * ("surrogates" in used)
        head = _ARRAY_HEAD.pack(0xDD, self.records)
        block = Block(flags, self.records, b"".join([head, *self._packed]))
        self._position += self.records
        # Of large records a batch would not fit into a block.
        self.batch = _BATCH if self.records >= 4 * _BATCH else 1
        self._begin()
        return block


# ---- reading ----


def decode_block(
    block: Block, allow_pickle: bool, where: str, pickles: PickleReader | None = None
) -> Any:
    """Return the records of a block.

    *pickles* has the classes that the file defined before; *where* is for messages.

    Raises
    ------
    PickleNotAllowedError
        It holds a pickle and *allow_pickle* is false.
    UnsupportedFormatError
        It holds a value that this installation cannot make.
    CorruptCheckpointError
        It does not decode, or to another number of records.
    """
    flags, count, payload = block
    if flags > _ALL_FLAGS:
        raise UnsupportedFormatError(
            f"{where} holds a block of a form that this version of agatha_ckpt does "
            "not support; upgrade agatha_ckpt"
        )
    if flags & PICKLE and not allow_pickle:
        raise pickle_refusal(where)
    pickles = pickles or PickleReader()
    loads = pickles.loads if allow_pickle else None
    try:
        try:
            records = _unpack(msgpack.unpackb, payload, flags, loads)
        except msgpack.StackError:
            # msgpack's compiled packer nests a little deeper (1,024) than its unpacker;
            # its Python unpacker has no limit but the interpreter's.
            from msgpack.fallback import unpackb

            with deep_recursion():
                records = _unpack(unpackb, payload, flags, loads)
        if type(records) is not (tuple if flags & TUPLES else list):
            raise CorruptCheckpointError("a block is not an array of records")
        if len(records) != count:
            raise CorruptCheckpointError("a block holds another number of records")
    except PickleNotAllowedError:
        raise pickle_refusal(where) from None
    except CorruptCheckpointError as error:
        raise damaged(where, error) from error
    except UnsupportedFormatError as error:
        raise UnsupportedFormatError(f"{where}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if flags & PICKLE:
            raise UnsupportedFormatError(
                f"{where} holds a pickle that cannot be loaded here ({reason}); load "
                "it where the module it comes from can be imported"
            ) from error
        raise damaged(where, f"a block does not decode ({reason})") from error
    return records


def _unpack(
    unpackb: Callable[..., Any],
    payload: bytes,
    flags: int,
    loads: Callable[[bytes], Any] | None,
) -> Any:
    options: dict[str, Any] = {
        "strict_map_key": False,
        "use_list": not flags & TUPLES,
    }
    if flags & SURROGATES:
        options["unicode_errors"] = "surrogatepass"
    if not flags & HOOKS:
        return unpackb(payload, **options)
    ext_hook, list_hook, unused = make_hooks(loads)
    records = unpackb(payload, ext_hook=ext_hook, list_hook=list_hook, **options)
    if unused():
        raise CorruptCheckpointError(
            "a block holds a marker outside the head of an array"
        )
    return records
