"""Classes of the program itself, in pickles.

A class of a module that can be imported is in a pickle by its name. Those of the
program have the module ``__main__``, which is another one in each process. Pickles hold
their qualified names too; a file has the definition of each once, as cloudpickle makes
it. Where the program defines a class of that name, values load as that class.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import reduce
from multiprocessing import parent_process
from typing import Any

import msgpack

# multiprocessing calls a program that it imports again by the second name.
MODULES = ("__main__", "__mp_main__")


class MainClasses(tuple[str, ...]):
    """The qualified names of classes of the program.

    Sent to a worker, it brings the program's own definitions along. The functions that
    are sent with it know these classes, and not those of the worker's ``__main__``.
    """

    definitions: Mapping[str, bytes] = {}  # brought along: pickles, by name

    def __reduce__(self) -> Any:
        definitions = dict(self.definitions or _definitions(self))
        return _with_definitions, (tuple(self), definitions)


def _with_definitions(names: Any, definitions: Mapping[str, bytes]) -> MainClasses:
    classes = MainClasses(names)
    classes.definitions = definitions
    return classes


def _definitions(names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    if parent_process() is None:
        for name in names:
            cls = main_class(name)
            if cls is not None and (definition := define(cls)):
                yield name, definition


def main_class(name: str) -> type | None:
    """Return the class of that qualified name in this process's ``__main__``.

    On a worker, cloudpickle leaves of ``Outer.Inner`` the name ``Inner``. So a name
    that ``__main__`` does not have may be that of the only such class in a class.
    """
    main = sys.modules.get("__main__")
    try:
        found: Any = reduce(getattr, name.split("."), main)
    except AttributeError:
        found = None
    if isinstance(found, type):
        return found
    inner = set() if "." in name else set(_named(name, main))
    return inner.pop() if len(inner) == 1 else None


def _named(name: str, holder: Any) -> Iterator[type]:
    """Yield the classes of that name in the classes that *holder* defines."""
    for member in list(vars(holder).values()):
        if (
            isinstance(member, type)
            and member.__module__ in MODULES
            and member.__qualname__ == _qualified(member.__name__, holder)
        ):
            if member.__name__ == name:
                yield member
            yield from _named(name, member)


def _qualified(name: str, holder: Any) -> str:
    return f"{holder.__qualname__}.{name}" if isinstance(holder, type) else name


def define(cls: type) -> bytes:
    """Return a pickle of the class itself; nothing where it cannot be pickled."""
    import cloudpickle

    try:
        definition: bytes = cloudpickle.dumps(cls, protocol=5)
    except Exception:  # whatever an object that it refers to raises
        return b""
    return definition


class PickleWriter:
    """Pickles values of one file, with names in place of the program's classes."""

    def __init__(self) -> None:
        self._new: dict[str, type] = {}
        self._known: set[tuple[str, str]] = set()
        # By id, as a class may not be hashable; with it, so that its id stays its own.
        self._names: dict[int, tuple[type, str | None]] = {}
        self._types: set[type] = set()  # of values that hold such a class

    def dumps(self, value: Any) -> bytes:
        """Return the pickle of *value*."""
        from agatha_ckpt._format.picklers import HoldsMainClass, dump, dump_by_name

        if type(value) not in self._types:
            try:
                return dump(value, self._name_of)
            except HoldsMainClass:
                self._types.add(type(value))
        return dump_by_name(value, self._name_of)

    def _name_of(self, cls: type) -> str | None:
        """Return the name for a class of the program; None for any other."""
        if cls.__module__ not in MODULES:
            return None
        if id(cls) not in self._names:
            self._names[id(cls)] = cls, self._new_name_of(cls)
        return self._names[id(cls)][1]

    def _new_name_of(self, cls: type) -> str | None:
        name = cls.__qualname__
        if not name.isprintable():
            return None
        if parent_process() is None and main_class(name) not in (cls, None):
            return None  # it was defined anew since
        if (cls.__module__, name) in self._known:
            return None  # of two classes of one name the second is pickled whole
        self._known.add((cls.__module__, name))
        self._new[name] = cls
        return name

    def new_definitions(self) -> bytes:
        """Return the payload of a block that defines the classes since the last call.

        It is empty where there is nothing to define.
        """
        if not self._new:
            return b""
        defined = {name: define(cls) for name, cls in self._new.items()}
        self._new.clear()
        payload: bytes = msgpack.packb(defined)
        return payload


def decode_definitions(payload: bytes) -> dict[str, bytes]:
    """Return the definitions of a block; nothing is unpickled.

    Raises
    ------
    ValueError
        It does not hold definitions.
    """
    found = msgpack.unpackb(payload)
    if type(found) is not dict or not set(map(type, found.values())) <= {bytes}:
        raise ValueError("not a mapping from names to pickles")
    return found


class PickleReader:
    """Unpickles the values of one file.

    A class is the program's own, or one that was brought along
    (`MainClasses.definitions`), or else the one that the file defines.
    """

    def __init__(self, brought: Mapping[str, bytes] | None = None) -> None:
        self.definitions: dict[str, bytes] = {}  # those of the file
        self._brought = brought or {}
        self._classes: dict[str, type] = {}

    def loads(self, payload: bytes) -> Any:
        """Return the value of a pickle."""
        from agatha_ckpt._format.picklers import load

        return load(payload, self._class_of)

    def _class_of(self, name: str) -> type:
        if name not in self._classes:
            self._classes[name] = self._find(name)
        return self._classes[name]

    def _find(self, name: str) -> type:
        found = main_class(name)
        if found and (parent_process() is None or name not in self._brought):
            return found
        definition = self._brought.get(name) or self.definitions.get(name)
        if not definition:
            raise AttributeError(f"__main__ does not define the class {name!r}")
        import cloudpickle

        cls: type = cloudpickle.loads(definition)
        return cls
