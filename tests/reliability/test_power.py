"""P2: what a power cut may leave at any moment is right, not done, or a said damage.

Every call that changes files is recorded while a checkpoint is saved, resumed,
repaired, computed again or cleared. For every moment of the trace, each tree of files
that a power cut may leave then is written to disk and judged: by what a load gives,
and by what the next run with the same bag gives. `power` says what may be lost.
"""

import functools
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dask.bag
import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
)
from agatha_ckpt._format.names import (
    DONE_MARKER,
    is_run_file,
    is_temporary,
    parse_filename,
)
from tests.reliability.power import Died, Disk, Recorder, materialise

PARTITIONS = 3
NOT_DONE, LOUD = "not done", "documented error"
BY_HAND = "nothing, of a marker that is as if made by hand"


def records(run):
    return [f"{run} {i} {j}" for i in range(PARTITIONS) for j in range(2)]


def failing(part):
    lines = list(part)
    if " 1 " in lines[0]:
        raise ZeroDivisionError
    return lines


def checkpoint(root, run="a", *, fsync=False, broken=False, **options):
    """Save the records of *run*, as a program that a power cut ended would again."""
    bag = dask.bag.from_sequence(records(run), npartitions=PARTITIONS)
    if broken:
        bag = bag.map_partitions(failing)
    checkpointer = checkpointer_of(root, fsync)
    return checkpointer.checkpoint("x", bag, scheduler="sync", **options)


def checkpointer_of(root, fsync=False):
    store = CheckpointStore(root, fsync=fsync)
    return Checkpointer(store, verbose=False, on_stale="recompute")


def repair(root, *, fsync=False):
    bag = dask.bag.from_sequence(records("a"), npartitions=PARTITIONS)
    checkpointer_of(root, fsync).repair("x", bag, scheduler="sync")


def clear(root, *, fsync=False):
    checkpointer_of(root, fsync).clear("x")


def nothing(root):
    pass


def unfinished(root, **options):
    with pytest.raises(ZeroDivisionError):
        checkpoint(root, broken=True, **options)


def torn_marker(root):
    checkpoint(root)
    os.truncate(root / "x" / DONE_MARKER, 100)


def partition_file(root):
    return next((root / "x").glob("part-00001-*"))


def missing_partition(root):
    checkpoint(root)
    partition_file(root).unlink()


def changed_partition(root):
    checkpoint(root)
    path = partition_file(root)
    path.write_bytes(path.read_bytes().replace(b"a 1 1", b"z 1 1"))


def with_version(function, version):
    def call(root, **options):
        function(root, version=version, **options)

    return call


def save_b(root, **options):
    checkpoint(root, "b", version="2", **options)


def text(root, **options):
    checkpoint(root, textfile=True, **options)


# What was there, what is done, what a load may give meanwhile and must give after it,
# and what is run next.
CASES = {
    "save": (nothing, checkpoint, [NOT_DONE], "a", checkpoint),
    "save text": (nothing, text, [NOT_DONE], "a", text),
    "resume": (unfinished, checkpoint, [NOT_DONE], "a", checkpoint),
    "resume text": (
        lambda root: unfinished(root, textfile=True),
        text,
        [NOT_DONE],
        "a",
        text,
    ),
    "a torn marker": (torn_marker, checkpoint, [LOUD, NOT_DONE], "a", checkpoint),
    "a missing partition": (missing_partition, checkpoint, [LOUD], "a", checkpoint),
    "repair": (changed_partition, repair, [LOUD], "a", repair),
    "recompute": (checkpoint, save_b, ["a"], "b", save_b),
    "clear": (checkpoint, clear, ["a", NOT_DONE], NOT_DONE, checkpoint),
}


def shown(root):
    """Return whose records a load gives, and all of them; or how it refuses."""
    try:
        found = checkpointer_of(root).checkpoint("x").compute(scheduler="sync")
        if not found and not (root / "x" / DONE_MARKER).read_bytes():
            return BY_HAND
    except CheckpointNotFoundError:
        return NOT_DONE
    except CheckpointError:
        return LOUD
    return {tuple(records("a")): "a", tuple(records("b")): "b"}.get(
        tuple(found), f"a silent loss: {found}"
    )


class Explorer:
    """Judges each tree that a power cut may leave, each once, and counts them."""

    def __init__(self, folder, run_next):
        self.figures = Counter()
        self._folder = folder
        self._run_next = run_next
        self._judged = {}
        self._numbers = itertools.count()

    def judge(self, tree):
        """Return what a load of the tree gives, and one after the next run."""
        key = frozenset(tree.items())
        if key not in self._judged:
            self._judged[key] = outcomes = self._judge(tree)
            self.figures["states"] += 1
            self.figures[
                outcomes[0] if outcomes[0] in (NOT_DONE, LOUD) else "right"
            ] += 1
        return self._judged[key]

    def _judge(self, tree):
        base = self._folder / f"state-{next(self._numbers)}"
        materialise(tree, base)
        root = base / "new" / "root"
        first = shown(root)
        done = (root / "x" / DONE_MARKER).exists() and checkpointer_of(root).is_done(
            "x"
        )
        assert done or first in (NOT_DONE, LOUD), tree
        try:
            self._run_next(root)
            then = shown(root)
        except CheckpointError:
            then = LOUD
        if then == LOUD:  # as the error says: repair it, or else clear it
            with suppress(CheckpointError):
                repair(root)
            if shown(root) == BY_HAND:
                clear(root)
                self._run_next(root)
            then = LOUD if shown(root) == "a" else f"cannot be repaired: {shown(root)}"
        assert CheckpointStore(root).verify("x") == []
        shutil.rmtree(base)
        return first, then


def record(base, act, **recorder):
    """Return the disk as it is, and the trace of *act*."""
    disk = Disk(base)
    with Recorder(**recorder).in_place() as recording:
        try:
            act()
        except Died:
            assert recording.dead
    return disk, recording.trace


@pytest.mark.parametrize("case", CASES)
def test_a_power_cut_at_any_moment_leaves_it_right_or_not_done_P2(
    tmp_path, record_property, case
):
    prepare, act, meanwhile, after, run_next = CASES[case]
    base = tmp_path / "disk"
    base.mkdir()
    root = base / "new" / "root"
    prepare(root)
    disk, trace = record(base, lambda: act(root, fsync=True))
    explorer = Explorer(tmp_path, run_next)
    allowed, expected = {*meanwhile, after}, "a" if after == NOT_DONE else after
    for step in [*trace, None]:
        for tree in disk.states():
            first, then = explorer.judge(tree)
            # After the last step the call has returned.
            assert first in (allowed if step else {after}), (step, tree)
            assert then == expected, (step, tree)
        if step:
            disk.follow(step)
    figures = {"moments": len(trace) + 1, **explorer.figures, "lost": 0}
    record_property("figures", case + ": " + str(figures))
    assert explorer.figures["right"] or after == NOT_DONE


def losses(disk, trace, explorer, after="a", most=8):
    """Yield what is not what was promised, at each moment, of a first save."""
    for step in [*trace, None]:
        for tree in disk.states(most):
            first, then = explorer.judge(tree)
            promised = {NOT_DONE, after} if step else {after}
            if first not in promised or then != after:
                yield first, then
        if step:
            disk.follow(step)


def test_without_any_one_of_its_syncs_a_save_could_be_lost_P2(
    tmp_path, record_property
):
    # Otherwise the sync is for nothing, or the states above are too few.
    base = tmp_path / "disk"
    base.mkdir()
    save = functools.partial(checkpoint, base / "new" / "root", fsync=True)
    disk, trace = record(base, save)
    shutil.rmtree(base / "new")
    marker = [kind for kind, *_ in trace].index("link")
    syncs = {
        (kind, what[0], number > marker)
        for number, (kind, *what) in enumerate(trace)
        if kind == "sync" or (kind == "sync folder" and disk.holds(what[0]))
    }
    # Of new folders, files, the folder of the checkpoint, the marker, it once more.
    assert len(syncs) == 3 + PARTITIONS + 1 + 1 + 1
    explorer = Explorer(tmp_path, checkpoint)
    for sync in syncs:
        without = [
            step
            for number, step in enumerate(trace)
            if (*step[:2], number > marker) != sync
        ]
        assert next(losses(Disk(base), without, explorer, most=4), None), sync
    figure = f"{len(syncs)}, a loss found for each"
    record_property("figures", "syncs left out one at a time: " + figure)


@pytest.mark.parametrize("save", [checkpoint, text])
def test_what_a_power_cut_takes_without_fsync_is_lost_loudly_P5(
    tmp_path, record_property, save
):
    base = tmp_path / "disk"
    root = base / "new" / "root"
    (root / "x").mkdir(parents=True)
    disk, trace = record(base, lambda: save(root, fsync=False))
    assert not [step for step in trace if step[0].startswith("sync")]
    explorer = Explorer(tmp_path, save)
    for step in trace:
        disk.follow(step)
    found = Counter(losses(disk, [], explorer, most=4))
    record_property("figures", "without fsync, what is lost: " + str(dict(found)))
    # The explorer sees what the syncs are for,
    assert found[LOUD, LOUD]
    assert found[NOT_DONE, "a"]
    # and none of it is other records. An empty marker that lies alone counts as one
    # that was made by hand, which the next run with a bag is warned of.
    assert {first for first, _ in found} <= {NOT_DONE, LOUD, "a", BY_HAND}
    assert {then for _, then in found} <= {LOUD, "a", BY_HAND}


def test_what_was_cleared_does_not_come_back_with_a_power_cut_P3(
    tmp_path, record_property
):
    base = tmp_path / "disk"
    base.mkdir()
    root = base / "root"
    checkpoint(root)
    disk, trace = record(base, lambda: clear(root, fsync=True))
    for step in trace:
        disk.follow(step)
    found = Counter()
    for number, tree in enumerate(disk.states()):
        state = tmp_path / f"state-{number}" / "root"
        materialise(tree, state.parent)
        checkpoint(state, "b")
        found[shown(state)] += 1
    record_property(
        "figures", "cleared, power cut, other records saved: " + str(dict(found))
    )
    assert set(found) == {"b"}


@pytest.mark.parametrize(
    "prepare, act, after",
    [
        (nothing, checkpoint, "a"),
        (nothing, text, "a"),
        (missing_partition, checkpoint, "a"),
        (checkpoint, save_b, "b"),
    ],
    ids=["save", "save text", "a missing partition", "recompute"],
)
def test_a_run_that_took_over_from_a_killed_one_is_durable_when_it_returns_P2(
    tmp_path, record_property, prepare, act, after
):
    explorer = Explorer(tmp_path, act)
    lost = Counter()
    for kills in itertools.count():
        base = tmp_path / f"disk-{kills}"
        base.mkdir()
        root = base / "new" / "root"
        prepare(root)
        run = functools.partial(act, root, fsync=True)
        disk, before = record(base, run, die_at=kills)
        if len(before) < kills:  # it came to its end
            break
        _, trace = record(base, run)
        for step in [*before, *trace]:
            disk.follow(step)
        for tree in disk.states(most=3):
            first, then = explorer.judge(tree)
            if (first, then) != (after, after):
                lost[f"killed after {before[-1][0]}: {first}, then {then}"] += 1
        shutil.rmtree(base)
    figures = {"kills": kills, **explorer.figures, "lost": lost.total()}
    record_property("figures", "killed, taken over, power cut: " + str(figures))
    assert not lost


def test_a_power_cut_where_there_are_no_hard_links_loses_nothing_P2(
    tmp_path, record_property
):
    base = tmp_path / "disk"
    base.mkdir()
    root = base / "new" / "root"
    save = functools.partial(checkpoint, root, fsync=True)
    disk, trace = record(base, save, without_links=True)
    explorer = Explorer(tmp_path, checkpoint)
    for step in [*trace, None]:
        for tree in disk.states():
            first, then = explorer.judge(tree)
            # The marker may be seen before it is whole: a load says so.
            assert first in ({"a", NOT_DONE, LOUD} if step else {"a"}), (step, tree)
            assert then == "a", (step, tree)
        if step:
            disk.follow(step)
    record_property("figures", "no hard links: " + str(dict(explorer.figures)))


SAVE = """
import sys
import dask.bag
from agatha_ckpt import Checkpointer

if __name__ == "__main__":
    root, scheduler = sys.argv[1:]
    bag = dask.bag.from_sequence(range(6), npartitions=3)
    Checkpointer(root, verbose=False).checkpoint("x", bag, scheduler=scheduler)
"""
CALLS = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat"
CALL = re.compile(r"(\d+) +(\w+)\((.*?)(?:\) += (\S+).*| <unfinished \.\.\.>)")
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>.*\) += (\S+).*")
PATH = re.compile(r'"([^"]*)"|\d+<([^>]*)>')


class SystemCall:
    """A call that the system answered well: its name and paths, and when it was."""

    def __init__(self, name, text, begin):
        self.name = name
        self.paths = [quoted or opened for quoted, opened in PATH.findall(text)]
        self.begin = self.end = begin

    def __repr__(self):
        return f"{self.begin}-{self.end} {self.name} {self.paths}"


def system_calls(log):
    found, unfinished = [], {}
    for number, line in enumerate(log.splitlines()):
        if match := CALL.fullmatch(line):
            process, name, text, answer = match.groups()
            call = SystemCall(name, text, number)
            if answer is None:
                unfinished[process] = call
        elif match := RESUMED.fullmatch(line):
            process, _, answer = match.groups()
            call = unfinished.pop(process)
            call.end = number
        else:
            continue
        if answer == "0":
            found.append(call)
    return found


def traced(command, log):
    strace = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={CALLS}"]
    return subprocess.run([*strace, *command], capture_output=True, text=True)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_the_system_itself_is_asked_in_the_order_that_survives_a_power_cut_P2(
    tmp_path, record_property, scheduler
):
    log, script = tmp_path / "log", tmp_path / "save.py"
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if (tried := traced(["true"], log)).returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
    script.write_text(SAVE)
    folder = tmp_path / "new" / "root" / "x"
    command = [sys.executable, str(script), str(folder.parent), scheduler]
    done = traced(command, log)
    assert done.returncode == 0, done.stderr
    calls = [c for c in system_calls(log.read_text()) if str(tmp_path) in c.paths[-1]]

    def synced(path, after=-1, before=math.inf):
        """Whether a sync of a file began and ended between two moments."""
        return any(
            c.name in ("fsync", "fdatasync")
            and c.paths == [str(path)]
            and after < c.begin
            and c.end < before
            for c in calls
        )

    # A run's lock file is nothing that a power cut could take from anybody.
    renames = [
        c
        for c in calls
        if c.name.startswith("rename") and not is_run_file(Path(c.paths[-1]).name)
    ]
    assert len([c for c in renames if parse_filename(Path(c.paths[-1]).name)]) == 3
    for rename in renames:
        assert is_temporary(Path(rename.paths[0]).name)
        assert synced(rename.paths[0], before=rename.begin), rename
    (link,) = [c for c in calls if c.name.startswith("link")]
    assert link.paths[-1] == str(folder / DONE_MARKER)
    assert synced(link.paths[0], before=link.begin)
    last = max(c.end for c in renames)
    assert synced(folder, after=last, before=link.begin)
    assert synced(folder, after=link.end)
    made = {c.paths[-1]: c.end for c in calls if c.name.startswith("mkdir")}
    for path in (folder, folder.parent, folder.parent.parent):
        assert synced(path.parent, after=made[str(path)], before=renames[0].begin)
    record_property(
        "figures", f"system calls in order, {scheduler}: " + str(len(calls))
    )
