"""Msgpack partition files: round trips, damage, hostile writers."""

import os
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agatha_ckpt import CheckpointError, CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.framing import COMPRESSIONS
from tests.format.memory_file import WHERE, MemoryFile, decode, encode, info_of
from tests.format.specification import (
    array_block,
    block,
    filename,
    footer,
    header,
    partition_file,
)
from tests.format.values import assert_same, values

RECORDS = [("a", 1, 2.5), {"k": [b"x", {1, 2}]}, "ह", None, 10**30]
CODE = "parse=01234567;clean=89abcdef"
CODEC = codec_for("msgpack")


def first_block(file, info):
    return next(CODEC.decode(file, info, allow_pickle=False))


# ---- round trips ----


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
@given(st.lists(values, max_size=5), st.sampled_from(COMPRESSIONS))
def test_p9_a_partition_comes_back_equal_in_value_and_type(records, compression):
    file, info = encode(records, compression=compression, code=CODE)
    assert_same(decode(file, info), records)
    assert (info.records, info.bytes) == (len(records), len(file.data))
    assert CODEC.inspect(file) == info


MIXED = {
    "empty": [],
    "None": [None] * 100_000,
    "falsy": [0, "", False, (), [], {}, 0.0, b""],
    "flat": [(i, str(i), i / 2, None, b"b") for i in range(20_000)],
    "flat, then others": [*[(1, "a")] * 9_000, [1], *[(i,) for i in range(9_000)]],
    "flat, then nested": [*[(1, "a")] * 9_000, (1, (2,)), ({3},), (1, "a")],
    "flat with big int": [(1, 2), (2**70, 1), ("a", "b")],
    "flat with lone surrogate": [(1, 2), ("\ud800", 1), ("a", "b")],
    "others, then flat": [[1], *[(i, "a") for i in range(20_000)]],
    "scalars, then others": [1, "a", [1], (1,), {2}, "b", ("a", 1)],
    "larger than a block": ["a" * 300_000, (1, b"b" * 300_000), [bytearray(200_000)]],
    "larger than a block, among small": [1, "a" * 100_000, 2, ("a" * 100_000,), 3],
}


@pytest.mark.parametrize("records", MIXED.values(), ids=MIXED)
def test_p9_blocks_of_all_mixtures_come_back(records):
    plain, compressed = encode(records), encode(records, compression="zstd")
    for file, info in (plain, compressed):
        assert_same(decode(file, info), records)
    assert plain[1].digest == compressed[1].digest


_PRINT_DIGEST = """
from tests.format.memory_file import encode
letters = [chr(i) * 3 for i in range(97, 123)]
records = [set(letters), {frozenset(letters): (set(letters), b"x")}]
print(encode(records)[1].digest)
"""


def test_equal_records_have_equal_digests_in_another_process():
    letters = [chr(i) * 3 for i in range(97, 123)]
    records = [set(letters), {frozenset(letters): (set(letters), b"x")}]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", _PRINT_DIGEST]
    found = subprocess.check_output(command, env=environment, text=True)
    assert found.strip() == encode(records)[1].digest


def test_other_records_have_other_digests():
    variants = [
        *[[], [None], [None, None], [(1,)], [[1]], [{1}], [frozenset({1})], [1]],
        *[[1.0], [True], ["1"], [b"1"], [bytearray(b"1")]],
    ]
    assert len({encode(records)[1].digest for records in variants}) == len(variants)


# ---- what a resume and a listing read ----


def test_p4_inspect_reads_a_small_or_local_file_in_full_and_else_its_end():
    records = [os.urandom(1000).hex() for _ in range(200)]
    for remote, count, reads in (
        (False, 200, [0]),
        (True, 20, [0]),
        (True, 200, [-4096]),
    ):
        file, info = encode(records[:count], code=CODE)
        file.remote = remote
        assert CODEC.inspect(file) == info
        assert file.reads == reads


@pytest.mark.parametrize("remote", [False, True])
def test_p4_inspect_refuses_a_file_that_is_cut_or_grew(remote):
    whole, _ = encode([os.urandom(400_000)])
    for data in (whole.data[:-1], whole.data + b"\0", whole.data[:-100], b""):
        with pytest.raises(CorruptCheckpointError, match=WHERE):
            CODEC.inspect(replace(whole, data=data, size=len(data), remote=remote))


def test_the_header_alone_has_the_partition_count():
    file, _ = encode(RECORDS)
    assert CODEC.expected_partitions(file) == 3
    assert file.reads == [39]
    for data in (b"", file.data[:30], b"\0" * 100):
        assert CODEC.expected_partitions(MemoryFile(data)) is None


# ---- damage ----


def _flips(data):
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytes([data[position] ^ 1 << bit])
            yield data[:position] + flipped + data[position + 1 :]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_every_truncation_of_a_partition_is_an_error(compression):
    file, info = encode(RECORDS, compression=compression, code=CODE)
    for length in range(len(file.data)):
        cut = file.data[:length]
        for size in (length, len(file.data)):  # by the filesystem, by the manifest
            damaged = replace(file, data=cut, size=size)
            with pytest.raises(CorruptCheckpointError, match=WHERE):
                decode(damaged, info)
            for remote in (False, True):
                with pytest.raises(CorruptCheckpointError, match=WHERE):
                    CODEC.inspect(replace(damaged, remote=remote))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_every_flipped_bit_in_a_partition_is_an_error(compression):
    file, info = encode(RECORDS, compression=compression, code=CODE)
    expected = CorruptCheckpointError, UnsupportedFormatError
    for changed in _flips(file.data):
        damaged = replace(file, data=changed)
        for read in (lambda f: decode(f, info), CODEC.inspect):
            with pytest.raises(expected, match=WHERE):
                read(damaged)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_bytes_added_to_a_partition_are_an_error(compression):
    file, info = encode(RECORDS, compression=compression)
    data, inside = file.data, len(file.data) - 59
    for more in (b"\0", b"\n", data, data[-59:], b"\0" * 1000):
        for changed in (data + more, more + data, data[:inside] + more + data[inside:]):
            for size in (len(changed), len(data)):
                with pytest.raises(CorruptCheckpointError):
                    decode(replace(file, data=changed, size=size), info)


def test_p5_blocks_that_were_dropped_repeated_or_swapped_are_an_error():
    blocks = [array_block([1]), array_block([2]), array_block([3])]
    whole = partition_file(blocks, 1, 3)
    assert decode(MemoryFile(whole)) == [1, 2, 3]
    for order in ([0, 1], [1, 0, 2], [0, 1, 1], [0, 1, 2, 2], []):
        body = b"".join(block(*blocks[i]) for i in order)
        size = 39 + len(body) + 59
        end = footer(3, 3, size, 0.0, False, whole[-22:-6])
        for foot in (whole[-59:], end):
            with pytest.raises(CorruptCheckpointError):
                decode(MemoryFile(header(1, 3) + body + foot))


def test_p5_a_file_of_another_partition_is_an_error():
    file, info = encode(RECORDS)
    for other in (filename(2), filename(1, "f" * 32), "part-1.pkl"):
        named = replace(file, filename=other)
        with pytest.raises(CorruptCheckpointError, match="its name is"):
            decode(named, info)
        with pytest.raises(CorruptCheckpointError, match="its name is"):
            CODEC.inspect(named)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_a_whole_file_of_other_records_is_known_before_the_first_one(compression):
    _, info = encode(RECORDS)
    other, its = encode([*RECORDS[:-1], 10**30 + 1], compression=compression)
    for stated in (
        {"digest": info.digest},
        {"records": 0},
        {"records": 2**40},
    ):
        with pytest.raises(CorruptCheckpointError, match=r"other records|5 records"):
            first_block(other, replace(its, **stated))


# ---- hostile writers, whose checksums are right ----


def test_p5_a_block_has_no_more_records_than_a_writer_could_have_put_in():
    count = 2**20 + 1
    payload = b"\xdd" + struct.pack(">I", count) + b"\xc0" * count
    file = MemoryFile(partition_file([(0, count, payload)], 1, 3))
    with pytest.raises(CorruptCheckpointError, match=f"count of {count} records"):
        decode(file)


def test_p8_lengths_allocate_nothing_before_they_are_checked():
    flags, count, payload = array_block([1])
    end = partition_file([], 1, 3)[-59:]
    compressed, _ = encode([1], compression="zstd")
    frame = compressed.data[39 + 17 : -59]
    huge = 2**32 - 1
    zstd = header(1, 3, compression=1)
    files = [
        header(1, 3) + block(flags, count, payload, stored=huge) + end,
        header(1, 3) + block(flags, count, payload, length=huge) + end,
        header(1, 3) + block(flags, huge, payload) + end,
        zstd + block(flags, count, frame, length=huge) + end,
        zstd + block(flags, count, frame, length=0) + end,
        header(1, 3) + footer(2**63, 2**63, 2**63, 0.0, False, bytes(16)),
    ]
    for data in files:
        for right_size in (False, True):
            if right_size:  # under a footer that fits
                data = data[:-59] + footer(1, 1, len(data), 0.0, False, bytes(16))
            # The size in the manifest may be as hostile as the file.
            for size in (len(data), 2**62):
                file = MemoryFile(data, size=size)
                tracemalloc.start()
                for read in (lambda f: decode(f, info_of(f)), CODEC.inspect):
                    with pytest.raises(CheckpointError):
                        read(file)
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert peak < 20_000_000, (data, size)
