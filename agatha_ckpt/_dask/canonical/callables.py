"""Canonical encoding of functions, classes and what they capture.

A function counts by its name, its defaults and what it captures, not by its code: who
mends a function after a crash keeps what is stored. Two functions of one name in one
graph are distinguished by their code.
"""

import re
import sys
import types
from collections.abc import Iterator
from functools import cache, partial
from hashlib import blake2b
from types import ModuleType
from typing import Any

from agatha_ckpt._dask.canonical.encoder import Encoder, Handler, tagged, text
from agatha_ckpt._dask.canonical.objects import full_name, module_name

_LIBRARIES = sys.stdlib_module_names | frozenset(
    ["agatha_ckpt", "cytoolz", "dask", "distributed", "fsspec", "partd", "tlz", "toolz"]
)
_HEAP_TYPE = 1 << 9
_NOT_CONTENT = re.compile(  # of a class: what Python keeps there for itself
    "__(abstractmethods|annotate|annotate_func|annotations|annotations_cache|dict|doc|"
    "firstlineno|module|qualname|slotnames|static_attributes|weakref)__|_abc_impl"
)
_NAMED = frozenset(
    {
        types.BuiltinFunctionType,
        types.FunctionType,
        types.MethodDescriptorType,
        types.MethodType,
        types.MethodWrapperType,
    }
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
        code = value.__code__
        name = full_name(value)
        if code.co_qualname != value.__qualname__:  # renamed, as by functools.wraps
            own = module_name(value.__globals__.get("__name__"))
            name = f"{name} {own}.{code.co_qualname}"
        digest = code_digest(code)
        parts = [text(name)]
        if self._is_ambiguous(name, digest):
            parts.append(text(digest))
        if self._is_ambiguous(f"globals of {name}", id(value.__globals__)):
            # Loaded twice: the same code may find other things under a name.
            for used in sorted(global_names(code) & value.__globals__.keys()):
                label = f"global {used!r} of {display_function(value)!r}"
                parts.append(text(used))
                parts.append(encoder.named(value.__globals__[used], label))
        if is_users(value):
            encoder.steps.append((step_name(value), digest[:8]))
        shown = display_function(value)
        if code.co_qualname.startswith("singledispatch.<locals>."):
            return tagged(b"f", *parts, encoder.encode(dict(value.registry)))
        held: list[bytes] = []
        for variable, cell in captured(value):
            label = f"variable {variable!r} of {shown!r}"
            held += text(variable), self._held(encoder, value, cell, label)
        defaults = dict(enumerate(value.__defaults__ or ()))
        for place, default in (defaults | (value.__kwdefaults__ or {})).items():
            label = f"a default of {shown!r}"
            parts.append(encoder.encode(place))
            parts.append(self._held(encoder, value, default, label))
        if value.__dict__:
            parts.append(encoder.named(value.__dict__, f"an attribute of {shown!r}"))
        return tagged(b"f", tagged(b"captured", *held), *parts)

    def _held(self, encoder: Encoder, function: Any, value: Any, label: str) -> bytes:
        """Encode a default or a variable; the sentinel of a module by its name."""
        if type(value) is object:
            places = [function.__globals__]
            places += [vars(m) for m in places[0].values() if type(m) is ModuleType]
            for place in places:
                for name, found in list(place.items()):
                    if found is value:
                        module = module_name(place.get("__name__"))
                        return tagged(b"sentinel", text(module), text(name))
        return encoder.named(value, label)

    def _class(self, encoder: Encoder, value: Any) -> bytes:
        """Encode a class by its name, and by its content where that is not enough."""
        name = full_name(value)
        if not value.__flags__ & _HEAP_TYPE:
            return tagged(b"C", text(name))
        found = found_by_name(value, value.__module__, value.__qualname__)
        if not self._is_ambiguous(f"class {name}", id(value)) and found:
            return tagged(b"C", text(name))
        parts = encoder.encode_all(value.__bases__)
        for name_, member in vars(value).items():
            if not _NOT_CONTENT.fullmatch(name_) and not isinstance(member, _IN_C):
                parts += text(name_), encoder.encode(member)
        return tagged(b"C", text(name), *parts)

    def _is_ambiguous(self, name: str, what: Any) -> bool:
        if name in self.ambiguous:
            return True
        if self._codes.setdefault(name, what) != what:
            self.clashes.add(name)
        return False


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
    return isinstance(function, type) or type(function) in _NAMED


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


@cache
def code_digest(code: types.CodeType) -> str:
    """Return a digest of what a code object does; line numbers are not part of it."""
    parts = [
        code.co_code.hex(),
        repr([_constant(constant) for constant in code.co_consts]),
        repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)),
        repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
        repr((code.co_flags, code.co_exceptiontable)),
    ]
    data = "\n".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=16).hexdigest()


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return "code", code_digest(value)
    if isinstance(value, tuple):
        return "tuple", [_constant(member) for member in value]
    if isinstance(value, frozenset):
        return "frozenset", sorted(repr(_constant(member)) for member in value)
    return type(value).__name__, repr(value)


def found_by_name(value: Any, module: Any, name: Any) -> bool:
    """Return whether *name* in an imported module is *value*."""
    place: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(name).split("."):
        place = getattr(place, "__dict__", {}).get(part)
    return place is value


def _is_global(value: Any) -> bool:
    """Return whether a method is a function of its module, as ``random.choice``."""
    module = type(value.__self__).__module__
    return found_by_name(value, module, value.__name__)


def _method(encoder: Encoder, value: Any) -> bytes:
    if type(value.__func__) is types.FunctionType and _is_global(value):
        return tagged(b"M", text(full_name(value.__func__)))
    shown = display_function(value.__func__)
    owner = encoder.named(value.__self__, f"the object of {shown!r}")
    return tagged(b"M", owner, encoder.encode(value.__func__))


def _builtin(encoder: Encoder, value: Any) -> bytes:
    """Encode a function or method that is written in C."""
    owner, module = value.__self__, getattr(value, "__module__", None)
    named = isinstance(owner, ModuleType | None) or _is_global(value)
    if named or found_by_name(value, module, value.__qualname__):
        return tagged(b"B", text(full_name(value)))
    name = display_function(value)
    return tagged(b"B", text(name), encoder.named(owner, f"the object of {name!r}"))


def _of_type(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"B", encoder.of_type(value.__objclass__), text(value.__name__))


def _partial(encoder: Encoder, value: Any) -> bytes:
    """Encode ``functools.partial`` and toolz's ``curry``."""
    shown = display_function(value.func)
    parts = [encoder.of_type(type(value)), encoder.encode(value.func)]
    if type(value) is partial:
        parts.append(encoder.encode(value.__dict__))
    for place, argument in enumerate(value.args):
        label = f"argument {parameter(value.func, place)} of {shown!r}"
        parts.append(encoder.named(argument, label))
    for name, argument in (value.keywords or {}).items():
        label = f"argument {name!r} of {shown!r}"
        parts += text(name), encoder.named(argument, label)
    return tagged(b"P%d" % len(value.args), *parts)


def _compose(encoder: Encoder, value: Any) -> bytes:
    """Encode toolz's ``compose``, the functions in the order in which they run."""
    return tagged(b"Q", *encoder.encode_all((value.first, *value.funcs)))


def _cached(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"A", encoder.encode(value.__wrapped__))


def _property(encoder: Encoder, value: Any) -> bytes:
    return tagged(
        b"property", *encoder.encode_all((value.fget, value.fset, value.fdel))
    )


def _wrapped(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"W", text(type(value).__name__), encoder.encode(value.__func__))


def _module(encoder: Encoder, value: Any) -> bytes:
    name = str(value.__name__)
    if sys.modules.get(name) is not value:
        return encoder.refuse(value)
    return tagged(b"J", text(module_name(name)))


def _code(_: Encoder, value: Any) -> bytes:
    return tagged(b"X", text(code_digest(value)))


def parameter(function: Any, place: int) -> str:
    """Return the name of the parameter number *place* of a function, or its number."""
    while type(function) in (partial, types.MethodType):
        if type(function) is partial:
            function, place = function.func, place + len(function.args)
        else:
            function, place = function.__func__, place + 1
    if type(function) is types.FunctionType:
        code = function.__code__
        if place < code.co_argcount:
            return repr(code.co_varnames[place])
    return str(place)


_HANDLERS: dict[str, Handler] = {
    "builtins.method": _method,
    "builtins.builtin_function_or_method": _builtin,
    "builtins.method-wrapper": _builtin,
    "builtins.method_descriptor": _of_type,
    "builtins.wrapper_descriptor": _of_type,
    "builtins.classmethod_descriptor": _of_type,
    "builtins.getset_descriptor": _of_type,
    "builtins.member_descriptor": _of_type,
    "builtins.property": _property,
    "builtins.staticmethod": _wrapped,
    "builtins.classmethod": _wrapped,
    "builtins.module": _module,
    "builtins.code": _code,
    "functools.partial": _partial,
    "functools._lru_cache_wrapper": _cached,
    "toolz.functoolz.curry": _partial,
    "toolz.functoolz.Compose": _compose,
    "cytoolz.functoolz.curry": _partial,
    "cytoolz.functoolz.Compose": _compose,
}
