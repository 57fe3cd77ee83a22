"""The functions that a graph calls, and the steps that lead to a partition."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agatha_ckpt._dask.canonical.encoder import Encoder, tagged

_LONGEST_CODE = 2_000  # characters

Step = tuple[str, str]
Steps = tuple[Step, ...]


@dataclass(slots=True)
class Function:
    """What is known of a function that tasks call.

    Attributes
    ----------
    function : callable
        Kept so that its id is not given to another object.
    data : bytes
        Its encoding.
    steps : tuple of (str, str)
        The functions of the user that it calls, with digests of their code.
    special : callable, optional
        What encodes its calls, where they do not count as any others.
    """

    function: Any
    data: bytes
    steps: Steps
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
    """

    def __init__(
        self,
        encoder: Encoder,
        special_of: Callable[[Any], Callable[[Any], bytes | None] | None],
    ) -> None:
        self.encoder = encoder
        self.depth = 0
        self._special_of = special_of
        self.functions: dict[int, Function] = {}
        self._merged: dict[Any, Steps] = {}
        self._codes: dict[Steps, str] = {}

    def function(self, function: Any) -> Function:
        """Return what is known of a function that a task calls."""
        found = self.functions.get(id(function))
        if found is None:
            encoder = self.encoder
            steps, encoder.steps = encoder.steps, []
            data = encoder.named(function, "a function")
            made = getattr(function, "__init__", None)
            if isinstance(function, type) and hasattr(made, "__code__"):
                data = tagged(b"new", data, encoder.value(made))
            special = self._special_of(function)
            found = Function(function, data, tuple(encoder.steps), special)
            encoder.steps = steps
            self.functions[id(function)] = found
        return found

    def merge(self, before: list[Steps], own: list[Step]) -> Steps:
        """Return the steps of a task: those of what it needs, then its own."""
        if not own and len(before) == 1:
            return before[0]
        key = tuple(before), tuple(own)
        found = self._merged.get(key)
        if found is None:
            steps = [step for steps in dict.fromkeys(before) for step in steps]
            found = self._merged[key] = tuple(dict.fromkeys((*steps, *own)))
        return found

    def code(self, steps: Steps) -> str:
        """Return steps as they are stored: whole entries, no more than fit."""
        found = self._codes.get(steps)
        if found is None:
            entries, length = [], -1
            for name, digest in steps:
                length += len(name) + len(digest) + 2
                if length > _LONGEST_CODE:
                    break
                entries.append(f"{name}={digest}")
            found = self._codes[steps] = ";".join(entries)
        return found
