"""cloudpickle, with names in place of some classes. Imported when there is a pickle."""

import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle

_NameOf = Callable[[type], str | None]


class HoldsMainClass(Exception):
    """A value that is to be pickled holds a class that has a name."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, name_of: _NameOf) -> None:
        super().__init__(file, protocol=5)
        self._name_of = name_of

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and self._name_of(obj) is not None:
            raise HoldsMainClass
        return super().reducer_override(obj)


class _PicklerByName(_Pickler):
    # Not for all values: it is called for each string and number in them.
    def persistent_id(self, obj: Any) -> str | None:
        return self._name_of(obj) if isinstance(obj, type) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, class_of: Callable[[str], type]) -> None:
        super().__init__(file)
        self._class_of = class_of

    def persistent_load(self, name: Any) -> type:
        return self._class_of(name)


def dump(value: Any, name_of: _NameOf) -> bytes:
    """Return the pickle of *value*.

    Raises
    ------
    HoldsMainClass
        It holds a class for which *name_of* returns a name.
    """
    file = io.BytesIO()
    _Pickler(file, name_of).dump(value)
    return file.getvalue()


def dump_by_name(value: Any, name_of: _NameOf) -> bytes:
    """Return the pickle of *value*, with such names as persistent ids."""
    file = io.BytesIO()
    _PicklerByName(file, name_of).dump(value)
    return file.getvalue()


def load(payload: bytes, class_of: Callable[[str], type]) -> Any:
    """Return the value of a pickle; *class_of* returns the class of a name."""
    return _Unpickler(io.BytesIO(payload), class_of).load()
