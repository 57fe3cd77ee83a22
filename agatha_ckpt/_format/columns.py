"""Tables by column, of which a row is made when it is asked for.

A million rows as objects take several times the room of the bytes that hold them.
"""

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

Row = TypeVar("Row")

_STRING = re.compile(rb'"([^"\\]*)"[,\]]')
_CLOSE = ord("]")


class Strings:
    """The strings of an array of JSON, left where they are in its bytes."""

    def __init__(self, data: bytes, start: int, ends: Sequence[int]) -> None:
        self._data, self._start, self._ends = data, start, ends

    @property
    def json(self) -> memoryview:
        """The array, as it is in the bytes."""
        return memoryview(self._data)[self._start : self._ends[-1] + 2]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, at: int) -> str:
        at = range(len(self))[at]
        start = self._ends[at - 1] + 3 if at else self._start + 2
        return self._data[start : self._ends[at]].decode()

    def __iter__(self) -> Iterator[str]:
        data, start = self._data, self._start + 2
        for end in self._ends:
            yield data[start:end].decode()
            start = end + 3


def find_strings(data: bytes, start: int) -> Strings | None:
    """Return the strings of the array that begins at *start*.

    None where it is empty, or holds something else, escapes, or spaces between them.
    """
    ends, at = array("Q"), start + 1
    for match in _STRING.finditer(data, at):
        if match.start() != at:
            break
        at = match.end()
        ends.append(at - 2)
        if data[at - 1] == _CLOSE:
            return Strings(data, start, ends)
    return None


class Rows(Sequence[Row]):
    """The rows of a table.

    *make* makes a row of the values in the columns, which have one length and the order
    of its arguments.
    """

    def __init__(self, make: Callable[..., Row], columns: Mapping[str, Any]) -> None:
        self.make, self.columns = make, columns
        self._values = tuple(columns.values())

    def __len__(self) -> int:
        return len(self._values[0])

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, at: int | slice) -> Row | tuple[Row, ...]:
        if isinstance(at, slice):
            return tuple(map(self.__getitem__, range(len(self))[at]))
        return self.make(*[values[at] for values in self._values])

    def __iter__(self) -> Iterator[Row]:
        return map(self.make, *self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __repr__(self) -> str:
        return repr(tuple(self))


def column(rows: Sequence[Any], name: str) -> Any:
    """Return the values that rows have under a name."""
    if isinstance(rows, Rows):
        return rows.columns[name]
    return [getattr(row, name) for row in rows]
