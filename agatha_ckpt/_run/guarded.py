"""guarded: functions that return what they failed by, record for record."""

import reprlib
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from agatha_ckpt._format.failed_record import FailedRecord

R = TypeVar("R")
_MESSAGE, _TRACEBACK = 1_000, 4_000  # characters

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 4, 200, 200
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 10


def guarded(function: Callable[..., R]) -> Callable[..., R | FailedRecord]:
    """Return a function that gives a `FailedRecord` where *function* raises.

    For the functions that are mapped over records, not for predicates: what it gives
    counts as true in `filter` and `remove`. An `Exception` counts, and what is
    not one, such as Ctrl-C, passes. What a function returns lazily is computed later,
    and its errors are not caught.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
        It takes what *function* takes, and can be pickled if that can.

    Examples
    --------
    >>> import dask.bag
    >>> bag = dask.bag.from_sequence(["1", "x"]).map(guarded(int))
    >>> number, failed = bag.compute(scheduler="sync")
    >>> number, failed.repr, failed.error_type, failed.message
    (1, "'x'", 'ValueError', "invalid literal for int() with base 10: 'x'")
    """
    if not callable(function):
        raise TypeError(
            f"guarded takes a function, not a {type(function).__name__}; give the "
            "function that is mapped"
        )
    return partial(guarded_call, function)


def guarded_call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Return what *function* returns, or a `FailedRecord`."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return _failed(error, args, kwargs)


def _failed(
    error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> FailedRecord:
    given = [_text(_short.repr, value) for value in args]
    given += [f"{key}={_text(_short.repr, value)}" for key, value in kwargs.items()]
    cls = type(error)
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    # Without the frame of guarded_call.
    own = error.__traceback__ and error.__traceback__.tb_next
    shown = "".join(traceback.format_tb(own))
    return FailedRecord(
        ", ".join(given)[:_MESSAGE],
        f"{module}{cls.__qualname__}",
        _text(str, error)[:_MESSAGE],
        _valid(shown[-_TRACEBACK:]),
    )


def _text(shown: Callable[[Any], str], value: Any) -> str:
    """Return the text of a value, by methods that may raise."""
    try:
        return _valid(shown(value))
    except Exception:  # any, from methods of its class
        return f"<{type(value).__name__}>"


def _valid(text: str) -> str:
    """Return text that each encoding of Unicode has: without surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
