"""How calls count that dask itself adds to a graph."""

from typing import Any

from dask._task_spec import DataNode, Dict, List, Task

from agatha_ckpt._dask.canonical.callables import found_by_name, is_named, parameter
from agatha_ckpt._dask.canonical.encoder import Encoder, Handler, tagged, text
from agatha_ckpt._dask.graph import Call, Graph, Special, join
from agatha_ckpt._dask.load import LoadPartition
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._store.partition import Partition

# Their results are read once: as a list or lazily makes no difference.
_LAZY = frozenset(
    {
        ("builtins", "filter"),
        ("builtins", "zip"),
        ("cytoolz.itertoolz", "concat"),
        ("cytoolz.itertoolz", "join"),
        ("cytoolz.itertoolz", "pluck"),
        ("cytoolz.itertoolz", "remove"),
        ("dask.bag.core", "map_chunk"),
        ("dask.bag.core", "random_sample"),
        ("dask.bag.core", "starmap_chunk"),
        ("itertools", "product"),
        ("toolz.itertoolz", "concat"),
        ("toolz.itertoolz", "join"),
        ("toolz.itertoolz", "pluck"),
        ("toolz.itertoolz", "remove"),
        ("urllib.request", "urlopen"),
    }
)


_CAST = ("dask._task_spec", "_identity_cast")
_TO_CONTAINER = List.to_container
_TAGS = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}


def special_of(function: Any) -> Special | None:
    """Return what encodes the calls of a function that dask or a load adds."""
    kind = type(function)
    if issubclass(kind, LoadPartition):
        return _load
    if (kind.__module__, kind.__name__) == ("dask.optimization", "SubgraphCallable"):
        return _subgraph_callable
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
    if is_named(function):
        module, name = getattr(function, "__module__", None), function.__qualname__
        if found_by_name(function, module, name):
            return str(module), str(name)
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


def _container(call: Call) -> bytes | None:
    """Encode a container that is a task because of the keys in it."""
    task = Task(None, call.function, *call.arguments, **call.keywords)
    found = _members(task)
    if found is None:
        return None
    tag, members = found
    return join(tag, [call.read(member) for member in members])


def _members(task: Task) -> tuple[bytes, list[Any]] | None:
    """Return tag and members of a task that makes a container, whatever its form.

    dask rewrites nodes for containers as plain tasks when it optimises a bag.
    """
    if task.func is not _TO_CONTAINER and _name_of(task.func) != _CAST:
        return None
    keywords = task.kwargs
    kind = keywords.get("typ") or keywords.get("klass") or keywords.get("constructor")
    if kind is dict or kind is getattr(Dict, "constructor", dict):
        pairs = [p.args if isinstance(p, Task) else (p,) for p in task.args]
        # Before dask 2025.1 the arguments are pairs, which may hold tasks.
        old = bool(pairs) and "klass" in keywords
        return b"m", [m for p in pairs for m in p] if old else list(task.args)
    tag = _TAGS.get(kind)
    return (tag, list(task.args)) if tag else None


def _fused(call: Call) -> bytes | None:
    """Encode tasks that dask has fused into one, as if it had not."""
    tasks, key, names, *rest = call.arguments
    if isinstance(names, tuple | list):
        given = dict(zip(names, map(call.read, rest), strict=True))
    else:  # before dask 2025.1: the values by name
        given = {
            name: call.read(part)
            for each in (names, *rest)
            for name, part in _pairs(each)
        }
    return _inner(call.graph, tasks, key, given)


def _pairs(part: Any) -> list[tuple[Any, Any]]:
    if isinstance(part, dict):
        return list(part.items())
    _, members = _members(part) or (b"", [])
    return list(zip(members[::2], members[1::2], strict=True))


def _subgraph_callable(call: Call) -> bytes | None:
    if call.keywords:
        return None
    subgraph = call.function
    given = dict(zip(subgraph.inkeys, map(call.read, call.arguments), strict=True))
    return _inner(call.graph, subgraph.dsk, subgraph.outkey, given)


def _inner(graph: Graph, tasks: Any, key: Any, given: dict[Any, bytes]) -> bytes:
    data, steps = Graph(tasks, graph.walk, graph, given).digest(key)
    graph.refs.append(steps)
    return data


def _map(call: Call) -> bytes | None:
    """Encode a call of dask that calls its first argument with the others."""
    if call.keywords or len(call.arguments) < 2:
        return None
    graph = call.graph
    called, *rest = call.arguments
    function = graph.walk.function(called)
    graph.encoder.steps += function.steps
    parts = [graph.walk.function(call.function).data, function.data]
    opaque = graph.encoder.opaque
    for part in rest:
        kind = type(part)
        tag: bytes | None = None
        if part is None:
            parts.append(b"N")
            continue
        if kind is list:
            tag, members = b"l", part
        elif kind is dict:
            tag, members = b"m", [member for item in part.items() for member in item]
        elif isinstance(part, Task):
            tag, members = _members(part) or (None, ())
        if tag == b"l":
            found = []
            for place, member in enumerate(members):
                marked = len(opaque)
                found.append(call.read(member))
                if len(opaque) > marked:
                    name = parameter(called, place)
                    graph.name_argument(marked, called, name, member)
            parts.append(tagged(b"l", *found))
        elif tag == b"m":
            found = []
            for name, member in zip(members[::2], members[1::2], strict=True):
                found.append(graph.argument(name))
                found.append(graph.named(called, repr(name), member, graph.argument))
            parts.append(tagged(b"m", *found))
        else:
            parts.append(graph.named(called, "", part, call.read))
    return tagged(b"c%d." % len(call.arguments), *parts)


def _folder(_: Call) -> bytes | None:
    """Encode a temporary folder, which has another name in each run."""
    return tagged(b"partd")


def _apply(call: Call) -> bytes | None:
    if call.arguments and _name_of(call.arguments[0]) == ("partd.file", "File"):
        return _folder(call)
    return _map(call)


_SPECIAL: dict[tuple[str, str], Special] = {
    ("builtins", "list"): _list,
    ("dask._expr", "ProhibitReuse._identity"): _same,
    ("dask._task_spec", "_execute_subgraph"): _fused,
    ("dask._task_spec", "NestedContainer.to_container"): _container,
    ("dask.bag.core", "map_chunk"): _map,
    ("dask.bag.core", "reify"): _same,
    ("dask.bag.core", "starmap_chunk"): _map,
    ("dask.utils", "apply"): _apply,
    ("partd.file", "File"): _folder,
    _CAST: _container,
}
