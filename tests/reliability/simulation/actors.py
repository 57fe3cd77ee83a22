"""Actors of the simulation: they call the real functions of the store."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd

from agatha_ckpt import CheckpointConflictError, CheckpointError, Manifest, Plan
from agatha_ckpt._dask.source import BAG
from agatha_ckpt._format.base import WriteOptions
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.names import new_run
from agatha_ckpt._store.commit import adopt, commit
from agatha_ckpt._store.contents import clear
from agatha_ckpt._store.folder import Folder, Marker
from agatha_ckpt._store.partition import Partition, write_partition
from agatha_ckpt._store.prune import Criteria, find_removals
from agatha_ckpt._store.resume import find_reusable
from agatha_ckpt._store.verify import find_missing
from tests.reliability.simulation.world import ROOT, Actor, SimulatedFiles

CREATED = "2026-01-01T00:00:00+00:00"


def fingerprint(value):
    return hashlib.sha256(value.encode()).hexdigest()[:32]


# What a partition holds in each format: its input, and the name of the actor.
VALUES = {
    "msgpack": lambda value, name: [[value, name]],
    "parquet": lambda value, name: pd.DataFrame({"value": [value], "by": [name]}),
    "npy": lambda value, name: np.array([[value, name]]),
}


def folder_of(world):
    return Folder(SimulatedFiles(world), f"{ROOT}/x", "x", ROOT)


def saver(name, inputs, recompute=False):
    """Save a partition for each of *inputs*; of what is done, load it or replace it."""

    def body(world):
        folder = folder_of(world)
        marker = read(folder)
        damaged = frozenset()
        if marker.manifest:
            missing = find_missing(folder, marker.manifest)
            damaged = frozenset(partition.index for partition in missing)
            same = marker.manifest.fingerprints == tuple(map(fingerprint, inputs))
            if not damaged and (same or not recompute):
                return "loaded", marker.manifest
        return "saved", save(folder, name, inputs, marker, damaged)

    return actor(name, body, inputs)


def save(folder, name, inputs, marker, damaged=frozenset()):
    wanted = tuple(map(fingerprint, inputs))
    codec, run = codec_for(folder.files.format), new_run()
    kept = find_reusable(folder, codec, wanted, marker, damaged).kept
    options = WriteOptions(codec.name, len(inputs), marker.base, run)
    try:
        written = {
            i: write_partition(
                folder, VALUES[codec.name](value, name), i, wanted[i], "", options
            )
            for i, value in enumerate(inputs)
            if i not in kept
        }
    except CheckpointConflictError:
        files = {info.file for info in kept.values()}
        return adopt(folder, codec.name, BAG, wanted, marker, run, files)
    infos = kept | written
    # Without how long each took, so that equal states are seen to be equal.
    partitions = tuple(replace(infos[i], seconds=0.0) for i in range(len(inputs)))
    plan = Plan(len(inputs), codec.name)
    manifest = Manifest(plan, partitions, name="x", created=CREATED)
    return commit(folder, manifest, marker, run)


def repairer(name, inputs):
    """Compute again partition 0 of a done checkpoint, as if it were damaged."""

    def body(world):
        folder = folder_of(world)
        marker = read(folder)
        if marker.manifest is None:
            return "nothing", None
        repairing.refused = marker.manifest.partitions[0].file
        return "saved", save(folder, name, inputs, marker, frozenset({0}))

    repairing = actor(name, body, inputs)
    return repairing


def clearer(name):
    return actor(name, lambda world: ("cleared", clear(folder_of(world))))


def pruner(name):
    """Remove old partials and old leftovers, with the default minimum age."""

    def body(world):
        criteria = Criteria(partial=True, leftovers=True)
        folder = folder_of(world)
        for removal in find_removals([folder], criteria)[0]:
            if removal.skip_reason is None:
                removal.apply(folder)
        return "pruned", None

    return actor(name, body)


def reader(name):
    """Load what is done; a documented error is a right outcome."""

    def body(world):
        folder = folder_of(world)
        manifest = folder.manifest()
        return "read", load(folder, manifest)

    return actor(name, body)


def actor(name, body, inputs=None):
    made = Actor(name, body)
    made.inputs = inputs
    return made


def read(folder):
    data = folder.read_marker()
    return Marker(data, folder.manifest_from(data) if data else None)


def load(folder, manifest):
    """Return the records of each partition."""
    return [
        [
            [*row.values()] if isinstance(row, dict) else row
            for row in Partition(folder, manifest.plan.format, i, info, False)
        ]
        for i, info in enumerate(manifest.partitions)
    ]


def problems(world):
    """Yield what is wrong when all actors have ended or crashed."""
    plans = [a.inputs for a in world.actors if a.inputs] + world.plans
    alike = len({tuple(one.inputs or ()) for one in world.actors}) == 1
    for one in world.actors:
        if alike and isinstance(one.error, CheckpointConflictError):
            yield f"{one.name} lost against the same inputs"
        if one.error is not None and not isinstance(
            one.error, CheckpointError | OSError
        ):
            yield f"{one.name} raised {one.error!r}"
        match one.result:
            case "saved", manifest:
                if manifest.fingerprints != tuple(map(fingerprint, one.inputs)):
                    yield f"{one.name} got other inputs than its own"
                if getattr(one, "refused", "") in manifest.files:
                    yield f"{one.name} got the file that it was to replace"
            case "read", partitions:
                values = [records[0][0] for records in partitions]
                if values not in plans:
                    yield f"{one.name} read {values}"
    folder = folder_of(world)
    marker = read(folder)
    if marker.manifest is None:
        destroyers = [a for a in world.actors if a.inputs is None]
        saved = [a for a in world.actors if a.result and a.result[0] == "saved"]
        if saved and not destroyers:
            yield "a save returned and nothing is done"
        return
    wanted = marker.manifest.fingerprints
    matching = [p for p in plans if tuple(map(fingerprint, p)) == wanted]
    if not matching:
        yield "the marker names partitions of no plan"
        return
    if find_missing(folder, marker.manifest):
        yield "done without files"
        yield from _heal(world)
        return
    values = [records[0][0] for records in load(folder, marker.manifest)]
    if values != matching[0]:
        yield f"loads {values}, not {matching[0]}"
    yield from _heal(world)


def _heal(world):
    """Yield what is wrong if the next save does not give just what it asks for."""
    plan = world.plans[0]
    try:
        saver("next", plan, recompute=True).body(world)
        folder = folder_of(world)
        values = [records[0][0] for records in load(folder, folder.manifest())]
    except CheckpointError as error:
        yield f"the next save fails: {error!r}"
    else:
        if values != plan:
            yield f"the next save loads {values}"
