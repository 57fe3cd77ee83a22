"""What is known of an object from outside: its type's name, and its state."""

import re
import sys
import warnings
from functools import cached_property, lru_cache
from typing import Any

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
)
_IN_MEMORY = ("_io.BytesIO", "_io.StringIO")


def full_name(cls: Any) -> str:
    """Return module and name of a type or function, as it is found where it is used."""
    name = getattr(cls, "__qualname__", None) or getattr(cls, "__name__", "")
    return f"{module_name(getattr(cls, '__module__', None))}.{name}"


def module_name(module: Any) -> str:
    """Return the name of a module; of the main one, that of its file."""
    if module != "__main__":
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
    for base in cls.__mro__:
        package = str(base.__module__).partition(".")[0]
        if f"{package}.{base.__name__}" in _IN_MEMORY:
            return False
        if _OPAQUE_PACKAGES.fullmatch(package):
            return True
        if f"{package}.{base.__name__}" in _OPAQUE_TYPES:
            return True
    return False


def reduced(value: Any) -> tuple[Any, ...]:
    """Return what pickle would store of an object, but for cached properties.

    Raises
    ------
    TypeError
        It cannot be pickled.
    """
    cls: Any = type(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cls.__reduce_ex__(value, 4)
    if isinstance(found, str):  # it is found by its name
        return getattr(value, "__module__", cls.__module__), found
    made, arguments, *rest = found
    if rest and type(rest[0]) is dict and (cached := _cached_properties(cls)):
        rest[0] = {name: rest[0][name] for name in rest[0] if name not in cached}
    members = [list(each) if hasattr(each, "__next__") else each for each in rest]
    return made, arguments, *(members if any(members) else ())


def state_of(value: Any) -> Any:
    """Return the state of an object beside what it is made of."""
    cls: Any = type(value)
    return cls.__getstate__(value)


@lru_cache(maxsize=1_000)
def _cached_properties(cls: type) -> frozenset[str]:
    found = {n: m for base in cls.__mro__[::-1] for n, m in vars(base).items()}
    return frozenset(n for n, m in found.items() if type(m) is cached_property)
