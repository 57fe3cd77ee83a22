"""Canonical encoding of functions, classes and what they capture.

A function counts by its name, its defaults and what it captures, not by its code: who
mends a function after a crash keeps what is stored. Two functions of one name in one
graph are distinguished by their code.
"""

import gc
import re
import sys
import types
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from inspect import Parameter, signature
from operator import attrgetter
from types import ModuleType
from typing import Any

from agatha_ckpt._dask.canonical.encoder import Encoder, Handler, by, tagged, text
from agatha_ckpt._dask.canonical.objects import full_name, is_global, module_name

_LIBRARIES = sys.stdlib_module_names | frozenset(
    ["agatha_ckpt", "cytoolz", "dask", "distributed", "fsspec", "partd", "tlz", "toolz"]
)
_HEAP_TYPE = 1 << 9
_NOT_CONTENT = re.compile(  # of a class: what Python keeps there for itself
    "__(abstractmethods|annotate|annotate_func|annotations|annotations_cache|dict|doc|"
    "firstlineno|module|qualname|slotnames|static_attributes|weakref)__|_abc_impl|"
    "__pydantic_(core_schema|serializer|validator)__"
)
_CODE = [  # of a code object: what it does, but for its name and line numbers
    *("co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars"),
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount"),
    *("co_flags", "co_exceptiontable"),
]
_NAMED = (
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodDescriptorType,
    types.MethodType,
    types.MethodWrapperType,
)
_IN_C = (
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
)


class Names:
    """The functions of a graph by name, to distinguish those of one name.

    Parameters
    ----------
    ambiguous : frozenset of str
        Names that are known to belong to more than one function of the graph.

    Attributes
    ----------
    clashes : set of str
        Names found to belong to more than one function that are not among them.
    """

    def __init__(self, ambiguous: frozenset[str] = frozenset()) -> None:
        self.ambiguous = ambiguous
        self.clashes: set[str] = set()
        self._codes: dict[str, Any] = {}

    def handlers(self) -> dict[str, Handler]:
        """Return what encodes callables."""
        own = {"builtins.function": self._function, "builtins.type": self._class}
        return _HANDLERS | own

    def _function(self, encoder: Encoder, value: Any) -> bytes:
        if not is_users(value) and is_global(value):
            return tagged(b"B", text(full_name(value)))
        code = value.__code__
        name = full_name(value)
        if code.co_qualname != value.__qualname__:  # renamed, as by functools.wraps
            own = module_name(value.__globals__.get("__name__"))
            name = f"{name} {own}.{code.co_qualname}"
        digest = blake2b(encoder.encode(code), digest_size=16).hexdigest()
        parts = [text(name)]
        if self._is_ambiguous(name, digest):
            parts.append(text(digest))
        if self._is_ambiguous(f"globals of {name}", id(value.__globals__)):
            # Loaded twice: the same code may find other things under a name.
            for used in sorted(global_names(code) & value.__globals__.keys()):
                parts.append(text(used))
                parts.append(
                    encoder.named(value.__globals__[used], (_label, "global", value))
                )
        if is_users(value):
            encoder.steps.add(f"{step_name(value)}={digest[:8]}")
        if code.co_qualname.startswith("singledispatch.<locals>."):
            return tagged(b"f", *parts, encoder.encode(dict(value.registry)))
        held: dict[Any, Any] = dict(captured(value))
        if code.co_qualname == "memoize.<locals>.memof":  # toolz: what it has computed
            held.pop("cache")
        held |= enumerate(value.__defaults__ or ())
        held |= {f"{name}=": d for name, d in (value.__kwdefaults__ or {}).items()}
        for variable, content in held.items():
            parts.append(encoder.encode(variable))
            if type(content) is object and (sentinel := _sentinel(value, content)):
                parts.append(tagged(b"sentinel", text(sentinel)))
            else:
                parts.append(encoder.named(content, (_label, variable, value)))
        if value.__dict__:
            parts.append(encoder.named(value.__dict__, (_label, None, value)))
        return tagged(b"f", *parts)

    def _class(self, encoder: Encoder, value: Any) -> bytes:
        """Encode a class by its name, and by its content where that is not enough."""
        name = full_name(value)
        if not value.__flags__ & _HEAP_TYPE:
            return tagged(b"C", text(name))
        if not self._is_ambiguous(f"class {name}", id(value)) and is_global(value):
            return tagged(b"C", text(name))
        meta: Any = type(value)
        made_of = meta, value.__bases__, getattr(value, "__annotations__", None)
        parts = encoder.encode_all(made_of)
        for name_, member in vars(value).items():
            if not _NOT_CONTENT.fullmatch(name_) and not isinstance(member, _IN_C):
                parts += text(name_), encoder.encode(member)
        if meta.__basicsize__ > type.__basicsize__:  # with more than is in vars()
            return encoder.refuse(value, "", text(name), *parts)
        return tagged(b"C", text(name), *parts)

    def _is_ambiguous(self, name: str, what: Any) -> bool:
        if name in self.ambiguous:
            return True
        if self._codes.setdefault(name, what) != what:
            self.clashes.add(name)
        return False


def _label(held: Any, function: Any) -> str:
    """Return how messages speak of what a function holds."""
    what = f"variable {held!r}" if type(held) is str else "a default"
    what = {None: "an attribute", "global": "a global"}.get(held, what)
    return f"{what} of {display_function(function)!r}"


def _sentinel(function: Any, value: object) -> str:
    """Return the name of a plain object in the modules that a function sees."""
    places = [function.__globals__]
    places += [vars(m) for m in places[0].values() if type(m) is ModuleType]
    for place in places:
        for name, found in list(place.items()):
            if found is value:
                return f"{module_name(place.get('__name__'))}.{name}"
    return ""


def captured(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a function captures, with their values."""
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            yield f"{name} (unset)", None


def is_users(function: Any) -> bool:
    """Return whether a function is a step of a pipeline, not of a library below it."""
    package = str(function.__module__).partition(".")[0]
    return package == "__main__" or package not in _LIBRARIES


def display_function(function: Any) -> str:
    """Return how messages speak of a function."""
    while isinstance(function, partial):
        function = function.func
    named = function if is_named(function) else type(function)
    return str(named.__qualname__).rpartition("<locals>.")[2]


def is_named(function: Any) -> bool:
    """Return whether a callable has a name of its own, and is not a user's object."""
    return isinstance(function, (type, *_NAMED))


def step_name(function: Any) -> str:
    """Return the name of a step, without the characters that separate steps.

    The Python that compiled it is part of the name: digests of its code can be
    compared with those of the same Python only.
    """
    name = f"{sys.implementation.cache_tag}:{full_name(function)}"
    return "".join("_" if c in ";=" or not c.isprintable() else c for c in name)


def global_names(code: types.CodeType) -> set[str]:
    """Return the names that a code object looks up outside of it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*map(global_names, inner))


def _is_bound_global(value: Any) -> bool:
    """Return whether a method is a function of a library, as ``random.choice``."""
    module = str(type(value.__self__).__module__)
    is_library = module.partition(".")[0] in _LIBRARIES
    return is_library and is_global(value, getattr(value, "__name__", "?"), module)


def _method(encoder: Encoder, value: Any) -> bytes:
    if _is_bound_global(value):
        return tagged(b"M", text(full_name(value.__func__)))
    owner = encoder.named(value.__self__, (_owner_label, value.__func__, None))
    return tagged(b"M", owner, encoder.encode(value.__func__))


def _builtin(encoder: Encoder, value: Any) -> bytes:
    """Encode a function or method that is written in C."""
    owner = value.__self__
    is_bound = not isinstance(owner, ModuleType | None)
    if not is_bound or _is_bound_global(value) or is_global(value):
        return tagged(b"B", text(full_name(value)))
    held = encoder.named(owner, (_owner_label, value, None))
    return tagged(b"B", text(display_function(value)), held)


def _owner_label(function: Any, _: None) -> str:
    return f"the object of {display_function(function)!r}"


def _of_type(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"B", encoder.encode(value.__objclass__), text(value.__name__))


def _partial(encoder: Encoder, value: Any) -> bytes:
    """Encode ``functools.partial`` and toolz's ``curry``."""
    parts = encoder.encode_all((type(value), value.func))
    if type(value) is partial:
        parts.append(encoder.encode(value.__dict__))
    arguments = dict(enumerate(value.args)) | (value.keywords or {})
    for place, argument in arguments.items():
        label = argument_label, value.func, place
        parts += encoder.encode(place), encoder.named(argument, label)
    return tagged(b"P", *parts)


def argument_label(function: Any, place: int | str) -> str:
    """Return how messages speak of an argument of a function."""
    return f"argument {_parameter(function, place)} of {display_function(function)!r}"


def _cached(function: Any) -> tuple[Any, ...]:
    """Return the function that ``lru_cache`` wraps, and the wrapper's attributes."""
    own = {n: held for n, held in vars(function).items() if n[:2] != "__"}
    own.pop("cache_parameters", None)
    return function.__wrapped__, own


def _alias(alias: Any) -> list[Any]:
    parts = "__origin__", "__args__", "__metadata__"
    return [getattr(alias, name, None) for name in parts]


def _module(encoder: Encoder, value: Any) -> bytes:
    name = str(value.__name__)
    if sys.modules.get(name) is not value:
        return encoder.refuse(value)
    return tagged(b"J", text(module_name(name)))


def _parameter(function: Any, place: int | str) -> str:
    """Return the name of a parameter of a function, or its number."""
    if isinstance(place, str):
        return repr(place)
    try:
        parameter = [*signature(function).parameters.values()][place]
    except (TypeError, ValueError, IndexError):  # of some builtins
        return str(place)
    is_named = parameter.kind is not Parameter.VAR_POSITIONAL
    return repr(parameter.name) if is_named else str(place)


_HANDLERS: dict[str, Handler] = {
    "builtins.method": _method,
    "builtins.builtin_function_or_method": _builtin,
    "builtins.method-wrapper": _builtin,
    "builtins.method_descriptor": _of_type,
    "builtins.wrapper_descriptor": _of_type,
    "builtins.classmethod_descriptor": _of_type,
    "builtins.getset_descriptor": _of_type,
    "builtins.member_descriptor": _of_type,
    "builtins.property": by(attrgetter("fget", "fset", "fdel")),
    "builtins.staticmethod": by(lambda held: [held.__func__]),
    "builtins.classmethod": by(lambda held: [held.__func__]),
    "builtins.module": _module,
    "builtins.code": by(attrgetter(*_CODE)),
    "builtins.cell": by(lambda held: [held.cell_contents]),
    "functools.cached_property": by(lambda held: [held.func]),
    "functools.partial": _partial,
    "functools._lru_cache_wrapper": by(_cached),
    "functools.KeyWrapper": by(lambda held: [gc.get_referents(held)[1:]]),
    "types.GenericAlias": by(attrgetter("__origin__", "__args__", "__unpacked__")),
    "types.UnionType": by(lambda held: [held.__args__]),
    "typing._BaseGenericAlias": by(_alias),
    "toolz.functoolz.curry": _partial,
    "toolz.functoolz.Compose": by(attrgetter("first", "funcs")),
    "cytoolz.functoolz.curry": _partial,
    "cytoolz.functoolz.Compose": by(attrgetter("first", "funcs")),
}
