"""P1, P3: two processes that save one name at the same moment.

The simulation tries all interleavings over a filesystem in memory; here real processes
race on the real ones.
"""

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace

import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
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


@pytest.fixture
def workers(new_root):  # after the server was configured
    command = [sys.executable, "-m", "tests.reliability.race_worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    team = [subprocess.Popen(command, **pipes) for _ in range(2)]
    yield team
    for worker in team:
        worker.stdin.close()
        worker.wait()
        worker.stdout.close()


def race(workers, commands):
    """Let both processes save at once; return what each of them loaded or raised."""
    for worker, command in zip(workers, commands, strict=True):
        worker.stdin.write(f"{json.dumps(command)}\n")
    for worker in workers:
        worker.stdin.flush()
    outcomes = [json.loads(worker.stdout.readline()) for worker in workers]
    return [o if isinstance(o, str) else list(map(tuple, o)) for o in outcomes]


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
        common = {"root": new_root, "name": name, "settings": {"on_stale": on_stale}}
        outcomes = race(
            workers,
            [common | {"run": asdict(run), "seed": rng.random()} for run in runs],
        )
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
