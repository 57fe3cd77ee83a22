"""Which checkpoints were built from which, and which are stale by that.

Pure functions of what the done markers say; nothing here touches a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agatha_ckpt._format.manifest import Manifest


@dataclass(frozen=True)
class Parent:
    """A checkpoint that another one was built from.

    Attributes
    ----------
    name : str
        What it was called then. It comes from a file, and may be no legal name.
    now : str, optional
        The name under which its records are done now; None where they are not.
    problem : str, optional
        Half a sentence, where *now* is None: what became of it.
    """

    name: str
    now: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Kin:
    """The relations of one checkpoint.

    Attributes
    ----------
    parents : tuple of Parent
        Sorted by name.
    children : tuple of str
        Names of the checkpoints that were built from what it holds, or from what
        was done under its name before.
    stale : tuple of str
        Half sentences that say why it is stale; empty where it is not.
    """

    parents: tuple[Parent, ...] = ()
    children: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def lineage(
    manifests: Mapping[str, Manifest | None], unknown: Iterable[str] = ()
) -> dict[str, Kin]:
    """Return the relations of all checkpoints of a root.

    A checkpoint is stale where a parent has other records now, or is not there with
    the records that it had, or is stale itself. The records count, not the name: a
    parent that was renamed makes nothing stale, nor does one that was computed
    again with equal records.

    Parameters
    ----------
    manifests : mapping of str to Manifest
        What the done markers say, by name; None for what is not done.
    unknown : iterable of str
        Names of those that may not be read: as parents they are taken to be as they
        were, since nobody can say that they are not.
    """
    unknown = frozenset(unknown)
    holders: dict[str, str] = {}
    for name in sorted(manifests):
        manifest = manifests[name]
        # A step that changed nothing holds what its parent held, and is not it.
        if manifest and manifest.id not in {i for _, i in manifest.plan.parents}:
            holders.setdefault(manifest.id, name)
    parents = {
        name: tuple(
            _find(parent, parent_id, manifests, holders, unknown)
            for parent, parent_id in sorted(manifest.plan.parents)
            # What was computed from its own former records is not stale by that.
            if parent != name
        )
        if manifest
        else ()
        for name, manifest in manifests.items()
    }
    children: dict[str, set[str]] = {name: set() for name in manifests}
    for name, found in parents.items():
        for parent in found:
            if (current := parent.now or parent.name) in children:
                children[current].add(name)
    stale = _descendants(
        {name for name, found in parents.items() if any(p.problem for p in found)},
        children,
    )
    return {
        name: Kin(
            parents[name],
            tuple(sorted(children[name])),
            tuple(_reasons(name, parents[name], stale)) if name in stale else (),
        )
        for name in sorted(manifests)
    }


def _find(
    name: str,
    parent_id: str,
    manifests: Mapping[str, Manifest | None],
    holders: Mapping[str, str],
    unknown: frozenset[str],
) -> Parent:
    manifest = manifests.get(name)
    if manifest is not None and manifest.id == parent_id:
        return Parent(name, name)
    if parent_id in holders:
        return Parent(name, holders[parent_id])
    if name in unknown:
        return Parent(name, name)
    if manifest is not None:
        return Parent(name, None, "has other records now")
    return Parent(name, None, "is not done" if name in manifests else "is gone")


def _descendants(
    first: Iterable[str], children: Mapping[str, Iterable[str]]
) -> set[str]:
    found, waiting = set(first), list(first)
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
