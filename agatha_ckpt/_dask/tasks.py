"""The tasks of a save: an error in one of them says whose partition it was.

What is lazy is computed while its partition is written, and fails there. The rest
fails before the writing begins, or in a task of its own.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask._task_spec
from dask._task_spec import Alias, GraphNode, Task, TaskRef
from dask.bag import Bag
from dask.core import flatten

# What dask calls where it has fused tasks into one; not public, and so not relied on.
_EXECUTES_FUSED = getattr(dask._task_spec, "_execute_subgraph", None)

Graph = dict[Hashable, Any]
Saves = dict[Hashable, tuple[Any, int]]
Step = tuple[Hashable, GraphNode]  # under what key others know its result


class NotingBag(Bag):  # type: ignore[misc]
    """A bag whose partitions are what saving another bag's returns.

    Its tasks are called with a partition and its number, and have a method
    ``describe`` that says which partition that is.
    """

    @staticmethod
    def __dask_optimize__(
        dsk: Mapping[Hashable, Any], keys: Any, **kwargs: Any
    ) -> Graph:
        """Optimise as any bag, then let each task know what it is for."""
        graph, saves = fused(dsk, keys, **kwargs)
        for key, (owner, shared) in _owners(graph, list(saves)).items():
            task = graph[key]
            if type(task) is Task:  # others hold values, and cannot fail
                save, index = saves[owner]
                where = save.describe(index)
                if shared:
                    where = f"{where}, and what others need too"
                graph[key] = around(key, task, _Noting, where)
        return graph


def fused(dsk: Mapping[Hashable, Any], keys: Any, **kwargs: Any) -> tuple[Graph, Saves]:
    """Return the tasks as optimised for any bag, and what saves which partition.

    What a save was fused into has its key, without an alias between.
    """
    saves = {key: save_and_index(dsk[key]) for key in flatten(keys)}
    graph = dict(Bag.__dask_optimize__(dsk, keys, **kwargs))
    for key in saves:
        if isinstance(graph[key], Alias):
            graph[key] = graph.pop(graph[key].target)
    return graph, saves


def save_and_index(task: Any) -> tuple[Any, int]:
    """Return what a task calls to save a partition, and the partition's number."""
    if isinstance(task, Task):
        return task.func, task.args[1]
    save, _, index, *_ = task
    return save, index


def _owners(
    graph: Graph, saves: list[Hashable]
) -> dict[Hashable, tuple[Hashable, bool]]:
    """Return for each key one of the saves that need it, and if there are more."""
    owners = {key: (key, False) for key in saves}
    changed = saves[::-1]
    while changed:
        key = changed.pop()
        owner, shared = owners[key]
        for needed in graph[key].dependencies:
            if needed not in graph:  # a future
                continue
            before = owners.get(needed)
            if before is None:
                after = (owner, shared)
            else:
                after = (before[0], before[1] or shared or before[0] != owner)
            if after != before:
                owners[needed] = after
                changed.append(needed)
    return owners


def steps_of(task: Task) -> tuple[Step, ...]:
    """Return what to call one after the other, each with the results so far.

    Those are the tasks that dask has fused into *task*, or itself. dask finds out
    their order for each task anew, in the worker, which takes longer than most of what
    a small partition needs.
    """
    alone = ((task.key, task),)
    if task.func is not _EXECUTES_FUSED:
        return alone
    fused, last, *_ = task.args
    done = set(task.dependencies)
    for key, step in fused.items():
        if not step.dependencies <= done:
            return alone
        done.add(key)
    return tuple(fused.items()) if key == last else alone


def in_turn(steps: Sequence[Step], needs: Sequence[Any], values: Sequence[Any]) -> Any:
    """Call *steps*, given the *values* of what they need, and return the last result.

    No result is kept longer than another step needs it.
    """
    known = dict(zip(needs, values, strict=True))
    for number, (key, step) in enumerate(steps, 1):
        known[key] = step(known)
        for used in step.dependencies:
            if not any(used in later.dependencies for _, later in steps[number:]):
                del known[used]
    return known[key]


def around(key: Hashable, task: Task, wrapper: Callable[..., Any], *args: Any) -> Task:
    """Return a task that calls *wrapper*, which may call *task*.

    Parameters
    ----------
    key : hashable
        Of the task that is returned.
    task : Task
    wrapper : type
        Made with *args*, the steps of *task* and the keys that it needs; called with
        their values.
    *args
    """
    needs = tuple(task.dependencies)
    # What distributed's scheduler goes by where it places tasks; not in older ones.
    kind = {"_data_producer": True} if getattr(task, "data_producer", False) else {}
    wrapped = wrapper(*args, steps_of(task), needs)
    return Task(key, wrapped, *map(TaskRef, needs), **kind)


@dataclass(frozen=True)
class _Noting:
    """A task whose errors say which partition it was for."""

    where: str
    steps: tuple[Step, ...]
    needs: tuple[Any, ...]

    def __call__(self, *values: Any) -> Any:
        try:
            return in_turn(self.steps, self.needs, values)
        except Exception as error:
            note_partition(error, self.where)
            raise


def note_partition(error: BaseException, where: str) -> None:
    """Say in an error, once, which partition was being saved; the rest stays.

    Notes are among the attributes of an exception, and so come back with it from
    another process, unless its type leaves them behind.
    """
    note = f"while saving {where}"
    if not any(had.startswith(note) for had in getattr(error, "__notes__", ())):
        error.add_note(note)
