"""Run by test_kill: kill a save at random moments, resume it, judge the outcome.

    python kill_loop.py ROOT --kills 60 --scheduler sync --seed 1

Each round saves a checkpoint of its own in a child process and kills that with
SIGKILL at a moment drawn evenly from the time a whole save takes; every third round
kills the resume as well. Then a resume runs to its end, and the loaded records must
be exactly the bag's; no partition that was finished before may be computed again.
Prints the figures as JSON; a round that went wrong is named with its seed.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import dask.bag

from agatha_ckpt import Checkpointer
from agatha_ckpt._layout import parse_filename

PARTITIONS, SIZE = 24, 800
CONTEXT = multiprocessing.get_context("fork")


def records_of(index):
    return [
        {"id": [index, i], "text": f"{index} {i} " * 20, "tag": (index, i)}
        for i in range(SIZE)
    ]


class Compute:
    """The bag's function: notes which partition it computes, then computes it."""

    def __init__(self, log):
        self.log = log

    def __call__(self, part):
        (index,) = part
        with open(self.log, "a") as log:
            log.write(f"{index}\n")
        yield from records_of(index)


def save(root, name, log, scheduler):
    bag = dask.bag.from_sequence(range(PARTITIONS), partition_size=1)
    bag = bag.map_partitions(Compute(log))
    checkpointer = Checkpointer(root, verbose=False)
    return checkpointer.checkpoint(name, bag, scheduler=scheduler)


def save_and_judge(root, name, log, scheduler):
    loaded = save(root, name, log, scheduler).compute(scheduler="sync")
    expected = [record for i in range(PARTITIONS) for record in records_of(i)]
    damaged = Checkpointer(root).store.verify(name)
    os._exit(0 if loaded == expected and not damaged else 3)


def run(target, *args, kill_after=None):
    """Run *target* in a process group of its own; kill that after some seconds."""

    def main():
        os.setpgid(0, 0)
        target(*args)

    process = CONTEXT.Process(target=main)
    process.start()
    process.join(kill_after)
    if process.exitcode is None:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:  # it had not made its group yet
            process.kill()
    process.join()
    return process.exitcode


def numbers_in(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def finished(folder):
    names = [parse_filename(path.name) for path in folder.glob("part-*")]
    return {name.index for name in names if name}


def one_round(root, name, rng, seconds, scheduler, again):
    folder, log = root / name, root / f"{name}.log"
    run(save, root, name, log, scheduler, kill_after=rng.uniform(0, 1.05 * seconds))
    if again:
        after = rng.uniform(0, 1.05 * seconds)
        run(save, root, name, log, scheduler, kill_after=after)
    kept, was_done = finished(folder), (folder / "__done__").exists()
    log.unlink(missing_ok=True)
    status = run(save_and_judge, root, name, log, scheduler)
    computed = numbers_in(log)
    return {
        "wrong": status != 0,
        "redone": len(kept & set(computed)),
        "middle": 0 < len(kept) < PARTITIONS,
        "done": was_done,
        "kept": len(kept),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--scheduler", default="sync")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    root, scheduler = arguments.root, arguments.scheduler
    root.mkdir(parents=True, exist_ok=True)
    # Import all that a save needs once, here, so that children spend no time on it.
    save(root, "warm-up", root / "whole.log", "sync").compute(scheduler="sync")
    times = []
    for i in range(3):
        started = time.perf_counter()
        run(save, root, f"whole-{i}", root / "whole.log", scheduler)
        times.append(time.perf_counter() - started)
    rounds = []
    for i in range(arguments.kills):
        rng = random.Random(f"{arguments.seed} {i}")
        name, again = f"round-{i}", i % 3 == 2
        rounds.append(one_round(root, name, rng, sorted(times)[1], scheduler, again))
        if rounds[-1]["wrong"] or rounds[-1]["redone"]:
            print(f"seed {arguments.seed} round {i}: {rounds[-1]}", file=sys.stderr)
    totals = {key: sum(r[key] for r in rounds) for key in rounds[0]}
    print(json.dumps({"kills": len(rounds), **totals}))


if __name__ == "__main__":
    main()
