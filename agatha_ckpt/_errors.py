"""What can go wrong, by name, grouped by what the reader should do about it.

::

    CheckpointError(Exception)
    ├── RootNotSetError          (also RuntimeError)        set a root
    ├── InvalidNameError         (also ValueError)          fix the name
    ├── CheckpointNotFoundError  (also FileNotFoundError)   give a bag, or run the
    │                                                       producer first
    ├── CorruptCheckpointError                              verify, give the bag to
    │                                                       repair, or clear
    ├── EncodeError              (also TypeError)           change the records or
    │                                                       allow pickle
    ├── PickleNotAllowedError                               allow pickle if you trust
    │                                                       the root
    ├── CheckpointConflictError                             another run is writing
    │                                                       this name
    └── UnsupportedFormatError                              written by a newer version
    CheckpointHalt(SystemExit)                              not an error; code 0

Every error takes one positional argument, the finished message: this is the only
shape that survives the trip back from a worker process.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager


class CheckpointError(Exception):
    """Base of every error that this library raises on its own account."""


class RootNotSetError(CheckpointError, RuntimeError):
    """There is no usable root: none was set, or it is no folder that can be used."""


class InvalidNameError(CheckpointError, ValueError):
    """A name cannot be used: of a checkpoint, or one of a fixed set of choices."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint was asked for that is not done, and no bag was given."""


class CorruptCheckpointError(CheckpointError):
    """What is stored is damaged, or was replaced while it was being read."""


class EncodeError(CheckpointError, TypeError):
    """A value cannot be stored so that loading gives back an equal one."""


class PickleNotAllowedError(CheckpointError):
    """The checkpoint holds pickled values and the caller did not allow pickle."""


class CheckpointConflictError(CheckpointError):
    """What is stored under the name and what this run would store exclude each other.

    Most often another run committed the same name with another plan first.
    """


class UnsupportedFormatError(CheckpointError):
    """The files were written in a form that this installation cannot read."""


class CheckpointHalt(SystemExit):
    """Stops the program after a checkpoint, on purpose and with status 0.

    Uncaught, it ends a script as ``sys.exit(0)`` does, whatever the message says.
    ``except Exception`` does not swallow it; a test or a notebook catches it by
    name. The message is in ``str(halt)``.
    """

    # SystemExit would take its argument for the exit status, and a text for 1. An
    # attribute of the class holds however the exception was copied or unpickled.
    code = 0


@contextmanager
def error_note(doing: str) -> Iterator[None]:
    """Add a note to an error that is not ours: what was being done, and to what."""
    try:
        yield
    except Exception as error:  # not all that a network raises is an OSError
        if not isinstance(error, CheckpointError):
            error.add_note(f"while {doing}")
        raise


def refusal(error: PermissionError) -> str:
    """Return, in half a sentence, that something may not be read.

    Examples
    --------
    >>> refusal(PermissionError(13, "Permission denied", "/data/x"))
    'it may not be read (Permission denied)'
    """
    reason = redact(" ".join(str(error.strerror or error).split()))
    return f"it may not be read ({reason or type(error).__name__})"


def redact(text: str) -> str:
    """Return *text* as messages may show it: without the secrets of a URL in it.

    Examples
    --------
    >>> redact("ftp://user:password@host/run")
    'ftp://user:***@host/run'
    >>> redact("https://host/run?signature=secret")
    'https://host/run?***'
    """
    # What follows a colon is a port where it is digits up to the path.
    text = re.sub(r"://([^/@:]*):(?!\d+(?:/|$)).*@", r"://\1:***@", text)
    return re.sub(r"(://[^?]*\?).+", r"\1***", text)
