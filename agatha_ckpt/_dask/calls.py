"""How calls count that dask itself adds to a graph."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import product
from typing import Any

from dask._task_spec import DataNode, Dict, List, Task

from agatha_ckpt._dask.canonical.callables import is_named
from agatha_ckpt._dask.canonical.encoder import Encoder, Handler, tagged, text
from agatha_ckpt._dask.canonical.objects import is_global
from agatha_ckpt._dask.graph import TAGS, Call, Graph, Special, join
from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._store.partition import Partition

# Their results are read once: as a list or lazily makes no difference.
_LAZY = {
    ("builtins", "filter"),
    ("builtins", "zip"),
    ("dask.bag.core", "map_chunk"),
    ("dask.bag.core", "random_sample"),
    ("dask.bag.core", "starmap_chunk"),
    ("itertools", "product"),
    ("urllib.request", "urlopen"),
    *product(
        ("cytoolz.itertoolz", "toolz.itertoolz"), ("concat", "join", "pluck", "remove")
    ),
}
_CAST = ("dask._task_spec", "_identity_cast")
_TO_CONTAINER = List.to_container


def special_of(function: Any) -> Special | None:
    """Return what encodes the calls of a function that dask or a load adds."""
    if isinstance(function, LoadPartition):
        return _load
    return _SPECIAL.get(_name_of(function))


def _partition(encoder: Encoder, value: Partition) -> bytes:
    made, arguments = value.__reduce__()
    if made is list:  # it was read, and may have been changed
        return encoder.encode(*arguments)
    (info,) = (each for each in arguments if type(each) is PartitionInfo)
    return _content(info)


HANDLERS: dict[str, Handler] = {
    f"{Partition.__module__}.{Partition.__qualname__}": _partition
}
"""What encodes loaded partitions: by their content, without reading it."""


def _content(info: PartitionInfo) -> bytes:
    return tagged(b"load", text(info.digest or info.fingerprint))


def _name_of(function: Any) -> tuple[str, str]:
    """Return module and name of a function that is found by them."""
    if is_named(function) and is_global(function):
        return str(function.__module__), str(function.__qualname__)
    return "", ""


def _load(call: Call) -> bytes | None:
    """Encode the load of a stored partition: by its content, not its place."""
    info = call.arguments[1]
    content = _content(info.value if isinstance(info, DataNode) else info)
    if type(call.function) is LoadPartition:
        return content
    parts = [p for k, v in call.keywords.items() for p in (text(k), call.read(v))]
    return tagged(b"load", text(type(call.function).__name__), content, *parts)


def _same(call: Call) -> bytes | None:
    """Encode a call that returns its argument."""
    if call.keywords or len(call.arguments) != 1:
        return None
    return call.read(call.arguments[0])


def _list(call: Call) -> bytes | None:
    """Encode ``list(call)`` as the call, where its result is read once."""
    if call.keywords or len(call.arguments) != 1:
        return None
    (inner,) = call.arguments
    if type(inner) is Task:
        called = inner.func
    elif type(inner) is tuple and inner:
        called = inner[0]
    else:
        return None
    return call.read(inner) if _name_of(called) in _LAZY else None


def _set(call: Call) -> bytes | None:
    """Encode ``set(list)``, as dask makes one of delayed values, in any order."""
    tag, members = _unpacked(call.arguments[0] if len(call.arguments) == 1 else None)
    return (
        join(b"S", [call.read(member) for member in members]) if tag == b"l" else None
    )


def _container(call: Call) -> bytes | None:
    """Encode a container that is a task because of the keys in it."""
    found = _members(call.function, call.arguments, call.keywords)
    if found is None:
        return None
    tag, members = found
    return join(tag, [call.read(member) for member in members])


def _members(
    function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[bytes, Sequence[Any]] | None:
    """Return tag and members of a call that makes a container, whatever its form.

    dask rewrites nodes for containers as plain tasks when it optimises a bag.
    """
    if function is not _TO_CONTAINER and _name_of(function) != _CAST:
        return None
    kind = keywords.get("typ") or keywords.get("constructor")
    tag = b"m" if kind in (dict, Dict.constructor) else TAGS.get(kind)
    return (tag, arguments) if tag else None


def _fused(call: Call) -> bytes | None:
    """Encode tasks that dask has fused into one, as if it had not."""
    tasks, key, names, *rest = call.arguments
    given = dict(zip(names, map(call.read, rest), strict=True))
    data, steps = Graph(tasks, call.graph.functions, given).digest(key)
    call.graph.encoder.steps |= steps
    return data


def _map(call: Call) -> bytes | None:
    """Encode a call of dask that calls its first argument with the others."""
    if call.keywords or len(call.arguments) < 2:
        return None
    graph = call.graph
    called, *rest = call.arguments
    function = graph.functions.known(called)
    graph.encoder.steps |= function.steps
    parts = [graph.functions.known(call.function).data, function.data]
    for part in rest:
        tag, members = _unpacked(part)
        if not tag:
            parts.append(call.read(part))
            continue
        read, found = call.read, []
        named: Iterable[tuple[Any, Any]] = enumerate(members)
        if tag == b"m":
            read = graph.argument
            named = zip(members[::2], members[1::2], strict=True)
        for place, member in named:
            found.append(graph.argument(place))
            found.append(graph.named(called, place, member, read))
        parts.append(tagged(tag, *found))
    return tagged(b"c", *parts)


def _unpacked(part: Any) -> tuple[bytes, Sequence[Any]]:
    """Return tag and members of a list or dict, also of one that is a task."""
    if type(part) is list:
        return b"l", part
    if type(part) is dict:
        return b"m", [member for item in part.items() for member in item]
    if isinstance(part, Task):
        found = _members(part.func, part.args, part.kwargs)
        if found and found[0] in (b"l", b"m"):
            return found
    return b"", []


def _checkpoint(call: Call) -> bytes:
    """Encode a task that waits for others: the same in any order and any groups."""
    parts = [*call.arguments, *call.keywords.values()]
    return b"\3" + (_sum(call, parts) % (1 << 128)).to_bytes(16)


def _sum(call: Call, parts: Any) -> int:
    total = 0
    for part in parts:
        tag, members = _unpacked(part)
        if tag == b"l":
            total += _sum(call, members)
            continue
        data = call.read(part)
        if data[:1] != b"\3":
            data = b"\3" + blake2b(data, digest_size=16).digest()
        total += int.from_bytes(data[1:])
    return total


def _bind(call: Call) -> bytes:
    """Encode a task that has the result of the first after the others."""
    first = call.read(call.arguments[0])
    rest = _checkpoint(call._replace(arguments=call.arguments[1:]))
    return tagged(b"bind", first, rest)


def _folder(_: Call) -> bytes | None:
    """Encode a temporary folder, which has another name in each run."""
    return tagged(b"partd")


def _apply(call: Call) -> bytes | None:
    if call.arguments and _name_of(call.arguments[0]) == ("partd.file", "File"):
        return _folder(call)
    return _map(call)


_SPECIAL: dict[tuple[str, str], Special] = {
    ("builtins", "list"): _list,
    ("builtins", "set"): _set,
    ("dask._expr", "ProhibitReuse._identity"): _same,
    ("dask._task_spec", "_execute_subgraph"): _fused,
    ("dask._task_spec", "NestedContainer.to_container"): _container,
    ("dask.bag.core", "map_chunk"): _map,
    ("dask.bag.core", "reify"): _same,
    ("dask.bag.core", "starmap_chunk"): _map,
    ("dask.graph_manipulation", "chunks.bind"): _bind,
    ("dask.graph_manipulation", "chunks.checkpoint"): _checkpoint,
    ("dask.utils", "apply"): _apply,
    ("partd.file", "File"): _folder,
    _CAST: _container,
}
