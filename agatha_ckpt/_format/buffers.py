"""Where records hold a bytearray or a memoryview.

msgpack packs both as if they were bytes and asks nobody, so they must be looked for.
A walk through all values costs about what packing them does; so it is first looked for
what bytes look like when they are packed, and only what may hold some is walked.
"""

from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Sequence
from gc import get_referents
from itertools import accumulate, chain
from typing import Any

from agatha_ckpt._format.arrays import Refused
from agatha_ckpt._format.types import Bytearray, attributes

_BUFFERS = frozenset({bytearray, memoryview})
_CONTAINERS = frozenset(
    {list, tuple, dict, set, frozenset, deque, OrderedDict, Counter, defaultdict}
)
_WALKED = frozenset({str, int, float, bool, type(None), bytes, list, tuple, dict})
_NUMBERS = frozenset({int, float})
_HEADS = ((b"\xc4", 1), (b"\xc5", 2), (b"\xc6", 4))  # of bin; and the length's width
_SHORT_HEADS = _HEADS[:2]
_FEW, _DENSE_BYTES = 64, 4096  # records; and where three heads are many
_LONG_BYTES = 65_536  # from here on a value has the third head


def holds_buffer(records: Sequence[Any]) -> bool:
    """Say whether a bytearray or memoryview is in *records*, level by level."""
    level = records
    while level:
        if _are_numbers(level):
            return False
        kinds = set(map(type, level))
        if not kinds.isdisjoint(_BUFFERS):
            return True
        if kinds == {list}:
            level = list(chain.from_iterable(level))
            continue
        if kinds.isdisjoint(_CONTAINERS):
            return False
        if not kinds <= _WALKED:
            level = [x for x in level if type(x) in _CONTAINERS]
        level = get_referents(*level)
    return False


def _are_numbers(values: Sequence[Any]) -> bool:
    """Say whether all *values* are certainly int, float or bool.

    Adding them up is four times as fast as looking at the type of each. Nothing that
    is no number can be added to a number and give an int or float.
    """
    if not {type(values[0]), type(values[-1])} <= _NUMBERS:
        return False
    try:
        return type(sum(values)) in _NUMBERS
    except Exception:  # whatever a type makes of it
        return False


def _is_dense(payload: bytes, at: int) -> bool:
    """Say whether a head comes as often as in numbers, and so in all records."""
    end = at + _DENSE_BYTES
    for _ in range(3):
        at = payload.find(_HEADS[0][0], at, end) + 1
        if not at:
            return False
    return True


def find_bin_candidates(packed: list[bytes], payload: bytes, start: int) -> list[int]:
    """Return the positions of the records that may hold a bin value.

    The heads (C4, C5, C6 and a length) also occur inside numbers and text, so a
    record is named only where a value of that length could end inside it.

    Parameters
    ----------
    packed : list of bytes
        The records of a block, packed.
    payload : bytes
        All of them, from *start* on.
    """
    if len(packed) < _FEW and _is_dense(payload, start):
        return list(range(len(packed)))
    # So long a value fills a block, and is in the last record.
    long = bool(packed) and len(packed[-1]) >= _LONG_BYTES
    ends: list[int] = []
    found = set()
    left = len(packed) // 8 + 3
    for head, width in _HEADS if long else _SHORT_HEADS:
        at = payload.find(head, start)
        while at >= 0:
            if not (left := left - 1):  # to walk them all takes no longer
                return list(range(len(packed)))
            ends = ends or list(accumulate(map(len, packed), initial=start))
            index = bisect_right(ends, at)
            content, end = at + 1 + width, ends[index]
            if content <= end:
                length = payload[at + 1]
                if width > 1:
                    length = int.from_bytes(payload[at + 1 : content])
                if content + length <= end:
                    found.add(index - 1)
                    at = end - 1
            at = payload.find(head, at + 1)
    return sorted(found)


def mark_bytearrays(value: Any) -> Any:
    """Return *value* with each bytearray in a builtin container marked as one.

    msgpack packs bytearray and memoryview as if they were bytes and asks nobody.
    Subclasses and all other containers reach `make_default` and come back here.

    Raises
    ------
    Refused
        For a memoryview, which has nothing to come back as.
    """
    cls = type(value)
    mend = mark_bytearrays
    if cls is bytearray:
        return Bytearray(value)
    if cls is memoryview:
        raise Refused("a memoryview, which belongs to other memory; use bytes")
    if cls in (list, tuple, set, frozenset):
        return cls(map(mend, value))
    if cls is dict:
        return {mend(key): mend(member) for key, member in value.items()}
    if cls is deque:
        return deque(map(mend, value), value.maxlen)
    if cls in (Counter, OrderedDict, defaultdict) and not attributes(value):
        copy = value.copy()  # with its factory, if it has one
        copy.clear()
        for key, member in value.items():
            copy[mend(key)] = mend(member)
        return copy
    return value
