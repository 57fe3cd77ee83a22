"""Failures of partitions: errors as results, and errors that travel to the caller."""

import errno
import io
import pickle
import re
import secrets
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from agatha_ckpt._errors import PartitionsFailedError, RootNotSetError
from agatha_ckpt._human import format_count, format_partitions
from agatha_ckpt._store.partition import ClearedError

# Of a disk that no other partition can be written to either.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Failure:
    """What stands in the place of a result that a task could not give.

    Attributes
    ----------
    error : Exception
    token : str
        Equal for the results of all tasks that needed the one that failed.
    """

    error: Exception
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        error: BaseException | None = self.error
        while error is not None:  # whose frames hold the records of the partition
            traceback.clear_frames(error.__traceback__)
            error = error.__context__

    def __reduce__(self) -> Any:
        text = "".join(traceback.format_tb(self.error.__traceback__))
        return _unpack_failure, (self.token, *pack(self.error, text))


def _unpack_failure(token: str, *packed: Any) -> Failure:
    return Failure(unpack(*packed), token)


class WorkerTraceback(Exception):
    """The traceback of an error in another process, as the cause of that error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Carried(Exception):
    """An error on its way out of a process, which it would not survive by itself.

    Unpickled, it is the error.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __repr__(self) -> str:
        return repr(self._error)

    def __str__(self) -> str:
        return str(self._error)

    def __reduce__(self) -> Any:
        return unpack, pack(self._error)


def carried(error: Exception) -> Exception:
    """Return what carries *error* out of this process."""
    # What is meant for the scheduler of a cluster, such as Reschedule, is left alone.
    is_meant_for_dask = type(error).__module__.startswith("distributed.")
    return error if is_meant_for_dask else Carried(error)


def stops(error: BaseException, is_driver: bool) -> bool:
    """Return whether an error ends a save also where others are collected.

    Parameters
    ----------
    error : BaseException
    is_driver : bool
        Whether it was raised in the process of the caller.
    """
    if isinstance(error, MemoryError):
        return is_driver
    if isinstance(error, ClearedError | RootNotSetError):
        return True
    is_disk = isinstance(error, OSError) and error.errno in _DISK
    return is_disk or not isinstance(error, Exception)


def failed_error(
    where: str, name: str, failures: Mapping[int, Failure], total: int
) -> PartitionsFailedError:
    """Return the error of a save in which partitions failed, and others are stored."""
    errors = {failure.token: failure.error for failure in failures.values()}
    partitions = {index: errors[failures[index].token] for index in sorted(failures)}
    for error in errors.values():
        its = [index for index, each in partitions.items() if each is error]
        for index in its:
            remove_note(error, failed_note(name, index))
        error.add_note(f"{format_partitions(its)} of {name!r} failed")
    count, stored = len(failures), total - len(failures)
    return PartitionsFailedError.of(
        f"{count:,} of {format_count(total, 'partition')} of {where} failed: "
        f"{format_partitions(partitions)}; {stored:,} "
        f"{'is' if stored == 1 else 'are'} stored, "
        "and the next call with the same inputs computes only what failed",
        partitions,
    )


# ---- notes ----


def failed_note(name: str, index: int | None) -> str:
    """Return the note of an error of a partition; of the whole save for None."""
    if index is None:
        return f"{name!r} is not done"
    return f"partition {index} of {name!r} failed"


def failed_partition(error: BaseException, name: str) -> int | None:
    """Return the number of the partition that an error names, if it names one."""
    pattern = rf"\bpartition (\d+) of {re.escape(repr(name))} failed"
    for note in reversed(getattr(error, "__notes__", ())):
        if match := re.search(pattern, note):
            return int(match[1])
    return None


def add_note(error: BaseException, note: str) -> None:
    """Add a note, unless the error has it."""
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def remove_note(error: BaseException, note: str) -> None:
    """Remove a note, if there is one."""
    notes = getattr(error, "__notes__", [])
    if note in notes:
        notes.remove(note)


def note_failure(
    error: BaseException, name: str, stored: int, total: int, reason: str = ""
) -> None:
    """Let an error of a save name its partition, and what is stored."""
    part = failed_note(name, failed_partition(error, name))
    remove_note(error, part)
    error.add_note(
        f"{stored:,} of {format_count(total, 'partition')} stored; {part}{reason}"
    )


# ---- pickling ----


def pack(error: BaseException, text: str = "") -> tuple[Any, ...]:
    """Return the arguments of `unpack` that return an equal error elsewhere.

    Parameters
    ----------
    error : BaseException
    text : str
        Its traceback, where nothing else carries it.
    """
    name = type(error).__qualname__
    notes = list(getattr(error, "__notes__", ()))
    try:
        return _dumps(error), name, _message(error), notes, text
    except Exception:  # any, from methods of its class
        return b"", name, _message(error), notes, text


def unpack(
    data: bytes, name: str, message: str, notes: list[str], text: str
) -> Exception:
    """Return an error with the type, arguments, attributes and notes of another."""
    error: Exception = RuntimeError(f"{name}: {message}")
    with suppress(Exception):  # its class does not exist here, or its methods raise
        if isinstance(found := pickle.loads(data), Exception):
            error = found
    error.__notes__ = notes
    if text:
        error.__cause__ = WorkerTraceback(text)
    return error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A pickler of exceptions whose constructors take other arguments."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, BaseException) and not _survives(obj):
            mro: list[Any] = type(obj).mro()
            base = next(c for c in mro if c.__module__ == "builtins")
            arguments = base.__reduce__(obj)[1]
            state = {k: v for k, v in vars(obj).items() if _is_picklable(v)}
            return _rebuild, (type(obj), base, arguments, state)
        return super().reducer_override(obj)


def _rebuild(cls: Any, base: Any, arguments: Any, state: dict[str, Any]) -> Any:
    """Return an exception, made without its class's own constructor."""
    error = base.__new__(cls, *arguments)
    base.__init__(error, *arguments)
    vars(error).update(state)
    return error


def _dumps(value: Any) -> bytes:
    sink = io.BytesIO()
    _Pickler(sink).dump(value)
    return sink.getvalue()


def _is_picklable(value: Any) -> bool:
    try:
        pickle.loads(_dumps(value))
    except Exception:  # any, from methods of its class
        return False
    return True


def _survives(error: BaseException) -> bool:
    try:
        copied = pickle.loads(cloudpickle.dumps(error))
    except Exception:  # any, from methods of its class
        return False
    same = type(copied) is type(error) and _message(copied) == _message(error)
    notes = [getattr(each, "__notes__", []) for each in (copied, error)]
    return same and notes[0] == notes[1]


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # any, from its own method
        return "?"
