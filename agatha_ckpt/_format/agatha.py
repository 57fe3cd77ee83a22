"""What the original Agatha wrote: ``part-N.pkl`` files and a list of their paths.

Only ever read. The recorded folders are ignored, as roots move; the file names count.
"""

import hashlib
import pickle
import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO

from agatha_ckpt._errors import (
    CorruptCheckpointError,
    EncodeError,
    UnsupportedFormatError,
    damaged,
    pickle_refusal,
)
from agatha_ckpt._format.base import Attempt, Codec, StoredFile
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.names import LEGACY, TEXT, canonical

_FILE = re.compile(r"part-(?P<index>0|[1-9][0-9]{0,9})\.(?P<suffix>pkl|txt)")
_FORMATS = {"pkl": LEGACY, "txt": TEXT}


class AgathaCodec(Codec):
    """Partitions as pickled lists, as the original Agatha wrote them; read only."""

    name = LEGACY
    suffix = "pkl"

    def encode(self, records: Any, sink: BinaryIO, attempt: Attempt) -> PartitionInfo:
        """Raise `EncodeError`: this format is only read."""
        raise EncodeError(
            f"{attempt.where} cannot be written in the format of the original Agatha, "
            "which is only read; save it as msgpack or as text"
        )

    def decode(
        self, file: StoredFile, info: PartitionInfo, allow_pickle: bool, piece: int = 0
    ) -> Iterator[list[Any]]:
        """Yield all records in one list; see `Codec.decode`.

        Raises
        ------
        PickleNotAllowedError
            *allow_pickle* is false.
        """
        if not allow_pickle:
            raise pickle_refusal(file.where)
        with file.open() as source:
            yield _unpickle(source, file.where)

    def verify(self, file: StoredFile, info: PartitionInfo, allow_pickle: bool) -> None:
        """Check that the file exists and, where pickle is allowed, unpickles."""
        with file.open() as source:
            if allow_pickle:
                _unpickle(source, file.where)

    def inspect(self, file: StoredFile) -> PartitionInfo:
        """Raise `CorruptCheckpointError`: the file alone does not show it is whole."""
        raise CorruptCheckpointError(
            f"{file.where} was written by the original Agatha, without a checksum; "
            "compute it again"
        )


def is_agatha_file(filename: str) -> bool:
    """Return whether *filename* is of the form that Agatha gave its partitions."""
    return _FILE.fullmatch(filename) is not None


def decode_agatha_manifest(
    data: bytes,
    files: Mapping[str, tuple[int, float | None]],
    where: str,
    checkpoint: str,
) -> Manifest:
    """Return the manifest that an Agatha done marker describes.

    *data* is its content, one path a line. Of the *files* beside it, by name, come size
    and time of the last change, where it is known. *where* is for messages; the name
    *checkpoint* is part of the fingerprints.

    Raises
    ------
    CorruptCheckpointError
        It does not name partitions 0 to n-1, or there are others beside it.
    """
    names = [re.split(r"[/\\]", line)[-1] for line in _lines(data)]
    matches = [_FILE.fullmatch(name) for name in names]
    expected = [
        match is not None and int(match["index"]) == index
        for index, match in enumerate(matches)
    ]
    suffixes = {match["suffix"] for match in matches if match}
    unnamed = [n for n in files if is_agatha_file(n) and n not in set(names)]
    if not all(expected) or len(suffixes) > 1 or unnamed:
        raise CorruptCheckpointError(
            f"the done marker of {where} is damaged: it does not name exactly the "
            "partition files beside it; give the collection to save it again, or "
            "clear it"
        )
    plan_format = _FORMATS[suffixes.pop()] if suffixes else LEGACY
    return Manifest(
        plan=Plan(len(names), plan_format),
        partitions=tuple(
            _partition_info(checkpoint, name, *files.get(name, (-1, None)), plan_format)
            for name in names
        ),
        created="",
        library="agatha",
        token="",
    )


def _partition_info(
    checkpoint: str, name: str, size: int, modified: float | None, form: str
) -> PartitionInfo:
    identity = canonical([checkpoint, name, size, modified])
    return PartitionInfo(
        file=name,
        records=-1,
        bytes=size,
        digest="",
        holds_pickle=form == LEGACY,
        fingerprint=hashlib.sha256(identity).hexdigest()[:32],
    )


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8", "replace").split("\n")
    return [line.strip() for line in lines if line.strip()]


def _unpickle(source: BinaryIO, where: str) -> list[Any]:
    content = BytesIO(source.read())
    try:
        records = pickle.load(content)
    except (ImportError, AttributeError) as error:
        raise UnsupportedFormatError(
            f"{where} holds a pickle that cannot be loaded here ({error}); load it "
            "where the module it comes from can be imported"
        ) from error
    except Exception as error:  # also MemoryError, for a count that is damaged
        reason = f"it does not unpickle ({type(error).__name__}: {error})"
        raise damaged(where, reason) from error
    if not isinstance(records, list):
        raise damaged(where, f"it holds a {type(records).__name__}, not a list")
    if content.read(1):
        raise damaged(where, "there is more after its pickle")
    return records
