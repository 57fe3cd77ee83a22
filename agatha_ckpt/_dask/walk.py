"""The functions that a graph calls, and the steps that lead to a partition."""

from collections.abc import Callable
from typing import Any, NamedTuple

from agatha_ckpt._dask.canonical.encoder import Encoder, tagged

_LONGEST_CODE = 2_000  # characters

Steps = tuple[str, ...]  # which the garbage collector need not follow, unlike sets


class Function(NamedTuple):
    """What is known of a function that tasks call.

    Attributes
    ----------
    function : callable
        Kept so that its id is not given to another object.
    data : bytes
        Its encoding.
    steps : set of str
        The functions of the user that it calls, with digests of their code.
    special : callable, optional
        What encodes its calls, where they do not count as any others.
    """

    function: Any
    data: bytes
    steps: set[str]
    special: Callable[[Any], bytes | None] | None


class Walk:
    """What one pass over a graph knows of its functions; its subgraphs share it.

    Attributes
    ----------
    encoder : Encoder
    functions : dict
        What is known of them, by the id of the function.
    depth : int
        How many tasks are being encoded inside one another.
    busy : set
        Ids of the collections that are being encoded.
    """

    def __init__(self, encoder: Encoder, special_of: Callable[[Any], Any]) -> None:
        self.encoder = encoder
        self.functions: dict[int, Function] = {}
        self.depth = 0
        self.busy: set[int] = set()
        self._special_of = special_of
        self._merged: dict[tuple[Any, ...], Steps] = {}

    def function(self, function: Any) -> Function:
        """Return what is known of a function that a task calls."""
        found = self.functions.get(id(function))
        if found is None:
            encoder = self.encoder
            steps, encoder.steps = encoder.steps, set()
            data = encoder.named(function, "a function")
            made = getattr(function, "__init__", None)
            if isinstance(function, type) and hasattr(made, "__code__"):
                data = tagged(b"new", data, encoder.value(made))
            special = self._special_of(function)
            found = Function(function, data, encoder.steps, special)
            encoder.steps = steps
            self.functions[id(function)] = found
        return found

    def merge(self, before: list[Steps], own: set[str]) -> Steps:
        """Return the steps of a task: those of what it needs, and its own."""
        if not own and len(before) == 1:
            return before[0]
        key = *own, *before
        found = self._merged.get(key)
        if found is None:
            found = self._merged[key] = tuple(sorted(own.union(*before)))
        return found


def code_of(steps: Steps) -> str:
    """Return steps as they are stored: whole entries, no more than fit."""
    count = len(steps)
    while len(code := ";".join(steps[:count])) > _LONGEST_CODE:
        count -= 1
    return code
