"""The npy format: one block of an array, as numpy's own files hold it.

A numpy scalar, which a block without dimensions can be, has version 2.0 of that format,
and an array has version 1.0 where its header fits.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from agatha_ckpt._errors import EncodeError, damaged
from agatha_ckpt._format.arrays import fault_of_dtype, is_same_dtype
from agatha_ckpt._format.base import Attempt, Codec, StoredFile
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import NPY, SUFFIXES
from agatha_ckpt._format.pieces import (
    PieceReader,
    PieceWriter,
    inspect_pieces,
    open_pieces,
)

if TYPE_CHECKING:  # numpy is imported when the first array is met
    import numpy as np

_CORNER = 10  # of each dimension but the first, in what `head` shows
_MAX_HEADER_BYTES = 1_000_000
_MAX_LAYOUT = 990_000  # characters of it; the rest is for the shape
_MAX_LAYOUT_1_0 = 65_000  # in version 1.0 of the format


class NpyCodec(Codec):
    """Partitions as numpy arrays; a record is a row, along the first dimension."""

    name = NPY
    suffix = SUFFIXES[NPY]

    def encode(self, records: Any, sink: BinaryIO, attempt: Attempt) -> PartitionInfo:
        """Write an array; see `Codec.encode`."""
        started = perf_counter()
        if fault := fault_of(records):
            raise EncodeError(f"{attempt.where} cannot be stored: {fault}")
        taken = PieceWriter(sink)
        _write(records, taken)
        digest, checksums = taken.result()
        return self.entry(
            attempt,
            digest,
            perf_counter() - started,
            records=_length(records.shape),
            bytes=taken.bytes,
            checksums=checksums,
        )

    def decode(
        self, file: StoredFile, info: PartitionInfo, allow_pickle: bool, piece: int = 0
    ) -> Iterator[list[Any]]:
        """Yield the rows in one list; with a *piece*, a corner of each as a list."""
        import numpy as np

        value = read_array(file, info)
        if value.shape == ():  # of a scalar of text, [()] would be a letter
            yield [value if isinstance(value, np.generic) else value[()]]
        elif piece:
            corner = value[(slice(None), *[slice(_CORNER)] * (value.ndim - 1))]
            yield list(corner) if value.dtype.kind in "mMV" else corner.tolist()
        else:
            yield list(value)

    def verify(self, file: StoredFile, info: PartitionInfo, allow_pickle: bool) -> None:
        """Check all bytes, and the header where numpy is installed."""
        with open_pieces(file, info) as pieces:
            pieces.check_all()
        with suppress(ModuleNotFoundError):
            read_array(file, info)

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Return the manifest's entry for a file that matches the digest in its name.

        Neither time nor code is in the file.
        """
        with file.open() as source:
            try:
                _, shape, _, _, _ = _read_header(source)
            except ValueError as error:
                raise damaged(file.where, f"it is not a npy file ({error})") from None
        return inspect_pieces(file, _length(shape))


def fault_of(value: Any) -> str:
    """Return why a block cannot be stored, and what to do; empty where it can be."""
    import numpy as np

    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, np.ma.MaskedArray):
        return (
            "it is a masked array; store dask.array.ma.getdata(x) and "
            "dask.array.ma.getmaskarray(x) as two checkpoints"
        )
    if isinstance(value, np.generic):
        held = np.asarray(value)
        if held[()].dtype != value.dtype:
            return "it is a text that ends in NUL, which numpy leaves out; store a bag"
        value = held
    elif kind not in (np.ndarray, np.memmap):
        return (
            f"it is a {name}, not a numpy.ndarray; map_blocks(numpy.asarray), or the "
            "method of its library that makes one (get, todense, toarray), converts it"
        )
    elif not value.shape:  # in version 2.0 it would be a scalar
        return dtype_fault_of(value.dtype, _MAX_LAYOUT_1_0)
    return dtype_fault_of(value.dtype)


def dtype_fault_of(dtype: np.dtype[Any], room: int = _MAX_LAYOUT) -> str:
    """Return why values of a dtype cannot be stored; empty where they can be."""
    from numpy.lib import format as npy

    if dtype.hasobject:
        return (
            f"its dtype is {dtype}, which holds Python objects; convert it with "
            "astype, or make a bag of it"
        )
    lost = not dtype.itemsize or bool(fault_of_dtype(dtype))
    if not lost:
        try:
            layout = npy.dtype_to_descr(dtype)
            lost = not is_same_dtype(dtype, npy.descr_to_dtype(layout))
            # Versions 1.0 and 2.0 have names of fields in Latin-1.
            lost = lost or len(repr(layout).encode("latin-1")) > room
        except (TypeError, ValueError):
            lost = True
    if lost:
        # That of long long has the text of int64.
        name = dtype.type.__name__ if dtype.char in "qQ" else f"{dtype!s:.200}"
        return f"a npy file does not keep its dtype {name}; convert it with astype"
    return ""


def _length(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 1


def _write(value: Any, sink: PieceWriter) -> None:
    import numpy as np
    from numpy.lib import format as npy

    block = np.asarray(value)
    if not (block.flags.c_contiguous or block.flags.f_contiguous):
        block = np.ascontiguousarray(block)
    head = io.BytesIO()
    description = npy.header_data_from_array_1_0(block)
    try:
        if isinstance(value, np.generic):
            raise ValueError("version 1.0 is for arrays")
        npy.write_array_header_1_0(head, description)
    except ValueError:  # also a dtype with a description too long for it
        npy.write_array_header_2_0(head, description)
    sink.reserve(len(head.getbuffer()) + block.nbytes)
    sink.write(head.getbuffer())
    if block.size:
        flat = block if block.flags.c_contiguous else block.T
        sink.write(flat.reshape(-1).view(np.uint8))


def _read_header(source: Any) -> tuple[Any, tuple[int, ...], bool, int, bool]:
    """Return dtype, shape, order, where the data begins, and whether it is a scalar.

    Raises
    ------
    ValueError
        It is not a npy file.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(source)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(source, max_header_size=_MAX_HEADER_BYTES)
    is_scalar = version == (2, 0) and shape == ()
    return dtype, shape, fortran, source.tell(), is_scalar


def read_array(file: StoredFile, info: PartitionInfo) -> Any:
    """Return the array of a stored file, after its checksums.

    On local disk the file is mapped into memory; what is changed in the array does not
    reach the file.

    Raises
    ------
    CorruptCheckpointError
        The file is not what was saved.
    """
    with open_pieces(file, info) as pieces:
        try:
            return _array_in(pieces)
        except ValueError as error:
            raise damaged(file.where, f"it is not a npy file ({error})") from None


def _array_in(pieces: PieceReader) -> Any:
    import numpy as np

    data = pieces.all()
    dtype, shape, fortran, start, is_scalar = _read_header(pieces)
    order: Literal["C", "F"] = "F" if fortran else "C"
    count = math.prod(shape)
    if not count:
        return np.empty(shape, dtype, order)
    array = np.frombuffer(data, dtype, count, start).reshape(shape, order=order)
    return array[()] if is_scalar else array
