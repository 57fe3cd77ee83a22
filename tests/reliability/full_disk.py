"""Saves on disks that are full, become read-only, or fail; run by test_disk.

    python -m tests.reliability.full_disk SCENARIO FOLDER msgpack|text

The disks are small filesystems in memory, mounted where only this process sees them.
Prints figures as JSON.
"""

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
    RootNotSetError,
)
from agatha_ckpt._format.names import DONE_MARKER, parse_filename
from tests.reliability.runs import Run, labels

PAGE = 4096
# Records of about 60 bytes in each partition.
SMALL = (1, 1, 1)  # less than the marker
PAGES = (2, 80, 240, 80, 2)
LARGE = (2, 1_000, 8_000, 1_000, 2)  # more than is buffered


def run_of(label, sizes, form="msgpack", version=None):
    label = label.ljust(50, "x")
    text = form == "text"
    return Run(label, len(sizes), version, text, inputs=label, sizes=sizes)


def checkpointer_of(root):
    return Checkpointer(CheckpointStore(root), verbose=False, on_stale="recompute")


def save(root, run):
    run.save(checkpointer_of(root), "x")


def files_in(root):
    return {path.name for path in Path(root).glob("x/*")}


def partitions_in(root):
    return {name for name in files_in(root) if parse_filename(name)}


def check_right(root, run, *, alone=True):
    """Assert that the checkpoint is that of a run, without other files beside it."""
    loaded = checkpointer_of(root).checkpoint("x").compute(scheduler="sync")
    assert labels(loaded, [run]) == [run.label] * run.npartitions
    store = CheckpointStore(root)
    assert store.verify("x") == []
    if alone:
        assert files_in(root) == {DONE_MARKER, *store.manifest("x").files}


def check_not_done(root):
    store = CheckpointStore(root)
    assert not store.is_done("x")
    assert store.names() == []
    assert store.status("x").state in ("absent", "partial")
    with pytest.raises(CheckpointNotFoundError):
        checkpointer_of(root).checkpoint("x")


def refusal(call, number):
    """Return what a call could not write; None if it could; check its message."""
    error = error_of(call)
    if error is None:
        return None
    text = " ".join([str(error), *getattr(error, "__notes__", ())])
    assert getattr(error, "errno", None) == number, text
    if "while making the folder" in text:
        return "folder"
    if re.search(r"partitions? stored; partition \d+ of 'x' failed", text):
        return "partition"
    assert "is not known to be done; what was saved stays" in text
    return "commit"


def error_of(call):
    try:
        call()
    except (CheckpointError, OSError) as error:
        return error
    return None


def survives(root, run, number, refusing, give_space, figures):
    """Save where the disk may refuse it, then where it does not; judge both."""

    def act():
        with refusing:
            save(root, run)

    refused = refusal(act, number)
    if refused:
        check_not_done(root)
        assert files_in(root) == partitions_in(root)
    kept = partitions_in(root)
    give_space()
    save(root, run)
    check_right(root, run)
    assert kept <= partitions_in(root)
    count(figures, refused, len(kept))


def count(figures, refused, kept):
    figures["cases"] += 1
    figures[f"refused a {refused}" if refused else "right at once"] += 1
    figures["partitions kept"] += kept if refused else 0


class Disk:
    """A small filesystem in memory, mounted at *path*."""

    def __init__(self, path, **options):
        self.path = Path(path)
        self.root = self.path / "new" / "root"
        self._mount(options, "mount", "-t", "tmpfs", "none")

    def _mount(self, options, *command):
        text = ",".join(f"{k}={v}" if v else k for k, v in options.items())
        subprocess.run([*command, "-o", text, str(self.path)], check=True)

    def remount(self, **options):
        self._mount({"remount": "", **options}, "mount")

    def fill(self, pages_left=0):
        """Fill the disk but for some pages."""
        left = os.statvfs(self.path).f_bavail
        (self.path / "ballast").write_bytes(bytes((left - pages_left) * PAGE))
        assert os.statvfs(self.path).f_bavail == pages_left

    def fill_inodes(self, left=0):
        """Leave room for some files only."""
        ballast = self.path / "many"
        ballast.mkdir()
        for number in range(os.statvfs(self.path).f_ffree - left):
            (ballast / str(number)).touch()
        assert os.statvfs(self.path).f_ffree == left

    def empty(self):
        with suppress(FileNotFoundError):
            (self.path / "ballast").unlink()
        shutil.rmtree(self.path / "many", ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", str(self.path)], check=True)


def full_of_bytes(path, form, figures):
    """A first save, at each number of pages that are left."""
    for sizes, levels in ((PAGES, range(14)), (LARGE, range(0, 180, 20))):
        for level in levels:
            with Disk(path, size="4m") as disk:
                disk.fill(level)
                grow = partial(disk.remount, size="8m")
                first_save(disk, run_of("a", sizes, form), level, grow, figures)


def full_of_files(path, form, figures):
    """A first save, at each number of files that may still be made."""
    for level in range(12):
        with Disk(path, size="4m", nr_inodes=30) as disk:
            disk.fill_inodes(level)
            grow = partial(disk.remount, nr_inodes=100)
            first_save(disk, run_of("a", PAGES, form), level, grow, figures)


def first_save(disk, run, level, grow, figures):
    # Space returns in one of two ways.
    give = disk.empty if level % 2 else grow
    survives(disk.root, run, errno.ENOSPC, nullcontext(), give, figures)


def full_when_recomputed(path, form, figures):
    """A done checkpoint stays as it is until it can be recomputed."""
    old, new = (run_of(v, PAGES, form, version=v) for v in ("1", "2"))
    for fill, level in itertools.product(("fill", "fill_inodes"), range(0, 14, 2)):
        with Disk(path, size="4m", nr_inodes=40) as disk:
            save(disk.root, old)
            getattr(disk, fill)(level)
            refused = refusal(partial(save, disk.root, new), errno.ENOSPC)
            if refused:
                check_right(disk.root, old, alone=False)
            written = partitions_in(disk.root)
            disk.empty()
            save(disk.root, new)
            check_right(disk.root, new)
            count(figures, refused, len(written & partitions_in(disk.root)))


def full_and_done(path, form, figures):
    """Loads, queries and clears need no space; a repair reports that there is none."""
    run = run_of("a", PAGES, form)
    with Disk(path, size="4m", nr_inodes=40) as disk:
        save(disk.root, run)
        disk.fill()
        disk.fill_inodes()
        store = CheckpointStore(disk.root)
        check_right(disk.root, run)
        assert store.names() == ["x"]
        assert store.status("x").state == "done"
        save(disk.root, run)  # done: it loads
        (disk.root / "x" / store.manifest("x").partitions[1].file).unlink()
        disk.empty()
        disk.fill()
        refused = refusal(partial(save, disk.root, run), errno.ENOSPC)
        assert refused == "partition"
        count(figures, refused, len(partitions_in(disk.root)))
        disk.empty()
        save(disk.root, run)
        check_right(disk.root, run)
        disk.fill()
        disk.fill_inodes()
        store.clear("x")
        assert not (disk.root / "x").exists()
        check_not_done(disk.root)


def read_only_between_partitions(path, form, figures):
    """The disk becomes read-only during a save.

    The system refuses that while a file is open for writing, so each partition is
    computed before its file is made.
    """
    run, computed = run_of("a", PAGES, form), []

    def note(index):
        if len(computed) == 2:
            disk.remount(ro="")
        computed.append(index)

    with Disk(path, size="4m") as disk:
        act = partial(run.save, checkpointer_of(disk.root), "x", note)
        refused = refusal(act, errno.EROFS)
        assert refused == "partition"
        kept = partitions_in(disk.root)
        assert len(kept) == 2
        check_not_done(disk.root)
        with pytest.raises(RootNotSetError, match="a root that can be written to"):
            save(disk.root, run)
        disk.remount(rw="")
        save(disk.root, run)
        check_right(disk.root, run)
        assert kept <= partitions_in(disk.root)
        count(figures, refused, len(kept))
        disk.remount(ro="")
        check_right(disk.root, run)
        save(disk.root, run)  # done: it loads


def aborted_in_a_file(path, form, figures):
    """ext4 gives up while a file is open, as after an error of the device."""
    image = Path(f"{path}-image")
    with open(image, "wb") as file:
        file.truncate(16 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount = ["mount", "-o", "loop", str(image), str(path)]
    run = run_of("a", LARGE, form)
    for index in range(len(LARGE)):
        root = Path(path) / str(index)
        middle = run.records(index)[LARGE[index] // 2]
        bag = run.bag().map_partitions(partial(abort, middle, path))
        subprocess.run(mount, check=True)
        checkpoint = checkpointer_of(root).checkpoint
        error = error_of(partial(checkpoint, "x", bag, **run.options))
        assert error.errno in (errno.EROFS, errno.EIO)
        assert f"partition {index} of 'x' failed" in " ".join(error.__notes__)
        subprocess.run(["umount", str(path)], check=True)
        subprocess.run(["e2fsck", "-fy", str(image)], stdout=subprocess.DEVNULL)
        subprocess.run(mount, check=True)
        check_not_done(root)
        save(root, run)
        check_right(root, run)
        count(figures, "partition", 0)
        subprocess.run(["umount", str(path)], check=True)


def abort(middle, path, part):
    for record in part:
        if record == middle:
            command = ["mount", "-o", "remount,abort", str(path)]
            subprocess.run(command, check=True)
        yield record


SCENARIOS = (
    *(full_of_bytes, full_of_files, full_when_recomputed, full_and_done),
    *(read_only_between_partitions, aborted_in_a_file),
)


def main(scenario, path, form):
    figures = Counter()
    {f.__name__: f for f in SCENARIOS}[scenario](path, form, figures)
    print(json.dumps(figures | {"lost": 0}))


if __name__ == "__main__":
    main(*sys.argv[1:])
