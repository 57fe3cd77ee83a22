"""Checksums of files that have none of their own."""

import base64
import hashlib
import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agatha_ckpt import CorruptCheckpointError
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.pieces import PIECE_BYTES, PieceReader, PieceWriter
from tests.format.memory_file import MemoryFile

DATA = bytes(range(256)) * (PIECE_BYTES // 256) * 3 + b"the last piece"


def written(data, sizes):
    """Return digest and checksums of *data*, written in parts of *sizes* in turn."""
    sink = io.BytesIO()
    writer = PieceWriter(sink)
    at = 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        writer.write(memoryview(data)[at : at + size])
        at += size
    assert sink.getvalue() == data
    assert writer.bytes == len(data)
    return writer.result()


def info_of(data):
    digest, checksums = written(data, [len(data) or 1])
    return PartitionInfo("x", 1, len(data), digest, checksums=checksums)


def reader(data, info, partly=False):
    file = MemoryFile(data, remote=partly)
    return PieceReader(io.BytesIO(data), file, info, partly)


@given(st.lists(st.integers(1, 3 * PIECE_BYTES), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_checksums_do_not_depend_on_the_parts_that_are_written(sizes):
    assert written(DATA, sizes) == written(DATA, [len(DATA)])


def test_they_are_as_the_page_on_the_format_specifies():
    digest, checksums = written(DATA, [len(DATA)])
    pieces = [DATA[n : n + 262_144] for n in range(0, len(DATA), 262_144)]
    packed = b"".join(zlib.crc32(p).to_bytes(4, "little") for p in pieces)
    assert base64.b64decode(checksums) == packed
    size = len(DATA).to_bytes(8, "little")
    assert digest == hashlib.sha256(size + packed).hexdigest()[:32]
    assert written(b"", [1])[1] == ""


@pytest.mark.parametrize("partly", [False, True])
@given(st.integers(0, len(DATA)), st.integers(0, 2 * PIECE_BYTES))
@settings(max_examples=25, deadline=None)
def test_any_part_is_read(partly, start, count):
    found = reader(DATA, info_of(DATA), partly)
    found.seek(start)
    assert bytes(found.read(count)) == DATA[start : start + count]
    assert found.tell() == min(start + count, len(DATA))


@pytest.mark.parametrize("partly", [False, True])
def test_only_the_pieces_that_are_read_are_checked(partly):
    data = bytearray(DATA)
    data[PIECE_BYTES + 5] ^= 1
    found = reader(bytes(data), info_of(DATA), partly)
    assert bytes(found.get(0, PIECE_BYTES)) == DATA[:PIECE_BYTES]
    assert bytes(found.get(2 * PIECE_BYTES, len(DATA))) == DATA[2 * PIECE_BYTES :]
    with pytest.raises(CorruptCheckpointError, match="other bytes"):
        found.get(PIECE_BYTES - 1, PIECE_BYTES + 1)
    with pytest.raises(CorruptCheckpointError, match="other bytes"):
        found.check_all()


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b""], ids=len)
def test_another_size_is_reported(data):
    with pytest.raises(CorruptCheckpointError, match=f"not {len(DATA)}"):
        reader(data, info_of(DATA))


def test_checksums_that_are_not_those_of_the_digest_are_reported():
    info = info_of(DATA)
    other = PartitionInfo("x", 1, info.bytes, "0" * 32, checksums=info.checksums)
    with pytest.raises(CorruptCheckpointError, match="do not match its digest"):
        reader(DATA, other)
