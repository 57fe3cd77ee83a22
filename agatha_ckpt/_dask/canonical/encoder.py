"""Canonical encoding of values: equal values have equal bytes in every process.

An encoding is self-delimiting and at most 64 bytes long; what is longer is replaced by
its digest. Two values of different type or content have different encodings. A value
that cannot be looked into is opaque: it counts by the name of its type, and is listed.

Other modules add encodings of their types as handlers, by the name of the type, so
that nothing is imported that the program has not imported itself.
"""

import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from agatha_ckpt._dask.canonical.objects import (
    article,
    defines,
    display,
    full_name,
    is_opaque_type,
    read_state,
    state_of,
)
from agatha_ckpt._errors import CheckpointError

LIMIT = 100_000_000
"""Bytes above which a value is opaque."""

ABOVE_LIMIT = "above 100 MB"
"""Why such a value is opaque."""

_SIZED = frozenset({dict, frozenset, list, set, tuple})
_SHORT = 64  # bytes
_DEPTH = 100  # nested containers and objects
_NOT_SEEN = 1 << 62

Handler = Callable[["Encoder", Any], bytes]


class TooLargeError(Exception):
    """A value cannot be encoded as a whole; the message is the reason."""


@dataclass
class Opaque:
    """A value that was not looked into, and how messages speak of it."""

    value: Any
    why: str = ""
    label: str = ""


@dataclass(slots=True)
class _Known:
    """A value that was encoded; kept, so that its id is not given to another one."""

    value: Any
    data: bytes
    size: int
    steps: tuple[Any, ...]
    opaque: tuple[Opaque, ...]


def pack(data: bytes) -> bytes:
    """Return *data*, or its digest where it is long."""
    if len(data) <= _SHORT:
        return data
    return b"#" + blake2b(data, digest_size=16).digest()


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """Return the encoding of a value that is made of encoded parts."""
    data = b"(%b %d:%b" % (tag, len(parts), b"".join(parts))
    if len(data) <= _SHORT:
        return data
    return b"#" + blake2b(data, digest_size=16).digest()


def text(value: str) -> bytes:
    """Return the encoding of a string."""
    data = value.encode("utf-8", "surrogatepass")
    return pack(b"s%d:%b" % (len(data), data))


def binary(value: Any) -> bytes:
    """Return the encoding of bytes, or of what has their buffer."""
    view = memoryview(value).cast("B") if not isinstance(value, bytes) else value
    if len(view) <= 60:
        return b"b%d:%b" % (len(view), bytes(view))
    digest = blake2b(b"b%d:" % len(view), digest_size=16)
    digest.update(view)
    return b"#" + digest.digest()


class Encoder:
    """Encodes the values of one graph; equal objects are looked into once.

    Parameters
    ----------
    handlers : mapping
        What encodes the content of a type, by the type's full name. Types derived from
        it are encoded by the same content, their own name and state.
    scalars : iterable of handlers
        Those of them that are called for each value, as no value holds itself.
    limit : int
        Bytes above which a value is opaque.

    Attributes
    ----------
    opaque : list of Opaque
        What was not looked into, in order.
    steps : list
        The functions met, each with a digest of its code, in order.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        scalars: Iterable[Handler] = (),
        limit: int = LIMIT,
    ) -> None:
        self.limit = limit
        self.opaque: list[Opaque] = []
        self.steps: list[Any] = []
        self.size = 0
        self._named = handlers
        self._scalars = frozenset(scalars)
        self._of_type: dict[type, Handler] = {}
        self._known: dict[int, _Known] = {}
        self._open: dict[int, int] = {}
        self._path: list[int] = []
        self._count = self._depth = 0
        self._low = _NOT_SEEN  # the first of the open values that is referred to
        self._lasting = True

    def encode(self, value: Any) -> bytes:
        """Return the canonical encoding of *value*."""
        handler = self._of_type.get(type(value))
        if handler is None:
            handler = self._find(type(value))
        return handler(self, value)

    def encode_all(self, values: Iterable[Any]) -> list[bytes]:
        """Return the canonical encodings of *values*."""
        return [self.encode(value) for value in values]

    def value(self, value: Any) -> bytes:
        """Return the encoding of a value that has a limit of its own.

        What is too large or nested too deeply is opaque as a whole.
        """
        opaque, steps, path = len(self.opaque), len(self.steps), len(self._path)
        saved = self._count, self._depth, self._low, self._lasting
        base, self.size = self.size, 0
        try:
            return self.encode(value)
        except TooLargeError as error:
            self._forget(path)
            del self.opaque[opaque:], self.steps[steps:]
            self._count, self._depth, self._low, self._lasting = saved
            length = b"%d" % len(value) if type(value) in _SIZED else b""
            return self.refuse(value, str(error), length)
        finally:
            self.size = base

    def named(self, value: Any, label: str) -> bytes:
        """Return the encoding of a value that messages know by *label*."""
        start = len(self.opaque)
        data = self.value(value)
        if len(self.opaque) > start:
            self.name(start, label, value)
        return data

    def name(self, start: int, label: str, holder: Any = None) -> None:
        """Name the opaque values from number *start* on that have no name yet."""
        for found in self.opaque[start:]:
            if not found.label:
                what = article(display(type(found.value))) + found.why
                if holder is not None and holder is not found.value:
                    what = f"{what} in {article(display(type(holder)))}"
                found.label = f"{label}, {what}"

    def refuse(self, value: Any, why: str = "", *facts: bytes) -> bytes:
        """Return the encoding of a value that is not looked into, and list it."""
        self.opaque.append(Opaque(value, f" ({why})" if why else ""))
        return tagged(b"O", text(full_name(type(value))), *facts)

    def count(self, size: int) -> None:
        """Add to the size of the value that is being encoded."""
        self.size += size
        if self.size > self.limit:
            raise TooLargeError(ABOVE_LIMIT)

    def of_type(self, cls: type) -> bytes:
        """Return the encoding of a type."""
        return self.encode(cls)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Encode something else in the middle of a value.

        What encloses it holds for this place only, and is not remembered.
        """
        saved = self._open, self._path, self._count, self._depth, self._low, self.size
        self._open, self._path, self.size = {}, [], 0
        self._count = self._depth = 0
        try:
            yield
        finally:
            self._open, self._path, self._count, self._depth, self._low, self.size = (
                saved
            )
            self._lasting = False

    def _find(self, cls: type) -> Handler:
        """Return what encodes values of *cls*, and remember it."""
        names = [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]
        first = next((n for n in names if n in _FIRST), None)
        if not first and is_opaque_type(cls):
            handler: Handler = Encoder.refuse
        elif not first and defines(cls, "__dask_graph__"):
            handler = _visited(_collection)
        elif not first and defines(cls, "__dask_tokenize__"):
            handler = _visited(_tokenized)
        else:
            # Two plain objects differ by identity only.
            inner: Handler = Encoder.refuse if cls is object else _object
            base, whole = cls, True
            for candidate, name in zip(cls.__mro__, names, strict=True):
                if name in self._named and (not first or name == first):
                    base, inner = candidate, self._named[name]
                    whole = bool(_WHOLE.fullmatch(name))
                    break
            if base is cls and inner in self._scalars:
                handler = inner
            elif base is cls or whole:
                handler = _visited(inner)
            else:
                handler = _visited(_derived(inner))
        self._of_type[cls] = handler
        return handler

    def visit(self, value: Any, inner: Handler) -> bytes:
        """Encode *value* once, and end where it holds itself.

        What is met again while it is being encoded is replaced by how many values ago
        it was met. A value that refers to one that encloses it is not remembered, as
        its encoding holds for this place only.
        """
        key = id(value)
        if known := self._known.get(key):
            self.count(known.size)
            self.steps += known.steps
            self.opaque += known.opaque
            self._count += 1
            return known.data
        number = self._open.get(key)
        if number is not None:
            self._low = min(self._low, number)
            return b"@%d;" % (self._count - number)
        if self._depth >= _DEPTH:
            raise TooLargeError("nested too deeply")
        number, place, size = self._count, len(self._path), self.size
        steps, opaque = len(self.steps), len(self.opaque)
        self._open[key] = number
        self._path.append(key)
        self._count += 1
        low, lasting = self._low, self._lasting
        self._low, self._lasting = _NOT_SEEN, True
        self._depth += 1
        depth = self._depth
        try:
            data = inner(self, value)
        except (TooLargeError, RecursionError, CheckpointError):
            raise
        except Exception:  # of a library, or of a value's own methods
            self._forget(place + 1)
            del self.opaque[opaque:], self.steps[steps:]
            self._count, self._depth, self.size = number + 1, depth, size
            self._low, self._lasting = _NOT_SEEN, True
            data = self.refuse(value)
        self._depth -= 1
        self.count(len(data) + 32)
        if self._low >= number:
            self._forget(place)
            self._count = number + 1
            if self._lasting:
                self._known[key] = _Known(
                    value,
                    data,
                    self.size - size,
                    tuple(self.steps[steps:]),
                    tuple(self.opaque[opaque:]),
                )
        else:
            low = min(low, self._low)
        self._low, self._lasting = low, lasting and self._lasting
        return data

    def _forget(self, place: int) -> None:
        """Take what was met since *place* from the values that are being encoded."""
        for key in self._path[place:]:
            del self._open[key]
        del self._path[place:]

    def unordered(self, values: Iterable[Any]) -> list[bytes]:
        """Return the sorted encodings of the members of a set."""
        low, self._low = self._low, _NOT_SEEN
        steps, found = self.steps, []
        try:
            for value in list(values):
                self.steps = []
                found.append((self.encode(value), self.steps))
        finally:
            self.steps = steps
        found.sort()
        for _, own in found:
            steps += own
        if self._low != _NOT_SEEN:
            raise TooLargeError("a set that holds itself")  # its order would count
        self._low = low
        return [data for data, _ in found]


def _visited(inner: Handler) -> Handler:
    return lambda encoder, value: encoder.visit(value, inner)


# Types whose encoding says all of the types that are derived from them.
_WHOLE = re.compile(
    r"builtins\.type|fsspec\.spec\.AbstractFileSystem|pandas\..*|pyarrow\..*"
    r"|pathlib\..*|numpy\.(generic|dtype)"
)

# What is looked for before a type's own __dask_tokenize__, or before str and int.
_FIRST = (
    "fsspec.spec.AbstractFileSystem",
    "dask._task_spec.GraphNode",
    "dask._task_spec.TaskRef",
    "builtins.type",
)

# Objects


def _derived(inner: Handler) -> Handler:
    """Return what encodes values of a type that is derived from one with a handler."""

    def encode(encoder: Encoder, value: Any) -> bytes:
        content = inner(encoder, value)
        parts = encoder.of_type(type(value)), content
        return tagged(b"D", *parts, encoder.encode(state_of(value)))

    return encode


def _object(encoder: Encoder, value: Any) -> bytes:
    """Encode an object by its type and state."""
    cls = type(value)
    parts = [encoder.of_type(cls), encoder.encode(read_state(value))]
    if callable(value) and isinstance(cls.__call__, types.FunctionType):
        parts.append(encoder.encode(cls.__call__))
    return tagged(b"o", *parts)


def _tokenized(encoder: Encoder, value: Any) -> bytes:
    """Encode an object whose type defines what identifies it."""
    token = value.__dask_tokenize__()
    return tagged(b"K", encoder.of_type(type(value)), encoder.encode(token))


def _collection(encoder: Encoder, value: Any) -> bytes:
    """Encode a dask collection inside a value: its graph is not looked into."""
    return tagged(b"G", encoder.refuse(value), _tokenized(encoder, value))
