"""Which stored partitions are whole: before a resume, and when asked to verify."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from time import monotonic

from agatha_ckpt._errors import (
    CheckpointError,
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
    error_note,
)
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.agatha import decode_pickle
from agatha_ckpt._format.blocks import PICKLE, Block, decode_block
from agatha_ckpt._format.codec import read_blocks
from agatha_ckpt._format.framing import (
    FOOTER_BYTES,
    HEADER_BYTES,
    Footer,
    Header,
    read_footer,
    read_header,
)
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import (
    LEGACY,
    MSGPACK,
    SUFFIXES,
    TEXT,
    Plan,
    parse_filename,
    parse_text_attempt,
)
from agatha_ckpt._format.text import count_text, decode_text
from agatha_ckpt._store.folder import DamagedPartition, Folder

_SMALL_BYTES = 256 * 1024  # of which a request for all costs what one for a part does
OTHER_BAG = "from a bag with another dask name"


@dataclass(frozen=True)
class Survey:
    """What a resume may keep, and why the rest is not kept.

    Attributes
    ----------
    kept : dict
        Partition number to what is known of its file, for each whole partition
        of the plan.
    bags : frozenset of str
        dask's names of the bags that the kept partitions came from.
    refused : tuple of str
        A reason for each file that is not kept.
    seen : frozenset of str
        Names of all files that were there.
    """

    kept: dict[int, PartitionInfo]
    bags: frozenset[str] = frozenset()
    refused: tuple[str, ...] = ()
    seen: frozenset[str] = frozenset()
    _made: float = field(default_factory=monotonic, compare=False)

    @property
    def age(self) -> float:
        """For how long this has been known, in seconds."""
        return monotonic() - self._made


def survey(
    folder: Folder,
    plan: Plan,
    exclude: frozenset[str] = frozenset(),
    run: str = "",
    index: int | None = None,
    bag: str | None = None,
) -> Survey:
    """Return which partition files a resume with *plan* may keep, after checks.

    Costs one listing, and one read for each file of the plan: of all of it where that
    costs no more than a part, and on local disk, where a file can be cut or change;
    elsewhere of its footer, and of its header where *bag* is given.

    Parameters
    ----------
    folder : Folder
    plan : Plan
    exclude : frozenset of str
        File names that are not to be kept.
    run : str, optional
        Only files that this run wrote.
    index : int, optional
        Only files of this partition.
    bag : str, optional
        Only files whose header has this dask name of the bag. A text file has no
        header, and is then not kept.
    """
    sizes = folder.sizes()
    goes_on = cache(folder.goes_on)
    candidates: list[tuple[int, str]] = []
    refused: list[str] = []
    for filename in sorted(sizes):
        parsed = parse_filename(filename)
        if parsed is None or filename in exclude or not parsed.is_of(run, index):
            continue
        same_plan = (parsed.plan, parsed.suffix) == (plan.digest, plan.suffix)
        if parsed.run != run and goes_on(parsed.run):
            refused.append("of a run that goes on")
        elif same_plan and parsed.index < plan.npartitions:
            candidates.append((parsed.index, filename))
        else:
            refused.append("of another plan")
    kept: dict[int, PartitionInfo] = {}
    bags: set[str] = set()
    headers = bag is not None
    checked = map_ordered(partial(_check, folder, plan, sizes, headers), candidates)
    for (number, _), found in zip(candidates, checked, strict=True):
        if isinstance(found, str):
            refused.append(found)
            continue
        info, of_bag = found
        if bag not in (None, of_bag):
            refused.append(OTHER_BAG)
        elif number not in kept:
            kept[number] = info
            bags.add(of_bag)
    return Survey(kept, frozenset(bags - {""}), tuple(refused), frozenset(sizes))


def bag_of(folder: Folder, index: int, info: PartitionInfo) -> str:
    """Return dask's name of the bag that a stored partition came from, or ""."""
    if not info.file.endswith(SUFFIXES[MSGPACK]):
        return ""
    try:
        with folder.open_file(index, info) as source:
            return read_header(source, folder.describe(index)).bag
    except CorruptCheckpointError:  # others may have cleared it
        return ""


def _check(
    folder: Folder,
    plan: Plan,
    sizes: dict[str, int],
    headers: bool,
    file: tuple[int, str],
) -> tuple[PartitionInfo, str] | str:
    """Return what is known of a whole file and its bag's name; else what is wrong."""
    index, filename = file
    size = sizes[filename]
    try:
        with error_note(f"checking what is stored of {folder.describe(index)}"):
            if plan.format == TEXT:
                footer, bag = _check_text(folder, filename, size), ""
            else:
                footer, bag = _check_msgpack(
                    folder, plan, index, filename, size, headers
                )
    except (CorruptCheckpointError, FileNotFoundError):
        return "damaged"
    except UnsupportedFormatError:
        return "of a newer format"
    return footer.info(filename), bag


def _check_msgpack(
    folder: Folder, plan: Plan, index: int, filename: str, size: int, header: bool
) -> tuple[Footer, str]:
    path, where = folder.file(filename), folder.describe(index)
    if size < FOOTER_BYTES:  # and of an empty object no server gives a part
        raise CorruptCheckpointError(filename)
    if folder.files.remote and size > _SMALL_BYTES:
        # There an object is whole or not there at all.
        tail = folder.files.tail(path, size, FOOTER_BYTES)
        footer = _footer_of(tail, size, where)
        if not header:
            return footer, ""
        with folder.files.open(path, size, HEADER_BYTES) as source:
            return footer, read_header(source, where).bag
    with folder.files.open(path, size) as source:
        source.seek(-FOOTER_BYTES, os.SEEK_END)
        footer = _footer_of(source.read(), size, where)
        source.seek(0)
        bag = read_header(source, where).bag
        source.seek(0)
        expected = Header(plan.digest, index, plan.npartitions)
        _exhaust(read_blocks(source, size, expected, where, footer.digest))
    return footer, bag


def _footer_of(tail: bytes, size: int, where: str) -> Footer:
    footer = read_footer(tail, where)
    if footer.bytes != size:
        raise CorruptCheckpointError(where)
    return footer


def _check_text(folder: Folder, filename: str, size: int) -> Footer:
    parsed = parse_filename(filename)
    stated = parse_text_attempt(parsed.attempt) if parsed else None
    with folder.files.open(folder.file(filename), size) as source:
        footer = count_text(source)
    if stated is None or not footer.digest.startswith(stated[1]):
        raise CorruptCheckpointError(filename)
    return footer


def verify(
    folder: Folder, manifest: Manifest, allow_pickle: bool
) -> list[DamagedPartition]:
    """Read a done checkpoint in full and return the partitions that are damaged.

    Agatha's pickles say nothing of themselves: they are unpickled if that is allowed.
    """
    damaged = []
    for index, fault in enumerate(faults_of([(folder, manifest)], allow_pickle)):
        if isinstance(fault, PermissionError):
            raise fault
        if fault:
            damaged.append(DamagedPartition(index, fault))
    return damaged


def faults_of(
    done: Iterable[tuple[Folder, Manifest]], allow_pickle: bool
) -> Iterator[str | PermissionError | None]:
    """Yield of each partition of each checkpoint what is wrong with it, or None.

    As `verify`; the partitions of several checkpoints are read concurrently. That a
    file may not be read is no damage, and says nothing of the others: the error is
    what is yielded.
    """
    partitions = (
        (folder, manifest, index)
        for folder, manifest in done
        for index in range(manifest.plan.npartitions)
    )
    return map_ordered(lambda partition: _fault(*partition, allow_pickle), partitions)


def _fault(
    folder: Folder, manifest: Manifest, index: int, allow_pickle: bool
) -> str | PermissionError | None:
    plan, info = manifest.plan, manifest.partitions[index]
    where = folder.describe(index)
    try:
        with error_note(f"verifying {where}"), folder.open_file(index, info) as source:
            if plan.format == TEXT:
                for _ in decode_text(source, info.digest, where, info.records):
                    pass
            elif plan.format == LEGACY:
                if allow_pickle:
                    decode_pickle(source, where)
            else:
                expected = Header(plan.digest, index, plan.npartitions)
                for block in read_blocks(
                    source, info.bytes, expected, where, info.digest, info.records
                ):
                    _try_decoding(block, allow_pickle, where)
    except CheckpointError as error:
        return str(error).removeprefix(f"{where} is damaged: ").split(";")[0]
    except PermissionError as error:
        return error
    return None


def _try_decoding(block: Block, allow_pickle: bool, where: str) -> None:
    """Decode a block to nothing, as far as this caller may and this machine can."""
    if block.flags & PICKLE and not allow_pickle:
        return
    with suppress(PickleNotAllowedError, UnsupportedFormatError):
        decode_block(block, allow_pickle, where)


def _exhaust(blocks: Iterable[object]) -> None:
    for _ in blocks:
        pass
