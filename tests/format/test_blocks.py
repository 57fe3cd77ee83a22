"""Blocks: their size, how far they read ahead, and what decoding them takes."""

import copy
import sys
import tracemalloc
from collections import deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum

import pytest

from agatha_ckpt import CheckpointError, CorruptCheckpointError, EncodeError
from agatha_ckpt._format.blocks import (
    BLOCK_BYTES,
    HOOKS,
    PICKLE,
    SURROGATES,
    TUPLES,
    Block,
    decode_block,
    encode_blocks,
)
from tests.format.hostile import PAYLOADS
from tests.format.values import WHERE, assert_same, round_trip


def blocks_of(records, allow_pickle=False):
    return list(encode_blocks(records, allow_pickle, WHERE))


# ---- size, and reading ahead ----

KINDS = {
    "dicts": lambda i: {"id": i, "text": "a" * 100},
    "flat tuples": lambda i: (i, "a" * 100, 1.5),
    "nested tuples": lambda i: (i, ("a" * 100, [i])),
    "bytes": lambda i: b"a" * 100,
    "bytearrays": lambda i: bytearray(100),
    "lone surrogates": lambda i: "\ud800" * 30,
    "flat, then not": lambda i: (i, "a" * 100) if i % 50 else ([i], "a" * 100),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_p10_blocks_are_of_64_kib_and_read_no_further_than_they_must(make):
    pulled = 0

    def source():
        nonlocal pulled
        for i in range(5_000):
            pulled += 1
            yield make(i)

    yielded, sizes = 0, []
    for block in encode_blocks(source(), False, WHERE):
        yielded += block.records
        sizes.append(len(block.payload))
        assert pulled - yielded <= 64
    assert yielded == 5_000
    assert max(sizes) <= 1.25 * BLOCK_BYTES
    # Only a block of tuples without markers may end before it is full.
    assert 3 < len(sizes) <= 2 * sum(sizes) / BLOCK_BYTES + 1


def test_p10_a_record_larger_than_a_block_ends_its_block_at_once():
    records = ["a" * 300_000, "b", "c" * 300_000, "d" * 300_000, "e"]
    assert [block.records for block in blocks_of(records)] == [1, 2, 1, 1]


def test_p10_records_of_no_size_still_make_blocks():
    counts = [block.records for block in blocks_of([None] * 200_000)]
    assert sum(counts) == 200_000
    assert max(counts) <= BLOCK_BYTES


def test_what_the_source_raises_passes_through_unchanged():
    class MineError(TypeError):
        pass

    def source():
        yield from range(10)
        raise MineError("at 10")

    with pytest.raises(MineError, match=r"^at 10$"):
        blocks_of(source())


def test_the_position_of_a_refused_record_counts_over_all_blocks():
    for first in (["a" * 100], ("a" * 100, 1)):
        records = [first] * 3_000 + [object()]
        with pytest.raises(EncodeError, match=rf"^record 3000 of {WHERE} .*object"):
            blocks_of(records)


# ---- flags: what decoding takes ----


@pytest.mark.parametrize(
    "records, flags",
    [
        ([1, "a", [b"b"], {"k": None}], [0]),
        ([(1, "a"), (), 1, (None, b"b", True)], [TUPLES]),
        ([(1,), [1]], [TUPLES, 0]),
        ([1, [1], (1,)], [HOOKS]),
        ([(1, (2,))], [HOOKS]),
        ([{1}], [HOOKS]),
        (["\ud800"], [SURROGATES]),
        ([("\ud800",)], [HOOKS | SURROGATES]),
        ([("a", 1), ("\ud800", 2), ("b", 2**70)], [TUPLES, HOOKS | SURROGATES]),
    ],
)
def test_blocks_take_hooks_only_where_their_records_need_them(records, flags):
    blocks = blocks_of(records)
    assert [block.flags for block in blocks] == flags
    found = [r for block in blocks for r in decode_block(block, False, WHERE)]
    assert_same(found, records)


# ---- deep nesting ----

NESTS = {
    "list": lambda v: [v],
    "tuple": lambda v: (v,),
    "dict": lambda v: {"k": v},
    "deque": lambda v: deque([v]),
    "mixed": lambda v: [({"k": v},)],
}


def nested(nest, depth, leaf):
    value = leaf
    for _ in range(depth):
        value = nest(value)
    return value


@pytest.mark.parametrize("leaf", [None, b"x", bytearray(b"x"), "\ud800", {1}], ids=repr)
@pytest.mark.parametrize("kind, nest", NESTS.items())
def test_p9_records_nested_1000_deep_come_back(kind, nest, leaf):
    depth = 330 if kind == "mixed" else 1_000
    record = nested(nest, depth, leaf)
    for other in ((1,), bytearray(b"y"), "\ud800"):
        assert_same(round_trip([record, other]), [record, other])


@pytest.mark.parametrize("kind, nest", NESTS.items())
@pytest.mark.parametrize("allow_pickle", [True, False])
def test_p9_at_each_depth_a_record_comes_back_or_is_refused(kind, nest, allow_pickle):
    refused = []
    step = 3 if kind == "mixed" else 1
    for levels in [*range(990, 1_060, 6 * step), 100_000]:
        record = nested(nest, levels // step, None)
        try:
            (block,) = blocks_of([record], allow_pickle)
        except EncodeError:
            refused.append(levels)
        else:
            assert_same(decode_block(block, allow_pickle, WHERE), [record])
    assert 100_000 in refused
    assert min(refused) > 1_000
    with pytest.raises(EncodeError, match=f"^record 1 of {WHERE} "):
        blocks_of([1, record], allow_pickle)


def test_p5_deep_records_load_in_many_threads_at_once():
    deepest = nested(NESTS["list"], 1_024, None)  # as deep as can be stored
    (block,) = blocks_of([deepest] * 5)
    limit, interval = sys.getrecursionlimit(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            calls = pool.map(lambda _: decode_block(block, False, WHERE), range(40))
            assert list(map(len, calls)) == [5] * 40
        assert sys.getrecursionlimit() == limit
    finally:
        sys.setswitchinterval(interval)
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("flags", [0, HOOKS, HOOKS | TUPLES | SURROGATES])
@pytest.mark.parametrize("head", [b"\x91", b"\x81\x01", b"\x92\xc7\x00\x9c"])
def test_p5_a_block_that_nests_without_end_is_corrupt(flags, head):
    limit = sys.getrecursionlimit()
    with pytest.raises(CorruptCheckpointError, match=WHERE):
        decode_block(Block(flags, 1, b"\x91" + head * 50_000), False, WHERE)
    assert sys.getrecursionlimit() == limit


TUPLE = b"\xc7\x00\x9c"


@pytest.mark.parametrize("flags", [HOOKS, HOOKS | TUPLES, HOOKS | SURROGATES])
@pytest.mark.parametrize(
    "count, payload",
    [
        (2, b"\x92\x01" + TUPLE),
        (1, b"\x91\x92\x01" + TUPLE),
        (1, b"\x91\x81\x01" + TUPLE),
        (1, b"\x91\x81" + TUPLE + b"\x01"),
        (1, b"\x91\x92" + TUPLE + TUPLE),
        (1, b"\x91" * 1100 + b"\x92\x01" + TUPLE),
    ],
    ids=["record", "member", "value", "key", "twice", "deep"],
)
def test_p5_a_marker_outside_the_head_of_an_array_is_damage(flags, count, payload):
    with pytest.raises(CorruptCheckpointError, match="outside the head of an array"):
        decode_block(Block(flags, count, payload), False, WHERE)


# ---- plain records, several by one call ----

PLAIN = {
    "scalars": lambda i: [f"string {i}", i, i / 7, None, b"\xc4" * (i % 9)][i % 5],
    "numbers": lambda i: i**3 % (1 << 40) - 7,
    "strings of all lengths": lambda i: "ä" * (i * i % 97),
    "tuples": lambda i: (f"key {i}", i / 7, b"\xc4" * (i % 9)),
    "tuples of all lengths": lambda i: (f"key {i}",) * (i % 11),
}
OTHERS = [
    *[bytearray(b"b"), [bytearray(b"b")], (1, bytearray(b"b")), (1, (2, 3))],
    *[(1, [2]), [(1,)], "\ud800", ("\ud800", 1), 2**70, (2**70,)],
]
REFUSED = [
    memoryview(b"b"),
    IntEnum("Colour", "RED").RED,
    (IntEnum("Colour", "RED").RED,),
    namedtuple("Point", "x y")(1, 2),
]


@pytest.mark.parametrize(
    "other", OTHERS + REFUSED, ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_p9_plain_records_come_back_whatever_is_among_them(make, other):
    plain = [make(i) for i in range(15_000)]
    for at in (3, 12_000):
        records = plain.copy()
        records[at] = other
        if any(other is refused for refused in REFUSED):
            with pytest.raises(EncodeError, match=f"^record {at} of {WHERE} "):
                blocks_of(records)
            continue
        found = [r for b in blocks_of(records) for r in decode_block(b, False, WHERE)]
        assert found[:at] + found[at + 1 :] == plain[:at] + plain[at + 1 :]
        assert_same(found[at - 3 : at + 3], records[at - 3 : at + 3])


def refilled_dicts():
    shared = {"n": 0, "all": [], "chunk": bytearray(4)}
    for i in range(3_000):
        shared["n"] = i
        shared["all"][:] = [i, "a" * 50]
        shared["chunk"][:] = i.to_bytes(4)
        yield shared


def refilled_rows():
    row = [0, 0]
    yield ("id", "value")
    for i in range(3_000):
        row[:] = [i, i * i]
        yield (i, row) if i % 2 else row


def refilled_among_strings():
    shared = []
    for i in range(9_000):
        shared[:] = [i]
        yield f"record {i}" if i < 7_500 or i % 100 else shared


@pytest.mark.parametrize(
    "source", [refilled_dicts, refilled_rows, refilled_among_strings]
)
def test_p9_an_iterator_may_fill_one_record_again_and_again(source):
    expected = [copy.deepcopy(record) for record in source()]
    found = [r for b in blocks_of(source()) for r in decode_block(b, False, WHERE)]
    assert_same(found, expected)


@pytest.mark.parametrize("small, large", [("", str), ((), lambda text: (1, text))])
def test_p10_large_records_after_small_ones_are_not_pulled_together(small, large):
    def peak(count):
        def source():
            yield from [small] * 70_000
            for _ in range(count):
                yield large("x" * 300_000 + "y")

        tracemalloc.start()
        for _ in encode_blocks(source(), False, WHERE):
            pass
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    assert peak(200) < 1.1 * peak(20)


# ---- hostile writers ----


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("flags", [0, 1, 5, 9, 15])
def test_p8_hostile_payloads_raise_and_allocate_nothing(payload, flags):
    tracemalloc.start()
    try:
        found = decode_block(Block(flags, 1, payload), bool(flags & PICKLE), WHERE)
        assert len(found) == 1  # harmless after all: one record
    except CheckpointError as error:
        message = str(error)
    else:
        message = WHERE
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert WHERE in message
    assert peak < 20_000_000
