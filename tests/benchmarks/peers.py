"""How does a checkpoint compare with its alternatives?

    python -m tests.benchmarks.peers [--quick] [--scale 0.25] [--only sentences/cluster]
        [--peers spark]

The contestants stand in ``contestants.py``. Each saves the same bag, loads it and
touches every record, and counts it; on a warm distributed client with four processes,
and on the bag's own process scheduler with a warm pool of four. Spark does it in its
own four workers. Saving is given net: the time to only compute the bag, on the same
scheduler and in the same round, is taken off (for Spark, the time in which Spark makes
the records). This library syncs each file unless told not to; none of the others does.

The peak memory is that of a process that saves one partition, or loads it, alone
(with Spark, of all its processes). ``--only`` takes words of the workload and of
``cluster``, ``pool`` or ``memory``.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.benchmarks import common
from tests.benchmarks.contestants import Ours, Pickle, Spark, contestants
from tests.benchmarks.schedulers import PROCESSES, scheduler
from tests.benchmarks.workloads import WORKLOADS, Prepared, drain

OURS, NO_FSYNC = Ours(fsync=True).name, Ours(fsync=False).name
common.PACKAGES += ["fastavro", "pandas", "pyarrow", "joblib", "pyspark"]
PEERS_HELP = (
    "only contestants whose name holds this, beside this library and pickle; may be "
    "given several times"
)
MB = 1_000_000
# How many times as fast as each of them this library has to be.
SAVE = {"pickle per partition": 3}
LOAD = {"pickle per partition": 3, "Spark": 1.2, "JSON lines": 1.5, "Avro": 3}


class Job:
    """A workload, and the number of its partitions."""

    def __init__(self, prepared, npartitions):
        self.name = prepared.name
        self.workload = prepared.workload
        self.path = prepared.path
        self.npartitions = npartitions
        self.bag = prepared.bag(npartitions)
        self.count = prepared.count  # in a partition
        self.right = prepared.touched() * npartitions


def only_compute(job, use):
    return {"compute": common.seconds(job.bag.map_partitions(drain).compute, **use)}


def measured(contestant, job, folder, use):
    """Save, load and count once; check what comes back."""
    root = folder / "stored"
    found = {}
    if isinstance(contestant, Spark):
        # Its workers end after an idle minute. Starting them again must not be part of
        # the time that is subtracted.
        contestant.compute(job)
        found["compute"] = common.seconds(contestant.compute, job)

    def right(call, expected):
        assert call(job, root, use) == expected, contestant.name

    try:
        found["save"] = common.seconds(contestant.save, job, root, use)
        found["bytes"] = common.stored_bytes(root)
        found["load"] = common.seconds(right, contestant.touch, job.right)
        found["count"] = common.seconds(
            right, contestant.count, job.count * job.npartitions
        )
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return found


# ---- memory ----


def child(action, number, name, path, count, root):
    """Save or load one partition in this process, and print the peak."""
    contestant = contestants(1)[int(number)]
    job = Job(Prepared(WORKLOADS[name], path, int(count)), 1)
    use = {"scheduler": "sync"}
    if action == "save":
        contestant.save(job, Path(root), use)
    else:
        assert contestant.touch(job, Path(root), use) == job.right
    # Spark has several processes: their sum counts.
    print(sum(map(_peak, _with_children(os.getpid()))))


def _peak(pid):
    # getrusage includes the peak of the parent process.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:  # a worker of Spark has ended
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _with_children(pid):
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for other in (task / "children").read_text().split():
            yield from _with_children(other)


def peak_memory(number, job, folder):
    """Return the peaks of a save and of a load, each in a new process."""
    root = folder / "stored"
    command = [sys.executable, __file__, "child"]
    found = {}
    for action in ("save", "load"):
        arguments = [action, number, job.name, job.path, job.count, root]
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        found[action] = int(done.stdout)
    shutil.rmtree(root)
    return found


# ---- cases ----


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--peers", action="append", metavar="WORD", help=PEERS_HELP)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    scale = 0.02 if arguments.quick else arguments.scale
    npartitions, processes = (4, 2) if arguments.quick else (32, PROCESSES)
    names = ["sentences"] if arguments.quick else list(WORKLOADS)
    report = common.Report("peers.py", arguments)
    there = installed(report, arguments, processes)
    cells = Cells(there.values(), names)
    with common.folder(arguments) as folder:
        prepared = {n: WORKLOADS[n].prepared(folder, scale) for n in names}
        jobs = {n: Job(prepared[n], npartitions) for n in names}
        for which in ("pool",) if arguments.quick else ("cluster", "pool"):
            wanted = [n for n in names if common.is_wanted(arguments, n, which)]
            if wanted:
                with scheduler(which, processes) as use:
                    for name in wanted:
                        report.say(f"{name}, {which}")
                        samples = one_case(
                            report, jobs[name], use, there, folder, rounds
                        )
                        tell(report, name, which, there, samples, cells)
        measured_in = [n for n in names if common.is_wanted(arguments, n, "memory")]
        for name in measured_in:
            report.say(f"{name}, memory")
            tell_memory(report, name, there, jobs[name], folder, cells)
    for peer in there.values():
        if isinstance(peer, Spark):
            peer.stop()
    cells.show(report)
    report.finish()


class Cells:
    """Write tables with a line for each contestant, a column for each workload."""

    def __init__(self, peers, names):
        self._peers = [peer.name for peer in peers]
        self._names = names
        self._tables = {}

    def put(self, title, who, name, value):
        self._tables.setdefault(title, {})[who, name] = str(value)

    def show(self, report):
        for title, cells in self._tables.items():
            names = [n for n in self._names if any(n == k[1] for k in cells)]
            rows = [
                [who, *(cells.get((who, name), "") for name in names)]
                for who in self._peers
                if any(who == k[0] for k in cells)
            ]
            report.table(title, ["", *names], rows)


def installed(report, arguments, processes):
    """Return the contestants that run here, and print the names of the others."""
    found = {}
    for number, peer in enumerate(contestants(processes)):
        words = arguments.peers or [""]
        always = isinstance(peer, Ours | Pickle)
        if not always and not any(w.lower() in peer.name.lower() for w in words):
            continue
        if reason := peer.missing():
            report.note(f"Without {peer.name}: {reason}.")
        elif arguments.quick and isinstance(peer, Spark) and not arguments.peers:
            report.note("Without Spark, which takes long to start.")
        else:
            found[number] = peer
    return found


def one_case(report, job, use, there, folder, rounds):
    calls = {"bag": partial(only_compute, job, use)}
    for peer in there.values():
        calls[peer.name] = partial(measured, peer, job, folder, use)
    return common.in_turn(calls, rounds, report, warm=True)


def net(samples, who):
    """Return the time to save, net of computing the bag."""
    base = who if who == "Spark" else "bag"
    return common.minus(samples[who, "save"], samples[base, "compute"])


def tell(report, name, which, there, samples, cells):
    for (who, what), values in samples.items():
        report.row(records=name, scheduler=which, who=who, what=what, values=values)
    for peer in there.values():
        who = peer.name
        found = {
            what: common.ratio(samples[who, what], samples[OURS, what])
            for what in ("load", "count", "bytes")
        }
        found["save, net"] = common.ratio(net(samples, who), net(samples, OURS))
        found["save, net, against no fsync"] = common.ratio(
            net(samples, who), net(samples, NO_FSYNC)
        )
        for what, value in found.items():
            report.row(records=name, scheduler=which, who=who, what=what, ratio=value)
            if what != "bytes":
                title = f"Times as long as {OURS}: {what}; {which}"
                cells.put(title, who, name, value)
        size = f"{found['bytes'].median:.2f}"
        cells.put(f"Bytes stored, against {OURS}", who, name, size)
        if not isinstance(peer, Ours):
            state_targets(report, f"{who}, {name}, {which}", who, found)
    counting = common.ratio(samples[OURS, "count"], samples[OURS, "load"])
    measure = f"count of what is loaded, against loading it, {name}, {which}"
    report.target(measure, counting, at_most=0.1)


def state_targets(report, case, who, found):
    save = SAVE.get(who, 1)
    report.target(f"save, net, {case}", found["save, net"], at_least=save)
    measure = f"save, net, no fsync, {case}"
    report.target(measure, found["save, net, against no fsync"], at_least=save)
    if who in LOAD:
        report.target(f"load, {case}", found["load"], at_least=LOAD[who])


def tell_memory(report, name, there, job, folder, cells):
    numbers = [n for n, p in there.items() if not isinstance(p, Ours) or p.fsync]
    for number in numbers[: 2 if report.arguments.quick else None]:
        who = there[number].name
        report.noise.sample()
        found = peak_memory(number, job, folder)
        for what, value in found.items():
            report.row(records=name, who=who, what=f"memory to {what}", bytes=value)
        shown = f"{found['save'] / MB:.0f} / {found['load'] / MB:.0f}"
        title = "Peak memory of a worker in MB, to save / to load one partition"
        cells.put(title, who, name, shown)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        main()
