"""The format on disk, held to docs/format.md and to files of earlier versions."""

import json
import shutil
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import dask
import dask.bag as db
import msgpack
import numpy as np
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, PickleNotAllowedError, Plan
from agatha_ckpt._format.blocks import encode_blocks
from tests.format.memory_file import encode
from tests.format.specification import (
    FINGERPRINT,
    SAMPLES,
    array_block,
    canonical,
    content_digest,
    partition_file,
    read_partition,
    sealed,
    sha256,
    write_checkpoint,
)
from tests.format.values import assert_same, load

PLAIN = [None, True, -5, 2**64 - 1, 1.5, "ह", b"\x00", [1, [2]], {"a": {1: None}}]
FLAT = [("a", 1, 2.5), ("b", None, True), ()]


def test_a_partition_file_has_exactly_the_bytes_of_the_format_page():
    code = "parse=01234567;größe=89abcdef"
    for records, flags in ((PLAIN, 0), (FLAT, 4)):
        file, info = encode(records, code=code)
        _, _, (seconds, *_) = read_partition(file.data)
        blocks = [array_block(records, flags)]
        options = {"code": code.encode(), "seconds": seconds}
        assert file.data == partition_file(blocks, 1, 3, **options)
        assert info.code == code


def test_values_have_the_bytes_of_the_example_in_the_format_page():
    (found,) = encode_blocks([(1, [2])], False, "x")
    payload = bytes.fromhex("DD 00 00 00 01  93  C7 00 9C  01  91 02")
    assert found == (1, 1, payload)


def test_another_program_can_read_what_the_library_writes(tmp_path):
    bag = db.from_sequence(PLAIN, npartitions=3)
    Checkpointer(tmp_path, verbose=False).checkpoint("a", bag, scheduler="sync")
    marker = (tmp_path / "a" / "__done__").read_bytes()
    manifest = json.loads(marker)["checkpoint"]
    assert marker == sealed(manifest)
    partitions = manifest["partitions"]
    found = []
    for index, name in enumerate(partitions["file"]):
        data = (tmp_path / "a" / name).read_bytes()
        head, records, (*_, digest, code) = read_partition(data)
        fingerprint = head[3].hex()
        assert head == [1, 0, index, bytes.fromhex(fingerprint), 3]
        assert name.startswith(f"part-{index:05d}-{fingerprint}-00000000-")
        assert partitions["bytes"][index] == len(data)
        assert partitions["records"][index] == len(records)
        assert partitions["digest"][index] == digest.hex()
        assert manifest["codes"][partitions["code"][index]] == code.decode()
        found += records
    assert found == PLAIN
    content = ["msgpack", partitions["digest"]]
    assert manifest["id"] == sha256(canonical(content), 32)


def test_the_library_can_read_what_another_program_writes(tmp_path):
    partitions = [[array_block(PLAIN), array_block(FLAT, 4)], [], [array_block([None])]]
    write_checkpoint(tmp_path / "a", partitions)
    assert_same(load(tmp_path, "a"), [*PLAIN, *FLAT, None])
    store = CheckpointStore(tmp_path)
    assert store.verify("a") == []
    assert store.manifest("a").fingerprints == (FINGERPRINT,) * 3


# ---- samples of format version 1, see data/make_samples.py ----

TEXTS = [np.str_("ह"), np.bytes_(b"x")]
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
            [np.float64(1.5), np.int8(-1), np.bool_(True), *TEXTS],
            np.void(b"\x01\x00"),
        ],
        ["lone surrogate \ud800", {"\udfff": ("\ud800",)}],
        [("flat", 1), ("tuples", 2)],
    ],
    "text": [["line 1", "line 2"], [], ["हिन्दी", "", " \u2028\x0b "]],
    "compressed": [["line 1", "line 2"] * 500, [], ["हिन्दी", "", " \u2028\x0b "] * 500],
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
    assert_same(list(map(list, partitions)), expected)
    assert checkpointer.store.verify(name) == []


def test_equal_records_still_encode_to_the_digests_in_the_samples(sample):
    name, expected = sample
    body = json.loads((SAMPLES / name / "__done__").read_bytes())["checkpoint"]
    digests = []
    for records in expected:
        if name == "text":
            data = "".join(f"{line}\n" for line in records).encode()
            digests.append(sha256(data, 32))
        else:
            blocks = encode_blocks(records, name == "pickled", "x")
            digests.append(content_digest(blocks).hex())
    assert body["partitions"]["digest"] == digests
    content = [body["plan"]["format"], digests]
    assert body["id"] == sha256(canonical(content), 32)


def test_markers_of_format_1_keep_their_content():
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


def test_p8_the_pickled_sample_does_not_load_unless_allowed():
    with pytest.raises(PickleNotAllowedError):
        load(SAMPLES, "pickled")
