"""What is known of an object from outside: its type's name, and its state."""

import re
import struct
import sys
import types
import warnings
from contextlib import suppress
from typing import Any

# Types of these packages hold connections, locks or models, not data.
_OPAQUE_PACKAGES = re.compile(
    "_?(asyncio|contextvars|multiprocessing|queue|socket|sqlite3|ssl|thread|weakref)|"
    "_io|aiobotocore|aiohttp|azure|boto3|botocore|concurrent|distributed|google|grpc|"
    "httpx|jax|keras|logging|mmap|psycopg2?|pymongo|redis|requests|select|selectors|"
    "spacy|sqlalchemy|subprocess|tempfile|tensorflow|threading|torch|tornado|"
    "transformers|urllib3"
)
_TRUSTED = re.compile(r"(numpy|pandas|pyarrow|scipy|shapely|sklearn)\b")
_DESCRIPTORS = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)
_IN_MEMORY = frozenset({"BytesIO", "StringIO"})
_STORES = frozenset({"CheckpointStore", "Checkpointer"})


def full_name(cls: Any) -> str:
    """Return module and name of a type or function, as it is found where it is used."""
    name = getattr(cls, "__qualname__", None) or getattr(cls, "__name__", "")
    return f"{module_name(getattr(cls, '__module__', None))}.{name}"


def module_name(module: Any) -> str:
    """Return the name of a module; of the main one, that of its file."""
    if module != "__main__":
        return str(module)
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
        if package == "_io" and base.__name__ in _IN_MEMORY:
            return False
        if _OPAQUE_PACKAGES.fullmatch(package):
            return True
        if package == "agatha_ckpt" and base.__name__ in _STORES:
            return True
    return False


def state_of(value: Any) -> Any:
    """Return the state of an object: what pickle would store of it.

    Nothing of the object's own is called but ``__getstate__``.
    """
    if has_getstate(type(value)):
        return value.__getstate__()
    return attributes(value), _slots(value)


def has_getstate(cls: Any) -> bool:
    """Return whether a type defines the state of its values."""
    return cls.__getstate__ is not object.__getstate__


def attributes(value: Any) -> Any:
    """Return the attributes of an object, or None if it has none."""
    cls = type(value)
    for base in cls.__mro__:
        found = vars(base).get("__dict__")
        if isinstance(found, _DESCRIPTORS):  # and not a property of the class
            return found.__get__(value) or None
    if cls.__dictoffset__:
        raise TypeError(f"the attributes of {cls.__name__} cannot be read")
    return None


def _slots(value: Any) -> Any:
    found = {}
    for base, name in _slot_names(type(value)):
        member = vars(base).get(name)
        if not isinstance(member, _DESCRIPTORS):
            raise TypeError(f"the slot {name!r} of {base.__name__} cannot be read")
        with suppress(AttributeError):  # it is not set
            found[name] = member.__get__(value)
    return found or None


def _slot_names(cls: type) -> list[tuple[type, str]]:
    found = []
    for base in cls.__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name in ("__dict__", "__weakref__"):
                continue
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            found.append((base, name))
    return found


def has_state(cls: type) -> bool:
    """Return whether all state of a type's values is where Python code can see it.

    This is what pickle checks: nothing but a dict, slots and weak references is in
    the memory of the object.
    """
    word = struct.calcsize("P")
    size = object.__basicsize__ + word * len(_slot_names(cls))
    if cls.__dictoffset__ != 0 and not cls.__flags__ & (1 << 4):  # a managed dict
        size += word
    if cls.__weakrefoffset__ > 0:
        size += word
    return not cls.__itemsize__ and cls.__basicsize__ <= size


def read_state(value: Any) -> Any:
    """Return the state of an object, also of one that is written in C.

    Raises
    ------
    TypeError
        It cannot be read.
    """
    cls = type(value)
    if has_state(cls):
        return state_of(value)
    try:
        return reduced(value)
    except TypeError:
        state = value.__getstate__() if has_getstate(cls) else None
        if state is None:  # which some types have beside what they are made of
            raise
        return state


def reduced(value: Any) -> Any:
    """Return the state of an object that is written in C, by its own pickling.

    Raises
    ------
    TypeError
        It cannot be pickled, or only by code that is not of a library known here.
    """
    cls = type(value)
    for base in cls.__mro__:
        method = vars(base).get("__reduce_ex__", vars(base).get("__reduce__"))
        if method is not None:
            break
    known = isinstance(method, _DESCRIPTORS) or _TRUSTED.match(str(base.__module__))
    if base is object or not known:
        raise TypeError(f"the state of {cls.__name__} cannot be read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = value.__reduce_ex__(4)
    if isinstance(found, str):  # it is found by its name
        return value.__module__, found
    made, arguments, *rest = found
    return made, arguments, [list(r) if hasattr(r, "__next__") else r for r in rest]
