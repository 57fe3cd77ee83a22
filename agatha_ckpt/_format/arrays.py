"""numpy arrays and scalars <-> payloads, where numpy is installed.

A payload is the length of its head (four bytes), the head (msgpack: the dtype as in
the header of a ``.npy`` file, the shape, whether the elements are ``numpy.record``,
and flags where there are any), and the elements.
"""

import math
import pickle
import re
import struct
import sys
from functools import lru_cache
from typing import Any, cast

import msgpack

from agatha_ckpt._errors import UnsupportedFormatError
from agatha_ckpt._format.advice import CHANGE

# Of bools, integers, floats and complex numbers; long doubles have bytes that mean
# nothing.
_PLAIN_NUMS = frozenset({*range(13), 14, 15, 23})
# A dtype without fields as numpy writes it: order, kind, size, unit of time. q8 and Q8
# are long long where that is another type than the int64 of its size.
_TYPE = re.compile(
    r"[<>|]([biufc][0-9]{1,2}|[qQ]8|[SUV][0-9]{1,10}"
    r"|[mM]8(\[([1-9][0-9]{0,8})?([YMWDhms]|[munpfa]s)\])?)"
)
ARRAY, SCALAR = -60, -61  # extension codes; part of the format
_FORTRAN, _ALIGNED = 1, 2  # flags of a head; part of the format
_LENGTH = struct.Struct("<I")
_MAX_HEADS = 1024  # to remember; many arrays have the same


class Unstorable(Exception):
    """A value that cannot be stored faithfully: the reason, and what to do about it."""

    def __init__(self, reason: str, advice: str = CHANGE) -> None:
        super().__init__(reason)
        self.advice = advice


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
        Its dtype has something that a description of it loses.
    """
    dtype = value.dtype
    num = dtype.num
    # Equal dtypes may differ in metadata; of the plain ones in nothing else but num.
    if num in _PLAIN_NUMS and dtype.metadata is None:
        try:
            # Of an array in C order join takes the memory as it is: one copy less.
            return b"".join((_plain_head(dtype, num, value.shape), value))
        except TypeError:
            head = _plain_head(dtype, num, value.shape, _order(value))
            return head + cast(bytes, value.tobytes("A"))
    head = _head(dtype, value.shape, _order(value))
    if _has_padding(dtype):
        value = _without_padding(value)
    return head + cast(bytes, value.tobytes("A"))


def _order(value: Any) -> int:
    if value.ndim < 2:
        return 0
    flags = value.flags
    return _FORTRAN * (flags.f_contiguous and not flags.c_contiguous)


@lru_cache(maxsize=_MAX_HEADS)
def _plain_head(dtype: Any, num: int, shape: tuple[int, ...], order: int = 0) -> bytes:
    return _head(dtype, shape, order)


def _head(dtype: Any, shape: tuple[int, ...], flags: int) -> bytes:
    import numpy

    record = dtype.type is numpy.record
    plain = numpy.dtype((numpy.void, dtype)) if record else dtype
    flags |= _ALIGNED * plain.isalignedstruct
    fault = fault_of_dtype(plain)
    if not fault:
        try:
            layout = _layout_of(plain)
            same = is_same_dtype(plain, _dtype_from(layout, flags))
            fault = "" if same else "it is another one by numpy's description of it"
        except (TypeError, ValueError) as error:
            fault = str(error)
    if fault:
        # Of some, a pickle loses the byte order. Protocol 5 does so where the array is
        # not contiguous; 4 always does.
        copy = pickle.loads(pickle.dumps(numpy.zeros(1, dtype), protocol=4)).dtype
        kind = Unstorable if is_same_dtype(dtype, copy) else Refused
        raise kind(f"a numpy value of dtype {dtype} ({fault})")
    head = msgpack.packb([layout, shape, record, flags][: 4 if flags else 3])
    packed: bytes = _LENGTH.pack(len(head)) + head
    return packed


def _layout_of(dtype: Any) -> Any:
    import numpy

    layout: Any = numpy.lib.format.dtype_to_descr(dtype)
    if dtype.char in "qQ" and numpy.dtype(layout).num != dtype.num:
        layout = f"{layout[0]}{dtype.char}8"
    return layout


def _dtype_from(layout: Any, flags: int) -> Any:
    """Return the dtype of a layout that was checked."""
    import numpy

    if type(layout) is str and layout[1] in "qQ":
        order = numpy.dtype(f"{layout[0]}i8").byteorder  # "=" where it is native
        return numpy.dtype(f"{order}{layout[1]}")
    dtype = numpy.lib.format.descr_to_dtype(layout)
    return _aligned(dtype) if flags & _ALIGNED else dtype


def _aligned(dtype: Any) -> Any:
    """Return a structured dtype as one that numpy aligned, all the way down."""
    import numpy

    if dtype.subdtype:
        base, shape = dtype.subdtype
        return numpy.dtype((_aligned(base), shape))
    if dtype.names is None:
        return dtype
    fields = [dtype.fields[name] for name in dtype.names]
    layout = {
        "names": list(dtype.names),
        "formats": [_aligned(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": [field[2] if len(field) > 2 else None for field in fields],
        "itemsize": dtype.itemsize,
    }
    return numpy.dtype(layout, align=True)


def is_same_dtype(left: Any, right: Any) -> bool:
    """Return whether dtypes are equal in what numpy leaves out of ``==`` as well."""
    if left != right or left.num != right.num or left.type is not right.type:
        return False
    if (left.metadata or {}) != (right.metadata or {}):
        return False
    if left.isalignedstruct != right.isalignedstruct:
        return False
    if left.subdtype:
        return is_same_dtype(left.subdtype[0], right.subdtype[0])
    if left.names is None:
        return True
    pairs = ((left.fields[name], right.fields[name]) for name in left.names)
    return all(a[1:] == b[1:] and is_same_dtype(a[0], b[0]) for a, b in pairs)


# ---- bytes between the elements and in them that mean nothing ----


def _has_padding(dtype: Any) -> bool:
    if dtype.subdtype:
        return _has_padding(dtype.subdtype[0])
    if dtype.names is None:
        return dtype.char in "gG"
    fields = [dtype.fields[name][0] for name in dtype.names]
    return sum(f.itemsize for f in fields) != dtype.itemsize or any(
        map(_has_padding, fields)
    )


def _without_padding(value: Any) -> Any:
    """Return a copy in which the bytes that mean nothing are zero."""
    import numpy

    value = numpy.asarray(value)
    # Of numpy.record, a field would be a recarray.
    plain = numpy.dtype((numpy.void, value.dtype)) if value.dtype.names else value.dtype
    order = "F" if _order(value) else "C"
    copy = numpy.zeros(value.shape, plain, cast(Any, order))
    _copy_fields(value.view(plain), copy)
    return copy


def _copy_fields(source: Any, target: Any) -> None:
    import numpy

    dtype = source.dtype
    if dtype.char in "gG" and numpy.finfo(dtype).nmant == 63:  # of the x87: 80 bits
        size = dtype.itemsize // (1 + (dtype.char == "G"))
        skipped = 0 if dtype.isnative else size - 10
        starts = range(skipped, dtype.itemsize, size)
        names = [f"f{start}" for start in starts]
        dtype = numpy.dtype(
            {
                "names": names,
                "formats": ["V10"] * len(names),
                "offsets": list(starts),
                "itemsize": dtype.itemsize,
            }
        )
        source, target = source.view(dtype), target.view(dtype)
    if dtype.names is None:
        target[...] = source
        return
    for name in dtype.names:
        _copy_fields(source[name], target[name])


# ---- decoding ----


def decode_array(payload: bytes) -> Any:
    """Return the array of a payload.

    Raises
    ------
    UnsupportedFormatError
        numpy is not installed.
    """
    start = _LENGTH.unpack_from(payload)[0] + 4
    head = payload[4:start]
    make, dtype, shape, size, order = _heads.get(head) or _read_head(head)
    if len(payload) - start != size:
        raise ValueError("an array of another size than its dtype and shape give")
    if dtype.names:  # which can be changed in place, through any array of this dtype
        dtype = dtype.newbyteorder("|")
    if size:  # a copy, as the payload's own memory is read-only
        if order:
            return make(shape, dtype, payload, start, None, order).copy(order)
        return make(shape, dtype, payload, start).copy()
    # zeros() would make an empty text one letter wide, and room for all of them.
    return make(shape, dtype, bytearray(1), 0, None, order or "C")


def decode_scalar(payload: bytes) -> Any:
    """Return the numpy scalar of a payload; see `decode_array`."""
    start = _LENGTH.unpack_from(payload)[0] + 4
    head = payload[4:start]
    _, dtype, shape, _, _ = _heads.get(head) or _read_head(head)
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


# What the head of a payload determines: class, dtype, shape, size of the elements,
# their order. An lru_cache takes a tenth of the time that an array of 64 floats takes.
_Known = tuple[Any, Any, tuple[int, ...], int, str]
_heads: dict[bytes, _Known] = {}


def _read_head(head: bytes) -> _Known:
    try:
        import numpy
    except ImportError:
        raise UnsupportedFormatError(
            "a record holds numpy values and numpy is not installed here; "
            "pip install numpy, then load again"
        ) from None
    layout, sides, record, *rest = msgpack.unpackb(head)
    flags = _flags_from(*rest)
    dtype = _dtype_from(_layout_from(layout), flags)
    if record:
        dtype = numpy.dtype((numpy.record, dtype))
    shape = _shape_from(sides)
    size = dtype.itemsize * math.prod(shape)
    if len(_heads) >= _MAX_HEADS:
        _heads.clear()
    order = "F" if flags & _FORTRAN else ""
    _heads[head] = known = numpy.ndarray, dtype, shape, size, order
    return known


def fault_of_dtype(dtype: Any) -> str:
    """Return what *dtype* has that numpy's description of one cannot have, or ""."""
    if dtype.hasobject or dtype.kind == "T":
        return "it holds Python objects"
    if dtype.metadata:
        return "it has metadata"
    if dtype.subdtype:
        return fault_of_dtype(dtype.subdtype[0])
    faults = (fault_of_dtype(dtype.fields[name][0]) for name in dtype.names or ())
    return next(filter(None, faults), "")


def _flags_from(flags: Any = 0) -> int:
    if type(flags) is not int or not 0 <= flags <= _FORTRAN | _ALIGNED:
        raise ValueError("an array with unknown flags")
    return flags


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
