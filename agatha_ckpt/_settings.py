"""Settings: one frozen value that says how checkpoints are made."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from agatha_ckpt._errors import InvalidNameError

_CHOICES: dict[str, tuple[object, ...]] = {
    "verbose": (True, False),
    "allow_partial": (True, False),
    "enabled": (True, False),
    "allow_pickle": (True, False),
    "compression": ("auto", None, "zstd"),
    "on_stale": ("warn", "recompute", "error"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How checkpoints are made; a value that is replaced, never changed.

    Parameters
    ----------
    verbose : bool, default True
        Print what happens to each checkpoint, and why.
    allow_partial : bool, default True
        Keep the whole partitions of an unfinished run with the same plan.
    enabled : bool, default True
        If false, a bag that is given is handed back as it is.
    halt_after : str, optional
        Stop the program after the checkpoint of this name is done.
    allow_pickle : bool, default False
        Store values of types that the format does not know as pickles, and load
        them. Unpickling can run any code: allow it only where you trust everybody
        who can write to the root.
    compression : {"auto", None, "zstd"}
        ``"auto"`` is zstd on remote filesystems and none on local disk.
    on_stale : {"warn", "recompute", "error"}
        What to do with a done checkpoint that has another version label or other
        parents than asked for: load it and say so, compute it again, or raise.

    Raises
    ------
    InvalidNameError
        A value is none of those listed.

    Examples
    --------
    >>> Settings(verbose=False).override(compression="zstd")
    Settings(verbose=False, compression='zstd')
    """

    verbose: bool = True
    allow_partial: bool = True
    enabled: bool = True
    halt_after: str | None = None
    allow_pickle: bool = False
    compression: str | None = "auto"
    on_stale: str = "warn"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            # By identity and type too: 1 is no True, and 0 no False.
            if not any(value == c and type(value) is type(c) for c in choices):
                allowed = ", ".join(map(repr, choices))
                raise InvalidNameError(
                    f"{value!r} is no value for the setting {name}; use one of "
                    f"{allowed}"
                )
        if not isinstance(self.halt_after, str | None):
            raise InvalidNameError(
                f"{self.halt_after!r} is no value for the setting halt_after; use "
                "the name of a checkpoint, or None"
            )

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Settings({', '.join(changed)})"

    def override(self, **changes: Any) -> Self:
        """Return settings with *changes*.

        Raises
        ------
        TypeError
            A name is no setting.
        InvalidNameError
            A value is none of those that the setting takes.
        """
        return replace(self, **changes)

    def override_given(self, **changes: Any) -> Self:
        """Return settings with those *changes* that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return self.override(**given)
