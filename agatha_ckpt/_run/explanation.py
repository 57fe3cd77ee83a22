"""What a call for a checkpoint would do, as a value for people and programs."""

from dataclasses import dataclass, field

from agatha_ckpt._errors import CheckpointError
from agatha_ckpt._human import format_count, format_partitions
from agatha_ckpt._run.decision import Action
from agatha_ckpt._store.html import fields_table


@dataclass(frozen=True, repr=False)
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
        returned unchanged), or ``"error"``.
    line : str
        The line that the call would print; of an error, its message.
    reason : str
        Why, where what is stored is not the whole reason.
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

    def __repr__(self) -> str:
        return f"<Explanation of {str(self)!r}>"

    def _repr_html_(self) -> str:
        fields = {
            "action": type(self.error).__name__ if self.error else self.action,
            "line": self.line,
            "computes": format_partitions(self.compute) if self.compute else "",
            "keeps": format_count(self.kept, "partition") if self.kept else "",
            "then": "halts" if self.halts else "",
        }
        return fields_table(f"Explanation of {self.name!r}", fields)

    def __str__(self) -> str:
        action = type(self.error).__name__ if self.error else self.action
        sentences = [f"{self.name}: {action}", self.line]
        if self.kept and self.compute:
            sentences.append(f"It computes {format_partitions(self.compute)}")
        if self.halts:
            sentences.append("Then the program halts")
        return ". ".join(sentences)
