"""numpy arrays and scalars <-> payloads, where numpy is installed.

A payload is the length of its head (four bytes), the head (msgpack: the dtype as
numpy's own file format describes it, and the shape), and the elements in C order.
"""

import math
import struct
from typing import Any

import msgpack

from agatha_ckpt._errors import UnsupportedFormatError

_ARRAY, _SCALAR = NUMPY_CODES = (-60, -61)  # extension codes; part of the format


class Unstorable(Exception):
    """A value that cannot be stored faithfully; the message says why."""


def encode_numpy(value: Any) -> tuple[int, bytes] | None:
    """Return the extension code and payload of *value*; None where it has none.

    Raises
    ------
    Unstorable
        Its dtype holds Python objects or metadata.
    """
    import numpy

    if type(value) is numpy.ndarray:
        code, shape = _ARRAY, list(value.shape)
    elif isinstance(value, numpy.generic):
        code, shape = _SCALAR, []
    else:
        return None
    dtype = value.dtype
    if dtype.hasobject or dtype.kind == "T":
        raise Unstorable(f"a numpy array of dtype {dtype}")
    if dtype.metadata:
        raise Unstorable("a numpy dtype with metadata")
    layout = numpy.lib.format.dtype_to_descr(dtype)
    head = msgpack.packb([_plain(layout), shape])
    return code, struct.pack("<I", len(head)) + head + value.tobytes()


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
    (length,) = struct.unpack_from("<I", payload)
    layout, shape = msgpack.unpackb(payload[4 : 4 + length])
    dtype = numpy.lib.format.descr_to_dtype(_unplain(layout))
    if dtype.itemsize == 0 or 0 in shape:  # frombuffer wants at least one byte
        array = numpy.zeros(shape, dtype)
    else:
        flat = numpy.frombuffer(payload, dtype, math.prod(shape), 4 + length)
        array = flat.reshape(shape).copy()  # the payload's own memory is read-only
    return array[()] if code == _SCALAR else array


def _plain(layout: Any) -> Any:
    """Tag the lists and tuples of a structured dtype, to tell them apart again."""
    if isinstance(layout, list):
        return ["list", *map(_plain, layout)]
    if isinstance(layout, tuple):
        return ["tuple", *map(_plain, layout)]
    return layout


def _unplain(layout: Any) -> Any:
    if isinstance(layout, list):
        return {"list": list, "tuple": tuple}[layout[0]](map(_unplain, layout[1:]))
    return layout
