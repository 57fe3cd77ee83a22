"""Settings: one frozen value that determines how checkpoints are made."""

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, Self, TypedDict, Unpack, get_args

from agatha_ckpt._errors import InvalidValueError

Compression = Literal["auto", "zstd"] | None
OnError = Literal["raise", "continue"]
OnStale = Literal["warn", "recompute", "error"]
_CHOICES: dict[str, tuple[object, ...]] = {
    "compression": ("auto", None, "zstd"),
    "on_error": get_args(OnError),
    "on_stale": get_args(OnStale),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How checkpoints are made; a value that is replaced, never changed.

    Parameters
    ----------
    verbose : bool, default True
        Print what happens to each checkpoint, and why.
    allow_partial : bool, default True
        Keep whole partitions, of an unfinished run or of a stale checkpoint, that were
        computed from the same inputs.
    enabled : bool, default True
        If false, a bag that is given is returned unchanged.
    read_only : bool, default False
        Load what is done, return a bag that is given unchanged otherwise, and write
        nothing.
    halt_after : str, optional
        Stop the program after the checkpoint of this name is done.
    allow_pickle : bool, default False
        Store values of types that the format does not have as pickles, and load
        them. Unpickling can run any code: allow it only where you trust everyone
        who can write to the root.
    compression : {"auto", None, "zstd"}
        ``"auto"`` is zstd on remote filesystems and none on local disk.
    on_stale : {"warn", "recompute", "error"}
        What to do with a done checkpoint that has other inputs or other parents than
        asked for: load it with a `StaleCheckpointWarning` that has the reason, compute
        the partitions that differ, or raise. One with another version label is computed
        again, or raises.
    on_error : {"raise", "continue"}
        What to do when a partition fails: raise its error at once, or try the others
        first, store those that succeed, and raise a `PartitionsFailedError`.

    Raises
    ------
    InvalidValueError
        A value is not among those listed.

    Examples
    --------
    >>> Settings(verbose=False).override(compression="zstd")
    Settings(verbose=False, compression='zstd')
    """

    verbose: bool = True
    allow_partial: bool = True
    enabled: bool = True
    read_only: bool = False
    halt_after: str | None = None
    allow_pickle: bool = False
    compression: Compression = "auto"
    on_stale: OnStale = "warn"
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        for field in fields(self):
            fault = fault_of(field.name, getattr(self, field.name))
            if fault:
                raise InvalidValueError(fault)

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Settings({', '.join(changed)})"

    def override(self, **changes: Unpack["SettingsDict"]) -> Self:
        """Return settings with *changes*.

        Raises
        ------
        TypeError
            A name is not a setting.
        InvalidValueError
            A setting does not take the value.
        """
        check_names(changes)
        return replace(self, **changes)

    def override_given(self, changes: Mapping[str, Any]) -> Self:
        """Return settings with those *changes* that are given.

        None means not given, except for ``compression``, which can be None.
        """
        return replace(
            self,
            **{k: v for k, v in changes.items() if v is not None or k == "compression"},
        )


_OF_CALLS = ("compute", "metadata", "overwrite", "scheduler", "textfile", "version")


def check_names(given: Iterable[str], others: Iterable[str] = ()) -> None:
    """Refuse names that are neither settings nor among *others*.

    Raises
    ------
    TypeError
    """
    known = [*others, *(field.name for field in fields(Settings))]
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1, cutoff=0)[0]
            advice = f"the nearest known one is {near!r}"
            if name in _OF_CALLS:
                advice = "give it to each call of checkpoint"
            elif "storage_options" in known and not get_close_matches(name, known):
                advice = "options of the filesystem belong in storage_options={...}"
            raise TypeError(
                f"unexpected keyword argument {name!r}; {advice} "
                f"(known here: {', '.join(known)})"
            )


def fault_of(name: str, value: object, label: str = "") -> str | None:
    """Return why the setting *name* does not take *value*; None where it does.

    Parameters
    ----------
    name : str
    value : object
    label : str, optional
        How the message calls the setting, if not by its name.
    """
    label = label or f"the setting {name}"
    if name == "halt_after":
        if isinstance(value, str | None):
            return None
        expected = "the name of a checkpoint, or None"
    else:
        choices = _CHOICES.get(name, (True, False))
        # By type too: 1 == True.
        if any(value == c and type(value) is type(c) for c in choices):
            return None
        expected = " or ".join(map(repr, choices))
    return f"invalid value {value!r} for {label}: expected {expected}"


# The keyword arguments of calls, for type checkers.


class _Others(TypedDict, total=False):
    enabled: bool
    read_only: bool
    allow_pickle: bool
    compression: Compression
    on_stale: OnStale
    on_error: OnError


class SettingsDict(_Others, total=False):
    """The fields of `Settings`."""

    verbose: bool
    allow_partial: bool
    halt_after: str | None


class LocalOptions(TypedDict, total=False):
    """What dask's own schedulers take."""

    num_workers: int
    pool: Any
    cache: MutableMapping[Any, Any]
    callbacks: Any
    chunksize: int
    initializer: Callable[[], object]
    func_loads: Callable[[bytes], Any]
    func_dumps: Callable[[Any], bytes]
    rerun_exceptions_locally: bool
    optimize_graph: bool


class ClusterOptions(TypedDict, total=False):
    """What ``distributed.Client.persist`` takes, beside ``optimize_graph``."""

    workers: str | Collection[str]
    allow_other_workers: bool
    resources: Mapping[str, float]
    retries: int
    priority: int
    fifo_timeout: str | float
    actors: bool | Mapping[str, bool] | None


class SaveOptions(_Others, LocalOptions, ClusterOptions, total=False):
    """The keyword arguments of ``checkpoint`` that its result does not depend on."""

    scheduler: Any
    version: str | None
    overwrite: bool
    metadata: Mapping[str, Any] | None


class RepairOptions(SettingsDict, LocalOptions, ClusterOptions, total=False):
    """The keyword arguments of ``repair``."""

    scheduler: Any


class CkptOptions(SettingsDict, SaveOptions, total=False):
    """The keyword arguments of ``ckpt``."""

    textfile: bool
