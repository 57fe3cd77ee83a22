"""The tasks of saves, optimised by dask, and what becomes of their errors."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask._task_spec import Alias, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.core import flatten
from dask.utils import ensure_dict

from agatha_ckpt._dask.failure import Failure, add_note, carried, failed_note, stops
from agatha_ckpt._dask.save_partition import SavePartition
from agatha_ckpt._dask.tracebacks import shorten
from agatha_ckpt._store.partition import ClearedError


def optimize(
    fuse: Callable[..., Any] | None, graph: Mapping[Hashable, Any], keys: Any
) -> dict[Hashable, GraphNode]:
    """Return the tasks that compute *keys*, of one save or of several.

    Tasks that save keep their keys, so that dask shows what they save, and all tasks
    are `Guarded`.

    Parameters
    ----------
    fuse : callable, optional
        What dask does to the graph of such a collection, ``__dask_optimize__``.
    graph : mapping
    keys : nested list of keys
    """
    tasks: dict[Hashable, Any] = ensure_dict(graph)
    saves = {
        key: (task.func, task.args[1])
        for key, task in tasks.items()
        if isinstance(task, Task) and type(task.func) is SavePartition
    }
    if fuse:
        tasks = ensure_dict(fuse(graph, [*flatten(keys), *saves]))
    tasks = convert_legacy_graph(tasks)
    return _guard(tasks, saves) if saves else tasks


def _guard(
    tasks: dict[Hashable, Any], saves: Mapping[Hashable, tuple[SavePartition, int]]
) -> dict[Hashable, GraphNode]:
    """Return *tasks* with errors that name the partition, or are results."""
    for key in saves:
        if target := getattr(tasks[key], "target", None):  # an alias of the fused task
            tasks[key] = tasks.pop(target)
    any_save, _ = next(iter(saves.values()))
    catching = next((save for save, _ in saves.values() if save.catches), any_save)
    # What gives failures as results has keys of its own: a collection that is
    # computed together with these may have a task of the same key.
    inner = _needed(tasks, saves)
    if not catching.catches:
        # The scheduler knows the tasks of a shuffle between workers by their class.
        inner = {key for key in inner if type(tasks[key]) in (Task, Alias)}
    names = {key: _renamed(key) if catching.catches else key for key in inner}
    guarded = {key: tasks[key] for key in tasks.keys() - inner}
    for key in [*inner, *saves]:
        task = tasks[key]
        save, index = saves.get(key, (catching, None))
        needs = tuple(task.dependencies)
        refs = [TaskRef(names.get(need, need)) for need in needs]
        name = names.get(key, key)
        guarded[name] = Task(name, Guarded(task, needs, save, index), *refs)
    return guarded


def _needed(tasks: Mapping[Hashable, Any], saves: Iterable[Hashable]) -> set[Hashable]:
    """Return the keys of the tasks that saves need."""
    found: set[Hashable] = set()
    todo = list(saves)
    while todo:
        for key in tasks[todo.pop()].dependencies:
            if key not in found and isinstance(tasks.get(key), Task | Alias):
                found.add(key)
                todo.append(key)
    return found - {*saves}


def _renamed(key: Any) -> Hashable:
    if isinstance(key, tuple):
        return (_renamed(key[0]), *key[1:])
    return f"try-{key}"


@dataclass(frozen=True)
class Guarded:
    """A task of a save, whose error names the partition, or is its result.

    Attributes
    ----------
    task : GraphNode
    needs : tuple
        The keys of the results that it is called with.
    save : SavePartition
        Which determines whether an error is raised or returned.
    index : int, optional
        The partition that the task saves; None for a task that others need.
    """

    task: GraphNode
    needs: tuple[Hashable, ...]
    save: SavePartition
    index: int | None

    __name__ = "guarded"

    def __call__(self, *values: Any) -> Any:
        for value in values:
            if type(value) is Failure:
                return self._fail(value.error, value)
        try:
            return self.task(dict(zip(self.needs, values, strict=True)))
        except Exception as error:
            failed = error
        # Not in the except clause: what is raised here has no context.
        shorten(failed)
        if self.index is not None:
            add_note(failed, failed_note(self.save.name, self.index))
        return self._fail(failed)

    def _fail(self, error: Exception, failure: Failure | None = None) -> Failure:
        """Return a failure as the result, or raise its error."""
        is_at_home = self.save.is_at_home
        is_caught = self.save.catches and not stops(error, is_at_home)
        # The caller may adopt what the run that cleared the folder has committed.
        if is_caught or isinstance(error, ClearedError):
            return failure or Failure(error)
        if is_at_home:
            raise error
        raise carried(error).with_traceback(error.__traceback__)
