"""The caller's variable that ``ckpt("bag")`` replaces by its checkpoint."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from agatha_ckpt._errors import EncodeError, InvalidNameError, InvalidValueError


def checkpoint_variable(
    checkpoint: Callable[..., Any],
    frame: FrameType,
    bag_name: str,
    ckpt_prefix: str | None,
    options: Mapping[str, Any],
) -> None:
    """Replace the variable *bag_name* of *frame* by its checkpoint.

    Parameters
    ----------
    checkpoint : callable
        Called with the checkpoint's name, the collection, and *options*. Where it
        returns None, the variable stays.
    frame : frame
        The caller's.
    bag_name : str
    ckpt_prefix : str, optional
    options : mapping

    Raises
    ------
    InvalidNameError
        The caller sees no variable of that name.
    EncodeError
        It is None.
    """
    if not options.get("compute", True):
        raise InvalidValueError(
            f"the variable {bag_name!r} cannot hold both a bag and a deferred save; "
            "call checkpoint(..., compute=False)"
        )
    name = bag_name if ckpt_prefix is None else f"{ckpt_prefix}_{bag_name}"
    for namespace in (frame.f_locals, frame.f_globals):
        if bag_name in namespace:
            collection = namespace[bag_name]
            break
    else:
        raise InvalidNameError(
            f"there is no variable {bag_name!r} where ckpt was called "
            f"(in {frame.f_code.co_qualname}); give the name of a local variable that "
            "holds a collection"
        )
    if collection is None:  # which would load the checkpoint
        raise EncodeError(
            f"the variable {bag_name!r} is None, not a dask collection; give the "
            "name of a variable that holds one"
        )
    loaded = checkpoint(name, collection, **options)
    if loaded is not None:
        _rebind(frame, bag_name, loaded)


def _rebind(frame: FrameType, name: str, value: Any) -> None:
    # Asked for again: before Python 3.13 it is a copy, and the variables may have
    # changed while the bag was computed.
    local = frame.f_locals
    if name not in local:
        frame.f_globals[name] = value
        return
    local[name] = value
    if sys.version_info < (3, 13):
        # Writes the copy back into the function's variables and closure cells.
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
