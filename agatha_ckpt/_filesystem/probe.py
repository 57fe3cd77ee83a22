"""What a filesystem keeps of that which the store counts on, tried on itself."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.object_store import ObjectStoreFiles

_RIVALS = 8  # writers at once


class Result(StrEnum):
    """What a check found."""

    YES = "yes"
    WEAK = "weak"  # look, then write: two processes may both succeed
    NO = "no"
    NOT_NEEDED = "not needed"

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    name: str
    result: Result
    detail: str  # what follows from it


class _Failed(Exception):
    """A check found that something is not as it has to be."""


def probe(files: Files, folder: str) -> list[Check]:
    """Try a filesystem with files of *folder*, which is made for that and removed.

    Raises
    ------
    Exception
        Nothing can be written there, or the files cannot be removed; as the
        filesystem raises it.
    """
    files.make_folder(folder)
    try:
        _write(files, folder, "probe")  # what cannot be written to cannot be probed
        return [_checked(files, folder, name, check) for name, check in _CHECKS.items()]
    finally:
        files.remove(folder, list(files.list(folder)))
        files.remove_folder(folder)


_Found = tuple[Result, str]


def _checked(
    files: Files, folder: str, name: str, check: Callable[[Files, str], _Found]
) -> Check:
    try:
        return Check(name, *check(files, folder))
    except _Failed as failure:
        return Check(name, Result.NO, str(failure))
    except Exception as error:  # a client raises anything for what a server lacks
        reason = " ".join(str(error).split())[:200]
        return Check(name, Result.NO, f"{type(error).__name__}: {reason}")


def _write(files: Files, folder: str, name: str, content: bytes = b"probe") -> str:
    def write(file: BinaryIO) -> str:
        file.write(content)
        return name

    files.publish(folder, write)
    return f"{folder}/{name}"


def _need(kept: bool, otherwise: str) -> None:
    if not kept:
        raise _Failed(otherwise)


_WEAK_SWAP = "of two runs that commit one name at the same moment, both may succeed"


def _creates_once(files: Files, folder: str) -> _Found:
    path = f"{folder}/created"
    _need(files.swap(path, None, b"first"), "a file that does not exist is not made")
    again = files.swap(path, None, b"second")
    if again or files.read(path) != b"first":
        return Result.WEAK, f"a second writer replaces the first: {_WEAK_SWAP}"
    if not files.atomic_swap(folder):
        return Result.WEAK, f"there is no condition for it: {_WEAK_SWAP}"
    path = f"{folder}/raced"
    rivals = [b"%d" % number for number in range(_RIVALS)]
    with ThreadPoolExecutor(_RIVALS if files.concurrent else 1) as pool:
        won = list(pool.map(lambda data: files.swap(path, None, data), rivals))
    if sum(won) != 1 or files.read(path) != rivals[won.index(True)]:
        return Result.WEAK, f"{sum(won)} of {_RIVALS} writers at once won: {_WEAK_SWAP}"
    return Result.YES, f"one of {_RIVALS} writers at once wins"


def _swaps_only_what_is_expected(files: Files, folder: str) -> _Found:
    path = f"{folder}/swapped"
    if not files.atomic_swap(folder):
        return Result.WEAK, f"there is no condition for it: {_WEAK_SWAP}"
    old = _old_tag(files, path)
    if isinstance(files, ObjectStoreFiles):
        with suppress(Exception):  # each server refuses in its own way
            files._write_if(path, b"third", old)
    else:
        files.swap(path, b"first", b"third")
    if files.read(path) != b"second":
        return Result.WEAK, f"an old tag is accepted: {_WEAK_SWAP}"
    _need(files.swap(path, b"second", b"third"), "the right tag is refused")
    _need(files.read(path) == b"third", "what was written is not what is read")
    return Result.YES, "an old tag is refused"


def _removes_only_what_is_expected(files: Files, folder: str) -> _Found:
    path = f"{folder}/removed"
    weak = "a marker that is taken back may be that of another run"
    if not files.atomic_swap(folder):
        return Result.WEAK, f"there is no condition for it: {weak}"
    old = _old_tag(files, path)
    if isinstance(files, ObjectStoreFiles):
        with suppress(Exception):
            files._remove_if(path, old)
    else:
        files.swap(path, b"first", None)
    if "removed" not in files.list(folder):
        return Result.WEAK, f"an old tag is accepted: {weak}"
    _need(files.swap(path, b"second", None), "the right tag is refused")
    _need("removed" not in files.list(folder), "the file is still there")
    return Result.YES, "an old tag is refused"


def _old_tag(files: Files, path: str) -> str:
    """Write a file twice, and return its tag after the first time."""
    tag = ""
    _need(files.swap(path, None, b"first"), "a file that does not exist is not made")
    if isinstance(files, ObjectStoreFiles):
        tag, _ = files._read_tagged(path)
    _need(files.swap(path, b"first", b"second"), "a file is not replaced")
    return tag


def _lists_what_is_written(files: Files, folder: str) -> _Found:
    for number in range(3):
        _write(files, folder, f"listed-{number}", b"x" * number)
        found = files.list(folder).get(f"listed-{number}")
        _need(found is not None, "a file that was just written is not listed")
        _need(found is not None and found.bytes == number, "its size is wrong")
    return Result.YES, "at once, with its size"


def _lists_nothing_removed(files: Files, folder: str) -> _Found:
    for number in range(3):
        _write(files, folder, f"gone-{number}")
        files.remove(folder, [f"gone-{number}"])
        listed = f"gone-{number}" in files.list(folder)
        _need(not listed, "a file that was just removed is still listed")
    return Result.YES, "at once"


def _removes_many(files: Files, folder: str) -> _Found:
    names = [f"many-{number}" for number in range(3)]
    for name in names:
        _write(files, folder, name)
    files.remove(folder, [*names, "many-absent"])
    left = files.list(folder).keys() & set(names)
    _need(not left, f"{len(left)} of {len(names)} files are still there")
    return Result.YES, "names of absent files are ignored"


def _syncs_folders(files: Files, folder: str) -> _Found:
    if files.one_process:
        return Result.NOT_NEEDED, "what is in the memory of a process is not durable"
    if not files.local:
        return Result.NOT_NEEDED, "what was uploaded is as durable as the server is"
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        return Result.NO, f"{name}: a power cut may take back what was committed"
    finally:
        os.close(descriptor)
    return Result.YES, "what was committed survives a power cut"


def _has_links(files: Files, folder: str) -> _Found:
    if not files.local:
        return Result.NOT_NEEDED, "of local disk only"
    path = _write(files, folder, "linked")
    try:
        os.link(path, f"{folder}/link")
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        return Result.NO, f"{name}: a marker is made by renaming, under the lock alone"
    return Result.YES, "a marker is made by a link, also where locks are not kept"


def _tells_case_apart(files: Files, folder: str) -> _Found:
    _write(files, folder, "case", b"lower")
    _write(files, folder, "CASE", b"upper")
    if files.read(f"{folder}/case") == b"lower":
        return Result.YES, "names that differ in case are two checkpoints"
    return Result.NO, "a name that differs in case alone from a stored one is refused"


_CHECKS: dict[str, Callable[[Files, str], _Found]] = {
    "create if absent": _creates_once,
    "compare and swap": _swaps_only_what_is_expected,
    "conditional delete": _removes_only_what_is_expected,
    "listing after write": _lists_what_is_written,
    "listing after delete": _lists_nothing_removed,
    "bulk delete": _removes_many,
    "folder fsync": _syncs_folders,
    "hard links": _has_links,
    "case": _tells_case_apart,
}
