"""P1, P10: one large partition on an object store, and uploads that die on the way."""

import math
import os
import signal
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import dask.bag
import pytest

from agatha_ckpt._format.names import DONE_MARKER
from tests.reliability import large_object
from tests.reliability.large_object import (
    NAME,
    RECORD_BYTES,
    bag_of,
    count_right,
    records_of,
)
from tests.reliability.test_network import Network
from tests.servers.proxy import Proxy, Status

MB = 1_000_000
PART_BYTES = 16 * 1024 * 1024
RANGE_BYTES = 8 * 1024 * 1024
FEW = 30  # records, of 300 kB together
COUNT = 3_400  # records, of 34 MB together
PARTS = 3  # in which they are uploaded


class Behind(Network):
    """The same with the folder for temporary files, and other processes."""

    def __init__(self, proxy, server, spool):
        super().__init__(proxy, server)
        self.spool = spool

    def child(self, action, count):
        """Start a process that saves or loads through the proxy."""
        command = [sys.executable, "-m", large_object.__name__]
        command += [action, self.root, str(count)]
        env = os.environ | {"TMPDIR": str(self.spool)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)

    def peak_memory(self, action, count):
        """Run such a process to its end and return its peak memory in bytes."""
        child = self.child(action, count)
        output, _ = child.communicate()
        assert child.returncode == 0
        return int(output)

    def sizes(self):
        """Return names and sizes of the objects under the root."""
        found = self.server.fs.find(self.root, detail=True)
        return {path.rpartition("/")[2]: info["size"] for path, info in found.items()}

    def uploads(self):
        """Return the uploads under the root that were neither ended nor aborted."""
        bucket = self.server.name
        found = self.server.fs.call_s3("list_multipart_uploads", Bucket=bucket)
        below = self.root.removeprefix(f"s3://{bucket}/")
        return [u for u in found.get("Uploads", []) if u["Key"].startswith(below)]

    def check_nothing_is_visible(self):
        """There is no object, neither whole nor cut."""
        assert self.sizes() == {}
        assert not self.direct().is_done(NAME)

    def check_next_run(self):
        """The same save without a fault is done, and right."""
        self.proxy.fault = lambda request: None
        saved = self.direct().checkpoint(NAME, bag_of(COUNT), scheduler="sync")
        right = saved.map_partitions(count_right, COUNT)
        assert right.compute(scheduler="sync") == [COUNT]
        partition, marker = sorted(self.sizes(), reverse=True)
        assert partition.startswith("part-00000-")
        assert marker == DONE_MARKER


@pytest.fixture
def behind(s3_server, tmp_path, monkeypatch):
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    with Proxy(s3_server.url) as proxy, s3_server.through(proxy.url).configured():
        behind = Behind(proxy, s3_server, spool)
        yield behind
        proxy.fault = lambda request: None
        behind.direct().clear(NAME)  # the server keeps it in memory
        assert list(spool.iterdir()) == []


@pytest.mark.parametrize("megabytes", [120, 300])
@pytest.mark.long
def test_p10_memory_is_bounded_whatever_the_size_of_an_object(
    behind, megabytes, record_property
):
    count = megabytes * MB // RECORD_BYTES
    few = {action: behind.peak_memory(action, FEW) for action in ("save", "load")}
    behind.direct().clear(NAME)
    behind.proxy.forget()

    many = {"save": behind.peak_memory("save", count)}
    sizes = behind.sizes()
    del sizes[DONE_MARKER]
    [size] = sizes.values()
    assert size > megabytes * MB
    assert behind.proxy.counts["PUT PART"] == math.ceil(size / PART_BYTES)
    assert list(behind.spool.iterdir()) == []

    behind.proxy.forget()
    many["load"] = behind.peak_memory("load", count)  # which checks each record
    ranges = behind.proxy.counts["GET"] - 1
    assert ranges <= math.ceil(size / RANGE_BYTES) + 1
    growth = {action: many[action] - few[action] for action in many}
    record_property("figures", f"{megabytes} MB more than {FEW} records: {growth}")
    assert max(growth.values()) < 100 * MB


class Interrupted(Exception):
    pass


def interrupted(counts):
    """Yield half of the records, then raise."""
    yield from islice(records_of(*counts), counts[0] // 2)
    raise Interrupted


def test_p1_records_that_end_in_an_exception_send_nothing(behind):
    bag = dask.bag.from_sequence([COUNT], npartitions=1).map_partitions(interrupted)
    with pytest.raises(Interrupted):
        behind.impatient().checkpoint(NAME, bag, scheduler="sync")
    assert behind.proxy.counts == {"GET": 1, "LIST": 1}
    behind.check_nothing_is_visible()


def test_p1_a_process_killed_during_an_upload_publishes_nothing(behind):
    seen = []

    def kill(request):
        if request.what == "PUT PART" and not seen:
            seen.append(open_files(child.pid))
        elif request.what == "PUT PART":
            os.kill(child.pid, signal.SIGKILL)

    behind.proxy.fault = kill
    with behind.child("save", COUNT) as child:
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert any(path.startswith(str(behind.spool)) for path in seen[0])
    assert list(behind.spool.iterdir()) == []
    assert "END UPLOAD" not in behind.proxy.counts
    behind.check_nothing_is_visible()
    # No process is left to abort it: on a real bucket a lifecycle rule does.
    [upload] = behind.uploads()
    behind.check_next_run()
    behind.server.fs.abort_mpu(behind.server.name, upload["Key"], upload["UploadId"])


def open_files(pid):
    """Return the paths of the files that a process has open, also of unlinked ones."""
    return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]


def is_part(request, first, last):
    numbers = range(first, last + 1)
    return request.what == "PUT PART" and int(request.query["partNumber"][0]) in numbers


FAILING = {
    "all parts but the first": lambda request: is_part(request, 2, PARTS),
    "the last part": lambda request: is_part(request, PARTS, PARTS),
    "the end": lambda request: request.what == "END UPLOAD",
}


@pytest.mark.parametrize(
    "failing",
    [
        "the end",
        *(pytest.param(name, marks=pytest.mark.long) for name in list(FAILING)[:2]),
    ],
)
def test_p1_an_upload_that_the_server_fails_is_aborted_and_publishes_nothing(
    behind, failing
):
    error = Status(500, "InternalError")
    behind.proxy.fault = lambda request: error if FAILING[failing](request) else None
    with pytest.raises(OSError) as caught:
        behind.impatient().checkpoint(NAME, bag_of(COUNT), scheduler="sync")
    assert NAME in "\n".join(caught.value.__notes__)
    assert behind.proxy.failed
    behind.check_nothing_is_visible()
    assert behind.uploads() == []
    behind.check_next_run()
