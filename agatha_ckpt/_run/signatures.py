"""What type checkers know of a call: the type of its result, by its arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from agatha_ckpt._run.events import Event
from agatha_ckpt._settings import SaveOptions, SettingsDict

if TYPE_CHECKING:
    from dask.delayed import Delayed


class DaskCollection(Protocol):
    """A collection. dask's own ones do not match ``dask.typing.DaskCollection``."""

    def __dask_graph__(self) -> Any: ...

    def __dask_keys__(self) -> Any: ...


C = TypeVar("C", bound=DaskCollection)
Name = str | os.PathLike[str]


class CheckpointerOptions(SettingsDict, total=False):
    """The keyword arguments of a Checkpointer whose store is known."""

    read_from: Iterable[Any]
    on_event: Callable[[Event], Any] | None


class CheckpointCall(Protocol):
    """The call of ``checkpoint``."""

    @overload
    def __call__(
        self,
        name: Name,
        bag: DaskCollection | None = None,
        verbose: bool | None = None,
        allow_partial: bool | None = None,
        halt_after: str | None = None,
        textfile: bool = False,
        *,
        compute: Literal[False],
        **options: Unpack[SaveOptions],
    ) -> Delayed: ...

    @overload
    def __call__(
        self,
        name: Name,
        bag: C,
        verbose: bool | None = None,
        allow_partial: bool | None = None,
        halt_after: str | None = None,
        textfile: Literal[False] = False,
        *,
        compute: Literal[True] = True,
        **options: Unpack[SaveOptions],
    ) -> C: ...

    @overload
    def __call__(
        self,
        name: Name,
        bag: DaskCollection | None,
        verbose: bool | None = None,
        allow_partial: bool | None = None,
        halt_after: str | None = None,
        *,
        textfile: Literal[True],
        compute: Literal[True] = True,
        **options: Unpack[SaveOptions],
    ) -> None: ...

    @overload
    def __call__(
        self,
        name: Name,
        bag: DaskCollection | None = None,
        verbose: bool | None = None,
        allow_partial: bool | None = None,
        halt_after: str | None = None,
        textfile: bool = False,
        *,
        compute: bool = True,
        **options: Unpack[SaveOptions],
    ) -> Any: ...


def typed(function: Callable[..., Any]) -> CheckpointCall:
    """Return *function*; type checkers then see a `CheckpointCall`."""
    return function
