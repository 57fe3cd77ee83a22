"""What the benchmarks share: arguments, interleaved rounds, ratios, tables, targets.

Nothing is said in seconds alone. Whatever is compared runs in turn within each round
(A B A B ...), each round gives one ratio, and of the rounds' ratios the median is
given, with the smallest and the largest behind it. A fixed loop that is timed between
them shows how even the machine was meanwhile.
"""

import argparse
import contextlib
import gc
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

CPU = (
    "processor time of this process in place of time: for work on a busy machine, and "
    "only for what runs in this process"
)
PACKAGES = ["agatha-ckpt", "dask", "distributed", "msgpack"]


# ---- ratios ----


@dataclass(frozen=True)
class Ratio:
    """A ratio of two measurements, in several rounds."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self):
        if not self.rounds:
            return "lost in noise"
        if self.rounds == 1:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(above, below):
    """Divide round by round, without the rounds whose difference is lost in noise."""
    return spread([a / b for a, b in zip(above, below, strict=True) if a > 0 and b > 0])


def spread(found):
    """Return the median and the range of the ratios of the rounds."""
    if not found:
        return Ratio(math.nan, math.nan, math.nan, 0)
    return Ratio(median(found), min(found), max(found), len(found))


def minus(times, others):
    return [a - b for a, b in zip(times, others, strict=True)]


# ---- rounds ----


@dataclass
class Noise:
    """A fixed loop, timed between the measurements."""

    times: list = field(default_factory=list)

    def sample(self):
        started = time.perf_counter()
        total = 0
        for i in range(200_000):
            total += i & 7
        self.times.append(time.perf_counter() - started)

    def figures(self):
        ordered = sorted(self.times)
        middle = median(ordered)
        return {
            "samples": len(ordered),
            "fastest": ordered[0] / middle,
            "9 in 10": ordered[min(len(ordered) * 9 // 10, len(ordered) - 1)] / middle,
            "slowest": ordered[-1] / middle,
        }

    def __str__(self):
        found = self.figures()
        return (
            f"The machine: a fixed loop, timed {found['samples']} times in between, "
            f"took {found['fastest']:.2f} to {found['slowest']:.2f} times its median "
            f"(9 in 10 at most {found['9 in 10']:.2f})."
        )


class Samples(defaultdict):
    """Seconds by contestant and by what was measured, one for each round."""

    def __init__(self):
        super().__init__(list)

    def add(self, who, found):
        for what, seconds in found.items():
            self[who, what].append(seconds)


def in_turn(contestants, rounds, report, samples=None, warm=False):
    """Run each contestant once a round, each round beginning with another one.

    A contestant is called without arguments and returns the seconds that it measured,
    by what they are. With *warm*, each runs once before, and that is forgotten.
    """
    samples = Samples() if samples is None else samples
    names = list(contestants)
    if warm:
        for name in names:
            report.progress("warming up", name)
            contestants[name]()
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            report.settle()
            report.progress(f"round {number + 1} of {rounds}", name)
            samples.add(name, contestants[name]())
    return samples


_clock = time.perf_counter


def now():
    """Return seconds of time; with ``--cpu``, of the processor time of this process."""
    return _clock()


def seconds(call, *arguments, **keywords):
    started = now()
    call(*arguments, **keywords)
    return now() - started


# ---- results ----


class Report:
    """Rows for JSON, tables for reading, and targets with the measured values."""

    def __init__(self, script, arguments):
        self.script = script
        self.arguments = arguments
        if arguments.cpu:
            global _clock
            _clock = time.process_time
        self.noise = Noise()
        self.rows = []
        self.tables = []
        self.targets = []
        self.notes = []

    def note(self, text):
        self.notes.append(text)
        print(text, flush=True)

    def say(self, text):
        print(f"  {text}", file=sys.stderr, flush=True)

    def settle(self):
        """Flush what earlier measurements left to do."""
        gc.collect()
        if not (self.arguments.quick or self.arguments.cpu):
            os.sync()
        self.noise.sample()

    def progress(self, *words):
        """Show on a terminal what runs at the moment."""
        if sys.stderr.isatty() or self.arguments.verbose:
            self.say(f"  {', '.join(map(str, words))}")

    def row(self, **fields):
        self.rows.append(
            {k: vars(v) if isinstance(v, Ratio) else v for k, v in fields.items()}
        )

    def table(self, title, heads, rows):
        self.tables.append((title, heads, [list(map(str, row)) for row in rows]))

    def target(self, measure, found, *, at_most=None, at_least=None, unit="times"):
        """Record a target and whether the median meets it."""
        value = found.median if isinstance(found, Ratio) else found
        if math.isnan(value):
            met = None
        else:
            met = value <= at_most if at_least is None else value >= at_least
        wanted = f"at least {at_least}" if at_most is None else f"at most {at_most}"
        shown = str(found) if isinstance(found, Ratio) else f"{found:.3g}"
        self.targets.append(
            {
                "measure": measure,
                "target": f"{wanted} {unit}",
                "found": shown,
                "value": value,
                "met": met,
            }
        )

    def finish(self):
        text = self._markdown()
        print(text, flush=True)
        if self.arguments.markdown:
            self.arguments.markdown.write_text(text)
        if self.arguments.json:
            found = {
                "script": self.script,
                "arguments": " ".join(sys.argv[1:]),
                "machine": machine(),
                "noise": self.noise.figures(),
                "notes": self.notes,
                "rows": self.rows,
                "targets": self.targets,
            }
            self.arguments.json.write_text(json.dumps(found, indent=1, default=str))

    def _markdown(self):
        parts = []
        for title, heads, rows in self.tables:
            parts.append(f"**{title}**\n\n{markdown(heads, rows)}")
        words = {True: "met", False: "MISSED", None: "not decided"}
        verdicts = [
            [t["measure"], t["target"], t["found"], words[t["met"]]]
            for t in self.targets
        ]
        if verdicts:
            heads = ["measure", "target", "found", ""]
            parts.append(f"**Targets**\n\n{markdown(heads, verdicts)}")
        parts += [*self.notes, str(self.noise), described()]
        return "\n" + "\n\n".join(parts) + "\n"


def markdown(heads, rows):
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells):
        padded = [c.ljust(w) for c, w in zip(cells, widths, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (w + 2) for w in widths)}|"
    return "\n".join([line(heads), rule, *map(line, rows)])


def machine():
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": found,
        "load": os.getloadavg(),
    }


def _processor():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def described():
    found = machine()
    packages = ", ".join(f"{k} {v}" for k, v in found["packages"].items())
    return (
        f"{found['cpus']} processors ({found['processor']}), {found['system']}, "
        f"Python {found['python']}, {packages}."
    )


# ---- running ----


def parser(description):
    made = argparse.ArgumentParser(
        description=description.split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--quick", action="store_true", help="only see that it runs, in seconds")
    add("--rounds", type=int, help="how often each comparison is made")
    add("--scale", type=float, default=1.0, help="factor for the amount of data")
    add(
        "--only",
        action="append",
        metavar="WORD",
        help="only cases whose name holds this; may be given several times, and "
        "A/B means both A and B",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there")
    add("--verbose", action="store_true", help="say what runs at the moment")
    add("--cpu", action="store_true", help=CPU)
    add("--root", type=Path, help="folder to work in; by default a temporary one")
    return made


def is_wanted(arguments, *words):
    """Return whether ``--only`` selects the case that these words name."""
    if not arguments.only:
        return True
    name = " ".join(words).lower()
    return any(
        all(part in name for part in only.lower().split("/")) for only in arguments.only
    )


@contextlib.contextmanager
def folder(arguments):
    """Yield a new folder to work in; remove it at the end."""
    if arguments.root:
        arguments.root.mkdir(parents=True, exist_ok=True)
    # A worker that is ending may still write.
    made = tempfile.mkdtemp(prefix="benchmark-", dir=arguments.root)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def stored_bytes(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
