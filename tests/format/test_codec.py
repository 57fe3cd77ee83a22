"""Whole partition files: round trips, damage, hostile writers."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from io import BytesIO

import dask.bag as db
import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.codec import decode_partition, encode_partition
from agatha_ckpt._format.framing import COMPRESSIONS, FOOTER_BYTES, Header, read_footer
from tests.format.test_format import (
    array_block,
    block,
    footer,
    header,
    load,
    partition_file,
    plan_digest,
    sealed,
    write_checkpoint,
)
from tests.format.test_types import CreatesFile, assert_same, values

WHERE = "partition 1 of checkpoint 'x'"
PLAN = "0123abcd"
RECORDS = [("a", 1, 2.5), {"k": [b"x", {1, 2}]}, "ह", None, 10**30]


def encode(records, compression=None, allow_pickle=False, **options):
    sink = BytesIO()
    said = Header(PLAN, 1, 3, compression, **options)
    foot = encode_partition(records, sink, said, allow_pickle=allow_pickle, where=WHERE)
    return sink.getvalue(), foot


def decode(data, size=None, index=1, plan=PLAN, allow_pickle=False, digest=""):
    blocks = decode_partition(
        BytesIO(data),
        len(data) if size is None else size,
        Header(plan, index, 3),
        allow_pickle=allow_pickle,
        where=WHERE,
        digest=digest,
    )
    return [record for records in blocks for record in records]


# ---- round trips ----


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
@given(st.lists(values, max_size=5), st.sampled_from(COMPRESSIONS))
def test_p9_a_partition_comes_back_equal_in_value_and_type(records, compression):
    data, foot = encode(records, compression)
    assert_same(decode(data, digest=foot.digest), records)
    assert (foot.records, foot.bytes) == (len(records), len(data))
    other, _ = encode(records, compression)
    assert read_footer(other[-FOOTER_BYTES:], WHERE).digest == foot.digest


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
    "tuples and lists": [(1, 2), [1, 2], (1, 2)],
    "larger than a block": ["a" * 300_000, (1, b"b" * 300_000), [bytearray(200_000)]],
    "larger than a block, among small": [1, "a" * 100_000, 2, ("a" * 100_000,), 3],
}


@pytest.mark.parametrize("records", MIXED.values(), ids=MIXED)
def test_p9_blocks_of_all_mixtures_come_back(records):
    plain, compressed = encode(records), encode(records, "zstd")
    for data, foot in (plain, compressed):
        assert_same(decode(data, digest=foot.digest), records)
    assert plain[1].digest == compressed[1].digest


_PRINT_DIGESTS = """
import io
from agatha_ckpt._format.codec import encode_partition
from agatha_ckpt._format.framing import Header
letters = [chr(i) * 3 for i in range(97, 123)]
records = [set(letters), {frozenset(letters): (set(letters), b"x")}]
for compression in (None, "zstd"):
    header = Header("0" * 8, 0, 1, compression)
    sink = io.BytesIO()
    foot = encode_partition(records, sink, header, allow_pickle=False, where="x")
    print(foot.digest)
"""


def test_equal_records_have_equal_digests_in_every_process_and_compression():
    digests = []
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", _PRINT_DIGESTS]
        found = subprocess.check_output(command, env=environment, text=True)
        digests += found.split()
    assert len(digests) == 6
    assert len(set(digests)) == 1


def test_other_records_have_other_digests():
    variants = [
        [],
        [None],
        [None, None],
        [(1,)],
        [[1]],
        [{1}],
        [frozenset({1})],
        [1],
        [1.0],
        [True],
        ["1"],
        [b"1"],
        [bytearray(b"1")],
    ]
    assert len({encode(records)[1].digest for records in variants}) == len(variants)


# ---- damage ----


def _flips(data):
    for position in range(len(data)):
        for bit in range(8):
            yield (
                data[:position]
                + bytes([data[position] ^ 1 << bit])
                + data[position + 1 :]
            )


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_every_truncation_of_a_partition_is_an_error(compression):
    data, foot = encode(RECORDS, compression, bag="bag")
    for length in range(len(data)):
        for size in (length, len(data)):  # what the filesystem, the manifest say
            with pytest.raises(CorruptCheckpointError, match=WHERE):
                decode(data[:length], size, digest=foot.digest)
        if length >= FOOTER_BYTES:
            with pytest.raises(CorruptCheckpointError, match=WHERE):
                read_footer(data[length - FOOTER_BYTES : length], WHERE)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("with_manifest", [True, False])
def test_p5_every_flipped_bit_in_a_partition_is_an_error(compression, with_manifest):
    data, foot = encode(RECORDS, compression, bag="bag")
    for changed in _flips(data):
        with pytest.raises((CorruptCheckpointError, UnsupportedFormatError)) as caught:
            decode(changed, digest=foot.digest if with_manifest else "")
        assert WHERE in str(caught.value)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_bytes_added_to_a_partition_are_an_error(compression):
    data, foot = encode(RECORDS, compression)
    inside = len(data) - FOOTER_BYTES
    for more in (b"\0", b"\n", data, data[-FOOTER_BYTES:], b"\0" * 1000):
        changes = [data + more, more + data, data[:inside] + more + data[inside:]]
        for changed in changes:
            for size in (len(changed), len(data)):
                with pytest.raises(CorruptCheckpointError):
                    decode(changed, size, digest=foot.digest)


def test_p5_blocks_that_were_dropped_repeated_or_swapped_are_an_error():
    blocks = [array_block([1]), array_block([2]), array_block([3])]
    whole = partition_file(blocks, PLAN, 1, 3)
    assert decode(whole) == [1, 2, 3]
    head, foot = header(PLAN, 1, 3), whole[-FOOTER_BYTES:]
    for order in ([0, 1], [1, 0, 2], [0, 1, 1], [0, 1, 2, 2], []):
        body = b"".join(block(*blocks[i]) for i in order)
        with pytest.raises(CorruptCheckpointError):
            decode(head + body + foot)


def test_p5_a_file_of_another_partition_or_plan_is_an_error():
    data, _ = encode(RECORDS)
    for other in ({"index": 2}, {"plan": "deadbeef"}):
        with pytest.raises(CorruptCheckpointError, match="not partition"):
            decode(data, **other)


def test_p5_other_records_under_right_checksums_are_an_error():
    _, foot = encode(RECORDS)
    other, _ = encode([*RECORDS[:-1], 10**30 + 1])
    with pytest.raises(CorruptCheckpointError, match="other records"):
        decode(other, digest=foot.digest)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_p5_a_whole_file_of_other_records_is_known_before_the_first_one(compression):
    _, foot = encode(RECORDS)
    other, said = encode([*RECORDS[:-1], 10**30 + 1], compression)
    expected = Header(PLAN, 1, 3)
    for stated in (
        {"digest": foot.digest, "records": said.records},
        {"digest": said.digest, "records": 0},
        {"digest": said.digest, "records": 2**40},
    ):
        blocks = decode_partition(
            BytesIO(other),
            len(other),
            expected,
            allow_pickle=False,
            where=WHERE,
            **stated,
        )
        with pytest.raises(CorruptCheckpointError, match=r"other records|5 records"):
            next(blocks)


def test_p5_a_compressed_block_is_not_decompressed_before_its_checksum_is_right():
    data, _ = encode(["x" * 1000], "zstd")
    for position in range(33 + 17, len(data) - FOOTER_BYTES):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(CorruptCheckpointError, match="match its checksum"):
            decode(changed)


def test_p5_a_block_states_no_more_records_than_a_writer_could_have_put_in():
    count = 2**20 + 1
    payload = b"\xdd" + struct.pack(">I", count) + b"\xc0" * count
    data = partition_file([(0, count, payload)], PLAN, 1, 3)
    with pytest.raises(CorruptCheckpointError, match=f"states {count} records"):
        decode(data)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_p4_a_time_that_no_clock_gives_is_damage_and_no_resume_keeps_it(
    tmp_path, seconds
):
    blocks = [array_block([7])]
    with pytest.raises(CorruptCheckpointError, match="no clock"):
        decode(partition_file(blocks, PLAN, 1, 3, seconds=seconds))
    (tmp_path / "a").mkdir()
    plan = plan_digest(1)
    partial = tmp_path / "a" / f"part-00000-{plan}-{0:016x}.msgpack"
    partial.write_bytes(partition_file(blocks, plan, 0, 1, seconds=seconds))
    checkpointer = Checkpointer(tmp_path, verbose=False)
    bag = db.from_sequence([7], npartitions=1)
    loaded = checkpointer.checkpoint("a", bag, scheduler="sync")
    assert loaded.compute(scheduler="sync") == [7]


def test_p4_a_newer_version_is_told_from_damage():
    blocks = [array_block([1])]
    for newer in ({"version": 2}, {"version": 65535}, {"compression": 2}):
        data = partition_file(blocks, PLAN, 1, 3, **newer)
        with pytest.raises(UnsupportedFormatError, match="upgrade"):
            decode(data)


# ---- the same through a store, on every filesystem ----


@pytest.fixture
def saved(checkpointer):
    """A store with the done checkpoint "a" and the paths of its files."""
    bag = db.from_sequence(range(6), npartitions=2)
    checkpointer.checkpoint("a", bag, scheduler="sync")
    fs, folder = fsspec.url_to_fs(str(checkpointer.store.path("a")))
    files = sorted(path for path in fs.ls(folder, detail=False) if "part-" in path)
    return checkpointer, fs, files


def test_p5_damaged_partition_files_raise_and_are_named_by_verify(saved):
    checkpointer, fs, (first, second) = saved
    whole, other = fs.cat_file(first), fs.cat_file(second)
    bag = checkpointer.checkpoint("a")
    middle = len(whole) // 2
    for damaged in (
        b"",
        whole[:-1],
        whole + b"\0",
        whole[:middle] + b"\xff" + whole[middle + 1 :],
        bytes(len(whole)),
        other,
    ):
        fs.pipe_file(first, damaged)
        with pytest.raises(CorruptCheckpointError, match=r"partition 0 of .*'a'"):
            bag.compute(scheduler="sync")
        assert [found.index for found in checkpointer.store.verify("a")] == [0]
    fs.rm_file(first)
    with pytest.raises(CorruptCheckpointError, match=r"partition 0 of .*'a'"):
        bag.compute(scheduler="sync")
    fs.pipe_file(first, whole)
    assert bag.compute(scheduler="sync") == list(range(6))


def test_p5_every_truncation_and_flip_of_a_done_marker_is_an_error(saved):
    checkpointer, fs, (first, _) = saved
    marker = first.rsplit("/", 1)[0] + "/__done__"
    whole = fs.cat_file(marker)
    store = checkpointer.store
    cut = [whole[:length] for length in range(len(whole))]
    added = [whole + b"\n", whole + whole, b"\n" + whole, b" " + whole]
    for changed in (*cut, *_flips(whole), *added):
        fs.pipe_file(marker, changed)
        with pytest.raises(CorruptCheckpointError, match="'a'"):
            store.find_manifest("a")
    with pytest.raises(CorruptCheckpointError, match="'a'"):
        checkpointer.checkpoint("a")
    assert not store.is_done("a")
    assert store.names() == []


# ---- hostile writers, whose checksums and seals are right ----


def test_p8_no_flag_or_manifest_makes_a_load_unpickle(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    data, _ = encode([CreatesFile(str(victim))], allow_pickle=True)
    payload = data[29 + 4 + 17 : -FOOTER_BYTES]
    root = tmp_path / "root"
    write_checkpoint(root / "flags-cleared", [[(1, 1, payload)]])
    write_checkpoint(root / "all-flags-cleared", [[(0, 1, payload)]])
    write_checkpoint(root / "manifest-says-none", [[(3, 1, payload)]])
    for name in ("flags-cleared", "manifest-says-none"):
        with pytest.raises(PickleNotAllowedError, match=name):
            load(root, name)
    with pytest.raises(CorruptCheckpointError):
        load(root, "all-flags-cleared")
    assert not victim.exists()
    load(root, "flags-cleared", allow_pickle=True)
    assert victim.exists()


HOSTILE_PAYLOADS = {
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
}


def _array(layout, shape, elements=b"", record=False):
    import msgpack

    head = msgpack.packb([layout, shape, record])
    payload = struct.pack("<I", len(head)) + head + elements
    return b"\x91\xc8" + struct.pack(">Hb", len(payload), -60) + payload


HOSTILE_PAYLOADS |= {
    "huge array shape": _array("<f8", [2**40]),
    "huge shape of nothing": _array("|S0", [2**40]),
    "huge shape of nothing, and a byte": _array("|S0", [2**40], b"1"),
    "shape of nothing, and a byte": _array("|V0", [3], b"1"),
    "huge shape beside 0": _array("<f8", [0, 2**40]),
    "negative shape": _array("<f8", [-5], b"12345678"),
    "object dtype": _array("|O", [1], b"12345678"),
    "object field": _array(["list", ["tuple", "a", "|O"]], [1], b"12345678"),
    "code for dtype": _array("__import__('os')", [1], b"12345678"),
    "shape beyond one": _array(["list"], [-1, 2**62]),
    "float shape": _array("<f8", [1.0], b"12345678"),
    "shape of booleans": _array("<f8", [True], b"12345678"),
    "repeated dtype": _array("<0f8", [1], b"12345678"),
    "dtype with more": _array("<f8,<f8", [1], b"12345678"),
    "dtype with a shape": _array(["tuple", "<f8", ["tuple", 2**31]], [1], b"12345678"),
    "dtype with a shape of nothing": _array(
        ["list", ["tuple", "a", "|S0", ["tuple", 2**31, 2**31]]], [1]
    ),
    "unit of nothing": _array("<M8[0s]", [1], b"12345678"),
    "unit over nothing": _array("<M8[s/0]", [1], b"12345678"),
    "array for a zone": b"\x91\x92\xc7\x00\x90" + _array("|S0", [2**40])[1:],
    "huge dtype": _array("|V2147483647", [1]),
    "huge dtype, no elements": _array("|V2147483647", [0]),
}


@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS.values(), ids=HOSTILE_PAYLOADS)
@pytest.mark.parametrize("flags", [0, 1, 5, 9, 15])
def test_p8_hostile_payloads_raise_and_allocate_nothing(payload, flags):
    allow = bool(flags & 2)
    data = partition_file([(flags, 1, payload)], PLAN, 1, 3)
    tracemalloc.start()
    try:
        found = decode(data, allow_pickle=allow)
        assert len(found) == 1  # harmless after all: one record was stated
    except CheckpointError as error:
        message = str(error)
    else:
        message = WHERE
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert WHERE in message
    assert peak < 20_000_000


def test_p8_stated_lengths_allocate_nothing_before_they_are_checked(tmp_path):
    flags, count, payload = array_block([1])
    head, end = header(PLAN, 1, 3), partition_file([], PLAN, 1, 3)[-FOOTER_BYTES:]
    compressed, _ = encode([1], "zstd")
    frame = compressed[33 + 17 : -FOOTER_BYTES]
    zstd_head = header(PLAN, 1, 3, compression=1)
    huge = 2**32 - 1
    files = [
        head + block(flags, count, payload, stored=huge) + end,
        head + block(flags, count, payload, length=huge) + end,
        head + block(flags, huge, payload) + end,
        zstd_head + block(flags, count, frame, length=huge) + end,
        zstd_head + block(flags, count, frame, length=0) + end,
        head + footer(2**63, 2**63, 2**63, 0.0, False, bytes(16)),
        header(PLAN, 1, huge, bag=b"") + end,
    ]
    for data in files:
        path = tmp_path / "file"
        path.write_bytes(data)
        # The size is the manifest's word, which may be as hostile as the file.
        for size in (len(data), 2**62):
            tracemalloc.start()
            with pytest.raises(CheckpointError), path.open("rb") as source:
                for _ in decode_partition(
                    source, size, Header(PLAN, 1, 3), allow_pickle=False, where=WHERE
                ):
                    pass
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 20_000_000, (data, size)


FILE = f"part-00000-{plan_digest(1)}-{0:016x}.msgpack"
HOSTILE_FILE_NAMES = [
    "../x",
    f"../{FILE}",
    f"/etc/{FILE}",
    f"sub/{FILE}",
    f"./{FILE}",
    f"..\\{FILE}",
    f"{FILE}\n",
    f" {FILE}",
    f"memory://{FILE}",
    "__done__",
    "",
    FILE.replace("part-00000", "part-00001"),
    FILE.replace("part-00000", "part-0"),
    FILE.replace("part-00000", "part-" + "\u0660" * 5),
    FILE.replace("part-00000", "part-0000000000"),
    FILE.replace(".msgpack", ".txt"),
    FILE.replace(".msgpack", ".pkl"),
    FILE.replace(plan_digest(1), "deadbeef"),
    "part-0.pkl",
    None,
    5,
    ["part"],
]


@pytest.mark.parametrize("filename", HOSTILE_FILE_NAMES, ids=repr)
def test_p6_a_manifest_that_names_another_file_is_corrupt(tmp_path, filename):
    write_checkpoint(tmp_path / "a", [[array_block([1])]])
    marker = tmp_path / "a" / "__done__"
    assert load(tmp_path, "a") == [1]
    body = json.loads(marker.read_bytes())["manifest"]
    body["partitions"]["file"] = [filename]
    marker.write_bytes(sealed(body))
    with pytest.raises(CorruptCheckpointError, match="'a'"):
        load(tmp_path, "a")


def test_p6_clear_removes_nothing_outside_the_folder_whatever_the_marker_says(tmp_path):
    victim = tmp_path / "root" / "victim"
    write_checkpoint(tmp_path / "root" / "a", [[array_block([1])]])
    victim.write_bytes(b"mine")
    marker = tmp_path / "root" / "a" / "__done__"
    body = json.loads(marker.read_bytes())["manifest"]
    body["partitions"]["file"] = ["../victim"]
    marker.write_bytes(sealed(body))
    (tmp_path / "root" / "a" / "part-0.pkl").write_bytes(b"")
    Checkpointer(tmp_path / "root").clear("a")
    assert victim.read_bytes() == b"mine"
    assert not marker.exists()


def test_a_marker_of_a_newer_version_is_told_from_damage(tmp_path):
    write_checkpoint(tmp_path / "a", [[array_block([1])]], format_version=2)
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        load(tmp_path, "a")


_any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["../x", FILE, 2**70, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=4,
)


def _places(value, place=()):
    yield place
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, member in pairs:
        yield from _places(member, (*place, key))


def _replaced(value, place, new):
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _replaced(value[place[0]], place[1:], new)
    return copy


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_p5_a_sealed_manifest_of_any_shape_loads_or_is_refused(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("root")
    write_checkpoint(root / "a", [[array_block([1])], [array_block([2])]])
    marker = root / "a" / "__done__"
    body = json.loads(marker.read_bytes())["manifest"]
    place = data.draw(st.sampled_from(list(_places(body))))
    changed = _replaced(body, place, data.draw(_any_json))
    if isinstance(changed, dict) and changed and data.draw(st.booleans()):
        changed.pop(data.draw(st.sampled_from(sorted(changed))), None)
    marker.write_bytes(sealed(json.dumps(changed).encode()))
    found = None
    with contextlib.suppress(CheckpointError):
        found = load(root, "a")
    assert found in (None, [1, 2])
    assert Checkpointer(root).status("a").state in ("done", "partial")


@pytest.mark.parametrize("form", ["msgpack", "text"])
@pytest.mark.parametrize("records", [0, 10**14])
def test_p5_a_list_makes_no_room_for_records_that_only_the_manifest_states(
    tmp_path, form, records
):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    bag = db.from_sequence(["x" * 50], npartitions=1)
    checkpointer.checkpoint("a", bag, textfile=form == "text", scheduler="sync")
    marker = tmp_path / "a" / "__done__"
    body = json.loads(marker.read_bytes())["manifest"]
    body["partitions"] |= {"records": [records]}
    if form == "text":  # whose size nobody needs to read it
        body["partitions"]["bytes"] = [10**14]
    else:
        (size,) = body["partitions"]["bytes"]
        body["partitions"]["records"] = [min(records, size * 4096)]
    marker.write_bytes(sealed(json.dumps(body).encode()))
    tracemalloc.start()
    with pytest.raises(CorruptCheckpointError, match="partition 0 of"):
        load(tmp_path, "a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert [found.index for found in checkpointer.store.verify("a")] == [0]


def test_p5_verify_names_and_repair_heals_a_block_that_does_not_decode(tmp_path):
    """Under checksums that are right, as a defect of a writer would leave it."""
    records = [[1], [2], [3]]
    blocks = [array_block([record]) for record in records]
    blocks[1] = (1, 1, b"\x91\x92\xc7\x00\x9b\x90")  # a set of a list
    write_checkpoint(tmp_path / "a", [[block] for block in blocks])
    checkpointer = Checkpointer(tmp_path, verbose=False)
    with pytest.raises(CorruptCheckpointError, match="partition 1 of"):
        load(tmp_path, "a")
    (found,) = checkpointer.store.verify("a")
    assert (found.index, "does not decode" in found.reason) == (1, True)
    bag = db.from_sequence(records, npartitions=3)
    assert checkpointer.repair("a", bag).compute(scheduler="sync") == records


def test_p8_verify_unpickles_only_when_allowed(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    allowing = Checkpointer(tmp_path / "root", verbose=False, allow_pickle=True)
    bag = db.from_sequence([CreatesFile(str(victim))], npartitions=1)
    allowing.checkpoint("a", bag, scheduler="sync")
    victim.unlink(missing_ok=True)  # dask may copy what a bag is made from
    assert allowing.store.verify("a") == []
    assert not victim.exists()
    assert allowing.store.verify("a", allow_pickle=True) == []
    assert victim.exists()


def test_p5_a_sealed_manifest_with_a_digest_that_is_no_text_is_refused(tmp_path):
    write_checkpoint(tmp_path / "a", [[array_block([1])]])
    marker = tmp_path / "a" / "__done__"
    body = json.loads(marker.read_bytes())["manifest"]
    body["partitions"]["digest"] = [float("nan")]
    marker.write_bytes(sealed(json.dumps(body).encode()))
    with pytest.raises(CheckpointError, match="is no manifest"):
        load(tmp_path, "a")
