"""Packing records, one or some at a time, and saying which one cannot be packed."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack

from agatha_ckpt._errors import EncodeError
from agatha_ckpt._format.arrays import Refused, Unstorable
from agatha_ckpt._format.buffers import mark_bytearrays
from agatha_ckpt._format.types import make_default

NOT_PACKED = (
    BufferError,
    OverflowError,
    RecursionError,
    TypeError,
    Unstorable,
    ValueError,
)
# To begin with: the megabyte that is msgpack's own takes longer to get than a small
# partition to pack.
_BUFFER_BYTES = 16 * 1024
_recursion_lock = threading.Lock()


class Packer:
    """Packs records and notes in `used` what decoding them will take."""

    def __init__(self, allow_pickle: bool) -> None:
        self.used: set[str] = set()
        self._members: dict[int, bytes] = {}
        self._lower = make_default(self._pack_member, allow_pickle, self.used)
        self.strict = self._make().pack
        # Of a tuple subclass, an IntEnum and the like this one makes the plain
        # value: only for tuples of scalars.
        self.loose = msgpack.Packer(strict_types=False, buf_size=_BUFFER_BYTES).pack

    def _make(self, buf_size: int = _BUFFER_BYTES, **options: Any) -> msgpack.Packer:
        return msgpack.Packer(
            strict_types=True, default=self._lower, buf_size=buf_size, **options
        )

    def begin_block(self) -> None:
        """Forget what was noted of the records of another block."""
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

    def _with_surrogates(self, value: Any) -> bytes:
        packed = self._pack_alone(value)
        self.used.add("surrogates")
        return packed

    def _with_buffers(self, value: Any) -> Any:
        """Return a copy of *value* that says where its bytearrays are."""
        self._members.clear()  # the copy's members are new
        with deep_recursion():
            return mark_bytearrays(value)

    def pack_carefully(
        self, record: Any, where: str, position: int, buffers: bool = False
    ) -> bytes:
        """Pack a record that may need more than `strict` does, or say why it cannot be.

        Parameters
        ----------
        record
        where : str
            What is being encoded, for messages.
        position : int
            Number of the record in it.
        buffers : bool
            Whether it holds a bytearray or memoryview.

        Raises
        ------
        EncodeError
            It holds a value that cannot be stored faithfully.
        """
        kind = type(record).__qualname__
        try:
            if buffers:
                record = self._with_buffers(record)
            try:
                data: bytes = self.strict(record)
            except UnicodeEncodeError:
                data = self._with_surrogates(record)
            return data
        except Refused as error:
            reason, advice = f"holds {error}", "change the records"
        except Unstorable as error:
            reason = f"holds {error}"
            advice = (
                "change the records, or allow pickle (set_allow_pickle(True), or "
                "Checkpointer(..., allow_pickle=True)) if you trust whoever can write "
                "to the root"
            )
        except NOT_PACKED as error:
            reason = f"(of type {kind}) cannot be packed: {error}"
            advice = "change the records"
        raise EncodeError(f"record {position} of {where} {reason}; {advice}")


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
