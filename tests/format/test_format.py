"""The format on disk, held to docs/format.md and to files of earlier versions."""

import hashlib
import json
import shutil
import struct
import zlib
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import dask
import dask.bag as db
import msgpack
import numpy as np
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, PickleNotAllowedError, Plan
from agatha_ckpt._format.blocks import encode_blocks
from agatha_ckpt._format.codec import encode_partition
from agatha_ckpt._format.framing import Header
from tests.format.test_types import assert_same

SAMPLES = Path(__file__).parent / "data" / "v1"

# ---- a reader and a writer from docs/format.md alone ----


def checksum(data):
    return struct.pack("<I", zlib.crc32(data))


def canonical(value):
    return json.dumps(value, separators=(",", ":")).encode()


def header(plan, index, npartitions, *, bag=b"", version=1, compression=0):
    parts = (version, compression, index, plan.encode(), npartitions, len(bag))
    data = struct.pack("<8sHBI8sIH", b"\x89AGCKPT\n", *parts) + bag
    return data + checksum(data)


def block(flags, records, payload, *, length=None, stored=None):
    """Return a block; *length* and *stored* are what it says of its payload."""
    length = len(payload) if length is None else length
    stored = len(payload) if stored is None else stored
    head = struct.pack("<BIII", flags, records, length, stored)
    return head + checksum(head + checksum(payload)) + payload


def content_digest(blocks):
    running = hashlib.sha256()
    for flags, records, payload in blocks:
        crc = zlib.crc32(payload)
        running.update(struct.pack("<BIII", flags, records, len(payload), crc))
    return running.digest()[:16]


def footer(records, blocks, size, seconds, pickle, digest):
    parts = (records, blocks, size, seconds, pickle, digest)
    data = struct.pack("<4sQQQdB16s", b"AGCE", *parts)
    return data + checksum(data)


def partition_file(blocks, plan, index, npartitions, *, seconds=0.0, **options):
    """Return a file of *blocks*, which are (flags, records, payload)."""
    data = header(plan, index, npartitions, **options)
    data += b"".join(block(*b) for b in blocks)
    records = sum(count for _, count, _ in blocks)
    pickle = any(flags & 2 for flags, _, _ in blocks)
    size, digest = len(data) + 57, content_digest(blocks)
    return data + footer(records, len(blocks), size, seconds, pickle, digest)


def read_partition(data):
    """Return header, records and footer of an uncompressed file of plain values."""
    magic, *head, length = struct.unpack_from("<8sHBI8sIH", data)
    assert magic == b"\x89AGCKPT\n"
    at = 29 + length
    assert data[at : at + 4] == checksum(data[:at])
    at, records, blocks = at + 4, [], []
    while at < len(data) - 57:
        flags, count, size, stored = struct.unpack_from("<BIII", data, at)
        payload = data[at + 17 : at + 17 + stored]
        expected = checksum(data[at : at + 13] + checksum(payload))
        assert (data[at + 13 : at + 17], size) == (expected, len(payload))
        plain = msgpack.unpackb(payload, use_list=not flags & 4, strict_map_key=False)
        assert len(plain) == count
        records += plain
        blocks.append((flags, count, payload))
        at += 17 + stored
    assert data[-4:] == checksum(data[-57:-4])
    magic, count, nblocks, size, *rest, digest = struct.unpack(
        "<4sQQQdB16s", data[-57:-4]
    )
    assert (magic, digest) == (b"AGCE", content_digest(blocks))
    assert (count, nblocks, size) == (len(records), len(blocks), len(data))
    return (*head, data[29 : 29 + length]), records, (*rest, digest)


def plan_digest(npartitions, form="msgpack", version=None, parent_ids=()):
    plan = [npartitions, form, version, sorted(set(parent_ids))]
    return hashlib.sha256(canonical(plan)).hexdigest()[:8]


def manifest_body(files, digests, records, sizes, *, form="msgpack", **changes):
    """Return the manifest of a checkpoint without version label and parents."""
    n, content = len(files), [form, list(digests)]
    plan = {"npartitions": n, "format": form, "version": None}
    return {
        "format_version": 1,
        "plan": {**plan, "digest": plan_digest(n, form)},
        "parents": [],
        "id": hashlib.sha256(canonical(content)).hexdigest()[:32],
        "created": "2025-01-02T03:04:05+00:00",
        "library": "0.0",
        "token": "00112233445566ff",
        "partitions": {
            "file": list(files),
            "records": list(records),
            "bytes": list(sizes),
            "digest": list(digests),
            "seconds": [0.0] * n,
            "holds_pickle": [False] * n,
        },
        **changes,
    }


def sealed(body):
    """Return a done marker that says *body* (bytes, or a value for JSON)."""
    data = body if isinstance(body, bytes) else canonical(body)
    seal = hashlib.sha256(data).hexdigest().encode()
    return b'{"manifest":' + data + b',"seal":"' + seal + b'"}\n'


def write_checkpoint(folder, partitions, **changes):
    """Write a done checkpoint of *partitions*, each a list of blocks."""
    folder.mkdir(parents=True)
    n = len(partitions)
    plan, rows = plan_digest(n), []
    for index, blocks in enumerate(partitions):
        data = partition_file(blocks, plan, index, n)
        name = f"part-{index:05d}-{plan}-{index:016x}.msgpack"
        (folder / name).write_bytes(data)
        count = sum(records for _, records, _ in blocks)
        rows.append((name, content_digest(blocks).hex(), count, len(data)))
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    (folder / "__done__").write_bytes(sealed(manifest_body(*columns, **changes)))


def array_block(records, flags=0):
    payload = struct.pack(">BI", 0xDD, len(records))
    return flags, len(records), payload + b"".join(map(msgpack.packb, records))


def load(root, name, **settings):
    bag = Checkpointer(root, verbose=False, **settings).checkpoint(name)
    return bag.compute(scheduler="sync")


PLAIN = [None, True, -5, 2**64 - 1, 1.5, "ह", b"\x00", [1, [2]], {"a": {1: None}}]
FLAT = [("a", 1, 2.5), ("b", None, True), ()]


def test_a_partition_file_has_exactly_the_bytes_that_the_format_says():
    for records, flags in ((PLAIN, 0), (FLAT, 4)):
        sink = BytesIO()
        said = Header("0123abcd", 7, 9, bag="bag-name")
        encode_partition(records, sink, said, allow_pickle=False, where="x")
        data = sink.getvalue()
        (seconds,) = struct.unpack_from("<d", data, len(data) - 57 + 28)
        blocks = [array_block(records, flags)]
        options = {"bag": b"bag-name", "seconds": seconds}
        assert data == partition_file(blocks, "0123abcd", 7, 9, **options)


def test_values_have_the_bytes_of_the_example_in_the_format_page():
    (found,) = encode_blocks([(1, [2])], False, "x")
    payload = bytes.fromhex("DD 00 00 00 01  93  C7 00 9C  01  91 02")
    assert found == (1, 1, payload)


def test_another_program_can_read_what_the_library_writes(tmp_path):
    bag = db.from_sequence(PLAIN, npartitions=3)
    Checkpointer(tmp_path, verbose=False).checkpoint("a", bag, scheduler="sync")
    marker = (tmp_path / "a" / "__done__").read_bytes()
    document = json.loads(marker)
    assert marker == sealed(document["manifest"])
    partitions = document["manifest"]["partitions"]
    found = []
    for index, name in enumerate(partitions["file"]):
        data = (tmp_path / "a" / name).read_bytes()
        head, records, foot = read_partition(data)
        plan = plan_digest(3)
        assert head == (1, 0, index, plan.encode(), 3, bag.name.encode())
        assert name.startswith(f"part-{index:05d}-{plan}-")
        assert partitions["bytes"][index] == len(data)
        assert partitions["records"][index] == len(records)
        assert partitions["digest"][index] == foot[-1].hex()
        found += records
    assert found == PLAIN
    content = ["msgpack", partitions["digest"]]
    identity = hashlib.sha256(canonical(content)).hexdigest()[:32]
    assert document["manifest"]["id"] == identity


def test_the_library_can_read_what_another_program_writes(tmp_path):
    partitions = [[array_block(PLAIN), array_block(FLAT, 4)], [], [array_block([None])]]
    write_checkpoint(tmp_path / "a", partitions)
    assert_same(load(tmp_path, "a"), [*PLAIN, *FLAT, None])
    assert CheckpointStore(tmp_path).verify("a") == []


# ---- samples of format version 1, see data/make_samples.py ----

SAMPLE_RECORDS = {
    "every-type": [
        [
            [None, True, False, 0, -1, 2**63, 2**64 - 1, 1.5, -0.0, float("inf")],
            ["", "a\0", "हिन्दी", b"\x00\xff", {"k": [1], 2: {3.5: None}}],
            [2**64, -(2**63) - 1, 10**40, complex(1, -0.0)],
            (1, (2, [3, ()]), {(4, "k"): (5,)}),
            [{1, 2, 3}, {"a", None, (1,)}, set(), frozenset({frozenset({1}), b"x"})],
            [bytearray(), bytearray(b"\x01\x02"), b"\x01\x02"],
        ],
        [
            Counter({"b": 2, "a": -1}),
            [OrderedDict([("z", 1), ("a", (2,))]), defaultdict(None, {"k": 1})],
            [deque([1, (2,)]), deque([3], maxlen=4), deque(maxlen=0)],
            [date(1, 1, 1), datetime(2025, 10, 26, 2, 30, 1, 999999, fold=1)],
            [datetime(2025, 1, 2, tzinfo=UTC), time(23, 59, 59, 1, UTC, fold=1)],
            [timezone(timedelta(hours=5, minutes=30), "IST"), UTC],
            [timedelta(-1, 2, 3), timedelta.max],
            [Decimal("-0"), Decimal("sNaN5"), Decimal("1.50"), Fraction(-1, 3)],
            UUID("12345678-1234-5678-1234-567812345678"),
            [PurePosixPath("/a/b c"), PureWindowsPath("C:\\a")],
            [msgpack.ExtType(0, b""), msgpack.ExtType(127, b"x")],
            [msgpack.Timestamp(1, 2), msgpack.Timestamp(-1, 0)],
        ],
        [
            np.arange(6, dtype="<i4").reshape(2, 3),
            [np.array(5, "<u2"), np.zeros((0, 2), "<f4"), np.array([1, 2], ">i2")],
            [np.array([True, False]), np.array([1 + 2j], "<c8")],
            [np.array(["a", "ह"], "<U2"), np.array([b"ab"], "S3")],
            np.array(
                [(1, b"x", [1.0, 2.0])], [("a", "<i2"), ("b", "S1"), ("c", "<f8", 2)]
            ),
            [np.array(["2025-01-02", "NaT"], "<M8[D]"), np.timedelta64(5, "25s")],
            [
                np.float64(1.5),
                np.int8(-1),
                np.bool_(True),
                np.str_("ह"),
                np.bytes_(b"x"),
            ],
            np.void(b"\x01\x00"),
        ],
        ["lone surrogate \ud800", {"\udfff": ("\ud800",)}],
        [("flat", 1), ("tuples", 2)],
    ],
    "text": [["line 1", "line 2"], [], ["हिन्दी", "", " \u2028\x0b "]],
    "compressed": [
        ["line 1", "line 2"] * 500,
        [],
        ["हिन्दी", "", " \u2028\x0b "] * 500,
    ],
    "no-partitions": [],
    "an-empty-partition": [[1], [], [2, 3]],
    "pickled": [[range(3), (1, slice(1, 2))]],
    "of-this-machine": [
        [PosixPath("/a/b"), ZoneInfo("Europe/Berlin")],
        [datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)],
    ]
    if "Europe/Berlin" in zoneinfo.available_timezones()
    else None,
}


@pytest.fixture(params=list(SAMPLE_RECORDS))
def sample(request):
    """Name and records of each sample that this machine can hold."""
    if SAMPLE_RECORDS[request.param] is None:
        pytest.skip("the time zone database is not installed")
    return request.param, SAMPLE_RECORDS[request.param]


def test_p9_samples_of_format_1_load_as_what_was_saved(sample, tmp_path):
    name, expected = sample
    # P7: wherever the root lies.
    root = shutil.copytree(SAMPLES, tmp_path / "a new place")
    checkpointer = Checkpointer(root, verbose=False, allow_pickle=name == "pickled")
    bag = checkpointer.checkpoint(name)
    partitions = dask.compute(*bag.to_delayed(), scheduler="sync")
    assert_same(list(partitions), expected)
    assert checkpointer.store.verify(name) == []


def test_equal_records_still_encode_to_the_digests_in_the_samples(sample):
    name, expected = sample
    body = json.loads((SAMPLES / name / "__done__").read_bytes())["manifest"]
    digests = []
    for records in expected:
        if name == "text":
            data = "".join(f"{line}\n" for line in records).encode()
            digests.append(hashlib.sha256(data).hexdigest()[:32])
        else:
            blocks = encode_blocks(records, name == "pickled", "x")
            digests.append(content_digest(blocks).hex())
    assert body["partitions"]["digest"] == digests
    content = [body["plan"]["format"], digests]
    assert body["id"] == hashlib.sha256(canonical(content)).hexdigest()[:32]


def test_markers_of_format_1_say_what_they_said():
    store = CheckpointStore(SAMPLES)
    assert store.names() == sorted(SAMPLE_RECORDS)
    text, compressed = store.manifest("text"), store.manifest("compressed")
    assert text.plan == Plan(3, "text")
    assert compressed.plan == Plan(3, "msgpack", "v7", (("text", text.id),))
    for name, partitions in SAMPLE_RECORDS.items():
        manifest = store.manifest(name)
        assert manifest.created.startswith("20")
        assert manifest.holds_pickle == (name == "pickled")
        if partitions is not None:
            counts = [info.records for info in manifest.partitions]
            assert counts == list(map(len, partitions))


def test_text_samples_are_plain_lines_for_other_programs():
    (first, second, third) = sorted((SAMPLES / "text").glob("part-*.txt"))
    assert first.read_bytes() == b"line 1\nline 2\n"
    assert second.read_bytes() == b""
    assert third.read_text(encoding="utf-8").split("\n")[0] == "हिन्दी"
    attempt = third.stem.split("-")[-1]
    digest = hashlib.sha256(third.read_bytes()).hexdigest()
    assert attempt[16:] == f"{3:08x}{digest[:16]}"


def test_p8_the_pickled_sample_does_not_load_unless_allowed():
    with pytest.raises(PickleNotAllowedError):
        load(SAMPLES, "pickled")
