"""Tracebacks without the frames of this library and of dask."""

import re
from types import TracebackType

from agatha_ckpt._errors import CheckpointError

_OURS = re.compile(r"[\\/]agatha_ckpt[\\/]_")  # on whatever machine
_CALLERS = re.compile(r"[\\/]_dask[\\/]tasks\.py$|[\\/]_format[\\/]\w+\.py$")
_DASK = re.compile(
    r"[\\/](site|dist)-packages[\\/](dask|distributed)[\\/]"
    r"|[\\/]concurrent[\\/]futures[\\/]\w+\.py$|[\\/]contextlib\.py$"
)
_LONGEST = 100  # frames


def shorten(error: BaseException, keep: int = 0) -> None:
    """Remove frames that do not help to find the cause of an error of a task.

    As dask's own ``compute`` does. They stay where this library, or the filesystem that
    it called, raised something else than a `CheckpointError`.

    Parameters
    ----------
    error : BaseException
    keep : int
        How many frames of this library are kept, from the outermost.
    """
    entries = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    files = [each.tb_frame.f_code.co_filename for each in entries]
    ours = [i for i, file in enumerate(files) if _OURS.search(file)]
    if not ours:
        return
    last = ours[-1]
    below = files[last + 1 :]  # of a function of the caller's, if it is of a task
    is_called = below and _CALLERS.search(files[last])
    is_of_task = is_called or any(map(_DASK.search, below))
    if not (is_of_task or isinstance(error, CheckpointError)):
        return
    removed = {*ours[keep:], *(i for i, file in enumerate(files) if _DASK.search(file))}
    shown = [each for i, each in enumerate(entries) if i not in removed]
    if len(shown) > _LONGEST:  # too deep to be pickled
        shown[_LONGEST // 2 : -_LONGEST // 2] = []
    short: TracebackType | None = None
    for each in reversed(shown or entries[-1:]):
        short = TracebackType(short, each.tb_frame, each.tb_lasti, each.tb_lineno)
    error.__traceback__ = short
