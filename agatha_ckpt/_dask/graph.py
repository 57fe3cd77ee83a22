"""Digests of the tasks of a graph, as a Merkle hash without the keys."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef
from dask.core import flatten

from agatha_ckpt._dask.blocks import Block, SamePartition, tasks_of
from agatha_ckpt._dask.canonical.callables import argument_label
from agatha_ckpt._dask.canonical.encoder import Encoder, Handler, tagged, text
from agatha_ckpt._errors import CheckpointError

_DEEPEST = 20  # tasks that are encoded inside one another

Read = Callable[[Any], bytes]
Steps = frozenset[str]
"""The functions of the user that lead to a task, with digests of their code."""


class Call(NamedTuple):
    """A call in a task; *read* encodes an argument as dask reads it."""

    graph: "Graph"
    function: Any
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]
    read: Read


Special = Callable[[Call], bytes | None]
"""What encodes the calls of a function; None where they count as any others."""


class Function(NamedTuple):
    """What is known of a function that tasks call.

    Attributes
    ----------
    function : callable
        Kept so that its id is not given to another object.
    data : bytes
        Its encoding.
    steps : set of str
        The functions of the user that it calls, with digests of their code.
    special : callable, optional
        What encodes its calls, where they do not count as any others.
    """

    function: Any
    data: bytes
    steps: set[str]
    special: Special | None


class Functions:
    """The functions that tasks call, by id; each is encoded once.

    Parameters
    ----------
    encoder : Encoder
    special_of : callable
        Returns the `Special` of a function, or None.
    """

    def __init__(
        self, encoder: Encoder, special_of: Callable[[Any], Special | None]
    ) -> None:
        self.encoder = encoder
        self._special_of = special_of
        self._known: dict[int, Function] = {}

    def known(self, function: Any) -> Function:
        """Return what is known of a function that a task calls."""
        found = self._known.get(id(function))
        if found is None:
            encoder = self.encoder
            steps, encoder.steps = encoder.steps, set()
            data = encoder.named(function, "a function")
            made = getattr(function, "__init__", None)
            if isinstance(function, type) and hasattr(made, "__code__"):
                data = tagged(b"new", data, encoder.value(made))
            special = self._special_of(function)
            found = Function(function, data, encoder.steps, special)
            encoder.steps = steps
            self._known[id(function)] = found
        return found


class _DeeperError(CheckpointError):
    """A task has to be encoded before the one that led to it."""

    def __init__(self, key: Hashable) -> None:
        super().__init__(f"{key!r} is nested too deeply")
        self.key = key


class Graph:
    """The tasks of a graph, or of what dask has fused into one task.

    Parameters
    ----------
    tasks : mapping
        By key.
    functions : Functions
    given : mapping, optional
        Encodings of what the fused task is called with, by key.
    """

    def __init__(
        self,
        tasks: Mapping[Hashable, Any],
        functions: Functions,
        given: Mapping[Hashable, bytes] | None = None,
    ) -> None:
        self.tasks = tasks
        self.functions = functions
        self.encoder = functions.encoder
        self._known: dict[Hashable, tuple[bytes, Steps]] = {
            key: (data, frozenset()) for key, data in (given or {}).items()
        }
        self._index: Any = ()  # of the block that is being encoded
        self._steps: dict[Steps, Steps] = {}
        self._busy: set[Hashable] = set()
        self._literals: dict[int, Any] = {}  # long ones without inputs, by id

    def digest(self, key: Hashable) -> tuple[bytes, Steps]:
        """Return digest and steps of a task, however long the chain of its inputs."""
        todo = [key]
        places = self.encoder.places
        place = len(places)
        while todo:
            try:
                found = self._resolve(todo[-1])
                todo.pop()
            except _DeeperError as deeper:
                del places[place:]
                todo.append(deeper.key)
        return found

    def reference(self, key: Hashable) -> bytes:
        """Return the digest of a task that another one needs."""
        if type(key) is SamePartition:
            key = (key.bag, *self._index)
        data, steps = self._known.get(key) or self._resolve(key)
        self.encoder.steps |= steps
        return data

    def _resolve(self, key: Any) -> tuple[bytes, Steps]:
        found = self._known.get(key)
        if found is not None:
            return found
        if key not in self.tasks:
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
        if len(self._busy) >= _DEEPEST:
            raise _DeeperError(key)
        encoder = self.encoder
        outer, encoder.steps = (encoder.steps, self._index), set()
        self._busy.add(key)
        task = self.tasks[key]
        what = "a record" if isinstance(task, list) else "a value of the graph"
        encoder.places.append((what, None))
        try:
            if type(task) is Block:
                self._index = key[1:]
                task = task.task
            data = self.expression(task)
            if data[0] not in _DIGESTS:  # else another task has the same result
                data = b"\0" + blake2b(data, digest_size=16).digest()
            steps = frozenset(encoder.steps)
            found = self._known[key] = data, self._steps.setdefault(steps, steps)
        finally:
            encoder.steps, self._index = outer
            self._busy.discard(key)
        encoder.places.pop()
        return found

    def expression(self, part: Any) -> bytes:
        """Encode a part of a task as dask reads it: a key, a call, or a value.

        As ``dask._task_spec.convert_legacy_task``, which takes longer than the rest.
        """
        kind = type(part)
        if kind in _PLAIN and part not in self.tasks:
            return self.encoder.encode(part)
        if _is_call(part):
            return self._call(part[0], part[1:], {}, self.expression)
        if self._is_key(part):
            return self.reference(part)
        if isinstance(part, _CONTAINERS) and self._has_inputs(part):
            members = [self.expression(member) for member in part]
            if tag := TAGS.get(kind):
                return join(tag, members)
            return tagged(b"like", self.encoder.encode(kind), *members)
        if kind is dict and any(map(_is_node, part.values())):
            both = [member for item in part.items() for member in item]
            return tagged(b"m", *map(self.argument, both))
        return self.argument(part)

    def argument(self, part: Any) -> bytes:
        """Encode an argument of a :class:`Task`, in which only nodes are read."""
        return self._node(part) if _is_node(part) else self.encoder.value(part)

    def _is_key(self, part: Any) -> bool:
        try:
            return isinstance(part, _KEYS) and part in self.tasks
        except TypeError:  # not hashable
            return False

    def _has_inputs(self, members: Any) -> bool:
        """Return whether dask finds keys, calls or nodes in a literal container."""
        if id(members) in self._literals:  # each partition may have the same one
            return False
        if _PLAIN.issuperset(map(type, members)):
            found = not self.tasks.keys().isdisjoint(members)
        else:
            found = any(map(self._is_input, members))
        if len(members) > 8 and not found:
            self._literals[id(members)] = members
        return found

    def _is_input(self, part: Any) -> bool:
        if isinstance(part, _CONTAINERS):
            return _is_call(part) or self._is_key(part) or self._has_inputs(part)
        if type(part) is dict:
            return any(map(_is_node, part.values()))
        return _is_node(part) or self._is_key(part)

    def _node(self, node: Any) -> bytes:
        """Encode a node of dask's task specification."""
        kind = type(node)
        if kind is TaskRef:
            return self.reference(node.key)
        if kind is Alias:
            return self.reference(node.target)
        if kind is DataNode:
            return self.encoder.value(node.value)
        if not isinstance(node, Task):
            return future(self.encoder, node)
        call = self._call(node.func, node.args, node.kwargs, self.argument)
        if kind.__module__ == Task.__module__:
            return call
        return tagged(b"task", self.encoder.encode(kind), call)

    def _call(
        self,
        function: Any,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        read: Read,
    ) -> bytes:
        """Encode a call; *read* encodes its arguments."""
        known = self.functions.known(function)
        if known.special is not None:
            found = known.special(Call(self, function, arguments, keywords, read))
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


_NODES = (GraphNode, TaskRef)
_KEYS = (str, tuple, int, float)
_CONTAINERS = (list, tuple, set, frozenset)
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
_DIGESTS = b"\0\3"  # of tasks; the second of those that wait for others
TAGS: dict[Any, bytes] = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}


def _is_node(part: Any) -> bool:
    if isinstance(part, _NODES):
        return True
    return getattr(type(part), "__dask_future__", False)  # of any library


def _is_call(part: Any) -> bool:
    return type(part) is tuple and bool(part) and callable(part[0])


def join(tag: bytes, parts: list[bytes]) -> bytes:
    """Return the encoding of a container by those of its members."""
    return tagged(tag, *(sorted(parts) if tag in (b"S", b"Z") else parts))


def future(encoder: Encoder, value: Any) -> bytes:
    """Encode a result that lies on a cluster: by its key, which may say too little."""
    return tagged(b"future", encoder.refuse(value), encoder.encode(value.key))


def handlers_of(functions: Functions) -> dict[str, Handler]:
    """Return what encodes collections and futures inside of values."""
    busy: set[int] = set()

    def collection(encoder: Encoder, value: Any) -> bytes:
        found = [encoder.encode(type(value))]
        if id(value) in busy:  # one of its tasks holds it
            return tagged(b"collection", *found)
        busy.add(id(value))
        try:
            tasks, keys = opened(value)
            with encoder.apart():
                for data, steps in map(Graph(tasks, functions).digest, keys):
                    found.append(data)
                    encoder.steps |= steps
        finally:
            busy.discard(id(value))
        return tagged(b"collection", *found)

    return {"dask.base.DaskMethodsMixin": collection, "dask._task_spec.TaskRef": future}


def opened(collection: Any) -> tuple[Mapping[Hashable, Any], list[Hashable]]:
    """Return the tasks of a collection of dask, and the keys of its partitions."""
    if hasattr(collection, "expr"):  # what is computed is known after optimizing only
        collection = collection.optimize()
    tasks = tasks_of(collection.__dask_graph__())
    return tasks, list(flatten(collection.__dask_keys__()))
