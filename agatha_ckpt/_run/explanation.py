"""What a call for a checkpoint would do, as a value for people and programs."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count, groupby

from agatha_ckpt._errors import CheckpointError
from agatha_ckpt._run.decision import Action


@dataclass(frozen=True)
class Explanation:
    """What `Checkpointer.checkpoint` would do, and why; ``str`` of it is a sentence.

    Attributes
    ----------
    name : str
        Name of the checkpoint.
    action : str
        ``"load"``, ``"compute"`` (nothing is kept), ``"resume"`` (partitions of an
        unfinished run are kept), ``"repair"`` (what is damaged is computed again),
        ``"recompute"`` (what is done is replaced), ``"pass through"`` (the bag is
        handed back), or ``"error"``.
    line : str
        The line that the call would print; of an error, its message.
    reason : str
        Why, where there is more to it than what is stored.
    compute : tuple of int
        Numbers of the partitions that would be computed.
    kept : int
        Number of stored partitions that would not be computed.
    halts : bool
        Whether the program would then stop.
    error : CheckpointError, optional
        What the call would raise instead.
    """

    name: str
    action: Action
    line: str
    reason: str = ""
    compute: tuple[int, ...] = ()
    kept: int = 0
    halts: bool = False
    error: CheckpointError | None = field(default=None, compare=False)

    def __str__(self) -> str:
        action = type(self.error).__name__ if self.error else self.action
        sentences = [f"{self.name}: {action}", self.line]
        if self.kept and self.compute:
            sentences.append(f"It computes {numbers(self.compute)}")
        if self.halts:
            sentences.append("Then the program halts")
        return ". ".join(sentences)


def numbers(indexes: Iterable[int]) -> str:
    """Return partition numbers in few words.

    Examples
    --------
    >>> numbers([1, 5, 6, 7])
    'partitions 1, 5-7'
    """
    spans = []
    for _, steps in groupby(zip(sorted(indexes), count(), strict=False), _distance):
        span = [index for index, _ in steps]
        spans.append(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]))
    one = len(spans) == 1 and spans[0].isdigit()
    return f"partition{'' if one else 's'} {', '.join(spans)}"


def _distance(step: tuple[int, int]) -> int:
    index, position = step
    return index - position
