"""Payloads of a block that holds one record, from a hostile writer."""

import struct

import msgpack


def array(layout, shape, elements=b"", record=False):
    """Return the payload of a block that holds a numpy array."""
    head = msgpack.packb([layout, shape, record])
    payload = struct.pack("<I", len(head)) + head + elements
    return b"\x91\xc8" + struct.pack(">Hb", len(payload), -60) + payload


PAYLOADS = {
    "not msgpack": b"\xc1",
    "cut": b"\xdd\0\0",
    "no array": b"\x01",
    "a map": b"\x81\x01\x02",
    "other count": b"\x92\x01\x02",
    "trailing": b"\x91\x01\x01",
    "huge array": b"\xdd\xff\xff\xff\xff\x01",
    "huge map": b"\x91\xdf\xff\xff\xff\xff\x01",
    "huge string": b"\x91\xdb\xff\xff\xff\xff\x01",
    "huge extension": b"\x91\xc9\xff\xff\xff\xff\x9c\x01",
    "unknown extension": b"\x91\xd4\x80\x00",
    "marker for all records": b"\x92\xc7\x00\x9c\x01",
    "bad utf-8": b"\x91\xa1\xff",
    "unhashable key": b"\x91\x81\x90\x01",
    "unhashable member": b"\x91\x92\xc7\x00\x9b\x90",
    "odd counter": b"\x91\x92\xc7\x00\x99\x01",
    "month 13": b"\x91\x99\xc7\x00\x95\x01\x0d\x01\0\0\0\0\xc0\0",
    "no decimal": b"\x91\xd4\xcc\x61",
    "short uuid": b"\x91\xd4\xcb\x61",
    "fraction by zero": b"\x91\x93\xc7\x00\x91\x01\x00",
    "fraction of a huge exponent": b"\x91\x92\xc7\x00\x91\xab1e999999999",
    "fraction of a decimal": b"\x91\x92\xc7\x00\x91\xc7\x0c\xcc1E+999999999",
    "no zone": b"\x91\x92\xc7\x00\x90\xa7No/Zone",
    "zone outside": b"\x91\x92\xc7\x00\x90\xa9../passwd",
    "array head": b"\x91\xd6\xc4\xff\xff\xff\xff",
    "array for a zone": b"\x91\x92\xc7\x00\x90" + array("|S0", [2**40])[1:],
    "huge array shape": array("<f8", [2**40]),
    "huge shape of nothing": array("|S0", [2**40]),
    "huge shape of nothing, and a byte": array("|S0", [2**40], b"1"),
    "shape of nothing, and a byte": array("|V0", [3], b"1"),
    "huge shape beside 0": array("<f8", [0, 2**40]),
    "negative shape": array("<f8", [-5], b"12345678"),
    "object dtype": array("|O", [1], b"12345678"),
    "object field": array([["a", "|O"]], [1], b"12345678"),
    "code for dtype": array("__import__('os')", [1], b"12345678"),
    "shape beyond one": array([], [-1, 2**62]),
    "float shape": array("<f8", [1.0], b"12345678"),
    "shape of booleans": array("<f8", [True], b"12345678"),
    "repeated dtype": array("<0f8", [1], b"12345678"),
    "dtype with more": array("<f8,<f8", [1], b"12345678"),
    "dtype with a shape": array(["<f8", [2**31]], [1], b"12345678"),
    "dtype with a shape of nothing": array([["a", "|S0", [2**31, 2**31]]], [1]),
    "unit of nothing": array("<M8[0s]", [1], b"12345678"),
    "unit over nothing": array("<M8[s/0]", [1], b"12345678"),
    "field without a name": array([[5, "<f8"]], [1], b"12345678"),
    "field that is a text": array(["ab"], [1], b"12345678"),
    "fields of one name": array([["a", "<i4"], ["a", "<i4"]], [1], b"12345678"),
    "name of three": array([[["a", "b", "c"], "<f8"]], [1], b"12345678"),
    "huge fields": array([["a", "|V2147483647", [2, 2]]], [0]),
    "huge dtype": array("|V2147483647", [1]),
    "huge dtype, no elements": array("|V2147483647", [0]),
}
