"""Header and footer of a partition file, and the checksum."""

import random
import struct
import subprocess
import sys
import zlib

import pytest

from agatha_ckpt import CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.framing import (
    FramingError,
    crc32,
    decode_footer,
    decode_header,
    encode_footer,
)
from tests.format.memory_file import MemoryFile, decode, encode
from tests.format.specification import (
    array_block,
    checksum,
    header,
    partition_file,
)


@pytest.mark.parametrize(
    "newer", [{"version": 2}, {"version": 65535}, {"compression": 2}]
)
def test_a_newer_version_is_told_from_damage(newer):
    data = partition_file([array_block([1])], 1, 3, **newer)
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        decode(MemoryFile(data))


def test_a_file_of_the_unreleased_format_is_told_from_damage():
    old = struct.pack("<8sHBI8sIH", b"\x89AGCKPT\n", 1, 0, 1, b"0123abcd", 3, 0)
    file = MemoryFile(old + checksum(old) + b"\0" * 100)
    with pytest.raises(UnsupportedFormatError, match="clear the checkpoint"):
        decode(file)


@pytest.mark.parametrize("cut", [0, 1, 8, 12, 38])
def test_p5_a_header_that_is_cut_under_a_right_checksum_is_damage(cut):
    data = header(1, 3)[:cut]
    for ended in (data, data + checksum(data)):
        with pytest.raises(FramingError):
            decode_header(ended, MemoryFile(data))


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_p4_a_footer_with_an_impossible_time_is_damage(seconds):
    file = MemoryFile(partition_file([array_block([7])], 1, 3, seconds=seconds))
    with pytest.raises(CorruptCheckpointError, match="negative or infinite time"):
        codec_for("msgpack").inspect(file)


def test_p4_a_footer_whose_code_is_not_text_is_damage():
    file = MemoryFile(partition_file([array_block([7])], 1, 3, code=b"\xff=01234567"))
    with pytest.raises(CorruptCheckpointError, match="not UTF-8"):
        codec_for("msgpack").inspect(file)


@pytest.mark.parametrize("step", ["f", "größe", "\ud800"])
def test_a_footer_keeps_whole_entries_of_its_code_as_many_as_there_is_room(step):
    code = ";".join(f"{step}{i}={i:08x}" for i in range(400))
    file, _ = encode([1], code=code)
    found = codec_for("msgpack").inspect(file).code
    kept = found.split(";")
    assert kept == code.encode("utf-8", "replace").decode().split(";")[: len(kept)]
    assert len(kept) > 200
    assert decode_footer(file.data[-4096:], file)[0].code == found
    short, info = encode([1], code="f=01234567")
    assert codec_for("msgpack").inspect(short) == info


def test_a_footer_is_found_whatever_is_before_it():
    file, info = encode([1, 2], code="f=01234567")
    found, blocks = decode_footer(file.data, file)
    assert found == info
    assert file.data.endswith(encode_footer(found, blocks))


# ---- the checksum, with isal and without ----


@pytest.mark.parametrize("size", [0, 1, 7, 64, 1_000, 65_541])
def test_the_checksum_is_that_of_zlib(size):
    data = random.Random(size).randbytes(size)
    for view in (data, bytearray(data), memoryview(data)):
        assert crc32(view) == zlib.crc32(data)


def test_without_isal_it_is_zlibs():
    code = (
        "import sys; sys.modules['isal'] = None\n"
        "import zlib, agatha_ckpt._format.framing as framing\n"
        "assert framing.crc32 is zlib.crc32"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
