"""The done marker: a manifest as bytes, and all checks of them.

``docs/format.md`` specifies the same for other programs.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from agatha_ckpt._errors import CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._format.columns import Rows, column, find_strings
from agatha_ckpt._format.main_classes import MainClasses
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.names import (
    FORMAT_VERSION,
    PARTITION_FILE,
    SUFFIXES,
    canonical,
)

_DIGEST = re.compile("[0-9a-f]{32}")
# More than any file has: a compressed block of 64 KiB takes up over 26 bytes.
_RECORDS_PER_BYTE = 4096
_COLUMNS = ("file", "records", "bytes", "digest", "seconds", "holds_pickle")
_HEAD, _MIDDLE, _TAIL = b'{"checkpoint":', b',"seal":"', b'"}\n'
_UNRELEASED_HEAD = b'{"manifest":'


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the content of the done marker: one line of JSON, sealed by a digest."""
    plan, partitions = manifest.plan, manifest.partitions
    # By column: a third of the size, and of the time to read it.
    table = {name: list(column(partitions, name)) for name in (*_COLUMNS, "code")}
    codes = {code: number for number, code in enumerate(dict.fromkeys(table["code"]))}
    table["code"] = [codes[code] for code in table["code"]]
    if any(classes := column(partitions, "classes")):
        table["classes"] = ["\n".join(names) for names in classes]
    if any(checksums := column(partitions, "checksums")):
        table["checksums"] = list(checksums)
    collection = dict(manifest.collection)
    body = canonical(
        {
            "format_version": FORMAT_VERSION,
            "name": manifest.name,
            "plan": {
                "npartitions": plan.npartitions,
                "format": plan.format,
                "version": plan.version,
            },
            "parents": [list(parent) for parent in plan.parents],
            "id": manifest.id,
            "metadata": dict(manifest.metadata),
            "scheme": manifest.scheme,
            "dask": manifest.dask,
            "opaque": list(manifest.opaque),
            **({} if collection == {"kind": "bag"} else {"collection": collection}),
            "created": manifest.created,
            "library": manifest.library,
            "token": manifest.token,
            "codes": list(codes),
            "partitions": table,
        }
    )
    return _HEAD + body + _MIDDLE + _seal(body) + _TAIL


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest in the content of a done marker, after checking all of it.

    *where* is the checkpoint, for messages.

    Raises
    ------
    CorruptCheckpointError
        It is empty, cut, changed, or names a file outside its folder.
    UnsupportedFormatError
        It is whole but of another version of the format.
    """

    def corrupt(reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"the done marker of {where} {reason}; give the collection to save it "
            "again, or clear it"
        )

    if data.startswith(_UNRELEASED_HEAD):
        raise UnsupportedFormatError(
            f"{where} was written by an unreleased version of agatha_ckpt; clear it, "
            "or recompute it with overwrite=True"
        )
    start, end = len(_HEAD), len(data) - len(_TAIL) - 64 - len(_MIDDLE)
    seal = _MIDDLE + _seal(memoryview(data)[start : max(start, end)]) + _TAIL
    if not (end >= start and data.startswith(_HEAD) and data.endswith(seal)):
        raise corrupt("is empty, cut or changed (its seal does not match)")
    try:
        document = _document(data, start, end)
        format_version = document["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise corrupt(f"is not a manifest ({error!r})") from None
    if type(format_version) is not int:
        raise corrupt("has no format version")
    if format_version != FORMAT_VERSION:
        raise UnsupportedFormatError(
            f"{where} was written in format {format_version!r}, and this version of "
            f"agatha_ckpt reads format {FORMAT_VERSION}; upgrade agatha_ckpt"
        )
    try:
        manifest = _manifest_from(document)
        fault = manifest_fault(manifest)
        if not fault and manifest.id != document["id"]:
            fault = "does not match its own id"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise corrupt(f"is not a manifest ({error!r})") from None
    if fault:
        raise corrupt(fault)
    return manifest


def _document(data: bytes, start: int, end: int) -> Any:
    """Return the JSON between two places; its longest columns stay in the bytes."""
    parts: list[bytes | memoryview] = []
    cut, view = {}, memoryview(data)
    table = data.rfind(b'"partitions":{', start, end)
    for name in ("file", "digest"):
        key = b'"%s":[' % name.encode()
        at = data.find(key, max(table, start), end)
        strings = find_strings(data, at + len(key) - 1) if table >= 0 <= at else None
        if strings is not None:
            parts += [view[start : at + len(key) - 1], b"null"]
            start = at + len(key) - 1 + len(strings.json)
            cut[name] = strings
    document = json.loads(b"".join([*parts, view[start:end]]).decode())
    if cut:
        columns = document["partitions"]
        columns |= {n: strings for n, strings in cut.items() if columns[n] is None}
    return document


def _manifest_from(document: dict[str, Any]) -> Manifest:
    plan, codes, table = document["plan"], document["codes"], document["partitions"]
    if not all(type(n) is int and n >= 0 for n in table["code"]):
        raise ValueError("a code is not numbered")
    count = len(table["code"])
    classes = table.get("classes") or [""] * count
    # One value for all that are equal, so that a graph holds it once.
    known = {
        text: MainClasses(text.split("\n") if text else ()) for text in set(classes)
    }
    columns = {name: table[name] for name in _COLUMNS}
    columns["code"] = [codes[number] for number in table["code"]]
    columns["classes"] = [known[text] for text in classes]
    columns["checksums"] = table.get("checksums") or [""] * count
    if set(map(len, columns.values())) != {count}:
        raise ValueError("its columns are not of one length")
    partitions = Rows(_partition, columns)
    return Manifest(
        plan=Plan(
            npartitions=plan["npartitions"],
            format=plan["format"],
            version=plan["version"],
            parents=tuple((name, id) for name, id in document["parents"]),
        ),
        partitions=partitions,
        name=document["name"],
        metadata=document["metadata"],
        scheme=document["scheme"],
        dask=document["dask"],
        opaque=tuple(document["opaque"]),
        collection=document.get("collection", {"kind": "bag"}),
        created=document["created"],
        library=document["library"],
        token=document["token"],
    )


def _partition(
    file: str,
    records: int,
    size: int,
    digest: str,
    seconds: float,
    holds_pickle: bool,
    *rest: Any,
) -> PartitionInfo:
    # The third part of a right name; `manifest_fault` checks that it is one.
    fingerprint = file.split("-", 3)[2]
    values = file, records, size, digest, seconds, holds_pickle, fingerprint
    return PartitionInfo(*values, *rest)


def manifest_fault(manifest: Manifest) -> str | None:
    """Return what is wrong with a manifest whose seal matches; None if nothing is."""
    plan, partitions = manifest.plan, manifest.partitions
    texts = [plan.format, manifest.created, manifest.library, manifest.token]
    texts += [manifest.name, manifest.scheme, manifest.dask, *manifest.opaque]
    texts += [text for parent in plan.parents for text in parent]
    texts += set(column(partitions, "code")) | set(column(partitions, "checksums"))
    if plan.version is not None:
        texts.append(plan.version)
    if any(type(text) is not str for text in texts):
        return "has another value where a string belongs"
    if type(manifest.metadata) is not dict:
        return "has metadata that is not a mapping"
    if type(manifest.collection.get("kind")) is not str:
        return "has no kind of collection"
    if not manifest.token:
        return "has no token"
    if plan.format not in SUFFIXES:
        return f"has the unknown format {plan.format!r}"
    if not _is_count(plan.npartitions):
        return "has no number of partitions"
    if len(partitions) != plan.npartitions:
        return "does not name one file for each partition"
    return _names_fault(column(partitions, "file"), SUFFIXES[plan.format]) or (
        _columns_fault(partitions)
    )


def _names_fault(files: Sequence[str], suffix: str) -> str | None:
    is_in_order = True  # and so no name occurs twice
    for index, file in enumerate(files):
        match = PARTITION_FILE.fullmatch(file)
        if match is None or match["suffix"] != suffix:
            return f"names {file!r}, which is not a partition file"
        is_in_order = is_in_order and int(match["index"]) == index
    if not is_in_order and len(set(files)) != len(files):
        return "names one file for two partitions"
    return None


def _columns_fault(partitions: Sequence[PartitionInfo]) -> str | None:
    checks: list[tuple[str, str, Callable[[Any], object]]] = [
        ("records", "size", _is_count),
        ("bytes", "size", _is_count),
        ("digest", "digest", _DIGEST.fullmatch),
        ("seconds", "time", _is_time),
        ("holds_pickle", "pickle flag", lambda value: type(value) is bool),
    ]
    for name, what, is_right in checks:
        for index, value in enumerate(column(partitions, name)):
            if not is_right(value):
                return f"has no {what} for partition {index}"
    records, sizes = column(partitions, "records"), column(partitions, "bytes")
    for index, (count, size) in enumerate(zip(records, sizes, strict=True)):
        if count > size * _RECORDS_PER_BYTE:
            return f"has more records for partition {index} than its file can hold"
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**63  # type: ignore[operator]


def _seal(body: bytes | memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
