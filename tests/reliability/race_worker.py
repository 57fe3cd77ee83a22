"""Saves what it is told, in a process of its own; run by test_race.

A line of JSON on stdin is one save, and a line on stdout is its outcome: the loaded
records, or the name of the documented error.
"""

import json
import random
import sys
import threading

from agatha_ckpt import CheckpointConflictError, Checkpointer, CorruptCheckpointError
from tests.reliability.runs import Run


def save(root, name, run, settings, seed):
    rng = random.Random(seed)
    run = Run(**run)

    def pause(index):
        threading.Event().wait(rng.uniform(0, 0.003))

    try:
        checkpointer = Checkpointer(root, verbose=False, **settings)
        loaded = run.save(checkpointer, name, pause).compute(scheduler="sync")
    except CheckpointConflictError:
        return "conflict"
    except CorruptCheckpointError as error:
        return "replaced" if "was replaced" in str(error) else str(error)
    return loaded


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(save(**json.loads(line))), flush=True)
