"""Payloads of a block that holds one record, from a hostile writer."""

import struct

import msgpack


def array(layout, shape, elements=b"", record=False):
    """Return the payload of a block that holds a numpy array."""
    head = msgpack.packb([layout, shape, record])
    payload = struct.pack("<I", len(head)) + head + elements
    return b"\x91\xc8" + struct.pack(">Hb", len(payload), -60) + payload


_PAYLOADS = [
    # Cut, huge, of unknown types, or with members that do not fit.
    *[b"\xc1", b"\xdd\0\0", b"\x01", b"\x81\x01\x02", b"\x92\x01\x02", b"\x91\x01\x01"],
    *[b"\xdd\xff\xff\xff\xff\x01", b"\x91\xdf\xff\xff\xff\xff\x01"],
    *[b"\x91\xdb\xff\xff\xff\xff\x01", b"\x91\xc9\xff\xff\xff\xff\x9c\x01"],
    *[b"\x91\xd4\x80\x00", b"\x92\xc7\x00\x9c\x01", b"\x91\xa1\xff"],
    *[b"\x91\x81\x90\x01", b"\x91\x92\xc7\x00\x9b\x90", b"\x91\x92\xc7\x00\x99\x01"],
    *[b"\x91\x99\xc7\x00\x95\x01\x0d\x01\0\0\0\0\xc0\0", b"\x91\xd4\xcc\x61"],
    *[b"\x91\xd4\xcb\x61", b"\x91\x93\xc7\x00\x91\x01\x00"],
    *[b"\x91\x92\xc7\x00\x91\xab1e999999999"],
    *[b"\x91\x92\xc7\x00\x91\xc7\x0c\xcc1E+999999999"],
    *[b"\x91\x92\xc7\x00\x90\xa7No/Zone", b"\x91\x92\xc7\x00\x90\xa9../passwd"],
    *[b"\x91\xd6\xc4\xff\xff\xff\xff"],
    *[b"\x91\x92\xc7\x00\x90" + array("|S0", [2**40])[1:]],
    # Arrays of impossible shapes and dtypes.
    *[array("<f8", [2**40]), array("|S0", [2**40]), array("|S0", [2**40], b"1")],
    *[array("|V0", [3], b"1"), array("<f8", [0, 2**40])],
    *[array("<f8", [-5], b"12345678"), array("|O", [1], b"12345678")],
    *[array([["a", "|O"]], [1], b"12345678")],
    *[array("__import__('os')", [1], b"12345678"), array([], [-1, 2**62])],
    *[array("<f8", [1.0], b"12345678"), array("<f8", [True], b"12345678")],
    *[array("<0f8", [1], b"12345678"), array("<f8,<f8", [1], b"12345678")],
    *[array(["<f8", [2**31]], [1], b"12345678")],
    *[array([["a", "|S0", [2**31, 2**31]]], [1]), array("<M8[0s]", [1], b"12345678")],
    *[array("<M8[s/0]", [1], b"12345678"), array([[5, "<f8"]], [1], b"12345678")],
    *[array(["ab"], [1], b"12345678")],
    *[array([["a", "<i4"], ["a", "<i4"]], [1], b"12345678")],
    *[array([[["a", "b", "c"], "<f8"]], [1], b"12345678")],
    *[array([["a", "|V2147483647", [2, 2]]], [0]), array("|V2147483647", [1])],
    *[array("|V2147483647", [0])],
]
PAYLOADS = {repr(payload): payload for payload in _PAYLOADS}
