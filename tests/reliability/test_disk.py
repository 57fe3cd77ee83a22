"""P1, P2, P5: a disk that is full or fails; and the next run, when it works again.

Whatever the disk refuses, a checkpoint is right, not done, or the call raises the
error of the system with a note that names the checkpoint. Once there is space again,
the next run with the same bag is right, keeps the partitions that are whole, and leaves
no other file.
"""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from agatha_ckpt import CheckpointStore
from agatha_ckpt._format.names import DONE_MARKER
from tests.reliability import full_disk
from tests.reliability.faulty_files import Fault, FaultySystem, Injector
from tests.reliability.full_disk import (
    LARGE,
    PAGE,
    SMALL,
    check_right,
    error_of,
    files_in,
    run_of,
    save,
    survives,
)
from tests.reliability.system import limited

LONG = pytest.mark.long


# ---- a limit to the size of a file, as of a quota ----


def saved_within(root, sizes, form, limits):
    """Save with each limit, and then without one."""
    figures, run = Counter(), run_of("a", sizes, form)
    for limit in limits:
        below = Path(root) / str(limit)
        small = limited(resource.RLIMIT_FSIZE, limit)
        survives(below, run, errno.EFBIG, small, lambda: None, figures)
        shutil.rmtree(below)
    return figures


FEW = (1, 500, 50_000, 70_000, 100_000, 262_144, 350_000, 10**6)


@pytest.mark.parametrize(
    "limits, refused",
    [(FEW, 5), pytest.param(range(0, 520_000, PAGE), 90, marks=LONG)],
)
@pytest.mark.parametrize("form", ["msgpack", "text"])
def test_p1_files_that_may_not_grow_lose_nothing_once_they_may(
    tmp_path, record_property, form, limits, refused
):
    small = saved_within(tmp_path, SMALL, form, range(0, 1000, 100))
    assert small["refused a partition"] >= 1
    assert small["refused a commit"] >= 3  # the marker is the largest file
    large = saved_within(tmp_path, LARGE, form, limits)
    assert large["refused a partition"] > refused
    assert large["partitions kept"] >= 4
    assert large["right at once"] >= 1
    record_property("figures", f"file size limit: {dict(small)}, {dict(large)}")


# ---- a sync that fails ----


def test_p2_a_file_whose_sync_failed_is_never_used(tmp_path):
    """A later sync of it would succeed and mean nothing."""
    run, whole = run_of("a", SMALL), Injector()
    with FaultySystem(tmp_path / "whole", whole).in_place():
        save(tmp_path / "whole", run)
    syncs = [n for n, (kind, _) in enumerate(whole.operations) if kind == "sync"]
    assert len(syncs) > len(SMALL) + 2
    for at in syncs:
        root, injector = tmp_path / str(at), Injector(Fault("error before", at))
        with FaultySystem(root, injector).in_place():
            error = error_of(partial(save, root, run))
        text = " ".join([str(error), *getattr(error, "__notes__", [])])
        assert re.search(r"checkpoint 'x' under|partition \d+ of 'x' failed", text)
        (_, failed), *later = injector.operations[at:]
        assert not {"rename", "create"} & {kind for kind, _ in later}
        if failed != "x" or DONE_MARKER not in files_in(root):
            assert not CheckpointStore(root).is_done("x")
        save(root, run)
        check_right(root, run)


# ---- a disk that is really full ----


@pytest.fixture(scope="module")
def unshared():
    """The prefix of a command that may mount what no other process sees."""
    refused = []
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") is None:
            pytest.skip("unshare is not installed")
        with tempfile.TemporaryDirectory() as folder:
            mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
            command = [*unshare, *mount]
            tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode == 0:
            return unshare
        refused.append(tried.stderr.strip())
    return pytest.skip(f"nothing may be mounted here: {'; '.join(refused)}")


PARTITION, COMMIT, FOLDER = (
    f"refused a {what}" for what in ("partition", "commit", "folder")
)


@pytest.mark.parametrize(
    "scenario, form, refused",
    [
        ("full_of_bytes", "msgpack", [PARTITION, COMMIT]),
        pytest.param("full_of_bytes", "text", [PARTITION, COMMIT], marks=LONG),
        pytest.param("full_of_files", "msgpack", [FOLDER, PARTITION], marks=LONG),
        ("full_of_files", "text", [FOLDER, PARTITION]),
        ("full_when_recomputed", "msgpack", [PARTITION]),
        ("full_and_done", "msgpack", [PARTITION]),
        ("read_only_between_partitions", "msgpack", [PARTITION]),
        pytest.param("aborted_in_a_file", "msgpack", [PARTITION], marks=LONG),
    ],
)
def test_p1_a_full_disk_loses_nothing_once_there_is_space(
    unshared, tmp_path, record_property, scenario, form, refused
):
    if scenario == "aborted_in_a_file":
        if os.getuid() or not os.path.exists("/dev/loop0"):
            pytest.skip("only root can mount a filesystem in a file")
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("mkfs.ext4 is not installed")
    disk = tmp_path / "disk"
    disk.mkdir()
    program = [sys.executable, "-W", "error", "-m", full_disk.__name__]
    command = [*unshared, *program, scenario, str(disk), form]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record_property("figures", f"{scenario}, {form}: {done.stdout.strip()}")
    assert not [outcome for outcome in refused if outcome not in done.stdout]
