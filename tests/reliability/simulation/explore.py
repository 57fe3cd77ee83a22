"""Schedules of a simulation: all of them, or seeded random ones."""

import contextlib
import random
import secrets
from collections import Counter
from dataclasses import dataclass, field
from unittest import mock

from tests.reliability.simulation.actors import problems
from tests.reliability.simulation.world import LostAnswer


@dataclass
class Found:
    """What an exploration has seen.

    Attributes
    ----------
    states, runs : int
    problems : dict
        Of each kind of problem, with what crashed or lost an answer where, the first
        schedule.
    """

    states: int = 0
    runs: int = 0
    problems: dict = field(default_factory=dict)
    outcomes: Counter = field(default_factory=Counter)

    def check(self, world, path):
        self.runs += 1
        for problem in problems(world):
            crashed = tuple(
                f"{actor.name} before {operation.split(' ')[0]}"
                for actor in world.actors
                if (operation := _ended_at(actor))
            )
            self.problems.setdefault((problem, crashed), path)


def _ended_at(actor):
    """Return the operation at which an actor crashed, or that lost its answer."""
    if actor.crashed:
        return actor.pending
    return str(actor.error) if isinstance(actor.error, LostAnswer) else None


@contextlib.contextmanager
def running(scenario):
    """Give a started world whose random digits depend on the actor alone."""
    world = scenario()
    with mock.patch.object(secrets, "token_hex", world.token_hex):
        world.set_up(world)
        world.start()
        try:
            yield world
        finally:
            world.close()


def explore(scenario, crashes=0, losses=0, preemptions=None, max_states=None):
    """Run every schedule of a scenario, states that were seen before but once.

    Parameters
    ----------
    scenario : callable
        Returns a new `World`.
    crashes, losses : int
        How many actors may crash, and how many answers may be lost, at any operation.
    preemptions : int, optional
        How often an actor that could go on may be interrupted; by default any number.
    """
    found, seen, todo = Found(), set(), [()]
    while todo:
        path = todo.pop()
        with running(scenario) as world:
            last, spent = None, Counter()
            for step in path:
                last = _do(world, step, last, spent)
            while world.runnable():
                key = world.state(), spent["crash"], spent["lose"]
                if preemptions is not None:
                    key = (*key, last, spent["preempt"])
                if key in seen:
                    break
                seen.add(key)
                if max_states and len(seen) > max_states:
                    raise RuntimeError(f"more than {max_states} states")
                first, *others = _choices(
                    world, last, spent, crashes, losses, preemptions
                )
                todo += [(*path, other) for other in others]
                path = (*path, first)
                last = _do(world, first, last, spent)
            else:
                world.alive = False
                found.check(world, path)
    found.states = len(seen)
    return found


def _choices(world, last, spent, crashes, losses, preemptions):
    actors = world.runnable()
    going = [a for a in actors if a.name == last]
    if preemptions is not None and going and spent["preempt"] >= preemptions:
        allowed = going
    else:
        allowed = going + [a for a in actors if a.name != last]
    steps = [(a.name, "do") for a in allowed]
    if spent["crash"] < crashes:
        steps += [(a.name, "crash") for a in allowed]
        bulk = [a for a in allowed if a.pending.startswith("remove")]
        steps += [(a.name, "tear") for a in bulk if a.pending.count(" ") > 1]
    if spent["lose"] < losses:
        steps += [(a.name, "lose") for a in allowed]
    return steps


def _do(world, step, last, spent):
    name, kind = step
    going = any(a.name == last for a in world.runnable())
    if going and name != last:
        spent["preempt"] += 1
    spent["crash" if kind == "tear" else kind] += 1
    world.step(next(a for a in world.actors if a.name == name), kind)
    return name


def random_priorities(scenario, seed, changes=3):
    """Run one schedule of random priorities that change at a few operations (PCT)."""
    chance = random.Random(seed)
    found = Found()
    with running(scenario) as world:
        order = [a.name for a in world.actors]
        chance.shuffle(order)
        moments = {chance.randrange(40) for _ in range(changes)}
        crash = chance.randrange(80)
        number, path = 0, []
        while actors := world.runnable():
            actor = min(actors, key=lambda a: order.index(a.name))
            if number in moments:
                order.remove(actor.name)
                order.append(actor.name)
            kind = "crash" if number == crash else "do"
            world.step(actor, kind)
            path.append((actor.name, kind))
            number += 1
        world.alive = False
        found.check(world, tuple(path))
    return found
