"""Fixtures: stores on every filesystem, isolated from each other."""

import os
import shutil
import uuid
from pathlib import Path

import dask
import fsspec
import hypothesis
import pytest

# Read when gcsfs is imported; otherwise each call waits a minute for a service that
# emulators do not have.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
# Processes that tests start import this package from any working directory.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [
        str(Path(__file__).parents[1]),
        *os.environ.get("PYTHONPATH", "").split(os.pathsep),
    ]
).rstrip(os.pathsep)
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"  # moto needs it for a new bucket

import agatha_ckpt
from agatha_ckpt import Checkpointer, CheckpointStore
from tests.servers import azure as azure_servers
from tests.servers import gcs as gcs_servers
from tests.servers import s3 as s3_servers
from tests.servers import shares

pytest_plugins = ["agatha_ckpt.testing.pytest_plugin"]

# The same examples in every run, so that a failure is due to a change; and no limit of
# time, which a busy machine would exceed.
hypothesis.settings.register_profile(
    "the same everywhere",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("the same everywhere")

HERE = ["local", "memory"]
CLOUDS = {
    "s3": "s3_server",
    "s3-rclone": "rclone_server",
    "gcs": "gcs_server",
    "azure": "azure_server",
}
# Of these, each has the tests of `Files` and of a whole checkpoint.
MORE_SERVERS = {
    "s3-seaweedfs": "seaweedfs_server",
    "sftp": "openssh_server",
    "sshfs": "openssh_server",
    "smb": "samba_server",
    "ftp": "ftp_server",
    "webdav": "webdav_server",
}
SERVERS = CLOUDS | MORE_SERVERS
OTHER_SERVERS = [name for name in SERVERS if name != "s3"]
STORE_PARAMETERS = ["root", "cloud", "bucket", "place"]


@pytest.fixture(scope="session", autouse=True)
def _scratch(tmp_path_factory):
    """Let dask's workers and subprocesses write into a folder that is removed."""
    folder = str(tmp_path_factory.mktemp("scratch"))
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set(temporary_directory=folder),
    ):
        patch.setenv("DASK_TEMPORARY_DIRECTORY", folder)
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Remove all files, unless a test failed."""
    if exitstatus == pytest.ExitCode.OK and "PYTEST_XDIST_WORKER" not in os.environ:
        folder = session.config._tmp_path_factory.getbasetemp()
        shutil.rmtree(folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter):
    """Show the figures that tests have recorded."""
    stats = terminalreporter.stats
    # pytest-xdist reports what a fixture recorded in its teardown with the teardown.
    reports = [*stats.get("passed", []), *stats.get("", [])]
    figures = {
        f"{report.nodeid.rpartition('/')[2]}: {value}"
        for report in reports
        for name, value in report.user_properties
        if name == "figures"
    }
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(sorted(figures)))


def running(server):
    """Return a fixture: a server for the session."""

    @pytest.fixture(scope="session")
    def fixture():
        with server() as found:
            yield found

    return fixture


s3_server = running(s3_servers.moto)
rclone_server = running(s3_servers.rclone)
seaweedfs_server = running(s3_servers.seaweedfs)
gcs_server = running(gcs_servers.fake_gcs)
azure_server = running(azure_servers.azurite)
openssh_server = running(shares.openssh)  # of each client
samba_server = running(shares.samba)
ftp_server = running(shares.pyftpdlib)
webdav_server = running(shares.wsgidav)


@pytest.fixture
def s3(s3_server):
    """The S3 server that ``s3://`` URLs refer to, here and in subprocesses."""
    with s3_server.configured():
        yield s3_server


@pytest.fixture
def cloud(request):
    """The object store that the parameter names, configured."""
    with request.getfixturevalue(SERVERS[request.param]).configured() as cloud:
        yield cloud


@pytest.fixture
def root(request, tmp_path):
    """A root that does not exist yet, on each filesystem."""
    if request.param == "local":
        yield str(tmp_path / "root")
    elif request.param == "memory":
        url = f"memory://{uuid.uuid4().hex}"
        yield url
        fs = fsspec.filesystem("memory")
        if fs.exists(url):
            fs.rm(url, recursive=True)
    else:
        server = request.getfixturevalue(SERVERS[request.param])
        if isinstance(server, dict):  # of several clients
            server = server[request.param]
        with server.configured():
            yield server.new_root()


def pytest_generate_tests(metafunc):
    """Parametrise `root` and `cloud` where a test does not do so itself.

    `root` is on local disk and in memory; also on the object stores where the module
    sets `EVERY_FILESYSTEM`, and on each server where it sets `EVERY_SERVER`.
    """
    more = CLOUDS if getattr(metafunc.module, "EVERY_FILESYSTEM", False) else {}
    more = SERVERS if getattr(metafunc.module, "EVERY_SERVER", False) else more
    marks = list(metafunc.definition.iter_markers("parametrize"))
    for name, values in {
        "root": [*HERE, *more],
        "cloud": list(CLOUDS),
    }.items():
        given = any(name in mark.args[0] for mark in marks)
        if name in metafunc.fixturenames and not given:
            metafunc.parametrize(name, values, indirect=True)


def pytest_ignore_collect(collection_path):
    """Look for doctests in no helper of the tests, which would import them all."""
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as `cloud` what asks for a server other than S3.

    With ``--dist loadgroup`` each of them is then started once.
    """
    servers = {SERVERS[name] for name in OTHER_SERVERS}
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        stores = [params.get(name) for name in STORE_PARAMETERS]
        others = [name for name in stores if name in OTHER_SERVERS]
        if others or servers & set(item.fixturenames):
            item.add_marker("cloud")
        if others:
            item.add_marker(pytest.mark.xdist_group(others[0]))


@pytest.fixture
def store(root):
    return CheckpointStore(root)


@pytest.fixture
def local(tmp_path):
    """A store on local disk."""
    return CheckpointStore(tmp_path / "root")


@pytest.fixture
def checkpointer(store):
    return Checkpointer(store, verbose=False)


@pytest.fixture(autouse=True)
def _default_checkpointer():
    """Reset the default Checkpointer before and after each test."""
    agatha_ckpt.reset()
    yield
    agatha_ckpt.reset()
