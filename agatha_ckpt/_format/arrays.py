"""numpy arrays and scalars <-> payloads, where numpy is installed.

A payload is the length of its head (four bytes), the head (msgpack: the dtype as
numpy's own file format describes it, the shape, and whether the elements are
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
ARRAY, SCALAR = NUMPY_CODES = (-60, -61)  # extension codes; part of the format
_LENGTH = struct.Struct("<I")
_MOST_KNOWN = 1024  # heads; many arrays have the same


class Unstorable(Exception):
    """A value that cannot be stored faithfully; the message says why."""


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
        return _head(dtype, list(value.shape)) + cast(bytes, value.tobytes())
    head = _plain_head(dtype, value.shape)
    try:
        # Of an array in C order join takes the memory as it is: one copy less.
        return b"".join((head, value))
    except TypeError:
        return head + cast(bytes, value.tobytes())


@lru_cache(maxsize=_MOST_KNOWN)
def _plain_head(dtype: Any, shape: tuple[int, ...]) -> bytes:
    return _head(dtype, list(shape))


def _head(dtype: Any, shape: list[int]) -> bytes:
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
    head = msgpack.packb([_plain(layout), shape, record])
    packed: bytes = _LENGTH.pack(len(head)) + head
    return packed


def decode_array(payload: bytes) -> Any:
    """Return the array of a payload, as `decode_numpy` does, and faster for most."""
    start = _LENGTH.unpack_from(payload)[0] + 4
    known = _known.get(payload[:start])
    if known is None or len(payload) == start:
        return decode_numpy(ARRAY, payload)
    make, dtype, shape = known
    return make(shape, dtype, payload, start).copy()


# How to make arrays by their heads, for dtypes that their kind and size describe.
_known: dict[bytes, tuple[Any, Any, tuple[int, ...]]] = {}


def decode_numpy(code: int, payload: bytes) -> Any:
    """Return the array or scalar of a payload.

    Raises
    ------
    UnsupportedFormatError
        numpy is not installed.
    """
    try:
        import numpy
    except ImportError:
        raise UnsupportedFormatError(
            "a record holds numpy values and numpy is not installed here; "
            "pip install numpy, then load again"
        ) from None
    (length,) = _LENGTH.unpack_from(payload)
    dtype, shape, count = _read_head(payload[4 : 4 + length])
    if code == SCALAR and shape:
        raise ValueError("a scalar that has a shape")
    if code == SCALAR and dtype.kind in "SU":
        # As an array's element it would lose NULs at its end; and an empty one says
        # that it is one NUL long.
        content = payload[4 + length : 4 + length + dtype.itemsize]
        if dtype.kind == "S":
            return numpy.bytes_(content)
        codec = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
        return numpy.str_(content.decode(codec, "surrogatepass"))
    if len(payload) == 4 + length:  # frombuffer wants at least one byte
        if dtype.itemsize and 0 not in shape:
            raise ValueError("an array without its elements")
        # zeros() would make an empty text one letter wide, and room for all of them.
        array = numpy.ndarray(shape, dtype, bytearray(1))
    else:
        flat = numpy.frombuffer(payload, dtype, count, 4 + length)
        array = flat.reshape(shape).copy()  # the payload's own memory is read-only
        if dtype.kind in _PLAIN_KINDS and code == ARRAY:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[payload[: 4 + length]] = numpy.ndarray, dtype, tuple(shape)
    return array[()] if code == SCALAR else array


@lru_cache(maxsize=_MOST_KNOWN)
def _read_head(head: bytes) -> tuple[Any, list[int], int]:
    """Return dtype, shape and number of elements."""
    import numpy

    layout, shape, record = msgpack.unpackb(head)
    dtype = numpy.lib.format.descr_to_dtype(_layout_from(layout))
    if record:
        dtype = numpy.dtype((numpy.record, dtype))
    return dtype, _shape_from(shape), math.prod(shape)


def _fault(dtype: Any) -> str | None:
    """Return what of *dtype* numpy's description of it does not say."""
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


def _plain(layout: Any) -> Any:
    """Tag the lists and tuples of a structured dtype, to tell them apart again."""
    if isinstance(layout, list):
        return ["list", *map(_plain, layout)]
    if isinstance(layout, tuple):
        return ["tuple", *map(_plain, layout)]
    return layout


def _layout_from(tagged: Any) -> Any:
    """Return the layout that `_plain` tagged, of what numpy writes and nothing else.

    For numpy a text is a language, with repetitions, objects and more, and some of its
    sentences end the process.
    """
    if isinstance(tagged, list):
        tag, *fields = tagged
        if tag == "list":
            return [_field_from(*field) for field in fields]
    elif isinstance(tagged, str) and _TYPE.fullmatch(tagged):
        return tagged
    raise ValueError("an array of an unknown dtype")


def _field_from(tag: str, name: Any, layout: Any, shape: Any = None) -> Any:
    if isinstance(name, list):
        name = tuple(name[1:])  # title and name
    if tag != "tuple":
        raise ValueError("a field that is none")
    field = (name, _layout_from(layout))
    return field if shape is None else (*field, tuple(_shape_from(shape[1:])))


def _shape_from(shape: Any) -> list[int]:
    if type(shape) is not list or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array of an impossible shape")
    return shape
