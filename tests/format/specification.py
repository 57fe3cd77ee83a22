"""A reader and a writer of the format, made from docs/format.md alone."""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import msgpack

SAMPLES = Path(__file__).parent / "data" / "v1"
FINGERPRINT = "0123456789abcdef" * 2
BASE = "00000000"


def checksum(data):
    return struct.pack("<I", zlib.crc32(data))


def canonical(value):
    return json.dumps(value, separators=(",", ":")).encode()


def sha256(data, digits=64):
    return hashlib.sha256(data).hexdigest()[:digits]


# ---- partition files ----


def filename(index, fingerprint=FINGERPRINT, *, base=BASE, attempt=None):
    attempt = f"{index:016x}" if attempt is None else attempt
    return f"part-{index:05d}-{fingerprint}-{base}-{attempt}.msgpack"


def header(index, npartitions, fingerprint=FINGERPRINT, *, version=1, compression=0):
    parts = (version, compression, index, bytes.fromhex(fingerprint), npartitions)
    data = struct.pack("<8sHBI16sI", b"\x89AGATHA\n", *parts)
    return data + checksum(data)


def block(flags, records, payload, *, length=None, stored=None):
    """Return a block; *length* and *stored* replace those of its payload."""
    length = len(payload) if length is None else length
    stored = len(payload) if stored is None else stored
    head = struct.pack("<BIII", flags, records, length, stored)
    return head + checksum(head + checksum(payload)) + payload


def content_digest(blocks):
    """Return the digest of blocks, which are (flags, records, payload).

    It does not cover those that define classes.
    """
    content = [
        struct.pack("<BIII", flags, records, len(payload), zlib.crc32(payload))
        for flags, records, payload in blocks
        if not flags & 16
    ]
    return hashlib.sha256(b"".join(content)).digest()[:16]


def footer(records, blocks, size, seconds, pickle, digest, code=b""):
    """Return a footer; *size* is that of the file with it."""
    parts = (records, blocks, size, seconds, pickle, digest, len(code))
    fixed = struct.pack("<4sQQQdB16sH", b"AGCE", *parts)
    return code + fixed + checksum(code + fixed)


def partition_file(
    blocks,
    index,
    npartitions,
    fingerprint=FINGERPRINT,
    *,
    seconds=0.0,
    code=b"",
    **header_options,
):
    """Return a file of *blocks*, which are (flags, records, payload)."""
    data = header(index, npartitions, fingerprint, **header_options)
    data += b"".join(block(*b) for b in blocks)
    records = sum(count for _, count, _ in blocks)
    pickle = any(flags & 2 for flags, _, _ in blocks)
    size = len(data) + len(code) + 59
    end = (records, len(blocks), size, seconds, pickle, content_digest(blocks))
    return data + footer(*end, code)


def array_block(records, flags=0):
    payload = struct.pack(">BI", 0xDD, len(records))
    return flags, len(records), payload + b"".join(map(msgpack.packb, records))


def read_partition(data):
    """Return header, records and footer of an uncompressed file of plain values."""
    magic, *head = struct.unpack_from("<8sHBI16sI", data)
    assert (magic, data[35:39]) == (b"\x89AGATHA\n", checksum(data[:35]))
    magic, count, nblocks, size, *rest, length = struct.unpack(
        "<4sQQQdB16sH", data[-59:-4]
    )
    end = len(data) - 59 - length
    assert (magic, size) == (b"AGCE", len(data))
    assert data[-4:] == checksum(data[end:-4])
    at, records, blocks = 39, [], []
    while at < end:
        flags, number, size, stored = struct.unpack_from("<BIII", data, at)
        payload = data[at + 17 : at + 17 + stored]
        expected = checksum(data[at : at + 13] + checksum(payload))
        assert (data[at + 13 : at + 17], size) == (expected, len(payload))
        if not flags & 16:
            options = {"use_list": not flags & 4, "strict_map_key": False}
            plain = msgpack.unpackb(payload, **options)
            assert len(plain) == number
            records += plain
        blocks.append((flags, number, payload))
        at += 17 + stored
    assert (count, nblocks) == (len(records), len(blocks))
    assert rest[-1] == content_digest(blocks)
    return head, records, (*rest, data[end : end + length])


# ---- manifests ----


def manifest_body(files, digests, records, sizes, *, form="msgpack", **changes):
    """Return the manifest of a checkpoint without version label and parents."""
    n = len(files)
    return {
        "format_version": 1,
        "name": "a",
        "plan": {"npartitions": n, "format": form, "version": None},
        "parents": [],
        "id": sha256(canonical([form, list(digests)]), 32),
        "metadata": {},
        "scheme": "1",
        "dask": "2026.1.0",
        "opaque": [],
        "created": "2025-01-02T03:04:05+00:00",
        "library": "0.0",
        "token": "00112233445566ff",
        "codes": ["parse=01234567"],
        "partitions": {
            "file": list(files),
            "records": list(records),
            "bytes": list(sizes),
            "digest": list(digests),
            "seconds": [0.0] * n,
            "holds_pickle": [False] * n,
            "code": [0] * n,
        },
        **changes,
    }


def sealed(body):
    """Return a done marker of *body* (bytes, or a value for JSON)."""
    data = body if isinstance(body, bytes) else canonical(body)
    return b'{"checkpoint":' + data + b',"seal":"' + sha256(data).encode() + b'"}\n'


def write_checkpoint(folder, partitions, **changes):
    """Write a done checkpoint of *partitions*, each a list of blocks."""
    folder.mkdir(parents=True)
    n, rows = len(partitions), []
    for index, blocks in enumerate(partitions):
        data = partition_file(blocks, index, n)
        name = filename(index)
        (folder / name).write_bytes(data)
        count = sum(records for _, records, _ in blocks)
        rows.append((name, content_digest(blocks).hex(), count, len(data)))
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    body = manifest_body(*columns, **{"name": folder.name, **changes})
    (folder / "__done__").write_bytes(sealed(body))
