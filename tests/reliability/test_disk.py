"""P1, P2, P5: a disk that is full, or fails; and the next run, when it is well again.

Whatever the disk refuses, a checkpoint is right, not done, or the call raises the
error of the system with a note that names the checkpoint (or a CheckpointError). Once
there is space again, the next run with the same bag is right, keeps the partitions
that are whole, and leaves no other file behind.

Disks that are really full are small ones in memory, mounted where only the process
that mounts them sees them: this file is also the program that does it.
"""

import errno
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import dask.bag
import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointStore,
)
from agatha_ckpt._format.names import DONE_MARKER, is_run_file, parse_filename
from tests.reliability.power import Surface

PAGE = 4096
# Bytes of each partition's records, about; the same in whatever order they are saved.
SMALL = [5, 5, 5]  # less than the marker
PAGES = [100, PAGE, 3 * PAGE, PAGE, 100]
LARGE = [100, 60_000, 400_000, 60_000, 100]  # more than is buffered: also mid-write


# ---- what is saved, and what is right ----


def records(sizes, run="a"):
    """Return the records of each partition: no two of them alike, in any run."""
    return [
        [f"{run} {index} {i} ".ljust(50, "x") for i in range(max(1, size // 50))]
        for index, size in enumerate(sizes)
    ]


def flat(sizes, run):
    return [record for part in records(sizes, run) for record in part]


def save(root, sizes, run="a", **options):
    bag = dask.bag.from_sequence(records(sizes, run), partition_size=1).flatten()
    checkpointer_of(root).checkpoint("x", bag, scheduler="sync", **options)


def checkpointer_of(root):
    return Checkpointer(CheckpointStore(root), verbose=False, on_stale="recompute")


def load(root):
    return checkpointer_of(root).checkpoint("x").compute(scheduler="sync")


def files_in(root):
    folder = Path(root) / "x"
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


def partitions_in(root):
    return {name for name in files_in(root) if parse_filename(name)}


def check_right(root, sizes, run="a", *, alone=True):
    """Assert that the checkpoint is that of a run, and nothing lies beside it."""
    assert load(root) == flat(sizes, run)
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


def error_of(call):
    """Return what a call raised of what it may raise, or None."""
    try:
        call()
    except (CheckpointError, OSError) as error:
        return error
    return None


def text_of(error):
    return " ".join([str(error), *getattr(error, "__notes__", ())])


def refusal(call, number):
    """Return what a call could not do; None where it could; and check what it says."""
    error = error_of(call)
    if error is None:
        return None
    said = text_of(error)
    assert getattr(error, "errno", None) == number, said
    assert "checkpoint 'x' under" in said
    if "while making the folder" in said:
        return "folder"
    assert "is not known to be done; what was saved stays" in said
    return "partition" if "while saving partition" in said else "commit"


def survives(root, save, number, right, give_space):
    """Save on a disk that may refuse it, then on one that does not; judge both."""
    refused = refusal(save, number)
    if refused:
        check_not_done(root)
        # Nothing but what is whole, at most with a run's own lock file.
        assert files_in(root) == partitions_in(root)
    kept = partitions_in(root)
    give_space()
    save()
    right()
    assert kept <= partitions_in(root)
    return refused, len(kept)


class Figures(Counter):
    """Counts the outcomes of a number of accidents."""

    def add(self, refused, kept):
        self["cases"] += 1
        self[f"refused a {refused}" if refused else "right at once"] += 1
        self["partitions kept"] += kept if refused else 0

    def __str__(self):
        return json.dumps({**self, "lost": 0})


# ---- a limit to the size of a file ----


@contextmanager
def no_file_larger_than(size):
    """Let this process write no file beyond *size* bytes, as a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def limits_of(root, sizes, textfile, limits):
    """Save below each limit, and then without one."""
    figures = Figures()
    for limit in limits:
        below = Path(root) / str(limit)
        limited = [limit]

        def act(below=below, limited=limited):
            if not limited:
                return save(below, sizes, textfile=textfile)
            with no_file_larger_than(limited[0]):
                return save(below, sizes, textfile=textfile)

        right = partial(check_right, below, sizes)
        figures.add(*survives(below, act, errno.EFBIG, right, limited.clear))
        shutil.rmtree(below)
    return figures


@pytest.mark.parametrize("textfile", [False, True], ids=["msgpack", "text"])
def test_files_that_may_not_grow_lose_nothing_once_they_may_P1(
    tmp_path, record_property, textfile
):
    small = limits_of(tmp_path, SMALL, textfile, range(0, 1000, 100))
    assert small["refused a partition"] >= 1
    assert small["refused a commit"] >= 3  # the marker is the largest file
    few = [1, 500, PAGE, 50_000, 70_000, 100_000, 262_144, 300_000, 350_000, 10**6]
    large = limits_of(tmp_path, LARGE, textfile, few)
    assert large["partitions kept"] >= 6
    assert large["right at once"] == 1
    record_property("figures", "file size limit, small partitions: " + str(small))
    record_property("figures", "file size limit, large partitions: " + str(large))


@pytest.mark.long
@pytest.mark.parametrize("textfile", [False, True], ids=["msgpack", "text"])
def test_files_that_may_not_grow_at_every_4_KiB_lose_nothing_P1(tmp_path, textfile):
    figures = limits_of(tmp_path, LARGE, textfile, range(0, 500_000, PAGE))
    assert figures["refused a partition"] > 90
    print(
        f"file size limit, every 4 KiB, {'text' if textfile else 'msgpack'}: {figures}"
    )


LIMITED = """
import resource
import sys
import dask.bag
from agatha_ckpt import Checkpointer

if __name__ == "__main__":
    bag = dask.bag.from_sequence(range(4000), npartitions=4)
    bag = bag.map(lambda n: {"n": n, "text": "x" * 100})
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, resource.RLIM_INFINITY))
    Checkpointer(sys.argv[1], verbose=False).checkpoint("x", bag)
"""


def test_a_program_ends_with_what_its_worker_could_not_write_P5(tmp_path):
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    command = [sys.executable, str(script), str(tmp_path / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert "while saving partition" in done.stderr
    assert "checkpoint 'x' under" in done.stderr
    check_not_done(tmp_path / "root")
    assert files_in(tmp_path / "root") == partitions_in(tmp_path / "root")


# ---- a disk that fails, or a quota, at each call ----


SPACE = frozenset({"create", "write", "fsync", "replace", "link", "mkdir"})
EVERYTHING = SPACE | {"open", "read", "unlink", "rmdir", "scandir"}


class Failing(Surface):
    """Fails a call of the kinds that an error can happen to, or all from one on."""

    def __init__(self, number, at=None, lasting=False, links=True):
        super().__init__()
        self._links = links
        self.calls = []
        self.failed = []  # kind and paths
        self._number, self._at, self._lasting = number, at, lasting
        self._kinds = EVERYTHING if number == errno.EIO else SPACE
        self._lock = threading.Lock()

    def call(self, kind, do, *what):
        with self._lock:
            at = len([k for k, *_ in self.calls if k in self._kinds])
            self.calls.append((kind, *what))
            fails = self._at is not None and kind in self._kinds
            fails = fails and (at == self._at or (self._lasting and at > self._at))
            if fails:
                self.failed.append((kind, *what))
        if fails:
            raise OSError(self._number, os.strerror(self._number), what[0])
        if kind == "link" and not self._links:
            raise PermissionError(errno.EPERM, "no hard links here")
        # What a sync does for a power cut is for `test_power`.
        return None if kind == "fsync" else do()

    @property
    def possible(self):
        """How many calls the error can happen to."""
        return len([k for k, *_ in self.calls if k in self._kinds])

    def check_that_a_failed_sync_is_final(self):
        """A sync that failed once may succeed when tried again, and mean nothing."""
        for kind, path, *_ in self.failed:
            if kind == "fsync":
                used = [c for c in self.calls if c[0] in ("replace", "link")]
                assert path not in [source for _, source, _ in used], path
                syncs = [c for c in self.calls if c[:2] == ("fsync", path)]
                assert len(syncs) == 1 or os.path.isdir(path), path
                if os.path.basename(path) == DONE_MARKER and not self._lasting:
                    assert not is_done(path), path


def is_done(marker):
    folder = Path(marker).parent
    return CheckpointStore(folder.parent).is_done(folder.name)


def nothing(root):
    pass


def save_a(root):
    save(root, SMALL)


def save_b(root):
    save(root, SMALL, "b", version="2")


def save_text(root):
    save(root, SMALL, textfile=True)


def incomplete(root):
    save_a(root)
    next((Path(root) / "x").glob("part-00001-*")).unlink()


def unfinished(root):
    incomplete(root)
    (Path(root) / "x" / DONE_MARKER).unlink()


def verify(root):
    assert CheckpointStore(root).verify("x") == []


def look(root):
    store = CheckpointStore(root)
    assert store.is_done("x")
    assert store.status("x").state == "done"


def clear(root):
    CheckpointStore(root).clear("x")


def save_without_links(root):
    save_a(root)


# What is there, what is done, and whose records may be there if it fails, and are
# there if it does not.
ACTS = {
    "save": (nothing, save_a, [None], "a"),
    "save text": (nothing, save_text, [None], "a"),
    "save without links": (nothing, save_without_links, [None, "damaged"], "a"),
    "resume": (unfinished, save_a, [None], "a"),
    "repair": (incomplete, save_a, ["damaged"], "a"),
    "recompute": (save_a, save_b, ["a"], "b"),
    "load": (save_a, load, ["a"], "a"),
    "verify": (save_a, verify, ["a"], "a"),
    "look": (save_a, look, ["a"], "a"),
    "clear": (save_a, clear, ["a", None], None),
}


def shown(root):
    try:
        found = load(root)
    except CheckpointNotFoundError:
        return None
    except CheckpointError:
        return "damaged"
    (whose,) = {run for run in "ab" if found == flat(SMALL, run)}
    return whose


@pytest.mark.parametrize(
    "act, error_number",
    [
        *[(act, "EIO") for act in ACTS],
        *[(act, "EDQUOT") for act in ACTS if act not in ("load", "verify", "look")],
    ],
)
def test_a_call_that_the_disk_refuses_loses_nothing_P1(
    tmp_path, record_property, act, error_number
):
    number = getattr(errno, error_number)
    prepare, do, before, after = ACTS[act]
    again = save_b if after == "b" else save_text if do is save_text else save_a
    failing = partial(Failing, number, links=do is not save_without_links)
    figures = Counter()
    prepare(tmp_path / "counted")
    with failing().in_place() as disk:
        do(tmp_path / "counted")
    once = [(at, False) for at in range(disk.possible)]
    for at, lasting in [*once, *[(at, True) for at, _ in once[::3]]]:
        root = tmp_path / f"{at} {lasting}"
        prepare(root)
        with failing(at, lasting).in_place() as disk:
            error = error_of(partial(do, root))
        if error is not None:
            assert "checkpoint 'x' under" in text_of(error)
        where = disk.failed[:1], lasting
        disk.check_that_a_failed_sync_is_final()
        found = shown(root)
        assert found in ([*before, after] if error else [after]), where
        figures["documented error" if error else "ended well"] += 1
        figures["right" if found == after else "as it was before"] += 1
        again(root)
        assert shown(root) == (after or "a"), where
        store = CheckpointStore(root)
        assert store.verify("x") == [], where
        # A run that finds it done has no business with what lies beside it.
        if left := files_in(root) - {DONE_MARKER, *store.manifest("x").files}:
            # Nor is it an error that a run could not remove its own lock file, which
            # is empty and says nothing any more.
            assert error or all(map(is_run_file, left)), where
            assert found == after, where
            figures["files left over, until cleared"] += 1
        store.clear("x")
        assert not store.path("x").exists()
        shutil.rmtree(root)
    record_property("figures", f"{act}, {error_number}: " + json.dumps(figures))


# ---- a disk that is really full ----


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


def full_of_bytes(path, textfile, figures):
    """A first save, at each number of pages that are left."""
    for sizes, levels in ((PAGES, range(14)), (LARGE, range(0, 180, 20))):
        for level in levels:
            with Disk(path, size="4m") as disk:
                disk.fill(level)
                # Space returns in one of two ways.
                grow = partial(disk.remount, size="8m")
                give = disk.empty if level % 2 else grow
                act = partial(save, disk.root, sizes, textfile=textfile)
                right = partial(check_right, disk.root, sizes)
                figures.add(*survives(disk.root, act, errno.ENOSPC, right, give))


def full_of_files(path, textfile, figures):
    """A first save, at each number of files that may still be made."""
    for level in range(16):
        with Disk(path, size="4m", nr_inodes=30) as disk:
            disk.fill_inodes(level)
            act = partial(save, disk.root, PAGES, textfile=textfile)
            right = partial(check_right, disk.root, PAGES)
            grow = partial(disk.remount, nr_inodes=100)
            give = disk.empty if level % 2 else grow
            figures.add(*survives(disk.root, act, errno.ENOSPC, right, give))


def full_when_computed_again(path, textfile, figures):
    """A done checkpoint that is computed again stays what it is, until it can be."""
    again = partial(save, sizes=PAGES, run="b", version="2", textfile=textfile)
    for fill, level in itertools.product(("fill", "fill_inodes"), range(14)):
        with Disk(path, size="4m", nr_inodes=40) as disk:
            save(disk.root, PAGES, textfile=textfile)
            getattr(disk, fill)(level)
            refused = refusal(partial(again, disk.root), errno.ENOSPC)
            if refused:
                check_right(disk.root, PAGES, "a", alone=False)
            written = partitions_in(disk.root)
            disk.empty()
            again(disk.root)
            check_right(disk.root, PAGES, "b")
            kept = written & partitions_in(disk.root)
            figures.add(refused, len(kept))


def full_and_done(path, textfile, figures):
    """Loading, looking and clearing take no space; a repair says that it has none."""
    with Disk(path, size="4m", nr_inodes=40) as disk:
        save(disk.root, PAGES, textfile=textfile)
        disk.fill()
        disk.fill_inodes()
        store = CheckpointStore(disk.root)
        check_right(disk.root, PAGES)
        assert store.names() == ["x"]
        assert store.status("x").state == "done"
        save(disk.root, PAGES, textfile=textfile)  # done: it loads
        (disk.root / "x" / store.manifest("x").partitions[1].file).unlink()
        disk.empty()
        disk.fill()
        act = partial(save, disk.root, PAGES, textfile=textfile)
        refused = refusal(act, errno.ENOSPC)
        assert refused == "partition"
        figures.add(refused, len(partitions_in(disk.root)))
        disk.empty()
        act()
        check_right(disk.root, PAGES)
        disk.fill()
        disk.fill_inodes()
        store.clear("x")
        assert not (disk.root / "x").exists()
        check_not_done(disk.root)


def read_only_between_partitions(path, textfile, figures):
    """The disk becomes read-only while a save goes on.

    The system refuses that while a file is open for writing. So the run finds no room
    for its lock file, and each partition is computed before its file is made.
    """

    computed = []

    def compute(index):
        if not computed:
            disk.empty()
        if len(computed) == 2:
            disk.remount(ro="")
        computed.append(index)
        return records(PAGES)[index]

    with Disk(path, size="4m", nr_inodes=40) as disk:
        (disk.root / "x").mkdir(parents=True)
        disk.fill_inodes()
        parts = [dask.delayed(compute)(i) for i in range(len(PAGES))]
        bag = dask.bag.from_delayed(parts)
        checkpointer = checkpointer_of(disk.root)

        def act():
            checkpointer.checkpoint("x", bag, scheduler="sync", textfile=textfile)

        refused = refusal(act, errno.EROFS)
        assert refused == "partition"
        kept = partitions_in(disk.root)
        assert len(kept) == 2
        # What can be seen of it can be seen on a read-only disk,
        check_not_done(disk.root)
        # and the error says what is wrong when it is tried there again.
        again = partial(save, disk.root, PAGES, textfile=textfile)
        assert refusal(again, errno.EROFS) == "partition"
        disk.remount(rw="")
        again()
        check_right(disk.root, PAGES)
        assert kept <= partitions_in(disk.root)
        figures.add(refused, len(kept))
        disk.remount(ro="")
        check_right(disk.root, PAGES)
        again()  # done: it loads


def aborted_in_the_middle_of_a_file(path, textfile, figures):
    """ext4 gives up, as it does after an error of the device, while a file is open."""
    image = Path(f"{path}-image")
    with open(image, "wb") as file:
        file.truncate(16 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount = ["mount", "-o", "loop", str(image), str(path)]
    for index in range(len(LARGE)):
        root = Path(path) / str(index)

        def abort(part, at=index):
            for record in part:
                if record.startswith(f"a {at} {max(1, LARGE[at] // 50) // 2} "):
                    remount = ["mount", "-o", "remount,abort", str(path)]
                    subprocess.run(remount, check=True)
                yield record

        bag = dask.bag.from_sequence(records(LARGE), partition_size=1).flatten()
        bag = bag.map_partitions(abort)
        subprocess.run(mount, check=True)
        numbers = Counter()
        try:
            checkpointer_of(root).checkpoint(
                "x", bag, scheduler="sync", textfile=textfile
            )
        except OSError as error:
            numbers[error.errno] += 1
            notes = " ".join(error.__notes__)
            assert "checkpoint 'x' under" in notes
            assert f"while saving partition {index} of" in notes
        assert set(numbers) <= {errno.EROFS, errno.EIO}
        assert numbers
        subprocess.run(["umount", str(path)], check=True)
        subprocess.run(["e2fsck", "-fy", str(image)], stdout=subprocess.DEVNULL)
        subprocess.run(mount, check=True)
        check_not_done(root)
        kept = partitions_in(root)
        save(root, LARGE, textfile=textfile)
        check_right(root, LARGE)
        # Partitions before it were renamed, and their folder was not synced yet.
        whole = kept & partitions_in(root)
        figures.add("partition", len(whole))
        subprocess.run(["umount", str(path)], check=True)


SCENARIOS = {
    f.__name__: f
    for f in (
        full_of_bytes,
        full_of_files,
        full_when_computed_again,
        full_and_done,
        read_only_between_partitions,
        aborted_in_the_middle_of_a_file,
    )
}


def main(scenario, path, textfile):
    figures = Figures()
    SCENARIOS[scenario](path, bool(int(textfile)), figures)
    print(figures)


@pytest.fixture(scope="module")
def unshared():
    """What to put before a command so that it may mount what nobody else sees."""
    said = []
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") is None:
            pytest.skip("unshare is not installed")
        with tempfile.TemporaryDirectory() as folder:
            mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
            command = [*unshare, *mount]
            tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode == 0:
            return unshare
        said.append(tried.stderr.strip())
    return pytest.skip(f"nothing may be mounted here: {'; '.join(said)}")


def figures_of(unshared, scenario, path, textfile):
    path.mkdir()
    program = [sys.executable, "-W", "error", __file__]
    command = [*unshared, *program, scenario, str(path), str(int(textfile))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PARTITION, COMMIT = "refused a partition", "refused a commit"


@pytest.mark.parametrize(
    "scenario, textfile, struck",
    [
        ("full_of_bytes", False, [PARTITION, COMMIT]),
        ("full_of_bytes", True, [PARTITION, COMMIT]),
        ("full_of_files", False, ["refused a folder", PARTITION, COMMIT]),
        ("full_of_files", True, ["refused a folder", PARTITION, COMMIT]),
        ("full_when_computed_again", False, [PARTITION, COMMIT]),
        ("full_and_done", False, [PARTITION]),
        ("read_only_between_partitions", False, [PARTITION]),
    ],
)
def test_a_full_disk_loses_nothing_once_there_is_space_P1(
    unshared, tmp_path, record_property, scenario, textfile, struck
):
    figures = figures_of(unshared, scenario, tmp_path / "disk", textfile)
    record_property("figures", scenario + ": " + json.dumps(figures))
    for outcome in [*struck, "partitions kept"]:
        assert figures.get(outcome), figures


def test_a_disk_that_gives_up_in_the_middle_of_a_file_loses_nothing_P1(
    unshared, tmp_path, record_property
):
    if os.getuid() or unshared != ["unshare", "-m"] or not os.path.exists("/dev/loop0"):
        pytest.skip("a filesystem in a file can be mounted only by root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    scenario = "aborted_in_the_middle_of_a_file"
    figures = figures_of(unshared, scenario, tmp_path / "disk", False)
    record_property("figures", scenario + ": " + json.dumps(figures))
    assert figures["refused a partition"] == len(LARGE)


if __name__ == "__main__":
    main(*sys.argv[1:])
