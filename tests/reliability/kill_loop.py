"""Kills programs that change a checkpoint, runs them again, and judges the outcome.

    python -m tests.reliability.kill_loop SCRATCH --scheduler threads --kills 500

Each round has a checkpoint of its own on local disk. A child process saves, recomputes,
repairs or clears it and is killed one to three times, each time a moment after some of
its partitions were begun; then it runs to its end. After each kill, what is loaded is
the state from before or the one that was to be reached. At the end the records are
exactly the bag's, verify() finds nothing, no finished partition was computed again, and
there is no other file.

With the process scheduler the whole group is killed, or one pool worker, or the driver
alone, whose workers continue to write while the next run resumes. ("warm" is that
scheduler with the pool that a Checkpointer keeps, "processes" with a pool of dask's.)

A round depends on the seed and its number; ``--round 17`` repeats one. Prints figures
as JSON; rounds with a fault are described on stderr.
"""

import argparse
import contextlib
import faulthandler
import gc
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import dask

from agatha_ckpt import (
    Checkpointer,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.names import DONE_MARKER, parse_filename
from tests.reliability.faulty_files import flipped
from tests.reliability.runs import Run, labels

PARTITIONS = 16
WORKERS = {"sync": 1, "threads": 4, "processes": 2, "warm": 2}
ABSENT, DAMAGED = "absent", "damaged"
# The state that each operation is to reach: the version whose records are there.
AIM = {"save": "1", "recompute": "2", "repair": "1", "clear": ABSENT}
# Rounds and kills take these in turn. No two of their lengths have a common factor, so
# that each meets each.
ACTIONS = ("save", "recompute", "repair", "save", "clear", "recompute", "repair")
FORMS = ("msgpack", "zstd", "text")
SIGNALS = (
    "KILL",
    "TERM",
    "TERM as exit",  # the program makes it an exception
    "KILL",
    "INT",
    "KILL",
    "INT and KILL",  # soon after
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
    "lost or wrong",
    "undocumented errors",
    "hung",
    "finished and computed again",
    "left over",
    "faults",
)
EXIT_CODE = 143
# Errors of Python's pools when a signal kills a worker, or comes while they start or
# while a future takes its result.
OF_A_POOL = (
    "BrokenProcessPool",
    "InvalidStateError: FINISHED",
    "cannot join thread before it is started",
)
MOMENTS = (0.005, 0.05, 0.3)  # seconds: a kill comes within one of these
PAUSE = 0.04  # seconds for a partition whose driver may be killed alone
QUIET = 0.3  # seconds without a new partition after which orphans have no more
PATIENCE = 20.0  # seconds until a process that was told to end is hung


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
    pause: float = 0.0  # that each partition takes, in seconds
    in_full: bool = False  # repair what is damaged inside, too
    exits: bool = False  # SIGTERM raises SystemExit

    @property
    def folder(self):
        return Path(self.root, self.name)


def run_of(version, form):
    text = form == "text"
    return Run(version, PARTITIONS, version, text, inputs=version, sizes=(200,))


def note(log, pause, index):
    """Note in the log that a partition is computed."""
    with open(log, "a") as file:
        file.write(f"{index} {os.getpid()}\n")
    if pause:
        threading.Event().wait(pause)


def run_task(answers, task):
    """Answer with the state before, and execute the task."""
    print(json.dumps(look(task)), file=answers)
    answers.close()  # otherwise pool workers inherit it
    if task.exits:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE))
    execute(task)


def execute(task):
    compression = "zstd" if task.form == "zstd" else None
    checkpointer = Checkpointer(
        task.root, verbose=False, on_stale="recompute", compression=compression
    )
    if task.op == "clear":
        checkpointer.clear(task.name)
        return
    run = run_of(AIM[task.op], task.form)
    options = {"scheduler": task.scheduler, "num_workers": WORKERS[task.scheduler]}
    # Forked workers start at once, and there is no thread to disturb.
    config = {"multiprocessing.context": "fork", "multiprocessing.initializer": watch}
    if task.scheduler in ("processes", "warm"):
        options["chunksize"] = 6  # so that a worker continues without its driver
    if task.scheduler == "warm":
        options["scheduler"], config = "processes", {}
    bag = run.bag(partial(note, task.log, task.pause))
    with dask.config.set(config):
        if task.in_full:
            checkpointer.repair(task.name, bag, **options)
        else:
            checkpointer.checkpoint(task.name, bag, **run.options | options)


def look(task):
    """Return the state by a load without the bag, and the files that are there."""
    folder = task.folder
    files = [path.name for path in folder.iterdir()] if folder.exists() else []
    return {"state": state_of(task), "files": files}


def state_of(task):
    try:
        bag = Checkpointer(task.root, verbose=False).checkpoint(task.name)
        loaded = bag.compute(scheduler="sync")
    except CheckpointNotFoundError:
        return ABSENT
    except CorruptCheckpointError:
        return DAMAGED
    try:
        (version,) = set(labels(loaded, [run_of(v, task.form) for v in "12"]))
    except (AssertionError, ValueError):
        return f"{len(loaded)} wrong records"
    return version


def damage(answers, task, indexes, how):
    """Remove, cut or change the files of partitions."""
    for path in task.folder.iterdir():
        parsed = parse_filename(path.name)
        if parsed and parsed.index in indexes:
            data = path.read_bytes()
            if how == "remove":
                path.unlink()
            else:
                path.write_bytes(data[:-1] if how == "cut" else flipped(data))


def judge(answers, task, clear):
    """Answer with what there is at the end; and with what a clear leaves."""
    found = look(task)
    store = CheckpointStore(task.root)
    if store.is_done(task.name):
        named = store.manifest(task.name).files | {DONE_MARKER}
        content = [(task.folder / name).read_bytes() for name in sorted(named)]
        found["content"] = hashlib.sha256(b"".join(content)).hexdigest()
        found["damaged"] = [d.reason for d in store.verify(task.name)]
        found["left over"] = sorted(set(found["files"]) - named)
    if clear:
        store.clear(task.name)
        found["after clear"] = list(map(str, task.folder.parent.glob(task.name)))
    print(json.dumps(found), file=answers)


def watch():
    """End this process, or a pool worker without a driver, when the loop ends.

    A worker has no handler of SIGTERM, as one that dask spawns has none: its exception
    would be taken for that of a task.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def wait():
        os.read(LIFELINE[0], 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# ---- processes ----

LIFELINE = os.pipe()


def start(scratch, function, *args):
    """Run a function in a child; return its process id and the file of its answer.

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
    faulthandler.register(signal.SIGUSR1)
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
        if left > 0.002:  # less is too short to sleep for exactly
            time.sleep(min(left - 0.001, 0.002))


def adopt_orphans():
    """Become the parent of what our children leave, so that it can be waited for."""
    if sys.platform == "linux":
        import ctypes

        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def lives(group):
    """Return whether a process is left of a group whose leader has ended."""
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


class BrokenRoundError(Exception):
    """A child that was not killed has failed, or hangs."""


class Round:
    """What one round does, by its random numbers, and what it finds."""

    def __init__(self, arguments, number):
        self.scratch, self.number = arguments.scratch, number
        self.rng = random.Random(f"{arguments.seed} {number}")
        self.action = ACTIONS[number % len(ACTIONS)]
        self.form = FORMS[number % len(FORMS)]
        self.faults = []
        self.figures = Counter(rounds=1)
        place = str(self.scratch / "root"), f"round-{number}"
        self.task = Task(*place, self.action, arguments.scheduler, self.form, "")
        self.all = set(range(PARTITIONS))
        self.logs, self.steps = [], 0
        # Process group to the log of what it computes, and its length at that time.
        self.orphans = {}
        self.damaged, self.old_files = set(), set()

    def run(self):
        kills = self.rng.choice((1, 1, 1, 2, 2, 3))
        ops = [self.action] * kills
        if self.action == "clear":  # and save what is left of it
            ops[1:] = self.rng.choices(("clear", "save"), k=kills)
        else:
            ops.append(self.action)
        allowed = {self.prepare()}
        for op in ops[:-1]:
            found, code = self.step(op, allowed, killed=True)
            allowed = {found["state"], AIM[op]} if code else {AIM[op]}
        found, code = self.step(ops[-1], allowed, killed=False)
        if code:
            self.fault(f"the last {ops[-1]} ended with {code}: {self.stderr()}")
        self.conclude(found["state"], ops[-1])

    def fault(self, what, figure=None):
        self.faults.append(what)
        if figure:
            self.figures[figure] += 1

    def stderr(self):
        return (self.scratch / "stderr").read_text()[-5000:]

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
        """Run a function in a child to its end and return its last answer."""
        pid, answers = start(self.scratch, function, *args)
        with answers:
            text = answers.read()
        code = exit_code(pid, PATIENCE)
        end(pid)
        if code != 0:
            raise BrokenRoundError(f"{function.__name__}: {code}, {self.stderr()}")
        return text and json.loads(text.splitlines()[-1])

    def new_task(self, op, **changes):
        log = self.scratch / f"{self.task.name}-{len(self.logs)}"
        self.logs.append(log)
        in_full = self.task.in_full and op == "repair"
        return replace(self.task, op=op, log=str(log), in_full=in_full, **changes)

    def step(self, op, allowed, killed):
        """Do *op*, killed or not; return what was there before and the exit code."""
        turn, targets = self.number + self.steps, TARGETS[self.task.scheduler]
        sent = SIGNALS[turn % len(SIGNALS)] if killed else ""
        target = targets[turn % len(targets)] if killed else ""
        pause = PAUSE if target == "driver" else 0
        task = self.new_task(op, exits=sent == "TERM as exit", pause=pause)
        pid, answers = start(self.scratch, run_task, task)
        with answers:
            found = json.loads(answers.readline() or "null")
        if killed and found:
            left = PARTITIONS - len(self.finished(op, found))
            code = self.strike(pid, task, sent, target, self.rng.randrange(left + 1))
        else:
            code = exit_code(pid, PATIENCE)
        if target == "driver" and code is not None and lives(pid):
            self.orphans[pid] = task.log, len(lines_of(task.log))
        else:
            end(pid)
        if not found or code is None:
            raise BrokenRoundError(f"{op} ended with {code}: {self.stderr()}")
        if found["state"] not in allowed:
            what = f"before {op} the state was {found['state']}, not in {allowed}"
            self.fault(what, "lost or wrong")
        self.compare(op, found, task)
        self.steps += 1
        return found, code

    def strike(self, group, task, sent, target, begun):
        """Kill a child a moment after so many partitions; return how it ended."""
        code = None
        while task.op != "clear" and code is None and len(lines_of(task.log)) < begun:
            code = exit_code(group, 0.0005)
        if code is None:
            code = exit_code(group, self.rng.random() * self.rng.choice(MOMENTS))
        if code is not None:
            self.figures["kills that came too late"] += 1
            if code:
                self.fault(f"{task.op} ended with {code} unkilled: {self.stderr()}")
            return code
        name, *more = sent.split()
        number = signal.Signals[f"SIG{name}"]
        workers = [pid for _, pid in pairs_in(task.log) if in_group(pid, group)]
        if target == "worker" and workers:
            os.kill(self.rng.choice(workers), signal.SIGKILL)
        elif target == "driver":
            os.kill(group, number)
        else:
            os.killpg(group, number)
        self.figures.update(["kills", f"of {task.op}", f"of a {target}"])
        if more[-1:] == ["KILL"]:
            code = exit_code(group, self.rng.uniform(0, 0.05))
            if code is None:
                os.kill(group, signal.SIGKILL)
        if code is None:
            code = self.wait_patiently(group, f"{task.op} after {sent}")
        text = self.stderr()
        if code == 1 and repr(task.name) in text and any(e in text for e in OF_A_POOL):
            self.figures["errors of Python's pool"] += 1
        elif code not in (0, -number, -signal.SIGKILL, EXIT_CODE):
            what = f"{task.op} ended with {code} after {sent}: {text}"
            self.fault(what, "undocumented errors")
        return code

    def wait_patiently(self, pid, what):
        """Return how a child ended that got a signal; end it if it hangs.

        A signal's exception in the moment between taking a lock of Python's pools and
        noting that leaves a lock that is never released, and Python waits forever at
        its exit or when the pool is shut down.
        """
        code = exit_code(pid, PATIENCE)
        if code is None:
            stderr = self.scratch / "stderr"
            before = stderr.stat().st_size
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.5)
            stacks = stderr.read_bytes()[before:].decode()
            others, _, main = stacks.partition("Current thread")
            innermost = main.split("  File")[1:2]
            if "agatha_ckpt" in others or any("agatha_ckpt" in f for f in innermost):
                self.fault(f"{what} does not end: {stacks}", "hung")
            else:
                self.figures["hung in Python's pools"] += 1
            os.killpg(pid, signal.SIGKILL)
            code = exit_code(pid, PATIENCE)
        return code

    def finished(self, op, found):
        """Return the partitions that need not be computed, as far as they are seen.

        Before a recompute all files are of the version that is to be replaced.
        """
        if op == "recompute" and not self.steps:
            self.old_files = set(found["files"])
        if found["state"] == AIM[op]:
            return self.all
        if op == "repair":
            return self.all - self.damaged
        files = map(parse_filename, set(found["files"]) - self.old_files)
        return {file.index for file in files if file}

    def compare(self, op, found, task):
        """Find out whether a partition was computed that had been finished."""
        finished = self.finished(op, found)
        redone = finished & {index for index, _ in pairs_in(task.log)}
        self.figures["kills in the middle"] += (
            self.steps > 0 and 0 < len(finished) < PARTITIONS
        )
        if redone:
            what = f"{op} computed {sorted(redone)} again"
            self.fault(what, "finished and computed again")

    def conclude(self, before, op):
        """Judge the round by what is there after its last step."""
        found = self.call(judge, self.task, not self.orphans)
        self.judge(found, before, op)
        if self.orphans:
            self.wait_for_orphans()
            later = self.call(judge, self.task, True)
            self.judge(later, before, op)
            if later.get("content") != found.get("content"):
                self.fault("orphans changed what was done", "lost or wrong")
            found = later
            self.figures["partitions of orphans"] += self.begun_by_orphans()
        if found["after clear"]:
            self.fault(f"a clear left {found['after clear']}", "left over")
        for log in self.logs:
            log.unlink(missing_ok=True)

    def judge(self, found, before, op):
        if found["state"] != AIM[op]:
            self.fault(f"after {op} the state is {found['state']}", "lost or wrong")
        if found.get("damaged"):
            self.fault(f"verify() finds {found['damaged']}", "lost or wrong")
        left = found["files"] if op == "clear" else found.get("left over", [])
        if self.orphans:
            self.figures["files that orphans left"] += len(left)
        elif left and before == AIM[op]:
            # Of a run killed between its marker and its end; the next one only loaded.
            self.figures["leftovers beside what was done before"] += len(left)
        elif left:
            self.fault(f"{op} left {left}", "left over")

    def begun_by_orphans(self):
        """Return how many partitions workers began after the death of their driver."""
        logs = self.orphans.values()
        return sum(len(lines_of(log)) - before for log, before in logs)

    def wait_for_orphans(self):
        """Wait until they have computed what they had been given, and end them."""
        begun, since = -1, 0.0
        while time.perf_counter() < since + QUIET:
            time.sleep(0.01)
            if begun != (begun := self.begun_by_orphans()):
                since = time.perf_counter()
        for group in self.orphans:
            end(group)


def in_group(pid, group):
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


def lines_of(log):
    try:
        return Path(log).read_text().splitlines()
    except FileNotFoundError:
        return []


def pairs_in(log):
    """Return partition number and process id of each partition that was begun."""
    return [tuple(map(int, line.split())) for line in lines_of(log)]


def run_round(arguments, number):
    """Return the figures of a round, after printing its faults."""
    one = Round(arguments, number)
    try:
        one.run()
    except BrokenRoundError as error:
        one.fault(str(error), "undocumented errors")
        for group in one.orphans:
            end(group)
    again = (
        f"--scheduler {arguments.scheduler} --seed {arguments.seed} --round {number}"
    )
    for fault in one.faults:
        what = f"{again} ({one.action}, {one.form}): {fault}"
        print(what, file=sys.stderr, flush=True)
    return one.figures + Counter(faults=len(one.faults))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scratch", type=Path, help="folder for checkpoints and logs")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--scheduler", choices=WORKERS, default="sync")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, help="this one only")
    arguments = parser.parse_args()
    scratch = arguments.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    adopt_orphans()
    # Import everything here once, so that children spend no time on it.
    warm = Task(str(scratch / "warm"), "warm", "save", "sync", "zstd", os.devnull)
    execute(warm)
    look(warm)
    gc.freeze()
    figures = Counter(dict.fromkeys(ZERO, 0))
    numbers = range(10 * arguments.kills)  # a kill that comes too late does not count
    for number in numbers if arguments.round is None else [arguments.round]:
        figures.update(run_round(arguments, number))
        if figures["kills"] >= arguments.kills:
            break
        if number % 100 == 99:
            print(dict(figures), file=sys.stderr, flush=True)
    what = {"scheduler": arguments.scheduler, "seed": arguments.seed}
    print(json.dumps(what | figures))


if __name__ == "__mp_main__":  # a worker that was spawned
    faulthandler.register(signal.SIGUSR1)

if __name__ == "__main__":
    main()
