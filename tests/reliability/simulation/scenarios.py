"""What is simulated: who acts, and what is there when they begin."""

from functools import partial

from agatha_ckpt._format.base import WriteOptions
from agatha_ckpt._store.folder import Marker
from agatha_ckpt._store.partition import write_partition
from tests.reliability.simulation.actors import (
    VALUES,
    clearer,
    fingerprint,
    folder_of,
    pruner,
    reader,
    repairer,
    save,
    saver,
)
from tests.reliability.simulation.actors import (
    read as read_marker,
)
from tests.reliability.simulation.world import OLD, World

# Plans: the input of each partition. P and Q share one, P and R none.
P, Q, R, S = ["a", "b"], ["a", "c"], ["d", "e"], ["b", "a"]


def nothing(world):
    """Start with an empty folder."""


def dead_partial(world, inputs=P):
    """Start with partition 0 of a run that died long ago."""
    folder = folder_of(world)
    base = read_marker(folder).base
    options = WriteOptions(world.format, len(inputs), base, run="0" * 8)
    value = inputs[0]
    dead = VALUES[world.format](value, "dead")
    write_partition(folder, dead, 0, fingerprint(value), "", options)
    _age(world)


def done(world, inputs=P):
    """Start with a done checkpoint."""
    save(folder_of(world), "first", inputs, Marker())
    _age(world)


def done_with_partial(world):
    """Start with a done checkpoint, and a partial of a run that died before it."""
    dead_partial(world, Q)
    dead = dict(world.files)
    done(world)
    world.files |= dead


def done_with_dead_recompute(world):
    """Start with a done checkpoint, and a partial of a recompute that died."""
    done(world)
    dead_partial(world, R)


def _age(world):
    world.files |= {name: (data, OLD) for name, (data, _) in world.files.items()}


def scenario(actors, set_up=nothing, **options):
    """Return a function that makes a new world."""

    def make():
        world = World([make_actor() for make_actor in actors], **options)
        world.set_up = set_up
        world.plans = [P, Q]
        return world

    return make


def savers(*plans):
    return [partial(saver, f"save {i}", plan) for i, plan in enumerate(plans)]


def again(*plans):
    return [
        partial(saver, f"recompute {i}", plan, recompute=True)
        for i, plan in enumerate(plans)
    ]


clear, prune = partial(clearer, "clear"), partial(pruner, "prune")
read = partial(reader, "reader")

# By name: the actors, and the start. None of them may fail, whoever crashes.
PAIRS = {
    "two savers": (savers(P, P), nothing),
    "two savers over a partial": (savers(P, P), dead_partial),
    "two plans": (savers(P, Q), dead_partial),
    "moved partitions": (savers(P, S), dead_partial),
    "two recomputes of one marker": (again(R, R), done),
    "two incremental recomputes": (again(Q, S), done),
    "saver and recompute over its partial": (
        [*savers(P), *again(Q)],
        partial(dead_partial, inputs=Q),
    ),
    "recompute over a done one's partial": (again(Q, R), done_with_partial),
    "repair and recompute": ([partial(repairer, "repair", P), *again(Q)], done),
    "repair and pruner": (
        [partial(repairer, "repair", P), prune],
        done_with_dead_recompute,
    ),
    "repair and incremental recompute": (
        [partial(repairer, "repair", Q), *again(P)],
        partial(done, inputs=Q),
    ),
    "two repairs": (
        [partial(repairer, "repair", P), partial(repairer, "again", P)],
        done,
    ),
    "recompute and pruner": ([*again(Q), prune], done_with_partial),
    "recompute over a partial and pruner": (
        [*again(R), prune],
        done_with_dead_recompute,
    ),
    "recompute and reader": ([*again(Q), read], done),
    "clear and reader": ([clear, read], done),
}
# Here a crash of the clear, or of a commit between its marker and its second listing,
# may leave a done marker with missing files. A prune of a partial is a clear.
PAIRS_WITH_CLEAR = {
    "saver and clear": ([*savers(P), clear], nothing),
    "saver over a partial and clear": ([*savers(P), clear], dead_partial),
    "recompute and clear": ([*again(Q), clear], done),
    "repair and clear": ([partial(repairer, "repair", P), clear], done),
    "two clears": ([clear, partial(clearer, "again")], done),
    "saver and pruner of its partial": ([*savers(P), prune], dead_partial),
}
TRIPLES = {
    "two savers and clear": ([*savers(P, P), clear], nothing),
    "three plans": ([*savers(P), *again(Q, R)], dead_partial),
    "recompute, saver and clear": ([*again(Q), *savers(P), clear], done_with_partial),
    "two recomputes and pruner": ([*again(Q, R), prune], done_with_partial),
    "recompute, clear and reader": ([*again(Q), clear, read], done),
}
