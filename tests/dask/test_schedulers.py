"""Each of dask's schedulers saves, resumes and loads on S3, however it gets options."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASE = Path(__file__).with_name("scheduler_case.py")
PARTITIONS, KEPT = 4, 1
RECORDS = [(p, i, {"text": f"é{i}"}) for p in range(PARTITIONS) for i in range(500)]

# Scheduler, start method of its processes, and what a process of it is to Python.
SCHEDULERS = [
    ("sync", None, "_MainProcess"),
    ("threads", None, "_MainProcess"),
    ("processes", "spawn", "SpawnProcess"),
    ("processes", "fork", "ForkProcess"),
    ("processes", "forkserver", "ForkServerProcess"),
    ("distributed", None, "_MainProcess"),
    ("distributed", "spawn", "SpawnProcess"),
    ("distributed", "fork", "ForkProcess"),
    ("distributed", "forkserver", "ForkServerProcess"),
]
# The others differ from these in how dask starts processes, and nothing else.
DEFAULT = ("sync", "threads", "processes-spawn", "distributed-spawn")


def parameters(schedulers):
    ids = ["-".join(filter(None, scheduler[:2])) for scheduler in schedulers]
    return [
        pytest.param(s, id=id, marks=() if id in DEFAULT else pytest.mark.long)
        for s, id in zip(schedulers, ids, strict=True)
    ]


PROFILE = """\
[work]
aws_access_key_id = {key}
aws_secret_access_key = {secret}
"""


def clean_environment():
    """The environment without anything that could give options to a filesystem."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "FSSPEC_"))
    }
    return kept | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def run_case(folder, cloud, scheduler, way=None, workers=1, flags=()):
    """Run a case in a process of its own; return what it found."""
    scheduler, method, process = scheduler
    options, environment = (way or by_storage_options)(cloud, folder)
    root = cloud.new_root()
    case = {
        "folder": str(folder),
        "root": root,
        "options": options,
        "injected": way is by_filesystem,
        "scheduler": scheduler,
        "method": method,
        "workers": workers,
        "keep": KEPT,
    }
    ended = subprocess.run(
        [sys.executable, *flags, str(CASE), json.dumps(case)],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    if scheduler != "distributed":  # which may log how its own connections end
        assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    found = json.loads(ended.stdout)
    assert found["done before"] is False
    assert found["records"] == repr(RECORDS)
    computed = {
        name: sorted(note["partition"] for note in found[name])
        for name in ("saved", "resumed")
    }
    assert computed["saved"] == list(range(PARTITIONS))
    assert computed["resumed"] == list(range(KEPT, PARTITIONS))
    notes = found["saved"] + found["resumed"]
    assert {note["process"] for note in notes} == {process}
    in_parent = {note["pid"] == found["pid"] for note in notes}
    assert in_parent == {process == "_MainProcess"}
    names = [path.rsplit("/", 1)[1] for path in cloud.fs.find(root)]
    assert len(names) == PARTITIONS + 1
    assert "__done__" in names
    return ended.stderr


# ---- how the store gets its options ----


def by_storage_options(cloud, folder):
    return cloud.options, {}


def by_filesystem(cloud, folder):
    return cloud.options, {}  # of the instance that is injected


def by_fsspec_environment(cloud, folder):
    return {}, {"FSSPEC_S3": json.dumps(cloud.options)}


def by_aws_environment(cloud, folder):
    return {}, {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": cloud.options["key"],
        "AWS_SECRET_ACCESS_KEY": cloud.options["secret"],
    }


def by_aws_profile(cloud, folder):
    config, credentials = folder / "config", folder / "credentials"
    config.write_text("[profile work]\nregion = us-east-1\n")
    credentials.write_text(PROFILE.format(**cloud.options))
    return {"profile": "work", "endpoint_url": cloud.url}, {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
    }


WAYS = [by_filesystem, by_fsspec_environment, by_aws_environment, by_aws_profile]


# ---- the cases ----


@pytest.mark.parametrize("scheduler", parameters(SCHEDULERS))
def test_every_scheduler_saves_resumes_and_loads_on_s3(scheduler, s3_server, tmp_path):
    run_case(tmp_path, s3_server, scheduler, workers=2)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_options_reach_worker_processes_however_they_are_given(
    way, s3_server, tmp_path
):
    run_case(tmp_path, s3_server, SCHEDULERS[2], way)


@pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="from Python 3.12 on, any fork of a process that has threads warns",
)
def test_forked_workers_give_no_warning_of_an_inherited_filesystem(s3_server, tmp_path):
    said = run_case(tmp_path, s3_server, SCHEDULERS[3], flags=["-W", "error"])
    assert said == ""
