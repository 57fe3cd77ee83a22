"""Run by test_kill: kill what changes a checkpoint, run it again, judge the outcome.

    python kill_loop.py ROOT SCRATCH --scheduler sync --kills 1000 --seed 1

Each round has a checkpoint of its own. In a child process it is saved, computed again
in place of an older one, repaired, or cleared, and that is killed once to three times
at moments drawn evenly from the time that it takes as a whole; then it runs to its
end. After each kill the state is looked at: it is the one from before or the one that
was aimed at. At the end the records are exactly the bag's, verify() finds nothing, no
partition that was finished was computed again, and no other file is in the folder.

With the process scheduler it is the whole group that is killed, or one pool worker,
or the driver alone, whose workers go on writing while the next run resumes. ("warm" is
that scheduler, too: see `WORKERS`.)

What a round does comes from the seed and its number; ``--round 17`` does that one
only. Prints the figures as JSON; a round that went wrong is named on stderr.
"""

import argparse
import contextlib
import faulthandler
import gc
import hashlib
import itertools
import json
import math
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import dask
import dask.bag
import psutil
from fsspec.core import url_to_fs

from agatha_ckpt import (
    Checkpointer,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.names import DONE_MARKER, is_own_file

SIZE = 200  # of a partition, in records
# "warm" is the process scheduler with the pool that a Checkpointer keeps, "processes"
# with one that dask makes.
WORKERS = {"sync": 1, "threads": 4, "processes": 2, "warm": 2}
ABSENT, DAMAGED = "absent", "damaged"
# To which state each operation leads; a number is the version whose records are there.
AIM = {"save": 1, "recompute": 2, "repair": 1, "clear": ABSENT}
# Rounds and kills take these in turn. No two of them are of lengths with a common
# factor, so that each meets each.
ACTIONS = ("save", "recompute", "repair", "save", "clear", "recompute", "repair")
FORMS = ("msgpack", "zstd", "text")
SIGNALS = (
    "KILL",
    "TERM",  # which ends Python at once,
    "TERM as exit",  # unless the program makes it an exception
    "KILL",
    "INT",
    "KILL",
    "INT and KILL",
    "INT",
)
TARGETS = {
    "sync": ("group",),
    "threads": ("group",),
    "processes": ("driver", "group", "driver", "driver", "worker"),
    "warm": ("driver", "group", "driver", "driver", "worker"),
}
# What must not happen, nor be missing where the figures are printed.
ZERO = (
    "kills",
    "lost or wrong",
    "undocumented errors",
    "hung",
    "finished and computed again",
    "left over",
    "left after a clear",
    "faults",
)
EXIT_CODE = 143
# What Python's pool says when a signal kills its workers, or comes while it starts.
OF_A_POOL = ("BrokenProcessPool", "cannot join thread before it is started")
PAUSES = (0.01, 0.04, 0.1)  # seconds for a partition whose driver may be killed alone
QUIET = 3 * max(PAUSES)  # seconds without a new one, then its workers have no more
PATIENCE = 180.0  # seconds until a process that was told to end is said to hang
LOOKS = 30  # at where it is, in that time


# ---- what runs in a child ----


@dataclass(frozen=True)
class Task:
    """One operation on the checkpoint of a round."""

    root: str
    name: str
    op: str
    scheduler: str
    form: str
    log: str
    partitions: int
    pause: float = 0.0  # that each partition takes, in seconds
    in_full: bool = False  # repair what is damaged inside, too
    exits: bool = False  # SIGTERM raises SystemExit


class Compute:
    """The bag's function: notes which partition it computes, then computes it."""

    def __init__(self, task):
        self.task = task
        self.__name__ = "compute"  # else dask names the bag after our address

    def __dask_tokenize__(self):
        # A program that is started again has the same graph.
        return AIM[self.task.op], self.task.form

    def __call__(self, part):
        (index,) = part
        with open(self.task.log, "a") as log:
            log.write(f"{index} {os.getpid()}\n")
        if self.task.pause:
            threading.Event().wait(self.task.pause)
        yield from records_of(AIM[self.task.op], index, self.task.form)


def records_of(version, index, form):
    if form == "text":
        return [f"{version} {index} {i} " * 10 for i in range(SIZE)]
    return [
        {"run": version, "at": (index, i), "text": f"{index} {i} " * 10}
        for i in range(SIZE)
    ]


def run_task(answers, task):
    """Say what is there, and carry out the task."""
    print(json.dumps(look(task)), file=answers)
    answers.close()  # else pool workers would have it open on
    if task.exits:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE))
    carry_out(task)


def carry_out(task):
    checkpointer = Checkpointer(
        task.root,
        verbose=False,
        on_stale="recompute",
        compression="zstd" if task.form == "zstd" else None,
    )
    if task.op == "clear":
        checkpointer.clear(task.name)
        return
    bag = dask.bag.from_sequence(range(task.partitions), partition_size=1)
    bag = bag.map_partitions(Compute(task))
    options = {"scheduler": task.scheduler, "num_workers": WORKERS[task.scheduler]}
    config = {"multiprocessing.context": "fork", "multiprocessing.initializer": watch}
    if task.scheduler in ("processes", "warm"):
        options["chunksize"] = 6  # so that a worker goes on without its driver
    if task.scheduler == "warm":
        options["scheduler"], config = "processes", {}
    # A pool that dask spawns takes two seconds to import what this process has
    # imported; forked workers are there at once, and there is no thread to disturb.
    with dask.config.set(config):
        if task.in_full:
            checkpointer.repair(task.name, bag, **options)
        else:
            options |= {"textfile": task.form == "text", "version": str(AIM[task.op])}
            checkpointer.checkpoint(task.name, bag, **options)


def filesystem(task):
    fs, root = url_to_fs(task.root, use_listings_cache=False)
    return fs, f"{root}/{task.name}"


def look(task):
    """The state by a load without the bag, and the files that are there."""
    fs, folder = filesystem(task)
    return {
        "state": state_of(task),
        "files": [path.rsplit("/", 1)[1] for path in fs.find(folder)],
    }


def state_of(task):
    try:
        bag = Checkpointer(task.root, verbose=False).checkpoint(task.name)
        loaded = bag.compute(scheduler="sync")
    except CheckpointNotFoundError:
        return ABSENT
    except CorruptCheckpointError:
        return DAMAGED
    for version in (1, 2):
        parts = [records_of(version, i, task.form) for i in range(task.partitions)]
        if loaded == [record for part in parts for record in part]:
            return version
    return f"{len(loaded)} wrong records"


def damage(answers, task, indexes, how):
    """Remove, cut or change the files of partitions."""
    fs, folder = filesystem(task)
    for path in fs.find(folder):
        if index_of(path.rsplit("/", 1)[1]) in indexes:
            data = fs.cat_file(path)
            half = len(data) // 2
            if how == "remove":
                fs.rm_file(path)
            elif how == "cut":
                fs.pipe_file(path, data[:-1])
            else:
                flipped = bytes([data[half] ^ 1])
                fs.pipe_file(path, data[:half] + flipped + data[half + 1 :])


def judge(answers, task, clear):
    """Say what there is in the end; and then, what a clear leaves."""
    fs, folder = filesystem(task)
    found = look(task)
    if DONE_MARKER in found["files"]:
        marker = fs.cat_file(f"{folder}/{DONE_MARKER}")
        named = json.loads(marker)["manifest"]["partitions"]["file"]
        if not clear:  # it will be looked at again
            whole = hashlib.sha256(marker)
            for filename in named:
                whole.update(fs.cat_file(f"{folder}/{filename}"))
            found["content"] = whole.hexdigest()
        store = CheckpointStore(task.root)
        found["damaged"] = [d.reason for d in store.verify(task.name)]
        found["left over"] = sorted(set(found["files"]) - {DONE_MARKER, *named})
    if clear:
        CheckpointStore(task.root).clear(task.name)
        found["after clear"] = [*fs.find(folder)]
        if not found["after clear"] and fs.exists(folder):
            found["after clear"] = ["the folder"]
    print(json.dumps(found), file=answers)


def watch():
    """End this process, be it a pool worker without a driver, when the loop ends.

    A worker has no handler of SIGTERM, as none has that dask spawns: the exception of
    one would be taken for that of a task, and the worker go on.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def wait():
        os.read(LIFELINE[0], 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# ---- processes ----

LIFELINE = os.pipe()


def start(scratch, function, *args):
    """Run a function in a child; return its process id and what it will say.

    The child leads a process group. It ends at once when the function has returned,
    and by an exception as any program does, with its threads and pools.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)  # both do it, so that neither has to wait for the other
        os.close(writer)
        return pid, open(reader)
    os.setpgid(0, 0)
    os.close(reader)
    os.close(LIFELINE[1])
    stderr = os.open(scratch / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stderr, 2)
    # A shell that starts this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR1)  # where it is when it hangs
    watch()
    with open(writer, "w") as answers:
        function(answers, *args)
    os._exit(0)


def exit_code(pid, seconds):
    """Wait for a child to end and return its exit code; None if it has not by then."""
    deadline = time.perf_counter() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        left = deadline - time.perf_counter()
        if left <= 0:
            return None
        if left > 0.002:  # what is less is too short to sleep for exactly
            time.sleep(min(left - 0.001, 0.002))


def adopt_orphans():
    """Become the parent of what our children leave, so that it can be waited for."""
    if sys.platform == "linux":
        import ctypes

        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def in_group(pid, group):
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


def lives(group):
    """Whether a process of a group is left whose leader has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def end(group):
    """End what is left of a group, and wait for that."""
    while lives(group):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.001)


# ---- rounds ----


@dataclass(frozen=True)
class Kill:
    """By what signal, of which processes, and when: two ways of saying it.

    After a part of the time that the operation takes; or when a part of the partitions
    was begun, and then after a part of the time for three of them. That finds its
    moment also where the machine has become slower or faster, and hits the commit.
    """

    signal: str
    target: str
    part: float
    partitions: float | None


class BrokenRoundError(Exception):
    """A child that nobody killed has failed, or hangs."""


class Round:
    """What one round does, by its random numbers, and what it finds."""

    def __init__(self, loop, number):
        self.loop = loop
        self.rng = random.Random(f"{loop.seed} {number}")
        self.action = ACTIONS[number % len(ACTIONS)]
        self.form = FORMS[number % len(FORMS)]
        self.faults = []
        self.figures = Counter({"rounds": 1, f"round of {self.action}": 1})
        self.figures[f"round of {self.form}"] += 1
        self.number = number
        self.task = Task(
            loop.root,
            f"round-{number}",
            self.action,
            loop.scheduler,
            self.form,
            "",
            loop.partitions,
        )
        self.all = set(range(loop.partitions))
        self.logs = []
        self.steps = 0
        # Process group to the log of what it computes, and how long that was then.
        self.orphans = {}
        self.damaged = set()
        self.old_files = set()

    def run(self):
        kills = self.rng.choice((1, 1, 1, 2, 2, 3))
        ops = [self.action] * kills
        if self.action == "clear":  # and save what is left of it
            ops[1:] = self.rng.choices(("clear", "save"), k=kills)
        else:
            ops.append(self.action)
        allowed = {self.prepare()}
        for op in ops[:-1]:
            found, code = self.step(op, allowed, self.kill())
            allowed = {found["state"], AIM[op]} if code else {AIM[op]}
        found, code = self.step(ops[-1], allowed, None)
        if code:
            self.fault(f"the last {ops[-1]} ended with {code}: {self.said()}")
        self.conclude(found["state"], ops[-1])

    def fault(self, what):
        self.faults.append(what)

    def said(self):
        return (self.loop.scratch / "stderr").read_text()[-5000:]

    def kill(self):
        rng = self.rng
        targets = TARGETS[self.loop.scheduler]
        turn = self.number + self.steps
        return Kill(
            SIGNALS[turn % len(SIGNALS)],
            targets[turn % len(targets)],
            part=rng.uniform(0, 1.05),
            partitions=rng.choice((None, rng.random())),
        )

    def prepare(self):
        """Bring about the state that the round begins with, and return it."""
        if self.action == "save":
            return ABSENT
        self.call(run_task, self.new_task("save"))
        if self.action != "repair":
            return AIM["save"]
        how = self.rng.choice(("remove", "cut", "change"))
        self.damaged = set(self.rng.sample(sorted(self.all), len(self.all) // 2))
        self.task = replace(self.task, in_full=how == "change")
        self.call(damage, self.task, self.damaged, how)
        return DAMAGED

    def call(self, function, *args):
        """Run a function in a child to its end and return what it said last."""
        pid, answers = start(self.loop.scratch, function, *args)
        with answers:
            said = answers.read()
        code = exit_code(pid, PATIENCE)
        end(pid)
        if code != 0:
            raise BrokenRoundError(f"{function.__name__}: {code}, {self.said()}")
        return said and json.loads(said.splitlines()[-1])

    def new_task(self, op, kill=None):
        log = self.loop.scratch / f"{self.task.name}-{len(self.logs)}"
        self.logs.append(log)
        task = replace(self.task, op=op, log=str(log))
        if op != "repair":
            task = replace(task, in_full=False)
        if kill:
            task = replace(task, exits=kill.signal == "TERM as exit")
            if kill.target == "driver":  # its workers are to go on for a while
                task = replace(task, pause=self.rng.choice(PAUSES))
        return task

    def step(self, op, allowed, kill):
        """Do *op*, killed or not; return what was there before and the exit code."""
        task = self.new_task(op, kill)
        pid, answers = start(self.loop.scratch, run_task, task)
        with answers:
            said = answers.readline()
        if kill and said:
            missing = len(self.all - self.finished(op, json.loads(said)))
            code = self.strike(pid, task, kill, missing)
        else:
            code = exit_code(pid, PATIENCE)
        goes_on = code is not None and lives(pid)
        if goes_on and kill and kill.target == "driver":
            orphans = {pid: (task.log, len(lines_of(task.log)))}
        else:
            orphans = {}
            end(pid)
        if not said or code is None:
            raise BrokenRoundError(f"{op} ended with {code}: {self.said()}")
        found = json.loads(said)
        if found["state"] not in allowed:
            self.figures["lost or wrong"] += 1
            self.fault(f"before {op} the state was {found['state']}, not in {allowed}")
        self.compare(op, found, task)
        self.steps += 1
        self.orphans |= orphans
        return found, code

    def strike(self, group, task, kill, missing):
        """Kill a child at the moment; return how it ended."""
        seconds = self.loop.seconds[task.op]
        seconds += task.pause * task.partitions / WORKERS[task.scheduler]
        code = None
        counts = missing and task.op != "clear" and kill.partitions is not None
        if counts:
            begun = math.ceil(kill.partitions * missing)
            while code is None and len(lines_of(task.log)) < begun:
                code = exit_code(group, 0.0005)
            seconds *= 3 / task.partitions
        if code is None:
            haste = self.loop.haste[task.op, bool(counts)]
            code = exit_code(group, kill.part * seconds * haste)
            self.loop.learn(task.op, bool(counts), late=code is not None)
        if code is not None:
            self.figures["kills that came too late"] += 1
            if code:
                self.fault(f"{task.op} ended with {code} unkilled: {self.said()}")
            return code
        name, *more = kill.signal.split()
        number = signal.Signals[f"SIG{name}"]
        workers = [pid for _, pid in pairs_in(task.log) if in_group(pid, group)]
        if kill.target == "worker" and workers:
            os.kill(self.rng.choice(workers), signal.SIGKILL)
            self.figures["workers killed"] += 1
        elif kill.target == "driver":
            os.kill(group, number)
        else:
            os.killpg(group, number)
        self.figures["kills"] += 1
        self.figures[f"by {kill.signal}"] += 1
        self.figures[f"of {task.op}"] += 1
        if more[-1:] == ["KILL"]:  # somebody who does not wait for the end
            code = exit_code(group, self.rng.uniform(0, 0.05))
            if code is None:
                os.kill(group, signal.SIGKILL)
        if code is None:
            code = self.wait_patiently(group, f"{task.op} after {kill}")
        said = self.said()
        if code == 1 and repr(task.name) in said and any(e in said for e in OF_A_POOL):
            self.figures["errors of Python's pool"] += 1
            return code
        if code not in (0, -number, -signal.SIGKILL, EXIT_CODE):
            self.fault(f"{task.op} ended with {code} after {kill}: {self.said()}")
            self.figures["undocumented errors"] += 1
        return code

    def wait_patiently(self, pid, what):
        """Return how a child ended that got a signal; end it when it hangs."""
        stuck = 0
        for _ in range(LOOKS):
            code = exit_code(pid, PATIENCE / LOOKS)
            if code is not None:
                return code
            where = self.stuck_in_python(pid)
            stuck = stuck + 1 if where else 0
            if stuck == 2:
                self.figures[f"hung in Python's own {where}"] += 1
                os.kill(pid, signal.SIGINT)
                if exit_code(pid, PATIENCE / LOOKS) is None:
                    break
                self.figures["hung until a second Ctrl-C"] += 1
                return -signal.SIGKILL
        else:
            self.figures["hung"] += 1
            self.fault(f"{what} goes on: {self.said()}")
        os.killpg(pid, signal.SIGKILL)
        return exit_code(pid, PATIENCE)

    def stuck_in_python(self, pid):
        """Return in what of Python's own a child hangs; None if it may be in ours."""
        main, others = self.threads(pid)
        if not main or any(is_ours(frame) for thread in others for frame in thread):
            return None
        if main[-1].endswith("in _shutdown"):
            return "exit"
        if not (waits_for_a_pool(main) or main[-1].endswith("in _exit_function")):
            return None
        children = psutil.Process(pid).children()
        workers = [c.pid for c in children if c.status() != psutil.STATUS_ZOMBIE]
        return "pool" if all(is_idle(self.threads(w)[0]) for w in workers) else None

    def threads(self, pid):
        """Return where the main thread of a process is, and where the others are.

        Each is a list of frames, the innermost first.
        """
        stderr = self.loop.scratch / "stderr"
        before = stderr.stat().st_size
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.5)
        dump = stderr.read_bytes()[before:].decode()
        others, _, main = dump.partition("Current thread")
        return frames_in(main), [frames_in(one) for one in others.split("\n\n")]

    def finished(self, op, found):
        """Which partitions need not be computed, as far as they are seen to be there.

        Before a recompute all files are of the version that is to be replaced.
        """
        if op == "recompute" and not self.steps:
            self.old_files = set(found["files"])
        if found["state"] == AIM[op]:
            return self.all
        if op == "repair":
            return self.all - self.damaged
        files = set(found["files"]) - self.old_files
        return self.all & set(map(index_of, files))

    def compare(self, op, found, task):
        """Find out whether a partition was computed that had been finished."""
        finished = self.finished(op, found)
        redone = finished & {index for index, _ in pairs_in(task.log)}
        if self.steps and op in ("save", "recompute"):
            self.figures["partitions kept"] += len(finished) % len(self.all)
            self.figures["kills in the middle"] += 0 < len(finished) < len(self.all)
            whole = finished == self.all and found["state"] != AIM[op]
            self.figures["kills between the last partition and the marker"] += whole
        if not redone:
            return
        # What is kept of a run is computed again when that run goes on, but not more
        # than half of the work, if it is known to be of the same graph.
        most = self.steps == 1 and len(finished) > len(self.all) / 2
        known = most and self.form != "text"
        if self.orphans and not known:
            self.figures["computed again, orphans going on"] += len(redone)
        else:
            self.figures["finished and computed again"] += len(redone)
            self.fault(f"{op} computed {sorted(redone)} again")

    def conclude(self, before, op):
        """Judge the round by what is there after its last step."""
        begun = self.begun_by_orphans()
        found = self.call(judge, self.task, not self.orphans)
        self.judge(found, before, op)
        if self.orphans:
            self.wait_for_orphans()
            later = self.call(judge, self.task, False)
            self.judge(later, before, op)
            if later.get("content") != found.get("content"):
                self.figures["lost or wrong"] += 1
                self.fault("orphans changed what was done")
            found = self.call(judge, self.task, True)
            in_all = self.begun_by_orphans()
            self.figures["drivers killed alone"] += len(self.orphans)
            self.figures["partitions of orphans"] += in_all
            self.figures["partitions of orphans after the end"] += in_all - begun
        if found["after clear"]:
            self.figures["left after a clear"] += len(found["after clear"])
            self.fault(f"a clear left {found['after clear']}")
        for log in self.logs:
            log.unlink(missing_ok=True)

    def judge(self, found, before, op):
        if found["state"] != AIM[op]:
            self.figures["lost or wrong"] += 1
            self.fault(f"after {op} the state is {found['state']}")
        if found.get("damaged"):
            self.figures["lost or wrong"] += 1
            self.fault(f"verify() finds {found['damaged']}")
        left = found["files"] if op == "clear" else found.get("left over", [])
        if not all(map(is_own_file, left)):
            self.fault(f"files of nobody: {left}")
        if self.orphans:
            self.figures["files that orphans left"] += len(left)
        elif left and before == AIM[op]:
            # A run that was killed between its marker and its end; this one loaded.
            self.figures["done before, with left-overs"] += 1
            for name in left:
                self.figures[f"left-over {name[:5]}"] += 1
        elif left:
            self.figures["left over"] += len(left)
            self.fault(f"{op} left {left}")

    def begun_by_orphans(self):
        """How many partitions were begun by workers whose driver had been killed."""
        logs = self.orphans.values()
        return sum(len(lines_of(log)) - before for log, before in logs)

    def wait_for_orphans(self):
        """Wait until they have computed what they had been given, and end them.

        They do not end of themselves: each waits for the next task.
        """
        begun, since = -1, 0.0
        while time.perf_counter() < since + QUIET:
            time.sleep(0.01)
            if begun != (begun := self.begun_by_orphans()):
                since = time.perf_counter()
        for group in self.orphans:
            end(group)


# A signal's exception in a program or a pool worker, in the moment between taking a
# lock of Python's pools and noting that, or between starting a thread and noting that,
# leaves a lock that nobody gives back, or a thread that nobody tells to end. Python
# then waits for ever, at its exit or when the pool is shut down.


def frames_in(dump):
    return [line for line in dump.splitlines() if line.startswith("  File")]


def is_ours(frame):
    return "agatha_ckpt/_" in frame or frame.endswith("in __call__")


def waits_for_a_pool(frames):
    """Whether the main thread waits for the workers of dask's pool to end."""
    return len(frames) > 3 and "futures/process.py" in frames[2] and "dask" in frames[3]


def is_idle(frames):
    """Whether a pool worker is at no task: waits for one, or to give back a result."""
    calls = [frame.rpartition(" in ")[2] for frame in frames]
    before = dict(zip(calls[1:], calls, strict=False))
    return before.get("_process_worker") in ("get", "_sendback_result")


def index_of(filename):
    return int(filename.split("-")[1]) if filename.startswith("part-") else None


def lines_of(log):
    try:
        return Path(log).read_text().splitlines()
    except FileNotFoundError:
        return []


def pairs_in(log):
    """Partition number and process id of each partition that was begun."""
    return [tuple(map(int, line.split())) for line in lines_of(log)]


class Loop:
    """Rounds, one after the other, until there were so many kills, and of each kind."""

    def __init__(self, arguments):
        self.kills, self.until = arguments.kills, arguments.until
        self.root, self.scratch = arguments.root, arguments.scratch
        self.scheduler, self.seed = arguments.scheduler, arguments.seed
        self.partitions = arguments.partitions
        self.seconds = dict.fromkeys(AIM, 0.0)
        self.haste = defaultdict(lambda: 1.0)
        self.figures = Counter(dict.fromkeys(ZERO, 0))

    def numbers(self):
        """Yield the numbers of rounds until there were so many kills, and of each kind.

        Whether a kill comes in time is chance, and what it meets is, so that a few of
        them may all miss the one round of a kind. If kills of some operation alone are
        missing, there are rounds of that one alone.
        """
        for number in itertools.count():
            short = {what for what, least in self.until if self.figures[what] < least}
            enough = self.figures["kills"] >= self.kills
            done = self.figures["kills"] >= 10 * self.kills
            if (enough and not short) or done or number >= 100 * self.kills:
                return
            of_ops = {f"of {action}" for action in ACTIONS}
            action = ACTIONS[number % len(ACTIONS)]
            if not (enough and short <= of_ops) or f"of {action}" in short:
                yield number

    def learn(self, op, counts, late):
        """Kill a little earlier if that was too late, and else later.

        An operation takes longer or shorter than it was measured to, as the machine is
        busy, or what it does first is the most of it. So one of five kills comes too
        late, on any machine.
        """
        self.haste[op, counts] *= 0.8 if late else 1.05

    def measure(self):
        """Find out how long each operation takes that is not killed."""
        for op in AIM:
            times = []
            for _ in range(1 if "://" in self.root else 3):
                trial = Round(self, ACTIONS.index(op))
                trial.prepare()
                task = trial.new_task(op)
                pid, answers = start(self.scratch, run_task, task)
                with answers:
                    answers.readline()
                started = time.perf_counter()
                code = exit_code(pid, PATIENCE)
                times.append(time.perf_counter() - started)
                end(pid)
                if code:
                    sys.exit(f"{op} ended with {code}: {trial.said()}")
                trial.conclude(task.op, task.op)
            self.seconds[op] = statistics.median(times)

    def run(self, number):
        one = Round(self, number)
        try:
            one.run()
        except BrokenRoundError as error:
            one.figures["undocumented errors"] += 1
            one.fault(str(error))
            for group in one.orphans:
                end(group)
        self.figures.update(one.figures)
        for fault in one.faults:
            print(
                f"--scheduler {self.scheduler} --seed {self.seed} --round {number} "
                f"({one.action}, {one.form}): {fault}",
                file=sys.stderr,
                flush=True,
            )
        self.figures["faults"] += len(one.faults)


def figure_and_number(text):
    figure, number = text.rsplit("=", 1)
    return figure, int(number)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", help="path or URL under which the checkpoints lie")
    parser.add_argument("scratch", type=Path, help="folder for logs")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--scheduler", choices=WORKERS, default="sync")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument(
        "--until",
        type=figure_and_number,
        nargs="*",
        default=[],
        metavar="FIGURE=NUMBER",
        help="go on until these are reached, for up to ten times as many kills",
    )
    parser.add_argument("--round", type=int, help="this one only")
    arguments = parser.parse_args()
    scratch = arguments.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    adopt_orphans()
    # Import all that is needed once, here, so that children spend no time on it. What
    # starts threads, as a client of S3 does, is not used here: they do not survive.
    if arguments.root.startswith("s3:"):
        import s3fs  # noqa: F401
    warm = Task(str(scratch / "warm"), "warm", "save", "sync", "zstd", os.devnull, 2)
    carry_out(warm)
    look(warm)
    gc.freeze()
    loop = Loop(arguments)
    loop.measure()
    if arguments.round is not None:
        loop.run(arguments.round)
    for number in loop.numbers() if arguments.round is None else ():
        loop.run(number)
        if number % 100 == 99:
            print(dict(loop.figures), file=sys.stderr, flush=True)
    what = {"scheduler": arguments.scheduler, "seed": arguments.seed}
    print(json.dumps(what | loop.figures))


if __name__ == "__mp_main__":  # a worker that was spawned
    faulthandler.register(signal.SIGUSR1)

if __name__ == "__main__":
    main()
