"""Random accidents, round after round, for as long as it is told.

    python -m tests.reliability.soak --minutes 60 --seed 1 --on memory local s3

Each round makes a root in a random state and does random things to it: saves of random
plans and inputs, loads, queries, repairs, clears, moves, nearly all of them with a
random fault at a random operation of the filesystem. After each it judges the outcome
and what is stored; at the end a run without a fault saves, and must be right. A round
depends on the seed and its number only: ``--round N`` repeats one and prints its steps.

Prints a line a minute and a summary (also after Ctrl-C), and of each failure the seed,
the round and the steps. Ends with status 1 if there was one.
"""

import argparse
import contextlib
import itertools
import logging
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.reliability.accidents import ACTIONS, MEMORY, NAME, Accident, Place
from tests.reliability.faulty_files import KINDS, Fault
from tests.reliability.runs import Run
from tests.servers import s3

BEFORE = sorted({action.before for action in ACTIONS.values()})
# A plain save has most of the operations.
CALLS = ["save"] * 8 + ["load", "query", "repair", "repair", "clear", "clear all"]


class Round(Accident):
    """A root, and what happens to it."""

    def __init__(self, place, rng):
        super().__init__(place, rng.choice(BEFORE), text=rng.random() < 0.3)
        self.rng = rng

    def run_to_the_end(self):
        for number in range(self.rng.randint(1, 4)):
            self.step(number)
        self.next(self.some_run("last"))

    def step(self, number):
        rng = self.rng
        if rng.random() < 0.1:
            self.move()
        if rng.random() < 0.1:
            self.land()
        called = rng.choice(CALLS)
        run = self.some_run(number)
        if called == "repair" and self.store.is_done(NAME):
            run = replace(run, version=self.store.manifest(NAME).plan.version)
        action = replace(ACTIONS[called], run=run)
        # Early operations are in every action; the latest are those of a long save.
        at = rng.choice([rng.randrange(8), rng.randrange(45)])
        self.happen(action, Fault(rng.choice(list(KINDS)), at, waits=True), called)

    def some_run(self, label):
        rng = self.rng
        return Run(
            f"run {label}",
            npartitions=rng.choice([3, 3, 3, 1, 2, 5]),
            version=rng.choice("1123"),
            inputs=rng.choice(["inputs", "inputs", "other"]),
        )

    def move(self):
        """Copy all files to another root and continue there."""
        other = self.place.store()
        self.place.put(other, self.place.files(self.store))
        self.place.remove(self.store)
        self.store = other
        self.late.clear()
        self.story.append("the root was moved")


def one_round(places, seed, number, printed=False):
    """Do a round; return what was found, and whether it failed."""
    rng = random.Random(f"{seed} {number}")
    name, place = rng.choice(places)
    story = Round(place, rng)
    failure = None
    try:
        story.run_to_the_end()
    except Exception:
        failure = traceback.format_exc()
    finally:
        place.remove(story.store)
    if failure or printed:
        steps = "\n".join(f"    {step}" for step in story.story)
        print(f"seed {seed} round {number} on {name}:\n{steps}", flush=True)
    if failure:
        print(failure, flush=True)
    return story.found + Counter(rounds=1, failures=bool(failure))


@contextlib.contextmanager
def place_of(name):
    """Give the place of that name."""
    if name == "memory":
        yield MEMORY
    elif name == "local":
        with tempfile.TemporaryDirectory() as folder:
            numbers = itertools.count()
            yield Place(lambda: str(Path(folder, str(next(numbers)))))
    else:
        with s3.moto() as cloud, cloud.configured():
            yield Place(cloud.new_root)


def figures(found):
    order = ["rounds", "faults", "right", "not done", "documented errors", "failures"]
    return ", ".join(f"{found[what]:,} {what}" for what in order)


def soak(places, arguments):
    """Do round after round, and return what was found."""
    found, started = Counter(), time.monotonic()
    minutes = itertools.count(1)
    minute = next(minutes)
    for number in itertools.count(arguments.first):
        passed = (time.monotonic() - started) / 60
        if number - arguments.first == arguments.rounds or passed > arguments.minutes:
            return found
        if passed > minute:
            print(f"{minute} min: {figures(found)}", flush=True)
            minute = next(minutes)
        try:
            found += one_round(places, arguments.seed, number)
        except KeyboardInterrupt:
            return found
    raise AssertionError("unreachable")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="by default until Ctrl-C"
    )
    parser.add_argument("--rounds", type=int, default=-1)
    parser.add_argument("--first", type=int, default=0, help="number of first round")
    parser.add_argument("--round", type=int, help="repeat this one, and print it")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    places = ["memory", "local", "s3"]
    parser.add_argument("--on", nargs="+", default=places[:2], choices=places)
    arguments = parser.parse_args(argv)
    logging.getLogger("agatha_ckpt").setLevel(logging.CRITICAL)
    print(f"seed {arguments.seed}, on {' '.join(arguments.on)}", flush=True)
    with contextlib.ExitStack() as stack:
        places = [(n, stack.enter_context(place_of(n))) for n in arguments.on]
        if arguments.round is not None:
            found = one_round(places, arguments.seed, arguments.round, printed=True)
        else:
            found = soak(places, arguments)
    print(f"seed {arguments.seed}: {figures(found)}")
    return int(bool(found["failures"]))


if __name__ == "__main__":
    sys.exit(main())
