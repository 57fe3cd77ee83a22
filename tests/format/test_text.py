"""Text partitions: one record a line, and what cannot be one."""

import io
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt import CorruptCheckpointError, EncodeError
from agatha_ckpt._format.base import Attempt, WriteOptions
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.names import parse_filename
from tests.format.memory_file import WHERE, MemoryFile, decode, encode
from tests.format.specification import FINGERPRINT, sha256

lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
LINES = ["a", "", " ", "हिन्दी", "\x0b\x0c\x1c\x85\u2028\u2029", "\0", "a\tb", "a"]
LONG = ["a" * 300_000, "", "c" * 700_000, "d" * 9]
CODEC = codec_for("text")


def first_lines(file, info):
    return next(CODEC.decode(file, info, allow_pickle=False))


@given(st.lists(lines))
def test_p9_lines_come_back_and_are_utf_8_with_a_line_feed_each(records):
    file, info = encode(records, "text", code="f=01234567")
    assert file.data == "".join(f"{record}\n" for record in records).encode("utf-8")
    assert decode(file, info, "text") == records
    assert (info.records, info.bytes) == (len(records), len(file.data))
    # Neither time nor code is in a text file.
    assert CODEC.inspect(file) == replace(info, seconds=0.0, code="")


def test_lines_of_any_length_come_back_from_chunks():
    file, info = encode(LONG, "text")
    assert decode(file, info, "text") == LONG
    cut = replace(file, data=file.data[:-1])
    assert decode(cut, info, "text", piece=9) == LONG


def test_a_text_file_name_has_partition_count_and_digest():
    file, info = encode(LINES, "text")
    name = parse_filename(file.filename)
    assert (name.npartitions, name.digest) == (3, info.digest[:16])
    assert name.digest == sha256(file.data, 16)
    assert CODEC.expected_partitions(file) == 3
    assert file.reads == []


class Str(str):
    pass


@pytest.mark.parametrize(
    "record, reason",
    [
        ("a\nb", "line break"),
        ("a\n", "line break"),
        ("a\rb", "line break"),
        ("\ud800", "lone surrogate"),
        (b"a", "builtins.bytes"),
        (1, "builtins.int"),
        (None, "NoneType"),
        (["a"], "builtins.list"),
        (Str("a"), "Str"),
    ],
)
def test_p9_a_record_that_is_not_one_line_is_refused_with_its_position(record, reason):
    with pytest.raises(EncodeError, match=f"^record 2 of {WHERE} .*{reason}"):
        encode(["a", "b", record], "text")


def test_p5_another_number_of_lines_raises_before_any_line_is_read():
    file, info = encode(LINES, "text")
    for records in (0, 7, 2**62):
        with pytest.raises(CorruptCheckpointError, match=f"8 lines, not {records}"):
            first_lines(file, replace(info, records=records))


def test_p5_every_truncation_and_flip_raises_before_any_line_is_read():
    file, info = encode(LINES, "text")
    data = file.data
    cut = [data[:length] for length in range(len(data))]
    flipped = [
        data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]
        for i in range(len(data))
        for bit in range(8)
    ]
    for changed in (*cut, *flipped, data + b"\n", data + b"a", b"a" + data):
        damaged = replace(file, data=changed)
        with pytest.raises(CorruptCheckpointError, match=WHERE):
            first_lines(damaged, info)
        with pytest.raises(CorruptCheckpointError, match=WHERE):
            CODEC.inspect(damaged)


def test_p5_text_that_is_not_utf_8_is_damage_where_nothing_else_checks_it():
    _, info = encode(["a"], "text")
    with pytest.raises(CorruptCheckpointError, match="not UTF-8"):
        decode(MemoryFile(b"a\n\xff\n"), replace(info, digest=""), "text")


class Changing(io.BytesIO):
    """A file that another program changes when it has been read to its end."""

    def __init__(self, data, then):
        super().__init__(data)
        self.then = then

    def read(self, size=-1):
        data = super().read(size)
        if not data and self.then is not None:
            self.seek(0)
            self.truncate()
            self.write(self.then)
            self.then = None
        return data


@pytest.mark.parametrize("change", ["a flip", "cut", "longer", "gone"])
def test_p5_text_that_changes_after_it_was_checked_gives_no_other_line(change):
    file, info = encode(LONG, "text")
    data, middle = file.data, 600_000
    then = {
        "a flip": data[:middle] + b"x" + data[middle + 1 :],
        "cut": data[:middle],
        "longer": data + b"more\n",
        "gone": b"",
    }
    file.open = lambda piece=0: Changing(data, then[change])
    records = chain.from_iterable(CODEC.decode(file, info, allow_pickle=False))
    found = []
    with pytest.raises(CorruptCheckpointError, match=WHERE):
        found.extend(records)
    assert found == LONG[: len(found)]


def test_p10_text_is_encoded_one_line_at_a_time():
    pulled = 0

    def source():
        nonlocal pulled
        for pulled in range(1, 1001):  # noqa: B007
            yield "a" * 100

    class Sink(io.BytesIO):
        def write(self, data):
            written = super().write(data)
            assert pulled * 101 == self.tell()
            return written

    attempt = Attempt(0, FINGERPRINT, WriteOptions("text", 1), WHERE)
    assert CODEC.encode(source(), Sink(), attempt).records == 1000
