"""Every error of this library, grouped by what to do about it.

::

    CheckpointError(Exception)
    ├── RootNotSetError          (also RuntimeError)        set a root
    ├── InvalidNameError         (also ValueError)          correct the name
    ├── InvalidValueError        (also ValueError)          correct the argument or
    │                                                       setting
    ├── CheckpointNotFoundError  (also FileNotFoundError)   give a bag, or run the
    │                                                       program that saves it
    ├── CorruptCheckpointError                              verify it, repair it with
    │                                                       its bag, or clear it
    ├── EncodeError              (also TypeError)           change the records, or
    │                                                       allow pickle
    ├── PickleNotAllowedError                               allow pickle, if the root
    │                                                       is trusted
    ├── CheckpointConflictError                             load what is stored, clear
    │                                                       it, or use another name
    ├── UnsupportedFormatError                              upgrade, or clear it and
    │                                                       compute it again
    ├── ClusterError             (also RuntimeError)        use a client that waits, and
    │                                                       one version everywhere
    └── PartitionsFailedError    (also ExceptionGroup)      correct what failed, and
                                                            run again
    CheckpointHalt(SystemExit)                              not an error; status 0
    StaleCheckpointWarning(UserWarning)                     pass on_stale="recompute"
                                                            to update the checkpoint

Each takes one positional argument, the finished message: only in this shape does an
exception survive pickling, on its way back from a worker process. A group takes its
exceptions as well.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self


class CheckpointError(Exception):
    """Base of the errors of this library."""


class RootNotSetError(CheckpointError, RuntimeError):
    """No root is set, or the root cannot be used as a folder."""


class InvalidNameError(CheckpointError, ValueError):
    """A name of a checkpoint, or of a variable that holds one, is not valid."""


class InvalidValueError(CheckpointError, ValueError):
    """An argument or a setting does not take its value."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint is not done, and no collection was given to save."""


class CorruptCheckpointError(CheckpointError):
    """Stored files are damaged, or were replaced while they were being read."""


class EncodeError(CheckpointError, TypeError):
    """A value cannot be stored so that loading returns an equal one."""


class PickleNotAllowedError(CheckpointError):
    """The checkpoint holds pickled values, and the caller did not allow pickle."""


class CheckpointConflictError(CheckpointError):
    """What is stored under the name excludes what this call would store or load.

    Another run committed other partitions under the name first, or a done checkpoint
    is stale and ``on_stale="error"`` is set, or it has another version or format.
    """


class UnsupportedFormatError(CheckpointError):
    """The files have a format that this version of the library cannot read."""


class ClusterError(CheckpointError, RuntimeError):
    """The client is asynchronous, or workers lack the library or have another version.

    Raised before anything is computed.
    """


class PartitionsFailedError(CheckpointError, ExceptionGroup[Exception]):
    """Partitions failed, and ``on_error="continue"`` is set; the others are stored.

    Attributes
    ----------
    partitions : dict of int to Exception
        The error of each partition that failed, by its number. In the same order they
        are the ``exceptions`` of the group.
    """

    partitions: dict[int, Exception]

    @classmethod
    def of(cls, message: str, partitions: Mapping[int, Exception]) -> Self:
        """Return the error of partitions that failed."""
        error = cls(message, [*partitions.values()])
        error.partitions = dict(partitions)
        return error

    def derive(self, excs: Sequence[Exception]) -> Self:  # type: ignore[override]
        """Return the error of some of the partitions, for `split` and ``except*``."""
        kept = {i: e for i, e in self.partitions.items() if any(e is x for x in excs)}
        return self.of(self.message, kept)


class CheckpointHalt(SystemExit):
    """Stops the program after a checkpoint (``halt_after``), with status 0.

    Uncaught, it ends a script as ``sys.exit(0)`` does. ``except Exception`` does not
    catch it; a test or a notebook catches it by name. ``str(halt)`` is the message.
    """

    # SystemExit would use its argument as the exit status, and 1 for a str. A class
    # attribute holds also after copying and unpickling.
    code: int = 0


class StaleCheckpointWarning(UserWarning):
    """A stale checkpoint was loaded, because ``on_stale="warn"`` is set."""


@contextmanager
def error_note(doing: str) -> Iterator[None]:
    """Add a note to an error of another library: what was being done, and to what."""
    try:
        yield
    except Exception as error:  # clients of object stores raise more than OSError
        if not isinstance(error, CheckpointError):
            error.add_note(f"while {doing}")
        raise


def damaged(where: str, reason: object) -> CorruptCheckpointError:
    """Return the error for a partition file that does not hold what was saved."""
    return CorruptCheckpointError(
        f"{where} is damaged: {reason}; verify the checkpoint, repair it with its "
        "collection (Checkpointer.repair), or clear it"
    )


def pickle_refusal(where: str) -> PickleNotAllowedError:
    """Return the error for pickled values that the caller did not allow."""
    return PickleNotAllowedError(
        f"{where} holds pickled values, and unpickling can run any code; allow it "
        "(set_allow_pickle(True), or Checkpointer(..., allow_pickle=True)) if you "
        "trust everyone who can write to the root"
    )


# Of an OSError these concern the whole root, and the others may concern one file.
NETWORK_ERRORS = (ConnectionError, TimeoutError)


def read_only_refusal(where: str, done: str) -> InvalidValueError:
    """Return the error for a change that ``read_only=True`` excludes."""
    return InvalidValueError(
        f"{where} cannot be {done}, because read_only=True is set; pass "
        "read_only=False, or use a Checkpointer that may write"
    )


def absent_bucket(bucket: object, where: str) -> RootNotSetError:
    """Return the error of a root whose bucket does not exist."""
    return RootNotSetError(
        f"the bucket {str(bucket)!r} of {where} does not exist; make it, or give "
        "another root"
    )


def refusal(error: OSError, verb: str = "read") -> str:
    """Return why a file cannot be read or deleted, as a reason inside a message.

    Examples
    --------
    >>> refusal(PermissionError(13, "Permission denied", "/data/x"))
    'no permission to read it (Permission denied)'
    >>> refusal(OSError(5, "Input/output error", "/data/x"))
    'Input/output error'
    """
    reason = redact(" ".join(str(error.strerror or error).split()))
    reason = reason or type(error).__name__
    is_permission = isinstance(error, PermissionError)
    return f"no permission to {verb} it ({reason})" if is_permission else reason


def redact(text: str) -> str:
    """Return *text* without the secrets of a URL in it.

    Examples
    --------
    >>> redact("ftp://user:password@host/run")
    'ftp://user:***@host/run'
    >>> redact("https://host/run?signature=secret")
    'https://host/run?***'
    """
    # A colon followed by digits up to the path is a port, not a password.
    text = re.sub(r"://([^/@:]*):(?!\d+(?:/|$)).*@", r"://\1:***@", text)
    return re.sub(r"(://[^?]*\?).+", r"\1***", text)
