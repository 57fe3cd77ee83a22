"""What the original Agatha wrote: ``part-N.pkl`` files and a list of their paths.

Only ever read. The recorded folders are ignored, as roots move; the file names count.
"""

import pickle
import re
from collections.abc import Iterable
from typing import Any, BinaryIO

from agatha_ckpt._errors import CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._layout import LEGACY, TEXT, Plan
from agatha_ckpt._manifest import Manifest, PartitionInfo

_FILE = re.compile(r"part-(?P<index>0|[1-9]\d*)\.(?P<suffix>pkl|txt)")
_FORMATS = {"pkl": LEGACY, "txt": TEXT}


def is_legacy_file(filename: str) -> bool:
    """Say whether *filename* is of the form that Agatha gave its partitions."""
    return _FILE.fullmatch(filename) is not None


def decode_legacy_manifest(data: bytes, sizes: dict[str, int], where: str) -> Manifest:
    """Return the manifest that an Agatha done marker amounts to.

    Parameters
    ----------
    data : bytes
        Content of the marker: one path a line.
    sizes : dict
        Names and sizes of the files beside it.
    where : str
        What it is the marker of, for messages.

    Raises
    ------
    CorruptCheckpointError
        It does not name partitions 0 to n-1, or others lie beside it.
    """
    names = [re.split(r"[/\\]", line)[-1] for line in _lines(data)]
    matches = [_FILE.fullmatch(name) for name in names]
    expected = [
        match is not None and int(match["index"]) == index
        for index, match in enumerate(matches)
    ]
    suffixes = {match["suffix"] for match in matches if match}
    unnamed = [n for n in sizes if is_legacy_file(n) and n not in set(names)]
    if not all(expected) or len(suffixes) > 1 or unnamed:
        raise CorruptCheckpointError(
            f"the done marker of {where} is cut or changed (it does not name exactly "
            "the partition files beside it); give the bag to save it again, or clear it"
        )
    plan_format = _FORMATS[suffixes.pop()] if suffixes else LEGACY
    return Manifest(
        plan=Plan(len(names), plan_format),
        partitions=tuple(
            PartitionInfo(name, -1, sizes.get(name, -1), "", 0.0, plan_format == LEGACY)
            for name in names
        ),
        created="",
        library="agatha",
        token="",
    )


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8", "replace").split("\n")
    return [line.strip() for line in lines if line.strip()]


def decode_pickle(source: BinaryIO, where: str) -> Iterable[Any]:
    """Return the records of an Agatha partition file; the caller allowed pickle.

    Raises
    ------
    CorruptCheckpointError
        The file is cut or changed, as far as unpickling notices.
    UnsupportedFormatError
        It holds objects of a module that is not here.
    """
    try:
        records = pickle.load(source)
    except (ImportError, AttributeError) as error:
        raise UnsupportedFormatError(
            f"{where} holds a pickle that cannot be loaded here ({error}); load it "
            "where the module it comes from can be imported"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        raise CorruptCheckpointError(
            f"{where} is damaged: it does not unpickle ({type(error).__name__}: "
            f"{error}); repair it with its bag, or clear it"
        ) from error
    if not isinstance(records, list):
        raise CorruptCheckpointError(
            f"{where} is damaged: it holds a {type(records).__name__}, not a list"
        )
    return records
