"""Run by test_progress in a terminal: saves bags, verbosely, by one scheduler.

Takes the scheduler, a folder, and the cases from its command line.
"""

import contextlib
import os
import re
import sys
import warnings

import dask.bag
from dask.callbacks import Callback

from agatha_ckpt import Checkpointer

PARTITIONS = 8


class Own(Exception):
    """What the bag's own functions raise."""


def numbers():
    return dask.bag.from_sequence(range(PARTITIONS), npartitions=PARTITIONS)


def fail_at_5(n):
    if n == 5:
        raise Own("five")
    return n


def eager(part):
    return [fail_at_5(n) for n in part]


def add(a, b):
    return a + b


def fail_item(numbers):
    raise Own("for all")


# What fails, and the partition that is named; None where the failing task is not fused
# into that of one partition, and only the checkpoint is named.
FAILING = {
    "lazy": (lambda b: b.map(fail_at_5), 5),
    "eager": (lambda b: b.map_partitions(eager), 5),
    "shared": (lambda b: b.map(add, b.reduction(sum, fail_item)), None),
}


@contextlib.contextmanager
def scheduled(scheduler):
    """Give the keywords by which a bag is computed."""
    if scheduler == "distributed":
        from distributed import Client

        from tests.dask.cluster_cases import a_cluster

        with a_cluster(None, 2, silence_logs=50) as cluster, Client(cluster):
            yield {}
    elif scheduler == "processes":
        yield {"scheduler": scheduler, "num_workers": 2}
    elif scheduler == "executor":
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as executor:
            yield {"scheduler": executor}
    else:
        yield {"scheduler": scheduler}


def save(root, how):
    Checkpointer(root).checkpoint("x", numbers(), **how)


def resume(root, how):
    """Save what a run left unfinished after half of its partitions."""
    checkpointer = Checkpointer(root, verbose=False)
    checkpointer.checkpoint("x", numbers(), scheduler="sync")
    folder = checkpointer.store.path("x")
    for path in [folder / "__done__", *sorted(folder.glob("part-*"))[4:]]:
        path.unlink()
    save(root, how)


def quiet(root, how):
    checkpointer = Checkpointer(root, verbose=False)
    checkpointer.checkpoint("x", numbers(), **how)
    checkpointer.checkpoint("x").compute(**how)


def lines(root, how):
    """Say lines of another checkpoint, with a bar of its own, while a bar is up."""
    inner = Checkpointer(f"{root}-inner")

    def nested(n):
        inner.checkpoint(f"inner-{n}", numbers(), **how)
        return n

    Checkpointer(root).checkpoint("x", numbers().map(nested), **how)


def error_of(root, name, bag, how):
    """Return what a save raises, and its notes."""
    try:
        Checkpointer(root, verbose=False).checkpoint(name, bag, **how)
    except Own as error:
        return error, getattr(error, "__notes__", [])
    raise AssertionError(name)


def fail(root, how):
    for name, (build, index) in FAILING.items():
        error, notes = error_of(root, name, build(numbers()), how)
        assert type(error) is Own, type(error)
        (note,) = notes
        # On a cluster, an error of what many need is that of the first of them.
        what = f"({name!r} is not done|partition [0-7] of {name!r} failed)"
        if index is not None:
            what = f"partition {index} of {name!r} failed"
        assert re.fullmatch(f"[0-7] of 8 partitions stored; {what}", note), note
        print("named", name)


def callbacks(root, how):
    """Let the user's callbacks see the tasks beside ours."""
    seen = []
    with Callback(posttask=lambda key, *_: seen.append(key)):
        save(root, how)
    saves = [key for key in seen if key[0].startswith("save:x-")]
    assert len(saves) == PARTITIONS, seen
    assert Callback.active == set()


def without_stderr(root, how):
    sys.stderr = None
    save(root, how)
    sys.stderr = sys.__stderr__


def terminal_goes(root, how):
    """Save while the terminal that stderr is goes away."""
    master, slave = os.openpty()
    sys.stderr = open(slave, "w", buffering=1)  # noqa: SIM115

    def hang_up(n):
        if n == 2:
            os.close(master)
        return n

    Checkpointer(root).checkpoint("x", numbers().map(hang_up), **how)
    with contextlib.suppress(OSError):  # what is left in it cannot be written
        sys.stderr.close()
    sys.stderr = sys.__stderr__


if __name__ == "__main__":
    warnings.simplefilter("error")
    scheduler, folder, *cases = sys.argv[1:]
    with scheduled(scheduler) as how:
        for case in cases:
            print(f"== {case}", flush=True)
            globals()[case](os.path.join(folder, case), how)
