"""The kinds of collections that can be saved, and the module that handles each."""

from collections.abc import Callable
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from agatha_ckpt._dask.load import LoadPartition, layer_of
from agatha_ckpt._dask.source import Source
from agatha_ckpt._errors import CorruptCheckpointError, UnsupportedFormatError
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._store.store import CheckpointStore

# The module with `source_of` by the name of the type, so that no package is imported
# for nothing.
_SOURCES = {
    "dask.bag.Bag": "bag",
    "dask.bag.Item": "delayed",
    "dask.delayed.Delayed": "delayed",
    "dask.array.Array": "array",
    "dask.dataframe.DataFrame": "frame",
    "dask.dataframe.Series": "frame",
}
_SUBCLASSES = ("dask.dataframe.Index",)  # that are not stored as what they extend

# By the kind in a manifest: module and function.
_LOADS = {
    "bag": ("bag", "load_bag"),
    "delayed": ("delayed", "load_value"),
    "item": ("delayed", "load_value"),
    "array": ("array", "load_array"),
    "dataframe": ("frame", "load_frame"),
    "series": ("frame", "load_frame"),
}
KNOWN = tuple(_SOURCES)


def source_of(collection: Any, where: str) -> Source | None:
    """Return what a save needs of a collection; None for what is not a known one.

    Raises
    ------
    EncodeError
        It cannot be stored faithfully; *where* is the checkpoint, for the message.
    """
    for kind in type(collection).__mro__:
        package = ".".join(kind.__module__.split(".")[:2])
        name = f"{package}.{kind.__name__}"
        if name in _SUBCLASSES:
            return None
        if module := _SOURCES.get(name):
            source: Source = _module(module).source_of(collection, where)
            return source
    return None


def load_collection(
    store: CheckpointStore,
    name: str,
    manifest: Manifest,
    allow_pickle: bool,
    is_stale: bool = False,
) -> Any:
    """Return a collection that reads a done checkpoint when it is computed.

    Raises
    ------
    UnsupportedFormatError
        It is of a kind that this version does not know, or whose packages are not
        installed.
    CorruptCheckpointError
        Its manifest lacks what a load of its kind needs.
    """
    kind = manifest.collection["kind"]
    if kind not in _LOADS:
        raise UnsupportedFormatError(
            f"checkpoint {name!r} holds a collection of the unknown kind {kind!r}; if "
            "a newer version of agatha_ckpt wrote it, upgrade"
        )
    module, function = _LOADS[kind]
    try:
        load: Callable[..., Any] = getattr(_module(module), function)
    except ImportError:  # by dask, which asks for an extra of its own
        extra = "array" if kind == "array" else "dataframe"
        raise UnsupportedFormatError(
            f"checkpoint {name!r} holds a collection of kind {kind!r}, for which "
            f"packages are not installed here; pip install 'agatha-ckpt[{extra}]', "
            "then load again"
        ) from None
    task = LoadPartition(
        store, name, manifest.plan, allow_pickle, manifest.id, is_stale
    )
    try:
        return load(task, layer_of(store, name, manifest), manifest)
    except ZoneInfoNotFoundError as error:
        raise UnsupportedFormatError(
            f"checkpoint {name!r} holds a time zone that is not known here ({error}); "
            "pip install tzdata, then load again"
        ) from None
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CorruptCheckpointError(
            f"the done marker of checkpoint {name!r} does not describe a {kind} "
            f"({error!r}); give the collection to save it again, or clear it"
        ) from error


def _module(name: str) -> Any:
    return import_module(f"agatha_ckpt._dask.{name}")
