"""Text partitions: one record a line, and what cannot be one."""

import io
from itertools import chain

import dask.bag as db
import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt import CorruptCheckpointError, EncodeError
from agatha_ckpt._format.text import count_text, decode_text, encode_text

WHERE = "partition 1 of checkpoint 'x'"
lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
LINES = ["a", "", " ", "हिन्दी", "\x0b\x0c\x1c\x85\u2028\u2029", "\0", "a\tb", "a"]


def encode(records):
    sink = io.BytesIO()
    return encode_text(records, sink, where=WHERE), sink.getvalue()


def decode(data, digest):
    return list(chain.from_iterable(decode_text(io.BytesIO(data), digest, WHERE)))


@given(st.lists(lines))
def test_p9_lines_come_back_and_are_utf_8_with_a_line_feed_each(records):
    foot, data = encode(records)
    assert data == "".join(f"{record}\n" for record in records).encode("utf-8")
    assert decode(data, foot.digest) == records
    assert (foot.records, foot.bytes) == (len(records), len(data))
    assert foot.holds_pickle is False
    counted = count_text(io.BytesIO(data))
    assert (counted.records, counted.bytes) == (foot.records, foot.bytes)
    assert counted.digest == foot.digest


class Str(str):
    pass


@pytest.mark.parametrize(
    "record, reason",
    [
        ("a\nb", "line break"),
        ("a\n", "line break"),
        ("a\rb", "line break"),
        ("a\r\n", "line break"),
        ("\ud800", "lone surrogate"),
        (b"a", "builtins.bytes"),
        (1, "builtins.int"),
        (None, "NoneType"),
        (["a"], "builtins.list"),
        (Str("a"), "Str"),
    ],
)
def test_p9_what_is_no_line_is_refused_with_its_position(record, reason):
    with pytest.raises(EncodeError, match=f"^record 2 of {WHERE} .*{reason}"):
        encode(["a", "b", record])


def test_p5_another_number_of_lines_than_stated_raises_before_any_line_is_read():
    foot, data = encode(LINES)
    for records in (0, 7, 2**62):
        found = decode_text(io.BytesIO(data), foot.digest, WHERE, records)
        with pytest.raises(CorruptCheckpointError, match=f"8 lines, not {records}"):
            next(found)
    found = decode_text(io.BytesIO(data), foot.digest, WHERE, len(LINES))
    assert list(chain.from_iterable(found)) == LINES


def test_p5_every_truncation_and_flip_raises_before_any_line_is_read():
    foot, data = encode(LINES)
    cut = [data[:length] for length in range(len(data))]
    flipped = [
        data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]
        for i in range(len(data))
        for bit in range(8)
    ]
    for changed in (*cut, *flipped, data + b"\n", data + b"a", b"a" + data):
        found = decode_text(io.BytesIO(changed), foot.digest, WHERE)
        with pytest.raises(CorruptCheckpointError, match=WHERE):
            next(found)


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


LONG = ["a" * 300_000, "", "c" * 700_000, "d" * 9]


def test_lines_of_any_length_come_back_from_pieces():
    foot, data = encode(LONG)
    assert decode(data, foot.digest) == decode(data[:-1], "") == LONG


@pytest.mark.parametrize("change", ["a flip", "cut", "longer", "gone"])
def test_p5_text_that_changes_after_it_was_checked_gives_no_other_line(change):
    foot, data = encode(LONG)
    middle = 600_000
    then = {
        "a flip": data[:middle] + b"x" + data[middle + 1 :],
        "cut": data[:middle],
        "longer": data + b"more\n",
        "gone": b"",
    }
    found = []
    pieces = decode_text(Changing(data, then[change]), foot.digest, WHERE)
    with pytest.raises(CorruptCheckpointError, match=WHERE):
        found.extend(chain.from_iterable(pieces))
    assert found == LONG[: len(found)]


def test_text_is_read_one_line_at_a_time_and_encoded_as_it_comes():
    """P10: neither side holds the partition."""
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

    foot = encode_text(source(), Sink(), where=WHERE)
    assert foot.records == 1000


@pytest.fixture
def saved(checkpointer):
    """A done text checkpoint, its filesystem and its partition files."""
    bag = db.from_sequence(LINES, npartitions=3)
    options = {"textfile": True, "scheduler": "sync"}
    assert checkpointer.checkpoint("a", bag, **options) is None
    fs, folder = fsspec.url_to_fs(str(checkpointer.store.path("a")))
    files = sorted(path for path in fs.ls(folder, detail=False) if "part-" in path)
    return checkpointer, fs, files


def test_a_done_text_checkpoint_loads_as_a_bag_of_lines(saved):
    checkpointer, fs, files = saved
    assert b"".join(map(fs.cat_file, files)).decode().split("\n") == [*LINES, ""]
    assert checkpointer.checkpoint("a").compute(scheduler="sync") == LINES


def test_p5_damaged_text_is_noticed_when_read_and_by_verify(saved):
    checkpointer, fs, files = saved
    whole, other = fs.cat_file(files[1]), fs.cat_file(files[0])
    bag = checkpointer.checkpoint("a")
    for damaged in (b"", whole[:-1], whole + b"b\n", other, bytes(len(whole))):
        fs.pipe_file(files[1], damaged)
        with pytest.raises(CorruptCheckpointError, match=r"partition 1 of .*'a'"):
            bag.compute(scheduler="sync")
        assert [found.index for found in checkpointer.store.verify("a")] == [1]
    fs.rm_file(files[1])
    with pytest.raises(CorruptCheckpointError, match=r"partition 1 of .*'a'"):
        bag.compute(scheduler="sync")


def test_p4_a_resume_keeps_whole_text_partitions_and_no_damaged_ones(saved):
    checkpointer, fs, files = saved
    fs.rm_file(files[0].rsplit("/", 1)[0] + "/__done__")
    fs.pipe_file(files[1], fs.cat_file(files[1])[:-1])
    computed = []

    def note(partition):
        computed.append(list(partition))
        return partition

    bag = db.from_sequence(LINES, npartitions=3).map_partitions(note)
    checkpointer.checkpoint("a", bag, textfile=True, scheduler="sync")
    assert len(computed) == 1
    assert checkpointer.checkpoint("a").compute(scheduler="sync") == LINES
