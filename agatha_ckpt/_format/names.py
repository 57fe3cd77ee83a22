"""Names on disk, as pure functions: of checkpoints, partition files, other files.

``docs/format.md`` specifies the same for other programs.
"""

import json
import re
import secrets
import unicodedata
from dataclasses import dataclass

from agatha_ckpt._errors import InvalidNameError, redact

FORMAT_VERSION = 1
DONE_MARKER = "__done__"
NO_BASE = "00000000"  # base of a run that found no done marker
MSGPACK, TEXT, PARQUET, NPY = "msgpack", "text", "parquet", "npy"
LEGACY = "pickle"  # only ever read: what the original Agatha wrote
SUFFIXES = {MSGPACK: "msgpack", TEXT: "txt", PARQUET: "parquet", NPY: "npy"}

_MAX_NAME_BYTES = 200
PARTITION_FILE = re.compile(
    r"part-(?P<index>[0-9]{5}|[1-9][0-9]{5,9})-(?P<fingerprint>[0-9a-f]{32})-(?P<base>[0-9a-f]{8})"
    r"-(?P<run>[0-9a-f]{8})(?P<attempt>[0-9a-f]{8})"
    r"(?:(?P<npartitions>[0-9a-f]{8})(?P<digest>[0-9a-f]{16}))?\.(?P<suffix>[a-z]+)"
)
_TEMPORARY_FILE = re.compile(r"\.tmp-[0-9a-f]{16}")
# Windows takes these for devices, whatever follows a dot.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.I)
# Files of the format before its first release: only listed and removed.
_UNRELEASED_FILE = re.compile(
    r"part-(?:\d{5}|[1-9]\d{5,9})-[0-9a-f]{8}-[0-9a-f]{16,64}\.(?:msgpack|txt)"
    r"|\.next-[0-9a-f]{16}|\.run-[0-9a-f]{8}"
)


def validate_name(name: object) -> str:
    """Return *name* unchanged where it is a legal checkpoint name.

    A legal name is one path segment of at most 200 bytes in UTF-8: letters and
    digits of any script in Unicode form NFC, ``_``, ``-``, ``.``, and inner spaces. It
    does not begin with ``.`` or ``-``, does not end with ``.``, does not have the
    reserved form ``__x__``, and is not that of a device of Windows (``con``,
    ``nul.txt``).

    Raises
    ------
    InvalidNameError
        The name is not legal.
    """
    if not isinstance(name, str):
        raise InvalidNameError(
            f"a checkpoint name must be a str, not {type(name).__name__}: {name!r}; "
            "the name is the first argument"
        )
    fault = _name_fault(name)
    if fault:
        legal = "".join(c if _is_legal(c) else "_" for c in redact(name)).strip(" .-")
        if legal and _name_fault(legal) and not _name_fault(f"_{legal}"):
            legal = f"_{legal}"
        advice = repr(legal)
        if _name_fault(legal) or legal != redact(legal):
            advice = "letters, digits, '_', '-', '.' and inner spaces"
        raise InvalidNameError(f"invalid name {redact(name)!r}: {fault}; use {advice}")
    return name


def is_variant(name: str, other: str) -> bool:
    """Return whether names differ in case or Unicode form alone; some disks take both.

    Examples
    --------
    >>> is_variant("Terms", "terms"), is_variant("Terms", "Terms")
    (True, False)
    """
    return name != other and _folded(name) == _folded(other)


def _folded(name: str) -> str:
    once = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", once)


def _name_fault(name: str) -> str | None:
    if not name:
        return "names cannot be empty"
    if name[0] in ".-":
        return f"names cannot begin with {name[0]!r}"
    if name.startswith("__") and name.endswith("__"):
        return "names of the form '__x__' are reserved"
    if name != name.strip(" "):
        return "names cannot begin or end with a space"
    if name[-1] == ".":
        return "names cannot end with '.', which Windows removes"
    if _DEVICE.fullmatch(name):
        return "Windows reserves the names of devices"
    if unicodedata.category(name[0])[0] == "M":
        return f"names cannot begin with {name[0]!r}"
    for character in name:
        if not _is_legal(character):
            return f"names cannot contain {character!r}"
    if not unicodedata.is_normalized("NFC", name):
        return "names must be in Unicode form NFC (see unicodedata.normalize)"
    if len(name.encode()) > _MAX_NAME_BYTES:
        return f"names have at most {_MAX_NAME_BYTES} bytes in UTF-8"
    return None


def _is_legal(character: str) -> bool:
    # Marks (M) are part of letters in many scripts.
    return unicodedata.category(character)[0] in "LNM" or character in "_-. "


@dataclass(frozen=True)
class FileName:
    """The parts of a partition file's name."""

    index: int  # when the file was written
    fingerprint: str
    base: str  # the token's first 8 hex digits, of the marker that was to be replaced
    run: str  # 8 random hex digits, and so the attempt
    attempt: str
    suffix: str  # without the dot
    npartitions: int | None = None  # these two in names of files without a header
    digest: str | None = None  # its first 16 hex digits


def partition_filename(
    index: int, fingerprint: str, base: str, run: str, suffix: str, content: str = ""
) -> str:
    """Return a new name for the file that one attempt at a partition writes.

    *content* is what a text file has in its name, since it has no header: the
    partition count as 8 hex digits, and 16 of the digest.
    """
    attempt = f"{run or new_run()}{new_run()}"
    return f"part-{index:05d}-{fingerprint}-{base}-{attempt}{content}.{suffix}"


def copied_filename(filename: str, run: str) -> str:
    """Return a new name for a copy of a partition file, where there is no marker."""
    part, index, fingerprint, _, rest = filename.split("-", 4)
    return f"{part}-{index}-{fingerprint}-{NO_BASE}-{run}{new_run()}{rest[16:]}"


def parse_filename(filename: str) -> FileName | None:
    """Return the parts of a partition file's name; None for any other name."""
    match = PARTITION_FILE.fullmatch(filename)
    if match is None:
        return None
    npartitions = match["npartitions"]
    return FileName(
        index=int(match["index"]),
        fingerprint=match["fingerprint"],
        base=match["base"],
        run=match["run"],
        attempt=match["attempt"],
        suffix=match["suffix"],
        npartitions=None if npartitions is None else int(npartitions, 16),
        digest=match["digest"],
    )


def new_run() -> str:
    """Return 8 random hex digits: the id of a run, or of an attempt."""
    return secrets.token_hex(4)


def new_token() -> str:
    """Return 16 random hex digits: the token of a commit."""
    return secrets.token_hex(8)


def temporary_filename() -> str:
    """Return a new name for a file that is not yet whole."""
    return f".tmp-{new_token()}"


def is_temporary(filename: str) -> bool:
    """Return whether *filename* is one that `temporary_filename` makes."""
    return _TEMPORARY_FILE.fullmatch(filename) is not None


def is_own_file(filename: str) -> bool:
    """Return whether a file of that name in a checkpoint's folder is this library's."""
    return (
        filename == DONE_MARKER
        or parse_filename(filename) is not None
        or is_temporary(filename)
        or _UNRELEASED_FILE.fullmatch(filename) is not None
    )


def canonical(value: object) -> bytes:
    """Return *value* as JSON, the same bytes for the same value."""
    return json.dumps(
        value, ensure_ascii=True, separators=(",", ":"), allow_nan=False
    ).encode()
