"""Canonical encoding of plain scalars and of built-in containers."""

import gc
import struct
from array import array
from collections import OrderedDict
from marshal import dumps
from typing import Any

from agatha_ckpt._dask.canonical.encoder import (
    ABOVE_LIMIT,
    Encoder,
    Handler,
    binary,
    by,
    objects,
    pack,
    tagged,
)

FLAT = 16
"""Members from which a list of plain scalars is encoded at once."""

_SCALARS = frozenset({int, str, bytes, bool, type(None)})


def _float(_: Encoder, value: float) -> bytes:
    return b"\1" + struct.pack("<d", value)


def _str(encoder: Encoder, value: str) -> bytes:
    if str.__len__(value) > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT, b"%d" % str.__len__(value))
    data = str.encode(value, "utf-8", "surrogatepass")
    if len(data) > 60:
        encoder.count(len(data))
    return pack(b"s%d:%b" % (len(data), data))


def _bytes(encoder: Encoder, value: Any) -> bytes:
    view = memoryview(value)
    if view.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT, b"%d" % view.nbytes)
    encoder.count(view.nbytes)
    return binary(view)


def _flat(encoder: Encoder, values: list[Any]) -> bytes | None:
    """Return the encoding of the members of a long list of plain scalars."""
    if len(values) < FLAT:
        return None
    kinds = set(map(type, values))
    if kinds == {float}:
        encoder.count(8 * len(values))
        return binary(array("d", values))
    if not kinds <= _SCALARS:
        return None
    sized = kinds & {str, bytes}
    encoder.count(8 * len(values))
    if sized:
        encoder.count(sum(len(value) for value in values if type(value) in sized))
    return binary(dumps(values, 0))


def _sequence(tag: bytes, cls: Any) -> Handler:
    def encode(encoder: Encoder, value: Any) -> bytes:
        members = value if type(value) is list else list(cls.__iter__(value))
        if (data := _flat(encoder, members)) is not None:
            return tagged(tag + b"f", data)
        encoder.count(16 * len(members))
        return tagged(tag, *encoder.encode_all(members))

    return encode


def _set(tag: bytes, cls: Any) -> Handler:
    def encode(encoder: Encoder, value: Any) -> bytes:
        encoder.count(16 * cls.__len__(value))
        return tagged(tag, *encoder.unordered(cls.__iter__(value)))

    return encode


def _mapping(tag: bytes, cls: Any) -> Handler:
    def encode(encoder: Encoder, value: Any) -> bytes:
        found: list[bytes] = []
        encoder.count(32 * dict.__len__(value))
        for key, member in list(cls.items(value)):
            found += encoder.encode(key), encoder.encode(member)
        return tagged(tag, *found)

    return encode


def _none(_: Encoder, value: None) -> bytes:
    return b"N"


def _ellipsis(_: Encoder, value: Any) -> bytes:
    return b"E"


def _bool(_: Encoder, value: bool) -> bytes:
    return b"T" if value else b"F"


def _int(_: Encoder, value: int) -> bytes:
    return pack(b"i%x;" % (value if type(value) is int else int.__add__(value, 0)))


def _complex(_: Encoder, value: complex) -> bytes:
    return b"\2" + struct.pack("<dd", value.real, value.imag)


def _bytearray(encoder: Encoder, value: bytearray) -> bytes:
    return tagged(b"Y", _bytes(encoder, value))


SCALARS: dict[str, Handler] = {
    "builtins.NoneType": _none,
    "builtins.bool": _bool,
    "builtins.ellipsis": _ellipsis,
    "builtins.int": _int,
    "builtins.float": _float,
    "builtins.complex": _complex,
    "builtins.str": _str,
    "builtins.bytes": _bytes,
}

HANDLERS: dict[str, Handler] = SCALARS | {
    "builtins.bytearray": _bytearray,
    "builtins.dict_items": by(lambda view: [list(view)]),
    "builtins.dict_keys": by(lambda view: [list(view)]),
    "builtins.dict_values": by(lambda view: [list(view)]),
    "builtins.mappingproxy": by(gc.get_referents),
    "builtins.memoryview": by(lambda v: [v.format, v.shape, v.tobytes()]),
    "_struct.Struct": by(lambda struct: [struct.format]),
    "collections.OrderedDict": _mapping(b"od", OrderedDict),
    "collections.defaultdict": objects,
    "builtins.list": _sequence(b"l", list),
    "builtins.tuple": _sequence(b"t", tuple),
    "builtins.dict": _mapping(b"m", dict),
    "builtins.set": _set(b"S", set),
    "builtins.frozenset": _set(b"Z", frozenset),
}
