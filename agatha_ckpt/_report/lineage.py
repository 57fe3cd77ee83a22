"""Which checkpoints were built from which, and which are stale because of it.

Pure functions of the manifests under one root.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agatha_ckpt._store.status import State, Status


@dataclass(frozen=True)
class Parent:
    """A checkpoint that another one was built from.

    Attributes
    ----------
    name : str
        Its name at that time. It comes from a file and may not be a valid name.
    now : str, optional
        The name under which its records are done now; None where they are not.
    problem : str, optional
        Where *now* is None: what has changed, such as ``"is gone"``.
    """

    name: str
    now: str | None
    problem: str | None = None

    @property
    def current(self) -> str:
        """The name of the checkpoint that now stands for it."""
        return self.now or self.name


@dataclass(frozen=True)
class Lineage:
    """Parents and children of one checkpoint.

    Attributes
    ----------
    parents : tuple of Parent
        Sorted by name.
    children : tuple of str
        Names of the checkpoints that were built from it, or from what was done
        under its name before.
    stale : tuple of str
        The reasons why it is stale; empty where it is not.
    """

    parents: tuple[Parent, ...] = ()
    children: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def find_lineages(statuses: Iterable[Status]) -> dict[str, Lineage]:
    """Return the lineage of every checkpoint of a root, by name.

    A checkpoint is stale if a parent has other records now, is not done, is gone, or
    is stale itself. Records count, not names: a parent that was renamed, or
    recomputed with equal records, makes nothing stale. A parent that this account
    cannot read counts as unchanged.
    """
    ids: dict[str, str | None] = {}
    named: dict[str, tuple[tuple[str, str], ...]] = {}  # parents, as (name, id)
    unreadable: set[str] = set()
    for status in statuses:  # one at a time: manifests can be large
        manifest = status.manifest
        ids[status.name] = manifest.id if manifest else None
        named[status.name] = manifest.plan.parents if manifest else ()
        if status.state is State.UNREADABLE:
            unreadable.add(status.name)
    holders: dict[str, str] = {}
    for name in sorted(ids):
        # A step that changed nothing has the id of its parent, and does not replace it.
        if (found := ids[name]) and found not in {i for _, i in named[name]}:
            holders.setdefault(found, name)
    parents = {
        name: tuple(
            _find_parent(parent, parent_id, ids, holders, unreadable)
            for parent, parent_id in sorted(named[name])
            # A checkpoint computed from its own former records is not stale by that.
            if parent != name
        )
        for name in sorted(ids)
    }
    children: dict[str, set[str]] = {name: set() for name in ids}
    for name, above in parents.items():
        for parent in above:
            if parent.current in children:
                children[parent.current].add(name)
    changed = {name for name, above in parents.items() if any(p.problem for p in above)}
    stale = _with_descendants(changed, children)
    return {
        name: Lineage(
            parents[name],
            tuple(sorted(children[name])),
            tuple(_reasons(name, parents[name], stale)) if name in stale else (),
        )
        for name in parents
    }


def _find_parent(
    name: str,
    parent_id: str,
    ids: Mapping[str, str | None],
    holders: Mapping[str, str],
    unreadable: set[str],
) -> Parent:
    if ids.get(name) == parent_id:
        return Parent(name, name)
    if parent_id in holders:
        return Parent(name, holders[parent_id])
    if name in unreadable:
        return Parent(name, name)
    if ids.get(name):
        return Parent(name, None, "has other records now")
    return Parent(name, None, "is not done" if name in ids else "is gone")


def _with_descendants(
    names: Iterable[str], children: Mapping[str, Iterable[str]]
) -> set[str]:
    found = set(names)
    waiting = list(found)
    while waiting:
        new = set(children[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


def _reasons(name: str, parents: Iterable[Parent], stale: set[str]) -> Iterable[str]:
    for parent in parents:
        if parent.problem:
            yield f"its parent {parent.name!r} {parent.problem}"
        elif parent.now != name and parent.now in stale:
            yield f"its parent {parent.now!r} is stale"


def sort_topologically(parents: Mapping[str, Iterable[str]]) -> list[str]:
    """Return all names, parents before their children as far as there is no cycle.

    Checkpoints that were recomputed from each other in turn form cycles.

    Examples
    --------
    >>> sort_topologically({"a": ["c"], "b": ["a"], "c": []})
    ['c', 'a', 'b']
    """
    order: dict[str, None] = {}
    seen: set[str] = set()
    stack = sorted(parents, reverse=True)
    while stack:
        name = stack[-1]
        if name in seen:
            stack.pop()
            order.setdefault(name)
        else:
            seen.add(name)
            stack += (p for p in sorted(parents[name], reverse=True) if p not in seen)
    return list(order)
