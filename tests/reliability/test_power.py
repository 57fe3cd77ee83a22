"""P2: whatever a power cut leaves at any moment is right, not done, or a clear error.

Every call that changes files is recorded while a checkpoint is saved, resumed,
repaired, recomputed or cleared. For every moment of the trace, each tree of files that
a power cut may leave then is written to disk and judged: by a load, and by a load after
the next run with the same bag. The module `power` defines what may be lost.
"""

import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
)
from agatha_ckpt._format.names import DONE_MARKER, is_temporary, parse_filename
from tests.reliability.faulty_files import flipped
from tests.reliability.power import Disk, Recorder, materialise
from tests.reliability.runs import Run, labels
from tests.reliability.system import Died

LONG = [pytest.mark.long, pytest.mark.timeout(3_600)]
PARTITIONS = 3
A, B = Run("a", sizes=(2,)), Run("b", version="2", sizes=(2,))
TEXT = Run("a", text=True, sizes=(2,))
NOT_DONE, LOUD = "not done", "documented error"
NO_LINKS = "no hard links"
BY_HAND = "an empty marker without partitions"  # as if it was made by hand


def checkpointer_of(root, fsync=False):
    store = CheckpointStore(root, fsync=fsync)
    return Checkpointer(store, verbose=False, on_stale="recompute")


def save(run, root, fsync=False):
    run.save(checkpointer_of(root, fsync), "x")


save_a, save_b, save_text = (partial(save, run) for run in (A, B, TEXT))


def load(root):
    return checkpointer_of(root).checkpoint("x").compute(scheduler="sync")


def repair(root, fsync=False):
    checkpointer = checkpointer_of(root, fsync)
    is_text = checkpointer.store.manifest("x").plan.format == "text"
    (TEXT if is_text else A).repair(checkpointer, "x")


def clear(root, fsync=False):
    checkpointer_of(root, fsync).clear("x")


def nothing(root):
    pass


def partition_file(root):
    return next((root / "x").glob("part-00001-*"))


def unfinished(root):
    save_a(root)
    (root / "x" / DONE_MARKER).unlink()
    partition_file(root).unlink()


def torn_marker(root):
    save_a(root)
    os.truncate(root / "x" / DONE_MARKER, 100)


def missing_partition(root):
    save_a(root)
    partition_file(root).unlink()


def changed_partition(root):
    save_a(root)
    path = partition_file(root)
    path.write_bytes(flipped(path.read_bytes()))


# What is there before, what is done, what a load may give meanwhile and must give after
# it, and what is run next.
CASES = {
    "save": (nothing, save_a, [NOT_DONE], "a", save_a),
    NO_LINKS: (nothing, save_a, [NOT_DONE], "a", save_a),
    "text": (nothing, save_text, [NOT_DONE], "a", save_text),
    "resume": (unfinished, save_a, [NOT_DONE], "a", save_a),
    "torn marker": (torn_marker, save_a, [LOUD, NOT_DONE], "a", save_a),
    "missing partition": (missing_partition, save_a, [LOUD], "a", save_a),
    "repair": (changed_partition, repair, [LOUD], "a", repair),
    "recompute": (save_a, save_b, ["a"], "b", save_b),
    "clear": (save_a, clear, ["a", NOT_DONE], NOT_DONE, save_a),
}


def loaded(root):
    """Return the label of the run that a load gives, or how it is refused."""
    try:
        found = load(root)
    except CheckpointNotFoundError:
        return NOT_DONE
    except CheckpointError:
        return LOUD
    if not found and not (root / "x" / DONE_MARKER).read_bytes():
        return BY_HAND
    is_text = isinstance(found[0], str)
    owners = set(labels(found, [TEXT] if is_text else [A, B]))
    return owners.pop() if len(owners) == 1 else f"a mixture: {owners}"


class Explorer:
    """Judges trees that a power cut may leave, each once, and counts them.

    Of the distinct trees one of *every* is judged, and all at the end of a trace.
    """

    def __init__(self, folder, run_next, every=1):
        self.figures = Counter()
        self._folder, self._run_next, self._every = folder, run_next, every
        self._judged = {}
        self._numbers = itertools.count()

    def judge(self, tree, surely=False):
        """Return what a load of the tree gives, and one after the next run."""
        key = frozenset(tree.items())
        if key not in self._judged:
            if not surely and next(self._numbers) % self._every:
                return None
            self._judged[key] = outcomes = self._judge(tree)
            self.figures["trees"] += 1
            refused = outcomes[0] in (NOT_DONE, LOUD)
            self.figures[outcomes[0] if refused else "right"] += 1
        return self._judged[key]

    def _judge(self, tree):
        base = self._folder / "tree"
        materialise(tree, base)
        root = base / "new" / "root"
        first = loaded(root)
        marker = root / "x" / DONE_MARKER
        if first not in (NOT_DONE, LOUD):
            assert marker.exists()
            assert CheckpointStore(root).is_done("x"), tree
        try:
            self._run_next(root)
            then = loaded(root)
        except CheckpointError:
            then = LOUD
        if then == LOUD:  # as the error advises: repair it, or else clear it
            with suppress(CheckpointError):
                repair(root)
            if loaded(root) == BY_HAND:
                clear(root)
                self._run_next(root)
            then = LOUD if loaded(root) == "a" else f"not repaired: {loaded(root)}"
        assert CheckpointStore(root).verify("x") == []
        shutil.rmtree(base)
        return first, then

    def follow(self, disk, trace, most=8):
        """Yield each step of a trace, None at its end, and the outcomes before it."""
        for step in [*trace, None]:
            for tree in disk.states(most):
                if outcomes := self.judge(tree, surely=step is None and bool(trace)):
                    yield step, outcomes
            if step:
                disk.follow(step)


def record(base, act, **options):
    """Return the disk as it is, and the trace of *act*."""
    disk = Disk(base)
    with Recorder(base, **options).in_place() as recorder:
        try:
            act()
        except Died:
            assert recorder.dead
    return disk, recorder.trace


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "case, every",
    [
        *((case, 1 if case == "save" else 5) for case in CASES),
        *(pytest.param(case, 1, marks=LONG) for case in CASES),
    ],
)
def test_p2_a_power_cut_at_any_moment_leaves_it_right_or_not_done(
    tmp_path, base, record_property, case, every
):
    prepare, act, meanwhile, after, run_next = CASES[case]
    root = base / "new" / "root"
    prepare(root)
    without = {"without_links": case == NO_LINKS}
    disk, trace = record(base, lambda: act(root, fsync=True), **without)
    explorer = Explorer(tmp_path, run_next, every)
    expected = "a" if after == NOT_DONE else after
    for step, (first, then) in explorer.follow(disk, trace):
        # After the last step the call has returned.
        assert first in ([*meanwhile, after] if step else [after]), step
        assert then == expected, step
    figures = {"moments": len(trace) + 1, **explorer.figures, "lost": 0}
    record_property("figures", f"{case}: {figures}")
    assert explorer.figures["right"] or after == NOT_DONE


def test_p2_without_any_one_of_its_syncs_a_save_could_be_lost(
    tmp_path, base, record_property
):
    """Otherwise the sync is useless, or the trees above are too few."""
    disk, trace = record(base, lambda: save_a(base / "new" / "root", fsync=True))
    shutil.rmtree(base / "new")
    marker = [kind for kind, *_ in trace].index("link")
    syncs = {
        (kind, what[0], number > marker)
        for number, (kind, *what) in enumerate(trace)
        if kind == "sync" or (kind == "sync folder" and disk.holds(what[0]))
    }
    # Of new folders, files, the folder of the checkpoint, the marker, it once more.
    assert len(syncs) == 3 + PARTITIONS + 1 + 1 + 1
    explorer = Explorer(tmp_path, save_a)
    for sync in syncs:
        without = [
            step
            for number, step in enumerate(trace)
            if (*step[:2], number > marker) != sync
        ]
        lost = (
            outcomes
            for step, outcomes in explorer.follow(Disk(base), without, most=4)
            if outcomes[0] not in (["a"] if step is None else ["a", NOT_DONE])
            or outcomes[1] != "a"
        )
        assert next(lost, None), sync
    record_property("figures", f"{len(syncs)} syncs, a loss found without each")


@pytest.mark.parametrize(
    "save, every",
    [(save_a, 9), *(pytest.param(s, 1, marks=LONG) for s in (save_a, save_text))],
)
def test_p5_a_power_cut_without_fsync_is_a_clear_error(
    tmp_path, base, record_property, save, every
):
    root = base / "new" / "root"
    (root / "x").mkdir(parents=True)
    disk, trace = record(base, lambda: save(root))
    assert not [step for step in trace if step[0].startswith("sync")]
    explorer = Explorer(tmp_path, save, every)
    for step in trace:
        disk.follow(step)
    found = Counter(outcomes for _, outcomes in explorer.follow(disk, [], most=4))
    record_property("figures", f"without fsync: {dict(found)}")
    # The explorer sees the use of the syncs,
    assert found[LOUD, LOUD]
    assert found[NOT_DONE, "a"]
    # and no tree gives other records. An empty marker that lies alone counts as one
    # that was made by hand; the next run with a bag warns of it.
    assert {first for first, _ in found} <= {NOT_DONE, LOUD, "a", BY_HAND}
    assert {then for _, then in found} <= {LOUD, "a", BY_HAND}


def test_p3_a_cleared_checkpoint_does_not_come_back_with_a_power_cut(
    tmp_path, base, record_property
):
    root = base / "root"
    save_a(root)
    disk, trace = record(base, lambda: clear(root, fsync=True))
    for step in trace:
        disk.follow(step)
    found = Counter()
    for number, tree in enumerate(disk.states()):
        root = tmp_path / f"tree-{number}" / "root"
        materialise(tree, root.parent)
        Run("c", sizes=(2,)).save(checkpointer_of(root), "x")
        found[tuple(labels(load(root), [A, Run("c", sizes=(2,))]))] += 1
    record_property("figures", f"cleared, power cut, saved by run c: {dict(found)}")
    assert set(found) == {("c",) * PARTITIONS}


@pytest.mark.parametrize(
    "case, every",
    [
        ("save", 5),
        *(
            pytest.param(case, 1, marks=LONG)
            for case in ("save", "text", "missing partition", "recompute")
        ),
    ],
)
def test_p2_a_run_that_finishes_a_killed_one_is_durable_when_it_returns(
    tmp_path, record_property, case, every
):
    prepare, act, _, after, _ = CASES[case]
    explorer = Explorer(tmp_path, act, every)
    lost = Counter()
    for kills in itertools.count():
        base = tmp_path / f"disk-{kills}"
        base.mkdir()
        root = base / "new" / "root"
        prepare(root)
        disk, before = record(base, lambda r=root: act(r, fsync=True), die_at=kills)
        if len(before) < kills:  # it ended before
            break
        _, trace = record(base, lambda r=root: act(r, fsync=True))
        for step in [*before, *trace]:
            disk.follow(step)
        for _, outcomes in explorer.follow(disk, [], most=3):
            if outcomes != (after, after):
                lost[f"killed after {before[-1][0]}: {outcomes}"] += 1
        shutil.rmtree(base)
    figures = {"kills": kills, **explorer.figures, "lost": lost.total()}
    record_property("figures", f"killed, finished by the next run: {figures}")
    assert not lost


# ---- the order of system calls, as the system reports it ----

SAVE = """
import sys
import dask.bag
from agatha_ckpt import Checkpointer

if __name__ == "__main__":
    root, scheduler = sys.argv[1:]
    bag = dask.bag.from_sequence(range(6), npartitions=3)
    options = {"scheduler": scheduler, "num_workers": 1}  # one call at a time
    Checkpointer(root, verbose=False).checkpoint("x", bag, **options)
"""
CALLS = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat"
CALL = re.compile(r"\d+ +(\w+)\((.*)\) += 0")
# A quoted path, after the path of the descriptor that it is relative to; a descriptor.
PATH = re.compile(r'(?:\d+<([^>]*)>, |AT_FDCWD(?:<[^>]*>)?, )?"([^"]*)"|\d+<([^>]*)>')


def paths_in(arguments):
    return [
        os.path.join(folder, quoted) if quoted else opened
        for folder, quoted, opened in PATH.findall(arguments)
    ]


def traced(command, log):
    strace = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={CALLS}"]
    return subprocess.run([*strace, *command], capture_output=True, text=True)


@pytest.mark.parametrize(
    "scheduler", ["threads", pytest.param("processes", marks=LONG)]
)
def test_p2_the_system_calls_come_in_the_order_that_survives_a_power_cut(
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
    lines = [line for line in log.read_text().splitlines() if str(tmp_path) in line]
    assert not [line for line in lines if "unfinished" in line]
    found = [match.groups() for line in lines if (match := CALL.fullmatch(line))]
    calls = [(name, paths_in(arguments)) for name, arguments in found]

    def of(kind):
        return {n: paths for n, (name, paths) in enumerate(calls) if kind in name}

    def synced(path, after=-1, before=math.inf):
        """Return whether there is a sync of a file between two calls."""
        return any(
            p == [str(path)] and after < n < before for n, p in of("sync").items()
        )

    renames, links = of("rename"), of("link")
    assert len([p for _, p in renames.values() if parse_filename(Path(p).name)]) == 3
    for number, (temporary, _) in renames.items():
        assert is_temporary(Path(temporary).name)
        assert synced(temporary, before=number), temporary
    [(link, (temporary, marker))] = links.items()
    assert marker == str(folder / DONE_MARKER)
    assert synced(temporary, before=link)
    assert synced(folder, after=max(renames), before=link)
    assert synced(folder, after=link)
    made = {paths[-1]: number for number, paths in of("mkdir").items()}
    for path in (folder, folder.parent, folder.parent.parent):
        assert synced(path.parent, after=made[str(path)], before=min(renames))
    record_property("figures", f"{len(calls)} system calls in order, {scheduler}")
