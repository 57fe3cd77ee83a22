"""What is known of an object from outside: its type's name, and its state."""

import re
import sys
import warnings
from copyreg import dispatch_table
from functools import cached_property, lru_cache
from struct import calcsize
from types import MemberDescriptorType
from typing import Any

from agatha_ckpt._format.main_classes import MODULES

# Types of these packages hold connections, locks or models, not data.
_OPAQUE_PACKAGES = re.compile(
    "_?(asyncio|contextvars|multiprocessing|queue|socket|sqlite3|ssl|thread|weakref)|"
    "_io|aiobotocore|aiohttp|azure|boto3|botocore|concurrent|distributed|google|grpc|"
    "httpx|jax|keras|logging|mmap|psycopg2?|pymongo|redis|requests|select|selectors|"
    "spacy|sqlalchemy|subprocess|tempfile|tensorflow|threading|torch|tornado|"
    "transformers|urllib3"
)
_OPAQUE_TYPES = (
    "agatha_ckpt.CheckpointStore",
    "agatha_ckpt.Checkpointer",
    "dask.SerializableLock",
    "xarray.CombinedLock",
    "xarray.SerializableLock",
)
_PLAIN = (bytes, dict, float, frozenset, int, list, set, str, tuple)
_IN_MEMORY = {
    *("_io.BytesIO", "_io.StringIO", "google.Message", "sqlite3.Row"),
    *("sqlalchemy.Base", "sqlalchemy.DeclarativeBase", "sqlalchemy.Row"),
}
_POINTER = calcsize("P")
_OF_SCIPY = {"_has_canonical_format", "_has_sorted_indices"}  # found out by use


def full_name(cls: Any) -> str:
    """Return module and name of a type or function, as it is found where it is used."""
    name = getattr(cls, "__qualname__", None) or getattr(cls, "__name__", "")
    return f"{module_name(getattr(cls, '__module__', None))}.{name}"


def module_name(module: Any) -> str:
    """Return the name of a module; of the main one, that of its file."""
    if module not in MODULES:
        return str(module).replace("pathlib._local", "pathlib")  # Python 3.13 alone
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None) or "__main__"
    return str(file).replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".py")


def display(cls: type) -> str:
    """Return how messages speak of a type."""
    return full_name(cls).removeprefix("builtins.")


def article(name: str) -> str:
    """Return *name* with an article before it."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def defines(cls: type, name: str) -> bool:
    """Return whether a type or a base of it defines an attribute."""
    return any(name in vars(base) for base in cls.__mro__)


def is_opaque_type(cls: type) -> bool:
    """Return whether values of a type hold connections, locks or models."""
    packages = [str(base.__module__).partition(".")[0] for base in cls.__mro__]
    names = {f"{p}.{b.__name__}" for p, b in zip(packages, cls.__mro__, strict=True)}
    if issubclass(cls, _PLAIN) or not names.isdisjoint(_IN_MEMORY):
        return False
    is_opaque = any(map(_OPAQUE_PACKAGES.fullmatch, packages))
    return is_opaque or not names.isdisjoint(_OPAQUE_TYPES)


def reduced(value: Any) -> tuple[Any, ...]:
    """Return what pickle would store of an object, but for what it has cached.

    Raises
    ------
    TypeError
        It cannot be pickled.
    """
    cls: Any = type(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reduce = dispatch_table.get(cls)
        found = reduce(value) if reduce else cls.__reduce_ex__(value, 4)
        if isinstance(found, str):
            module = getattr(value, "__module__", None) or cls.__module__
            if name := _name_in(module, found, value):
                return module, name
            if _is_in_c(cls):
                raise TypeError(f"{module} does not hold {found!r}")
            found = cls, (), cls.__getstate__(value)
    rest: list[Any]
    made, arguments, *rest = found
    members = [_lasting(cls, state) for state in rest[:1]]
    for member in rest[1:]:  # of a list, or of a dict; or what sets the state
        members.append(list(member) or None if hasattr(member, "__next__") else member)
    while members and members[-1] is None:
        members.pop()
    if not members and not reduce and not _has_state(cls):
        members = [state_of(value)]
    return made, arguments, *members


@lru_cache(maxsize=1_000)
def _has_state(cls: type) -> bool:
    """Return whether what reduces objects of a type knows all of their attributes.

    What is written in C, or has slots, knows none of those that a derived type adds.
    """
    reduces = {"__reduce__", "__reduce_ex__"}
    own = next(base for base in cls.__mro__ if not reduces.isdisjoint(vars(base)))
    return own in (cls, object) or own.__dictoffset__ != 0


def _is_in_c(cls: type) -> bool:
    """Return whether objects of a type have more than attributes and slots."""
    members = [m for base in cls.__mro__ for m in vars(base).values()]
    slots = sum(type(member) is MemberDescriptorType for member in members)
    own = 2 + slots  # with the pointers to attributes and weak references
    return cls.__basicsize__ > object.__basicsize__ + own * _POINTER


def is_global(value: Any, name: str = "", module: Any = None) -> bool:
    """Return whether a value is found by its name in its module."""
    place: Any = sys.modules.get(str(module or getattr(value, "__module__", None)))
    for part in (name or value.__qualname__).split("."):
        place = getattr(place, "__dict__", {}).get(part)
        if type(place) is staticmethod:
            place = place.__func__
    return place is value


def _name_in(module: str, name: str, value: Any) -> str:
    """Return the name by which a module holds a value: *name*, or else another."""
    if is_global(value, name, module):
        return name
    held = getattr(sys.modules.get(module), "__dict__", {})
    return min((n for n, other in list(held.items()) if other is value), default="")


def state_of(value: Any) -> Any:
    """Return the state of an object beside what it is made of."""
    cls: Any = type(value)
    if hasattr(cls, "n_sequence_fields"):  # as os.stat_result: not all are members
        return reduced(value)
    return _lasting(cls, cls.__getstate__(value))


def _lasting(cls: type, state: Any) -> Any:
    """Return a state without what an object keeps of its use.

    That is what it has cached, and the id of another attribute.
    """
    if type(state) is tuple and len(state) == 2 and type(state[0]) is dict:
        return _lasting(cls, state[0]), state[1]  # of one that has slots as well
    if type(state) is not dict:
        return state
    cached, ids = _caches(cls), set(map(id, state.values()))
    own = {n for n, v in state.items() if type(v) is int and v in ids}
    if own or not cached.isdisjoint(state):
        state = {n: v for n, v in state.items() if n not in cached and n not in own}
        return state or None
    return state


@lru_cache(maxsize=1_000)
def _caches(cls: type) -> frozenset[str]:
    """Return the attributes in which objects of a type keep what they computed."""
    found = {n: m for base in cls.__mro__[::-1] for n, m in vars(base).items()}
    names = {n for n, m in found.items() if isinstance(m, cached_property)}
    if any(str(base.__module__).startswith("scipy.") for base in cls.__mro__):
        names |= _OF_SCIPY
    return frozenset(names | {"_attrs_cached_hash"})
