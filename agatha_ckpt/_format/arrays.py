"""numpy arrays and scalars <-> payloads, where numpy is installed.

A payload is the length of its head (four bytes), the head (msgpack: the dtype as in
the header of a ``.npy`` file, the shape, and whether the elements are
``numpy.record``), and the elements in C order.
"""

import math
import re
import struct
import sys
from functools import lru_cache
from typing import Any, cast

import msgpack

from agatha_ckpt._errors import UnsupportedFormatError

_PLAIN_KINDS = frozenset("biufc")  # of dtypes that their kind and size describe
# A dtype without fields as numpy writes it: order, kind, size, unit of time.
_TYPE = re.compile(
    r"[<>|]([biufc][0-9]{1,2}|[SUV][0-9]{1,10}"
    r"|[mM]8(\[([1-9][0-9]{0,8})?([YMWDhms]|[munpfa]s)\])?)"
)
ARRAY, SCALAR = -60, -61  # extension codes; part of the format
_LENGTH = struct.Struct("<I")
_MAX_HEADS = 1024  # to remember; many arrays have the same


class Unstorable(Exception):
    """A value that cannot be stored faithfully; the message is the reason."""


class Refused(Unstorable):
    """A value that could not be stored faithfully even as a pickle."""


def encode_numpy(value: Any) -> tuple[int, bytes] | None:
    """Return the extension code and payload of *value*; None where it has none.

    Raises
    ------
    Unstorable
        Its dtype holds Python objects or metadata.
    """
    numpy = sys.modules["numpy"]  # an import statement takes longer
    if type(value) is numpy.ndarray:
        return ARRAY, encode_array(value)
    if isinstance(value, numpy.generic):
        return SCALAR, encode_array(value)
    return None


def encode_array(value: Any) -> bytes:
    """Return the payload of a numpy.ndarray, or of a scalar.

    Raises
    ------
    Unstorable
        Its dtype holds Python objects or metadata.
    """
    dtype = value.dtype
    # Equal dtypes may differ in metadata; of the plain ones in nothing else.
    if dtype.kind not in _PLAIN_KINDS or dtype.metadata is not None:
        return _head(dtype, value.shape) + cast(bytes, value.tobytes())
    head = _plain_head(dtype, value.shape)
    try:
        # Of an array in C order join takes the memory as it is: one copy less.
        return b"".join((head, value))
    except TypeError:
        return head + cast(bytes, value.tobytes())


@lru_cache(maxsize=_MAX_HEADS)
def _plain_head(dtype: Any, shape: tuple[int, ...]) -> bytes:
    return _head(dtype, shape)


def _head(dtype: Any, shape: tuple[int, ...]) -> bytes:
    import numpy

    record = False
    if dtype.type is numpy.record:
        dtype, record = numpy.dtype((numpy.void, dtype)), True
    if fault := _fault(dtype):
        raise Unstorable(f"a numpy value of dtype {dtype} ({fault})")
    try:
        layout = numpy.lib.format.dtype_to_descr(dtype)
    except ValueError as error:
        raise Unstorable(f"a numpy value of dtype {dtype} ({error})") from None
    head = msgpack.packb([layout, shape, record])
    packed: bytes = _LENGTH.pack(len(head)) + head
    return packed


def decode_array(payload: bytes) -> Any:
    """Return the array of a payload.

    Raises
    ------
    UnsupportedFormatError
        numpy is not installed.
    """
    start = _LENGTH.unpack_from(payload)[0] + 4
    head = payload[4:start]
    make, dtype, shape, size = _heads.get(head) or _read_head(head)
    if len(payload) - start != size:
        raise ValueError("an array of another size than its dtype and shape give")
    if dtype.names:  # which can be changed in place, through any array of this dtype
        dtype = dtype.newbyteorder("|")
    if size:  # a copy, as the payload's own memory is read-only
        return make(shape, dtype, payload, start).copy()
    # zeros() would make an empty text one letter wide, and room for all of them.
    return make(shape, dtype, bytearray(1))


def decode_scalar(payload: bytes) -> Any:
    """Return the numpy scalar of a payload; see `decode_array`."""
    start = _LENGTH.unpack_from(payload)[0] + 4
    head = payload[4:start]
    _, dtype, shape, _ = _heads.get(head) or _read_head(head)
    if shape:
        raise ValueError("a scalar that has a shape")
    if dtype.kind not in "SU":
        return decode_array(payload)[()]
    # As an array's element it would lose NULs at its end, and an empty one would be
    # one NUL long.
    content = payload[start : start + dtype.itemsize]
    if dtype.kind == "S":
        return dtype.type(content)
    codec = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
    return dtype.type(content.decode(codec, "surrogatepass"))


# What the head of a payload determines: class, dtype, shape, size of the elements.
# An lru_cache takes a tenth of the time that an array of 64 floats takes.
_heads: dict[bytes, tuple[Any, Any, tuple[int, ...], int]] = {}


def _read_head(head: bytes) -> tuple[Any, Any, tuple[int, ...], int]:
    try:
        import numpy
    except ImportError:
        raise UnsupportedFormatError(
            "a record holds numpy values and numpy is not installed here; "
            "pip install numpy, then load again"
        ) from None
    layout, sides, record = msgpack.unpackb(head)
    dtype = numpy.lib.format.descr_to_dtype(_layout_from(layout))
    if record:
        dtype = numpy.dtype((numpy.record, dtype))
    shape = _shape_from(sides)
    size = dtype.itemsize * math.prod(shape)
    if len(_heads) >= _MAX_HEADS:
        _heads.clear()
    _heads[head] = known = numpy.ndarray, dtype, shape, size
    return known


def _fault(dtype: Any) -> str | None:
    """Return what numpy's description of *dtype* loses; None for nothing."""
    import numpy

    if dtype.hasobject or dtype.kind == "T":
        return "it holds Python objects"
    if dtype.metadata:
        return "it has metadata"
    if dtype.subdtype:
        return _fault(dtype.subdtype[0])
    if dtype.names is None:
        return None
    if dtype.type is not numpy.void:
        return "it has records in records"
    faults = [_fault(dtype.fields[name][0]) for name in dtype.names]
    return next(filter(None, faults), None)


def _layout_from(layout: Any) -> Any:
    """Return a layout if numpy writes such ones, with tuples where it has them.

    numpy would take more: repetitions, objects, and texts that end the process.
    """
    if isinstance(layout, list):
        return [_field_from(*field) for field in layout]
    if isinstance(layout, str) and _TYPE.fullmatch(layout):
        return layout
    raise ValueError("an array of an unknown dtype")


def _field_from(name: Any, layout: Any, *shape: Any) -> tuple[Any, ...]:
    name = tuple(name) if isinstance(name, list) else name  # title and name
    return (name, _layout_from(layout), *map(_shape_from, shape))


def _shape_from(shape: Any) -> tuple[int, ...]:
    if type(shape) is not list or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array of an impossible shape")
    return tuple(shape)
