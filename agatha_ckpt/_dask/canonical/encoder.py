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
from hashlib import blake2b
from typing import Any, NamedTuple

from agatha_ckpt._dask.canonical.objects import (
    article,
    defines,
    display,
    full_name,
    is_opaque_type,
    reduced,
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
Label = tuple[Callable[..., str], Any, Any]
"""How messages speak of a place: a function, and what it is called with."""


class TooLargeError(Exception):
    """A value cannot be encoded as a whole; the message is the reason."""


class _Known(NamedTuple):
    """A value that was encoded; kept, so that its id is not given to another one."""

    value: Any
    data: bytes
    size: int
    steps: set[str]


def pack(data: bytes) -> bytes:
    """Return *data*, or its digest where it is long."""
    if len(data) <= _SHORT:
        return data
    return b"#" + blake2b(data, digest_size=16).digest()


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """Return the encoding of a value that is made of encoded parts."""
    return pack(b"(%b %d:%b" % (tag, len(parts), b"".join(parts)))


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
    opaque : list of str
        What was not looked into, in order, by the innermost place that is known.
    places : list of (label, value)
        Where in the graph the encoder is.
    steps : set of str
        The functions met, each with a digest of its code.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        scalars: Iterable[Handler] = (),
        limit: int = LIMIT,
    ) -> None:
        self.limit = limit
        self.opaque: list[str] = []
        self.places: list[tuple[Label | str, Any]] = []
        self.steps: set[str] = set()
        self.size = 0
        self._named = handlers
        self._scalars = frozenset(scalars)
        self._of_type: dict[type, Handler] = {}
        self._known: dict[int, _Known] = {}
        # Numbers of the values that enclose this one, and of those beside it that
        # refer to one of these; in order.
        self._open: dict[int, int] = {}
        self._depth = 0
        self._low = _NOT_SEEN  # the first of the open values that is referred to

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
        opened, opaque = len(self._open), len(self.opaque)
        saved = self._depth, self._low
        base, self.size = self.size, 0
        try:
            return self.encode(value)
        except TooLargeError as error:
            self._close(opened)
            del self.opaque[opaque:]
            self._depth, self._low = saved
            length = b"%d" % len(value) if type(value) in _SIZED else b""
            return self.refuse(value, str(error), length)
        finally:
            self.size = base

    def named(self, value: Any, label: Label | str) -> bytes:
        """Return the encoding of a value that messages know by *label*."""
        self.places.append((label, value))
        try:
            return self.value(value)
        finally:
            self.places.pop()

    def refuse(self, value: Any, why: str = "", *facts: bytes) -> bytes:
        """Return the encoding of a value that is not looked into, and list it."""
        label, holder = self.places[-1] if self.places else ("a value", None)
        what = article(display(type(value))) + (f" ({why})" if why else "")
        own = isinstance(holder, tuple) or type(holder).__module__ == "dask._task_spec"
        if not (holder is value or holder is None or own):
            what = f"{what} in {article(display(type(holder)))}"
        name = label if isinstance(label, str) else label[0](*label[1:])
        self.opaque.append(f"{name}, {what}")
        return tagged(b"O", text(full_name(type(value))), *facts)

    def count(self, size: int) -> None:
        """Add to the size of the value that is being encoded."""
        self.size += size
        if self.size > self.limit:
            raise TooLargeError(ABOVE_LIMIT)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Encode something else in the middle of a value, as if nothing enclosed it."""
        saved = self._open, self._depth, self._low, self.size
        self._open, self._depth, self.size = {}, 0, 0
        try:
            yield
        finally:
            self._open, self._depth, self._low, self.size = saved

    def _find(self, cls: type) -> Handler:
        """Return what encodes values of *cls*, and remember it."""
        names = [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]
        first = next((n for n in names if n in _FIRST), None)
        wanted = [first] if first else names
        found = [n for n in names if n in self._named and n in wanted]
        name = found[0] if found else names[0]
        inner = self._named.get(name, objects)
        if cls is object or (not first and is_opaque_type(cls)):
            handler: Handler = Encoder.refuse  # two plain objects differ by identity
            if defines(cls, "__array__"):
                handler = _visited(_array)
        elif not first and defines(cls, "__dask_tokenize__"):
            handler = _visited(_tokenized)
        elif name == names[0]:
            handler = inner if inner in self._scalars else _visited(inner)
        else:
            handler = _visited(inner if _WHOLE.fullmatch(name) else _derived(inner))
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
            self.steps |= known.steps
            return known.data
        place = len(self._open)
        number = self._open.setdefault(key, place)
        if number != place:
            self._low = min(self._low, number)
            return b"@%d;" % (place - number)
        if self._depth >= _DEPTH:
            raise TooLargeError("nested too deeply")
        depth, size, opaque = self._depth, self.size, len(self.opaque)
        low, self._low = self._low, _NOT_SEEN
        steps, self.steps = self.steps, set()
        self._depth += 1
        try:
            data = inner(self, value)
        except (TooLargeError, RecursionError, CheckpointError):
            raise
        except Exception:  # of a library, or of a value's own methods
            self._close(place + 1)
            del self.opaque[opaque:]
            self.size, self._low = size, _NOT_SEEN
            data = self.refuse(value)
        finally:
            own, self.steps = self.steps, steps
            steps |= own
        self._depth = depth
        self.count(len(data) + 32)
        if self._low >= place:
            self._close(place)
            self._known[key] = _Known(value, data, self.size - size, own)
        self._low = min(low, self._low if self._low < place else _NOT_SEEN)
        return data

    def _close(self, place: int) -> None:
        """Take what was met since *place* from the values that are being encoded."""
        while len(self._open) > place:
            self._open.popitem()

    def unordered(self, values: Iterable[Any]) -> list[bytes]:
        """Return the sorted encodings of the members of a set."""
        low, self._low = self._low, _NOT_SEEN
        found = sorted(self.encode_all(list(values)))
        if self._low != _NOT_SEEN:
            raise TooLargeError("a set that holds itself")  # its order would count
        self._low = low
        return found


def _visited(inner: Handler) -> Handler:
    return lambda encoder, value: encoder.visit(value, inner)


def by(parts: Callable[[Any], Iterable[Any]]) -> Handler:
    """Return what encodes values by their type and parts."""

    def encode(encoder: Encoder, value: Any) -> bytes:
        return tagged(b"A", *encoder.encode_all((type(value), *parts(value))))

    return encode


# Types whose encoding says all of the types that are derived from them.
_WHOLE = re.compile(
    r"builtins\.type|fsspec\.spec\.AbstractFileSystem|pandas\..*|polars\..*|pyarrow\..*"
    r"|pathlib\..*|numpy\.(generic|dtype)|numpy\.random\..*|dask\..*|enum\.Enum|typing\..*"
    r"|google\..*|h5py\..*|numba\..*|sqlalchemy\..*|xarray\..*|numpy\.vectorize"
)

# What is looked for before a type's own __dask_tokenize__, or before str and int.
_FIRST = (
    "fsspec.spec.AbstractFileSystem",
    "dask.base.DaskMethodsMixin",
    "dask._task_spec.GraphNode",
    "dask._task_spec.TaskRef",
    "dask.dataframe.dask_expr.io.parquet.FragmentWrapper",
    "builtins.type",
    "enum.Enum",
    "sqlalchemy.engine.base.Engine",
    "sqlalchemy.engine.url.URL",
    "sqlalchemy.sql.elements.ClauseElement",
    # Their tokens are made by dask.tokenize.
    "xarray.core.variable.Variable",
    "xarray.core.dataarray.DataArray",
    "xarray.core.dataset.Dataset",
)

# Objects


def _derived(inner: Handler) -> Handler:
    """Return what encodes values of a type that is derived from one with a handler."""

    def encode(encoder: Encoder, value: Any) -> bytes:
        content = inner(encoder, value)
        parts = encoder.encode(type(value)), content
        return tagged(b"D", *parts, encoder.encode(state_of(value)))

    return encode


def objects(encoder: Encoder, value: Any) -> bytes:
    """Encode an object by its type and state."""
    cls = type(value)
    parts = encoder.encode_all((cls, *reduced(value)))
    if callable(value) and isinstance(cls.__call__, types.FunctionType):
        parts.append(encoder.encode(cls.__call__))
    return tagged(b"o", *parts)


_array = by(lambda value: [value.__array__()])
_tokenized = by(lambda value: [..., value.__dask_tokenize__()])
