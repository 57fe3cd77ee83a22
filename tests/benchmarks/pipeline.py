"""What do ten small steps of a pipeline cost, on pools that are cold and warm?

    python -m tests.benchmarks.pipeline [--quick] [--rounds 3] [--steps 10]

Each step is a checkpoint of a few hundred records, computed from the one before it on
dask's process scheduler, which is the one that bags use unasked, and which starts a
new pool of processes for each compute. Compared are the library as it is, without
any keyword; a new pool for each step, made as dask makes it; and one pool for all
steps, made by hand and passed as ``pool=``. Every run has a new `Checkpointer`, and
starting and ending its processes is part of its time.
"""

import shutil
from contextlib import nullcontext
from functools import partial

import dask.bag
from dask.system import CPU_COUNT

from agatha_ckpt import Checkpointer
from tests.benchmarks import common
from tests.benchmarks.schedulers import new_pool


def increment(number):
    return number + 1


def run(root, steps, pool_of_all, pool_of_each):
    """Run *steps* steps, as a program does."""
    ckpt = Checkpointer(root, verbose=False)
    with pool_of_all() as pool:
        bag = dask.bag.from_sequence(range(400), npartitions=4)
        for number in range(steps):
            with pool_of_each() as own:
                use = {"pool": own or pool} if own or pool else {}
                bag = ckpt.checkpoint(f"step-{number}", bag.map(increment), **use)
    close = getattr(ckpt, "close", None)
    if close is not None:
        close()
    return bag


def timed(root, steps, pool_of_all=nullcontext, pool_of_each=nullcontext):
    found = {"run": common.seconds(run, root, steps, pool_of_all, pool_of_each)}
    last = Checkpointer(root, verbose=False).checkpoint(f"step-{steps - 1}")
    assert last.compute(scheduler="sync") == list(range(steps, 400 + steps))
    shutil.rmtree(root)
    return found


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    steps = arguments.steps or (2 if arguments.quick else 10)
    report = common.Report("pipeline.py", arguments)
    make_pool = partial(new_pool, CPU_COUNT)
    with common.folder(arguments) as root:
        run_in = partial(timed, root / "root")
        contestants = {
            "one step": partial(run_in, 1),
            "all steps": partial(run_in, steps),
            "a pool each": partial(run_in, steps, pool_of_each=make_pool),
            "one step, one pool": partial(run_in, 1, pool_of_all=make_pool),
            "one pool": partial(run_in, steps, pool_of_all=make_pool),
        }
        if arguments.quick:
            del contestants["a pool each"], contestants["one step, one pool"]
        contestants = {
            k: v for k, v in contestants.items() if common.is_wanted(arguments, k)
        }
        samples = common.in_turn(contestants, rounds, report)
    for (who, what), times in samples.items():
        report.row(who=who, what=what, steps=steps, values=times)
    pairs = [
        (f"{steps} steps, library as it is", "all steps", "one step"),
        (f"{steps} steps, one pool by hand", "one pool", "one step, one pool"),
        (f"{steps} steps, a new pool for each", "a pool each", "one step"),
    ]
    table = []
    for label, many, one in pairs:
        if not {many, one} <= contestants.keys():
            continue
        found = common.ratio(samples[many, "run"], samples[one, "run"])
        report.row(what=label, ratio=found)
        table.append([label, found])
        if many != "a pool each":
            report.target(f"{label}, against one step", found, at_most=2)
    report.table("Time taken, against one step", ["", "times"], table)
    report.finish()


if __name__ == "__main__":
    main()
