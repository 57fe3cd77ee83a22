"""Packing one record: what msgpack alone would change, and what it costs."""

import sys
from collections import deque

import pytest

from agatha_ckpt._format.blocks import encode_blocks
from tests.format.values import WHERE, assert_same, round_trip


@pytest.mark.parametrize("nearby", [b"x", b"x" * 300, b"x" * 70_000, 196, "\xc4\x05"])
@pytest.mark.parametrize("size", [0, 1, 5, 255, 256, 65_535, 65_536, 100_000])
def test_p9_a_bytearray_stays_one_wherever_it_hides(size, nearby):
    content = bytearray(b"\xc4" * size)
    records = [
        nearby,
        content,
        [nearby, [content], nearby],
        ({"k": (nearby, content)},),
        deque([{1: content}], maxlen=3),
        [nearby] * 196,
    ]
    assert_same(round_trip(records), records)
    assert_same(round_trip(records[::-1]), records[::-1])


def test_p9_bytes_stay_bytes_beside_bytearrays():
    records = [b"a", (b"b", 1), {b"k": b"v"}, [bytearray(b"c")], {b"d"}, b""]
    assert_same(round_trip(records), records)


@pytest.mark.parametrize("zero", [0, 0.0])
def test_p9_a_bytearray_among_numbers_stays_one(zero):
    records = [[zero, 1.5, bytearray(b"\xc4"), 2], [zero] * 50 + [bytearray(3), zero]]
    assert_same(round_trip(records), records)


@pytest.mark.parametrize("nest", [lambda v: v, lambda v: (v,)], ids=["set", "tuple"])
def test_packing_nested_sets_does_not_double_with_each_level(nest):
    def calls(depth):
        record, count = frozenset(), 0
        for _ in range(depth):
            record = frozenset({nest(record), 1})

        def note(frame, event, argument):
            nonlocal count
            count += event == "call"

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            list(encode_blocks([record], False, WHERE))
        finally:
            sys.setprofile(before)
        return count

    assert calls(12) < 8 * calls(6)
