"""Damaged and hostile files, and checkpoints of them."""

import hashlib
import json
import struct
import sys
import zlib

import cloudpickle
import msgpack
import numpy as np

from agatha_ckpt._format.types import Kind
from tests.format import hostile
from tests.format.specification import (
    array_block,
    block,
    canonical,
    content_digest,
    filename,
    footer,
    header,
    manifest_body,
    partition_file,
    sealed,
    sha256,
)
from tests.format.values import CreatesFile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MB = 1_000_000
PEAK_BYTES = 160 * MB  # that a hostile checkpoint may take
HEADER_BYTES, BLOCK_BYTES, FOOTER_BYTES = 39, 17, 59
RECORDS = [["one", 1], ["two", 2]]  # of the two partitions of a hostile checkpoint

# ---- accidents ----


def flips(data):
    """Yield *data* with each of its bits changed."""
    for position, byte in enumerate(data):
        before, after = data[:position], data[position + 1 :]
        for bit in range(8):
            yield before + bytes([byte ^ 1 << bit]) + after


def truncations(data):
    """Yield each beginning of *data*."""
    for length in range(len(data)):
        yield data[:length]


def additions(data):
    """Yield *data* with bytes before, after and in the middle."""
    middle = len(data) // 2
    for more in (b"\0", b"\n", b" ", b"x\n", bytes(1000), data, data[-FOOTER_BYTES:]):
        yield from (data + more, more + data, data[:middle] + more + data[middle:])


def edited(data, rng):
    """Return *data* after one to four random edits."""
    for _ in range(rng.randint(1, 4)):
        at, much = rng.randrange(len(data) + 1), rng.randrange(40)
        new = rng.randbytes(rng.randint(1, 12))
        match rng.choice(("overwrite", "insert", "delete", "repeat", "swap", "cut")):
            case "overwrite":
                data = data[:at] + new + data[at + len(new) :]
            case "insert":
                data = data[:at] + new + data[at:]
            case "delete":
                data = data[:at] + data[at + much :]
            case "repeat":
                data = data[: at + much] + data[at:]
            case "swap":
                left, right = data[at : at + much], data[at + much : at + 2 * much]
                data = data[:at] + right + left + data[at + 2 * much :]
            case "cut":
                data = data[:at]
    return data


# ---- files whose checksums are right ----


def compressed_file(blocks, index, npartitions):
    """Return a compressed file of *blocks*, which are (flags, records, payload)."""
    stored = [(*b, zstd.compress(b[2], 1)) for b in blocks]
    data = header(index, npartitions, compression=1) + b"".join(
        block(flags, count, frame, length=len(payload))
        for flags, count, payload, frame in stored
    )
    records = sum(count for _, count, _ in blocks)
    size, digest = len(data) + FOOTER_BYTES, content_digest(blocks)
    return data + footer(records, len(blocks), size, 0.0, False, digest)


def bomb(count, head, unit, times, *, lies_by=0):
    """Return a small file of one block, and the digest of its decompressed content.

    The block is *head* and *times* megabytes of the byte *unit*; it states *lies_by*
    bytes less.
    """
    compressor, chunk, crc = zstd.ZstdCompressor(level=1), unit * MB, zlib.crc32(head)
    frame = compressor.compress(head)
    for _ in range(times):
        frame += compressor.compress(chunk)
        crc = zlib.crc32(chunk, crc)
    frame += compressor.flush()
    length = len(head) + times * MB - lies_by
    digest = hashlib.sha256(struct.pack("<BIII", 0, count, length, crc)).digest()[:16]
    data = header(0, 2, compression=1) + block(0, count, frame, length=length)
    size = len(data) + FOOTER_BYTES
    return data + footer(count, 1, size, 0.0, False, digest), count, digest


def blocks_of(data):
    """Return whether a file is compressed, and its blocks; None if it is not a file."""
    at = HEADER_BYTES
    if len(data) < at + FOOTER_BYTES:
        return None
    compressed = data[10] == 1
    end = len(data) - FOOTER_BYTES - int.from_bytes(data[-6:-4], "little")
    blocks = []
    while at + BLOCK_BYTES <= end:
        flags, count, _, stored = struct.unpack_from("<BIII", data, at)
        payload = data[at + BLOCK_BYTES : at + BLOCK_BYTES + stored]
        if compressed:
            try:
                payload = zstd.ZstdDecompressor().decompress(payload, 1 << 20)
            except zstd.ZstdError:
                return None
        blocks.append((flags, count, payload))
        at += BLOCK_BYTES + stored
    return compressed, blocks


def checkpoint_files(first=None, **columns):
    """Return the files of a checkpoint of two partitions, the first of them hostile.

    Parameters
    ----------
    first : (data, records, digest), optional
        The file of partition 0, and its entry in the manifest.
    **columns
        Columns of the manifest.
    """
    honest = [hostile_block(*array_block([r]), index=i) for i, r in enumerate(RECORDS)]
    parts = [first or honest[0], honest[1]]
    names = [filename(index) for index in range(2)]
    digests, counts = [p[2].hex() for p in parts], [p[1] for p in parts]
    body = manifest_body(names, digests, counts, [len(p[0]) for p in parts])
    body["partitions"] |= columns
    content = ["msgpack", body["partitions"]["digest"]]
    body["id"] = sha256(canonical(content), 32)
    return dict(zip(names, (p[0] for p in parts), strict=True)) | marked(body)


def marked(body):
    """Return the done marker of a manifest, given as JSON or as what JSON can hold."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"__done__": sealed(data)}


def hostile_block(flags, count, payload, compress=False, index=0):
    """Return the file of one block as `checkpoint_files` takes it."""
    blocks = [(flags, count, payload)]
    make = compressed_file if compress else partition_file
    return make(blocks, index, 2), count, content_digest(blocks)


# ---- hostile blocks: flags, stated records, payload ----

TUPLE, SET, FROZENSET, DEQUE, ZONE = (
    bytes([0xC7, 0, code]) for code in (0x9C, 0x9B, 0x9A, 0x97, 0x90)
)


def extension(code, payload):
    return b"\xc9" + struct.pack(">Ib", len(payload), code) + payload


def _nested(head, depth):
    return b"\x91" + head * depth + b"\0" * 60_000


_65_000 = struct.pack(">I", 65_000)
BLOCKS = {name: (1, 1, payload) for name, payload in hostile.PAYLOADS.items()} | {
    "a pickle without permission": (
        *(1, 1),
        b"\x91" + extension(-70, b"cos\nsystem\n(S'true'\ntR."),
    ),
    "a decimal of a huge exponent": (1, 1, b"\x91" + extension(-52, b"1E+999999999")),
    "a big int without bytes": (1, 1, b"\x91" + extension(-50, b"")),
    "a zone by an absolute path": (1, 1, b"\x91\x92" + ZONE + b"\xab/etc/passwd"),
    "a zone that is a folder": (1, 1, b"\x91\x92" + ZONE + b"\xa6Europe"),
    "a deque of a length beyond 64 bits": (
        *(1, 1),
        b"\x91\x92" + DEQUE + b"\xcf" + b"\xff" * 8,
    ),
    "a dtype that nests": (
        *(1, 1),
        hostile.array(msgpack.unpackb(b"\x92\xa4list" * 400 + b"\xc0"), [1], b"12345"),
    ),
    "a dtype of 16,000 fields": (1, 1, hostile.array("i1," * 16_000, [1], b"1")),
    "a marker among the records": (1, 2, b"\x92\x01" + TUPLE),
    "a marker that is a key": (1, 1, b"\x91\x81" + TUPLE + b"\x01"),
    "text for the records": (0, 2, b"\xa2ab"),
    "unknown flags": (240, 1, b"\x91\x01"),
    "fewer records than stated": (0, 5, b"\x92\x01\x02"),
    "2**32 - 1 records stated": (0, 2**32 - 1, b"\x92\x01\x02"),
    "an empty payload": (0, 0, b""),
    "a flag for a pickle without one": (2, 1, b"\x91\x01"),
    "tuples that state 65,000 members each": (4, 1, _nested(b"\xdd" + _65_000, 1_000)),
    "lists that state 65,000 members each": (0, 1, _nested(b"\xdd" + _65_000, 1_020)),
    "text that states 65,000 letters each": (0, 1, b"\x91\xda\xfd\xe8" * 5),
    "100,000 nested lists": (0, 1, b"\x91" * 100_000 + b"\x01"),
    "100,000 nested maps": (0, 1, b"\x91" + b"\x81\x01" * 100_000 + b"\x01"),
    "9,000 nested tuples in a set": (
        *(1, 1),
        b"\x91\x92" + SET + (b"\x92" + TUPLE) * 9_000 + b"\x01",
    ),
    "9,000 nested frozensets": (1, 1, b"\x91" + (b"\x92" + FROZENSET) * 9_000 + b"\1"),
    "9,000 nested keys": (4, 1, b"\x91\x81" + b"\x91" * 9_000 + b"\x01\x01"),
    "300,000 empty maps": (
        *(0, 300_000),
        b"\xdd" + struct.pack(">I", 300_000) + b"\x80" * 300_000,
    ),
}

# ---- hostile manifests ----

ANYTHING = (
    *(None, True, -1, 0.0, 2.0, 1e999, float("nan"), 2**63, 2**70, 10**400),
    *("", "2", "../x", "\ud800", "\0", [], {}, [[]], {"a": 1}, "x" * 100_000),
)


def _manifests():
    """Yield name and files of each checkpoint with a hostile manifest."""
    files = checkpoint_files()
    usual = json.loads(files["__done__"])["checkpoint"]
    columns = usual["partitions"]
    for value in ANYTHING:
        shown = repr(value)[:20]
        for member in usual:
            yield f"{member} {shown}", files | marked(usual | {member: value})
        for member in usual["plan"]:
            plan = usual["plan"] | {member: value}
            yield f"plan {member} {shown}", files | marked(usual | {"plan": plan})
        for column in columns:
            made = checkpoint_files(**{column: [value, columns[column][1]]})
            yield f"{column} {shown} and as it was", made
            yield f"column {column} {shown}", checkpoint_files(**{column: value})
    for member in usual:
        left = {key: value for key, value in usual.items() if key != member}
        yield f"without {member}", files | marked(left)
    for name, changed in {
        "counts beyond memory": {
            column: [2**62, columns[column][1]] for column in ("records", "bytes")
        },
        "counts of a terabyte": {
            column: [2**40, columns[column][1]] for column in ("records", "bytes")
        },
        "other counts": {"records": [7, 1]},
        "no counts": {"records": [0, 0]},
        "digests not given": {"digest": ["", ""]},
        "digests swapped": {"digest": columns["digest"][::-1]},
        "files swapped": {"file": columns["file"][::-1]},
        "one file twice": {"file": columns["file"][:1] * 2},
    }.items():
        yield name, checkpoint_files(**changed)
    text = json.dumps(usual)
    for name, (old, new) in {
        "a key twice": ('"token"', '"token": 5, "token"'),
        "all partitions twice": ('"partitions"', '"partitions": {}, "partitions"'),
        "100,000 nested lists": ('"token"', f'"more": {"[" * 10**5}, "token"'),
        "900 nested lists": ('"token"', f'"more": {"[" * 900 + "]" * 900}, "token"'),
        "a list of a million": ('"token"', f'"more": [{"0," * 10**6}0], "token"'),
        "a number of 5,000 digits": ('"token"', f'"more": {"9" * 5_000}, "token"'),
        "a version of a million letters": ("null", f'"{"x" * 10**6}"'),
        "trailing text": ('"token"', '"token": 1} {"token"'),
        "trailing seal": ('"token"', '"more": "\\",\\"seal\\":\\"", "token"'),
        "a path upwards": ("part-", "../part-"),
        "an absolute path": ("part-", "/etc/part-"),
        "a URL": ("part-", "file:///part-"),
        "a file name with a nul": (".msgpack", ".msgpack\\u0000"),
        "a text file": (".msgpack", ".txt"),
    }.items():
        assert old in text
        yield name, files | marked(text.replace(old, new, 1).encode())
    data = canonical(usual)
    for name, changed in {
        "in UTF-16": text.encode("utf-16"),
        "with a byte order mark": b"\xef\xbb\xbf" + data,
        "not UTF-8": data.replace(b"0.0", b"\xff", 1),
        "with a nul": data + b"\0",
        "of nothing": b"",
        "of a list": b"[" + data + b"]",
        "of a number": b"1",
    }.items():
        yield f"a manifest {name}", files | marked(changed)
    for marker in (
        *(b"part-" + b"9" * 5_000 + b".pkl\n", b"part-0.pkl\n" * 100_000),
        *(b"/etc/passwd\n../../part-0.pkl\n", b"part-0.txt\n", b"\xff\xfe", b"{}"),
        *(b"{", b'{"manifest":{},"seal":""}\n', b'{"checkpoint":{},"seal":""}\n'),
    ):
        yield f"the marker {marker[:20]!r}", files | {"__done__": marker}


# ---- hostile files ----


def _files(victim):
    """Yield name and files of each checkpoint with a hostile partition file."""
    for number, (name, made) in enumerate(BLOCKS.items()):
        yield name, checkpoint_files(hostile_block(*made, compress=number % 2 == 1))
    array_of = b"\xdd" + struct.pack(">I", 300 * MB)
    for name, made in {
        # What is stated truly is believed: one record may be that large.
        "a record of 20 MB of zeros from 1 kB": bomb(
            1, b"\x91\xc6" + struct.pack(">I", 20 * MB), b"\0", 20
        ),
        "300 MB of zeros that state 10": bomb(
            1, b"\x91\xc6" + struct.pack(">I", 300 * MB), b"\0", 300, lies_by=290 * MB
        ),
        "300 million nils from 10 kB": bomb(300 * MB, array_of, b"\xc0", 300),
        "20 MB that are not msgpack": bomb(1, b"\xc1", b"\xc1", 20),
    }.items():
        yield name, checkpoint_files(made)
    for seconds in (float("nan"), float("inf"), -1.0):
        blocks = [array_block([RECORDS[0]])]
        data = partition_file(blocks, 0, 2, seconds=seconds)
        files = checkpoint_files((data, 1, content_digest(blocks)))
        yield f"seconds {seconds} in the footer", files
        yield f"seconds {seconds} in a partial", _without_marker(files)
    code = partition_file([array_block([RECORDS[0]])], 0, 2, code=b"\xff" * 3_000)
    yield (
        "a code that is not UTF-8",
        _without_marker(checkpoint_files() | {filename(0): code}),
    )
    stated = hostile_block(0, 2**32 - 1, b"\x91\x01")
    yield "a partial of stated records", _without_marker(checkpoint_files(stated))
    pickled = cloudpickle.dumps(CreatesFile(victim))
    for flags in (1, 3):
        first = hostile_block(flags, 1, b"\x91" + extension(-70, pickled))
        yield f"a pickle under the flags {flags}", checkpoint_files(first)
    agatha = {"part-0.pkl": pickled, "part-1.pkl": pickled}
    yield "a pickle of Agatha", agatha | {"__done__": b"part-0.pkl\npart-1.pkl\n"}


def _without_marker(files):
    return {name: data for name, data in files.items() if name != "__done__"}


def hostile_cases(victim):
    """Return name and files of each hostile checkpoint; loading none makes *victim*."""
    return [*_manifests(), *_files(str(victim))]


def stranger(records):
    """Return the part of *records* that is not a value of the format, or is huge."""
    level = [records]
    while level:
        below = []
        for value in level:
            if isinstance(value, Kind):
                return "an object of the library's own"
            if isinstance(value, np.ndarray) and value.nbytes > PEAK_BYTES:
                return f"an array of {value.nbytes:,} bytes"
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set | frozenset):
                below += value
        level = below
    return None
