"""The on-disk format as pure functions: names, file names, plan.

Nothing here touches a file. ``docs/format.md`` says the same for other programs.
"""

import hashlib
import json
import re
import secrets
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from agatha_ckpt._errors import InvalidNameError, redact

FORMAT_VERSION = 1
DONE_MARKER = "__done__"
MSGPACK, TEXT = "msgpack", "text"
LEGACY = "pickle"  # only ever read: what the original Agatha wrote
SUFFIXES = {MSGPACK: "msgpack", TEXT: "txt"}

_MAX_NAME_BYTES = 200
_PARTITION_FILE = re.compile(
    r"part-(?P<index>\d{5,10})-(?P<plan>[0-9a-f]{8})-(?P<attempt>[0-9a-f]{16,64})"
    r"\.(?P<suffix>msgpack|txt)"
)
_TEMPORARY_FILE = re.compile(r"\.tmp-[0-9a-f]{16}")
_CLAIM_FILE = re.compile(r"\.next-[0-9a-f]{16}")
_RUN_FILE = re.compile(r"\.run-[0-9a-f]{8}")


def validate_name(name: object) -> str:
    """Return *name* unchanged where it is a legal checkpoint name.

    Legal is one path segment of at most 200 bytes in UTF-8: letters and digits of
    any script in Unicode form NFC, ``_``, ``-``, ``.``, and spaces inside; not
    beginning with ``.`` or ``-``, not of the reserved form ``__x__``.

    Raises
    ------
    InvalidNameError
        In all other cases; the message says what is wrong with the name.
    """
    if not isinstance(name, str):
        raise InvalidNameError(
            f"a checkpoint name must be a str, not {type(name).__name__}: {name!r}"
        )
    fault = _name_fault(name)
    if fault:
        raise InvalidNameError(
            f"{redact(name)!r} cannot name a checkpoint: {fault}; use letters, digits, "
            "'_', '-', '.' and spaces inside"
        )
    return name


def _name_fault(name: str) -> str | None:
    if not name:
        return "it is empty"
    if name[0] in ".-":
        return f"it begins with {name[0]!r}"
    if name.startswith("__") and name.endswith("__"):
        return "names of the form '__x__' are reserved"
    if name != name.strip(" "):
        return "it begins or ends with a space"
    for position, character in enumerate(name):
        kind = unicodedata.category(character)[0]
        # Marks (M) are part of letters in many scripts, but never stand first.
        legal = kind in "LN" or character in "_-. " or (kind == "M" and position)
        if not legal:
            return f"it holds {character!r}"
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode form NFC (unicodedata.normalize helps)"
    if len(name.encode()) > _MAX_NAME_BYTES:
        return f"it is longer than {_MAX_NAME_BYTES} bytes in UTF-8"
    return None


@dataclass(frozen=True)
class Plan:
    """The run description: partition files of different plans never mix.

    Attributes
    ----------
    npartitions : int
        Number of partitions of the bag.
    format : str
        ``"msgpack"`` or ``"text"`` (or ``"pickle"``, for what Agatha wrote).
    version : str, optional
        The caller's label.
    parents : tuple of (name, id)
        The checkpoints that the bag was built from, sorted.
    """

    npartitions: int
    format: str = MSGPACK
    version: str | None = None
    parents: tuple[tuple[str, str], ...] = ()

    @cached_property
    def digest(self) -> str:
        """8 hexadecimal digits that stand for the plan in file names."""
        description = [
            self.npartitions,
            self.format,
            self.version,
            # What the parents hold counts, not what they are called.
            sorted({parent_id for _, parent_id in self.parents}),
        ]
        return hashlib.sha256(canonical(description)).hexdigest()[:8]

    @property
    def suffix(self) -> str:
        """Ending of the partition files, without the dot."""
        return SUFFIXES[self.format]


@dataclass(frozen=True)
class FileName:
    """The parts of a partition file's name."""

    index: int
    plan: str
    attempt: str
    suffix: str
    fingerprint: str = ""
    npartitions: int | None = None
    digest: str | None = None

    @property
    def run(self) -> str:
        """What the run that wrote it is known by."""
        return self.attempt[:8]

    def is_of(self, run: str = "", index: int | None = None) -> bool:
        """Whether this run wrote it, and it is this partition's, as far as given."""
        return run in ("", self.run) and index in (None, self.index)


def partition_filename(plan: Plan, index: int, attempt: str) -> str:
    """Return the name of the file that one attempt at a partition writes."""
    return f"part-{index:05d}-{plan.digest}-{attempt}.{plan.suffix}"


def parse_filename(filename: str) -> FileName | None:
    """Return the parts of a partition file's name; None for any other name."""
    match = _PARTITION_FILE.fullmatch(filename)
    if match is None or f"{int(match['index']):05d}" != match["index"]:
        return None
    return FileName(
        int(match["index"]), match["plan"], match["attempt"], match["suffix"]
    )


def new_run() -> str:
    """Return 8 random hexadecimal digits, new for each save of a bag."""
    return secrets.token_hex(4)


def new_attempt(run: str = "") -> str:
    """Return 16 hexadecimal digits, new for each try at a partition.

    They are random, but for the first 8 if *run* gives those: by them a run knows
    its own files, whichever of its workers wrote them.
    """
    return f"{run or new_run()}{secrets.token_hex(4)}"


# A text file has no room for a header, so its name carries what a header would:
# the partition count and the digest of the content. So even a text partition that
# no manifest names yet can be checked.
def text_attempt(npartitions: int, digest: str, run: str = "") -> str:
    """Return the attempt of a text file: as of others, partition count, digest."""
    return f"{new_attempt(run)}{npartitions:08x}{digest[:16]}"


def parse_text_attempt(attempt: str) -> tuple[int, str] | None:
    """Return the partition count and the beginning of the digest."""
    if len(attempt) != 40:
        return None
    return int(attempt[16:24], 16), attempt[24:]


def temporary_filename() -> str:
    """Return a name that nothing but ``is_own_file`` takes for ours."""
    return f".tmp-{new_attempt()}"


def is_temporary(filename: str) -> bool:
    """Say whether *filename* is one that `temporary_filename` makes."""
    return _TEMPORARY_FILE.fullmatch(filename) is not None


def claim_filename(marker: bytes) -> str:
    """Return the name under which one run claims to replace a done marker."""
    return f".next-{hashlib.sha256(marker).hexdigest()[:16]}"


def run_filename(run: str) -> str:
    """Return the name of the file that a run holds locked while it goes on."""
    return f".run-{run}"


def is_run_file(filename: str) -> bool:
    """Say whether *filename* is one that `run_filename` makes."""
    return _RUN_FILE.fullmatch(filename) is not None


def is_own_file(filename: str) -> bool:
    """Say whether a file of that name in a checkpoint's folder is this library's."""
    return (
        filename == DONE_MARKER
        or parse_filename(filename) is not None
        or is_temporary(filename)
        or _CLAIM_FILE.fullmatch(filename) is not None
        or is_run_file(filename)
    )


def canonical(value: object) -> bytes:
    """Return *value* as JSON, the same bytes for the same value."""
    return json.dumps(
        value, ensure_ascii=True, separators=(",", ":"), allow_nan=False
    ).encode()
