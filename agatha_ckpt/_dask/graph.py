"""Digests of the tasks of a graph, as a Merkle hash without the keys."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from dask._task_spec import (
    Alias,
    DataNode,
    Dict,
    GraphNode,
    List,
    Set,
    Task,
    TaskRef,
    Tuple,
)
from dask.core import flatten

from agatha_ckpt._dask.blocks import Block, tasks_of
from agatha_ckpt._dask.canonical.callables import argument_label
from agatha_ckpt._dask.canonical.encoder import Encoder, Handler, tagged, text
from agatha_ckpt._dask.canonical.plain import FLAT
from agatha_ckpt._dask.walk import Steps, Walk
from agatha_ckpt._errors import CheckpointError

_DEEPEST = 20  # tasks that are encoded inside one another

Read = Callable[[Any], bytes]


class Call(NamedTuple):
    """A call in a task; *read* encodes an argument as dask reads it."""

    graph: "Graph"
    function: Any
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]
    read: Read


Special = Callable[[Call], bytes | None]
"""What encodes the calls of a function; None where they count as any others."""


class _DeeperError(CheckpointError):  # which values let through
    """A task has to be encoded before the one that led to it."""

    def __init__(self, graph: "Graph", key: Hashable) -> None:
        super().__init__(f"{key!r} is nested too deeply")
        self.graph, self.key = graph, key


class Graph:
    """The tasks of a graph, or of what dask has fused into one task.

    Parameters
    ----------
    tasks : mapping
        By key.
    walk : Walk
    outer : Graph, optional
        The graph that this one was fused from.
    given : mapping, optional
        Encodings of what the fused task is called with, by key.
    """

    def __init__(
        self,
        tasks: Mapping[Hashable, Any],
        walk: Walk,
        outer: "Graph | None" = None,
        given: Mapping[Hashable, bytes] | None = None,
    ) -> None:
        self.tasks = tasks
        self.walk = walk
        self.encoder = walk.encoder
        self.outer = outer
        self.known: dict[Hashable, tuple[bytes, Steps]] = {
            key: (data, ()) for key, data in (given or {}).items()
        }
        self.refs: list[Steps] = []
        self._busy: set[Hashable] = set()
        self._literals: dict[int, tuple[Any, bytes]] = {}
        # The types of literals that may be keys.
        kinds = set(map(type, tasks)) if outer is None else {object}
        strings = _PLAIN & {str} if kinds - {tuple, int, bytes} else frozenset()
        self._keys = strings | (_PLAIN - {str} if kinds - {tuple, str} else frozenset())

    def holds(self, key: Any) -> bool:
        """Return whether a value is the key of a task."""
        try:
            found = key in self.tasks or key in self.known
        except TypeError:  # not hashable
            return False
        return found or (self.outer is not None and self.outer.holds(key))

    def digest(self, key: Hashable) -> tuple[bytes, Steps]:
        """Return digest and steps of a task, however long the chain of its inputs."""
        todo, depth = [key], self.walk.depth
        places = self.encoder.places
        place = len(places)
        while todo:
            self.walk.depth = 0
            try:
                self._resolve(todo[-1])
                todo.pop()
            except _DeeperError as deeper:
                del places[place:]
                if deeper.graph is not self:
                    raise
                todo.append(deeper.key)
            finally:
                self.walk.depth = depth
        return self._resolve(key)

    def reference(self, key: Hashable) -> bytes:
        """Return the digest of a task that another one needs."""
        found = self.known.get(key)
        if found is None:
            found = self._resolve(key)
        self.refs.append(found[1])
        return found[0]

    def _resolve(self, key: Hashable) -> tuple[bytes, Steps]:
        found = self.known.get(key)
        if found is not None:
            return found
        if key not in self.tasks:
            if self.outer is not None:
                return self.outer._resolve(key)
            raise CheckpointError(
                f"the graph of the collection refers to {key!r}, which it does not "
                "hold, so that what its partitions are computed from is not known; "
                "build the collection again from its inputs"
            )
        if key in self._busy:
            raise CheckpointError(
                f"the graph of the collection needs {key!r} to compute {key!r}; no "
                "scheduler can compute it"
            )
        walk, encoder = self.walk, self.encoder
        if walk.depth >= _DEEPEST:
            raise _DeeperError(self, key)
        refs, self.refs = self.refs, []
        steps, encoder.steps = encoder.steps, set()
        walk.depth += 1
        self._busy.add(key)
        task = self.tasks[key]
        what = "a record" if isinstance(task, list) else "a value of the graph"
        encoder.places.append((what, None))
        try:
            if type(task) is Block:
                data = self._call(task.function, *task.at(key), self.argument)
            else:
                data = self.expression(task)
            if data[0] not in _DIGESTS:  # else another task has the same result
                data = b"\0" + blake2b(data, digest_size=16).digest()
            found = self.known[key] = data, walk.merge(self.refs, encoder.steps)
        finally:
            self.refs, encoder.steps = refs, steps
            self._busy.discard(key)
            walk.depth -= 1
        encoder.places.pop()
        return found

    def expression(self, part: Any) -> bytes:
        """Encode a part of a task as dask reads it: a key, a call, or a value."""
        kind = type(part)
        if kind is tuple:
            if part and callable(part[0]):
                return self._call(part[0], part[1:], {}, self.expression)
            if self.holds(part):
                return self.reference(part)
            return self._container(b"t", part)
        if kind in _PLAIN:
            if kind not in self._keys or not self.holds(part):
                return self.encoder.encode(part)
            if kind is bytes:  # a key for some versions of dask, a value for others
                return tagged(b"or", self.encoder.encode(part), self.reference(part))
            return self.reference(part)
        if kind is list:
            return self._container(b"l", part)
        if kind is dict:
            if any(isinstance(m, GraphNode | TaskRef) for m in part.values()):
                members = [member for item in part.items() for member in item]
                return tagged(b"m", *map(self.argument, members))
            return self.encoder.value(part)
        if isinstance(part, GraphNode | TaskRef):
            return self.node(part)
        if kind is set or kind is frozenset:
            return self._container(b"S" if kind is set else b"Z", part)
        if issubclass(kind, str | int | float | tuple) and self.holds(part):
            return self.reference(part)
        if issubclass(kind, list | tuple | set | frozenset):
            refs = len(self.refs)
            parts = [self.expression(member) for member in part]
            if len(self.refs) > refs:
                return tagged(b"like", self.encoder.encode(kind), *parts)
        elif getattr(kind, "__dask_future__", False):
            return future(self.encoder, part)
        return self.encoder.value(part)

    def argument(self, part: Any) -> bytes:
        """Encode an argument of a :class:`Task`, in which only nodes are read."""
        if isinstance(part, GraphNode | TaskRef):
            return self.node(part)
        return self.encoder.value(part)

    def _container(self, tag: bytes, members: Any) -> bytes:
        """Encode a literal container, in which dask looks for keys and calls."""
        known = self._literals.get(id(members))
        if known is not None:
            return known[1]
        if set(map(type, members)) <= _PLAIN and not (
            self._keys and any(map(self.holds, members))
        ):
            if len(members) < FLAT:  # as a value, but without looking for circles
                return join(tag, self.encoder.encode_all(members))
            data = self.encoder.value(members)
        else:
            refs, steps = len(self.refs), len(self.encoder.steps)
            parts = [self.expression(member) for member in members]
            data = join(tag, parts)
            if len(self.refs) > refs or len(self.encoder.steps) > steps:
                return data
        if len(members) > 8:
            self._literals[id(members)] = members, data
        return data

    def node(self, node: Any) -> bytes:
        """Encode a node of dask's task specification."""
        kind = type(node)
        if kind is TaskRef:
            return self.reference(node.key)
        if kind is Task or kind in _CONTAINERS:
            return self._call(node.func, node.args, node.kwargs, self.argument)
        if kind is Alias:
            return self.reference(node.target)
        if kind is DataNode:
            return self.encoder.value(node.value)
        if isinstance(node, TaskRef):
            return future(self.encoder, node)
        if isinstance(node, Task):
            kind_name = self.encoder.encode(kind)
            call = self._call(node.func, node.args, node.kwargs, self.argument)
            return tagged(b"task", kind_name, call)
        needs = sorted(map(self.reference, node.dependencies))
        return tagged(b"node", self.encoder.refuse(node), *needs)

    def _call(
        self,
        function: Any,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        read: Read,
    ) -> bytes:
        """Encode a call; *read* encodes its arguments."""
        known = self.walk.functions.get(id(function)) or self.walk.function(function)
        if known.special is not None:
            call = Call(self, function, arguments, keywords, read)
            found = known.special(call)
            if found is not None:
                return found
        self.encoder.steps |= known.steps
        parts = [known.data]
        if getattr(function, "__module__", None) in ("itertools", "builtins"):
            parts += map(read, arguments)  # what encloses it knows a better name
        else:
            for place, part in enumerate(arguments):
                parts.append(self.named(function, place, part, read))
        for name, part in keywords.items():
            parts += text(name), self.named(function, name, part, read)
        return tagged(b"c%d." % len(arguments), *parts)

    def named(self, function: Any, place: int | str, part: Any, read: Read) -> bytes:
        """Encode an argument of a function, by its number or name."""
        places = self.encoder.places
        places.append(((argument_label, function, place), part))
        data = read(part)
        places.pop()
        return data


_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
_CONTAINERS = frozenset({Dict, List, Set, Tuple})
_DIGESTS = b"\0\3"  # of tasks; the second of those that wait for others


def join(tag: bytes, parts: list[bytes]) -> bytes:
    """Return the encoding of a container by those of its members."""
    return tagged(tag, *(sorted(parts) if tag in (b"S", b"Z") else parts))


def future(encoder: Encoder, value: Any) -> bytes:
    """Encode a result that lies on a cluster: by its key, which may say too little."""
    return tagged(b"future", encoder.refuse(value), encoder.encode(value.key))


def handlers_of(graph: Graph) -> dict[str, Handler]:
    """Return what encodes nodes inside of values, where dask does not run them."""

    def node(encoder: Encoder, value: Any) -> bytes:
        if isinstance(value, Task):
            parts = (value.func, value.args, value.kwargs)
        elif isinstance(value, DataNode):
            parts = (value.value, None, None)
        else:
            parts = (value.key, getattr(value, "target", None), None)
        kind = encoder.encode(type(value))
        return tagged(b"node", kind, *encoder.encode_all(parts))

    def reference(encoder: Encoder, value: Any) -> bytes:
        if type(value) is not TaskRef:
            return future(encoder, value)
        if graph.holds(value.key):
            with encoder.suspended(lasting=False):
                data, steps = graph.digest(value.key)
            graph.refs.append(steps)
            return data
        return tagged(b"ref", encoder.encode(value.key))

    def collection(encoder: Encoder, value: Any) -> bytes:
        walk, key = graph.walk, id(value)
        parts = [encoder.encode(type(value))]
        if key in walk.busy:  # one of its tasks holds it
            return tagged(b"collection", *parts)
        walk.busy.add(key)
        try:
            tasks, keys = opened(value)
            inner = Graph(tasks, walk)
            with encoder.suspended(lasting=True):
                for data, steps in map(inner.digest, keys):
                    parts.append(data)
                    encoder.steps.update(steps)
        finally:
            walk.busy.discard(key)
        return tagged(b"collection", *parts)

    return {
        "dask.base.DaskMethodsMixin": collection,
        "dask._task_spec.GraphNode": node,
        "dask._task_spec.TaskRef": reference,
    }


def opened(collection: Any) -> tuple[Mapping[Hashable, Any], list[Hashable]]:
    """Return the tasks of a collection of dask, and the keys of its partitions."""
    if hasattr(collection, "expr"):  # what is computed is known after optimizing only
        collection = collection.optimize()
    tasks = tasks_of(collection.__dask_graph__())
    return tasks, list(flatten(collection.__dask_keys__()))
