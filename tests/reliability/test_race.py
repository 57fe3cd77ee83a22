"""P1, P3: two processes that save one name at the same moment.

The simulation tries all interleavings over a filesystem in memory; here real processes
race on the real ones.
"""

import multiprocessing
import random
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.names import DONE_MARKER
from tests.reliability.runs import Run, labels

LONG = [pytest.mark.long, pytest.mark.timeout(3_600)]
OLD = Run("old", npartitions=4, version="1", sizes=(20,))
NEW = replace(OLD, version="2")
A, B = replace(NEW, label="a"), replace(NEW, label="b")
# What is there before, the two runs, and how they treat a stale checkpoint.
KINDS = {
    "the same inputs": (None, A, B, "error"),
    "other inputs": (None, A, replace(B, inputs="other"), "error"),
    "recompute": (OLD, A, B, "recompute"),
    "recompute from other inputs": (OLD, A, replace(B, inputs="other"), "recompute"),
}


@pytest.fixture(params=["local", "s3"])
def new_root(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "root")
    return request.getfixturevalue("s3").new_root()


START = None  # a barrier, in each of the two processes


def begin(barrier):
    global START
    START = barrier


def save(root, name, on_stale, run, seed):
    """Return what a save loads, or the kind of its documented error."""
    rng = random.Random(seed)

    def pause(index):
        threading.Event().wait(rng.uniform(0, 0.003))

    checkpointer = Checkpointer(root, verbose=False, on_stale=on_stale)
    START.wait()
    try:
        return run.save(checkpointer, name, pause).compute(scheduler="sync")
    except CheckpointConflictError:
        return "conflict"
    except CorruptCheckpointError as error:
        return "replaced" if "was replaced" in str(error) else str(error)


@pytest.fixture
def workers(new_root):  # after the server was configured
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, begin, [context.Barrier(2)]) as pool:
        yield pool


@pytest.mark.parametrize("rounds", [8, pytest.param(500, marks=LONG)])
def test_each_load_is_exact_and_each_loser_gets_an_error(
    new_root, workers, rounds, record_property
):
    store = CheckpointStore(new_root)
    rng, found = random.Random(rounds), Counter()
    for number in range(rounds):
        kind = list(KINDS)[number % len(KINDS)]
        before, *runs, on_stale = KINDS[kind]
        name = f"round-{number}"
        if before:
            before.save(Checkpointer(store, verbose=False), name)
        saves = [
            workers.submit(save, new_root, name, on_stale, run, rng.random())
            for run in runs
        ]
        outcomes = [each.result() for each in saves]
        stored = Checkpointer(store, verbose=False).checkpoint(name)
        stored = stored.compute(scheduler="sync")
        same = runs[0].inputs == runs[1].inputs
        owners = set(labels(stored, runs))
        assert same or len(owners) == 1, "a mixture"
        assert store.verify(name) == []
        assert store.manifest(name).plan.version == NEW.version
        for run, outcome in zip(runs, outcomes, strict=True):
            found[outcome if isinstance(outcome, str) else "loaded"] += 1
            if same:  # the loser adopts the records of the winner
                assert outcome == stored
            elif isinstance(outcome, str):
                assert outcome in ("conflict", "replaced")
                assert on_stale == "recompute" or outcome == "conflict"
            else:  # what a run loads is its own, or what was there when it looked
                assert set(labels(outcome, runs)) == {run.label}
        assert stored in outcomes
        files = {
            path.rpartition("/")[2] for path in store.fs.find(str(store.path(name)))
        }
        assert files == store.manifest(name).files | {DONE_MARKER}
        store.clear(name)
    record_property("figures", f"{rounds} rounds, {dict(found)}, 0 mixtures")
