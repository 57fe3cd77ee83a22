"""Nothing secret in any file written, line printed or logged, repr, or message.

Credentials come as storage options, in a filesystem that is injected, or as a password
in the root's URL. What other libraries say in errors of their own is not ours to check;
what this library makes of it is.
"""

import contextlib
import json
import logging
import pickle
import socket
import uuid
from dataclasses import replace
from urllib.parse import quote

import dask
import dask.bag
import distributed
import fsspec
import pytest
from click.testing import CliRunner
from dask.callbacks import Callback
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options

import agatha_ckpt
from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointError,
    CheckpointHalt,
    CheckpointNotFoundError,
    CheckpointStore,
    CorruptCheckpointError,
    EncodeError,
    InvalidNameError,
    PickleNotAllowedError,
    RootNotSetError,
    UnsupportedFormatError,
)
from agatha_ckpt._cli.main import main
from agatha_ckpt._config import configured_store
from tests.servers import clouds
from tests.servers.proxy import Proxy, Status

KEY, SECRET, TOKEN = "KEY-c4a9ry", "SECRET-c4a9ry", "TOKEN-c4a9ry"
# With what a URL allows in a password, and what people put there nevertheless.
PASSWORD = "PASS-c4a9ry%2F@WORD-c4a9ry"
SECRETS = [KEY, SECRET, TOKEN, "PASS-c4a9ry", "WORD-c4a9ry"]
LOGIN = f"user:{PASSWORD}@host"

RECORDS = list(range(12))


# ---- hearing all that is said ----


class Ear:
    """Hears what the library says, and knows what it must not say."""

    def __init__(self, capfd, caplog):
        self._capfd, self._caplog = capfd, caplog
        self.secrets = list(SECRETS)
        self.heard = []

    def note(self, where, *values):
        for value in values:
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            text = value if isinstance(value, str) else repr(value)
            self.heard.append((where, text))

    @contextlib.contextmanager
    def error(self, expected):
        """Expect an error; hear the library's own messages, and its notes on others."""
        with pytest.raises(expected) as caught:
            yield caught
        seen, waiting = set(), [caught.value]
        while waiting:
            error = waiting.pop()
            if error is None or id(error) in seen:
                continue
            seen.add(id(error))
            if isinstance(error, CheckpointError | CheckpointHalt):
                self.note("message", str(error), repr(error))
            self.note("note", *getattr(error, "__notes__", []))
            waiting += [error.__cause__, error.__context__]

    @contextlib.contextmanager
    def graph(self):
        """Hear the graphs that are computed here."""
        with Callback(start=lambda graph: self.tasks("graph of a save", graph)):
            yield

    def tasks(self, where, graph):
        """Hear a graph, and all that its tasks hold, as deep as that is."""
        waiting = [dict(graph)]
        while waiting:
            value = waiting.pop()
            self.note(where, value)
            if isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, list | tuple):
                waiting += value
            else:
                names = ("func", "args", "kwargs", "task")
                waiting += [getattr(value, n) for n in names if hasattr(value, n)]

    def check(self, *expected):
        """Nothing secret was heard; each of the *expected* texts was."""
        for stream in self._capfd.readouterr():
            self.note("printed", stream)
        for record in self._caplog.records:
            self.note("logged", record.getMessage(), record.args)
        wanted = {form for s in self.secrets for form in (s, quote(s, safe=""))}
        leaks = {
            f"{where}: {text}"
            for where, text in self.heard
            if any(form in text for form in wanted)
        }
        assert sorted(leaks) == []
        everything = "\n".join(text for _, text in self.heard)
        assert [text for text in expected if text not in everything] == []


@pytest.fixture
def ear(capfd, caplog):
    caplog.set_level(logging.DEBUG, "agatha_ckpt")
    return Ear(capfd, caplog)


# ---- stores that hold secrets ----


class Vault(DirFileSystem):
    """A server whose URLs hold a login, as those of SFTP and FTP do."""

    protocol = "vault"

    def __init__(self, host=None, username=None, password=None, **kwargs):
        super().__init__(path="/vault", fs=MemoryFileSystem(), **kwargs)
        if password != PASSWORD:
            raise PermissionError("wrong password")

    @classmethod
    def _strip_protocol(cls, path):
        if path.startswith("vault://"):
            path = infer_storage_options(path)["path"]
        return super()._strip_protocol(path)

    @staticmethod
    def _get_kwargs_from_urls(path):
        found = infer_storage_options(path)
        return {k: found[k] for k in ("host", "username", "password") if k in found}


@pytest.fixture
def vault():
    """The URL of a root that holds a password."""
    fsspec.register_implementation("vault", Vault, clobber=True)
    yield f"vault://{LOGIN}/{uuid.uuid4().hex}"
    with contextlib.suppress(FileNotFoundError):
        MemoryFileSystem().rm("/vault", recursive=True)


@pytest.fixture
def guarded(s3_server):
    """A bucket and credentials of which each is a secret."""
    secret = {"key": KEY, "secret": SECRET, "token": TOKEN}
    return replace(s3_server, options=s3_server.options | secret)


@pytest.fixture
def bucket(request, ear, monkeypatch):
    """The object store that the parameter names, with credentials that are secret."""
    if request.param == "s3":
        return request.getfixturevalue("guarded")
    if request.param == "s3-rclone":
        found = request.getfixturevalue("rclone_server")
        ear.secrets += [found.options["key"], found.options["secret"]]
    elif request.param == "gcs":
        # Else gcsfs asks Google how long the token is valid.
        monkeypatch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")
        found = request.getfixturevalue("gcs_server")
        found = replace(found, options=found.options | {"token": TOKEN})
    else:
        found = request.getfixturevalue("azure_server")
        ear.secrets += [clouds.AZURITE_KEY, found.options["connection_string"]]
    return found


def by_options(cloud):
    return CheckpointStore(cloud.new_root(), storage_options=cloud.options)


def by_filesystem(cloud):
    fs = fsspec.filesystem(cloud.protocol, **cloud.options)
    return CheckpointStore(cloud.new_root(), fs=fs)


@pytest.fixture(params=["options", "filesystem", "URL", "URL and filesystem"])
def store(request):
    """A store that holds a secret, however it came to it."""
    if "URL" in request.param:
        url = request.getfixturevalue("vault")
        fs = Vault(password=PASSWORD) if "filesystem" in request.param else None
        return CheckpointStore(url, fs=fs)
    given = {"options": by_options, "filesystem": by_filesystem}[request.param]
    return given(request.getfixturevalue("guarded"))


# ---- what is done with a store ----


def make_bag(records=RECORDS, npartitions=4, fail_at=None):
    def compute(record):
        if record == fail_at:
            raise ZeroDivisionError("the bag's own")
        return record

    return dask.bag.from_sequence(records, npartitions=npartitions).map(compute)


def save(checkpointer, name="x", bag=None, **options):
    options = {"scheduler": "sync"} | options
    return checkpointer.checkpoint(name, bag or make_bag(), **options)


def silent(store, **settings):
    """A Checkpointer to prepare a case with; unpacked files can be searched."""
    return Checkpointer(store, verbose=False, compression=None, **settings)


def files(store, name="x"):
    """File names to paths, seen past the store."""
    folder = store.fs._strip_protocol(str(store.path(name)))
    return {path.rsplit("/", 1)[1]: path for path in store.fs.find(folder)}


def first_file(store):
    return min((name, path) for name, path in files(store).items() if "part" in name)[1]


def change(store, path, edit):
    store.fs.pipe_file(path, edit(store.fs.cat_file(path)))


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def tour(ear, store):
    """Do all that is done with a store, and hear what it says and writes."""
    checkpointer = Checkpointer(store, compression=None)
    ear.note("repr", store, checkpointer, checkpointer.settings)
    with ear.error(ZeroDivisionError):
        save(checkpointer, bag=make_bag(fail_at=11))
    ear.note("partial", checkpointer.status("x"), store.describe("x", 2))
    with ear.graph():
        loaded = save(checkpointer)
    ear.note("bag", loaded, loaded.name, str(loaded.dask))
    ear.tasks("graph of a load", loaded.dask)
    assert loaded.compute(scheduler="sync") == RECORDS
    manifest = store.manifest("x")
    infos = enumerate(manifest.partitions)
    parts = [store.open_partition("x", manifest.plan, i, info) for i, info in infos]
    ear.note("done", manifest, parts, checkpointer.status("x"))
    change(store, first_file(store), flip)
    ear.note("verify", store.verify("x"))
    checkpointer.repair("x", make_bag(), scheduler="sync")
    change(store, first_file(store), lambda content: content[:-1])
    assert save(checkpointer).compute(scheduler="sync") == RECORDS
    save(checkpointer, version="2")  # is stale
    change(store, store.done_marker("x"), lambda content: content[:-1])
    ear.note("damaged", checkpointer.status("x"), checkpointer.is_done("x"))
    save(checkpointer)
    with ear.graph():
        save(checkpointer, "lines", make_bag(["a", "b"]), textfile=True)
    ear.note("names", checkpointer.names())
    with ear.error(CheckpointHalt):
        save(checkpointer, halt_after="x")
    written = store.fs.find(store.fs._strip_protocol(str(store.root)))
    assert len(written) == 4 + 1 + 2 + 1  # two checkpoints and their markers
    for path in written:
        ear.note("written", path, store.fs.cat_file(path))
    checkpointer.clear("x")
    checkpointer.clear_all()


# What `tour` cannot have done without this being heard.
SAID = [
    "Saving 4 of 4 partitions",
    "3 kept",
    "Done! 4 partitions",
    "Halting",
    "CheckpointStore(",
    "SavePartition(",
    "LoadPartition(",
    "what was saved stays",
    '"format_version"',
]


@pytest.mark.parametrize("given", [by_options, by_filesystem])
@pytest.mark.parametrize("bucket", ["s3", "s3-rclone", "gcs", "azure"], indirect=True)
def test_no_credential_is_said_or_written_on_any_object_store(bucket, given, ear):
    store = given(bucket)
    tour(ear, store)
    ear.check(*SAID)


@pytest.mark.parametrize("injected", [False, True], ids=["by URL", "injected"])
def test_a_password_in_the_url_is_said_as_stars_and_written_nowhere(
    vault, injected, ear
):
    fs = Vault(password=PASSWORD) if injected else None
    store = CheckpointStore(vault, fs=fs)
    tour(ear, store)
    shown = vault.replace(PASSWORD, "***")
    ear.check(*SAID, f"CheckpointStore('{shown}')", f"under '{shown}'")


def test_a_password_given_as_an_option_is_not_said(vault, ear):
    url = vault.replace(LOGIN, "host")
    store = CheckpointStore(url, storage_options={"password": PASSWORD})
    tour(ear, store)
    ear.check(*SAID)


def test_root_and_path_still_work_where_the_url_holds_a_password(vault):
    store = CheckpointStore(vault)
    loaded = save(silent(store))
    assert CheckpointStore(store.root) == store
    assert CheckpointStore(store.root).is_done("x")
    assert store.fs.exists(store.done_marker("x"))
    again = silent(store).checkpoint(store.path("x"))
    assert again.compute(scheduler="sync") == loaded.compute(scheduler="sync")


@pytest.mark.parametrize(
    "url",
    ["s3://user@bucket/a:b@c", "sftp://host:22/a@b", "s3://bucket/x", "/data/a:b@c"],
)
def test_a_root_without_a_password_is_said_as_it_was_given(url):
    store = CheckpointStore(url, fs=MemoryFileSystem())
    assert repr(store) == f"CheckpointStore({url!r})"
    assert store.describe("x") == f"checkpoint 'x' under {url!r}"


def test_a_pickled_store_holds_the_options_because_workers_need_them(guarded):
    pickled = pickle.dumps(by_options(guarded))
    assert SECRET.encode() in pickled
    assert pickle.loads(pickled).fs.storage_options["secret"] == SECRET


# ---- every error of this library ----


def missing(store, ear):
    Checkpointer(store).checkpoint("nothing")


def cut_marker(store, ear):
    save(silent(store))
    change(store, store.done_marker("x"), lambda content: content[:-1])
    ear.note("status", store.status("x"))
    Checkpointer(store).checkpoint("x")


def changed_partition(store, ear):
    loaded = save(silent(store))
    change(store, first_file(store), flip)
    ear.note("verify", store.verify("x"))
    loaded.compute(scheduler="sync")


def missing_partition(store, ear):
    loaded = save(silent(store))
    store.fs.rm_file(first_file(store))
    ear.note("verify", store.verify("x"))
    loaded.compute(scheduler="sync")


def cleared_since(store, ear):
    loaded = save(silent(store))
    store.clear("x")
    loaded.compute(scheduler="sync")


def illegal_name(store, ear):
    Checkpointer(store).checkpoint("a/b", make_bag())


def path_below_a_checkpoint(store, ear):
    Checkpointer(store).checkpoint(f"{store.path('x')}/y", make_bag())


def path_under_another_root(store, ear):
    Checkpointer(store).is_done(f"vault://{LOGIN}/another/x")


def unknown_record(store, ear):
    save(Checkpointer(store), bag=make_bag([object()], 1))


def line_break_in_text(store, ear):
    save(Checkpointer(store), bag=make_bag(["a\nb"], 1), textfile=True)


def no_bag(store, ear):
    Checkpointer(store).checkpoint("x", RECORDS)


def pickled(store, ear):
    save(silent(store, allow_pickle=True), bag=make_bag([object], 1))
    Checkpointer(store).checkpoint("x").compute(scheduler="sync")


def newer_format(store, ear):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agatha_ckpt._manifest.FORMAT_VERSION", 99)
        save(silent(store))
    ear.note("status", store.status("x"))
    Checkpointer(store).checkpoint("x")


def another_plan_was_first(store, ear):
    def intrude(part):
        save(silent(store))
        return list(part)

    bag = make_bag(npartitions=1).map_partitions(intrude)
    save(Checkpointer(store), bag=bag)


def cleared_meanwhile(store, ear):
    def intrude(part):
        for path in files(store).values():
            store.fs.rm_file(path)
        return list(part)

    save(Checkpointer(store), bag=make_bag(npartitions=2).map_partitions(intrude))


def stale(store, ear):
    save(silent(store))
    save(Checkpointer(store, on_stale="error"), version="2")


@pytest.mark.parametrize(
    "provoke, expected",
    [
        (missing, CheckpointNotFoundError),
        (cut_marker, CorruptCheckpointError),
        (changed_partition, CorruptCheckpointError),
        (missing_partition, CorruptCheckpointError),
        (cleared_since, CorruptCheckpointError),
        (illegal_name, InvalidNameError),
        (path_below_a_checkpoint, InvalidNameError),
        (path_under_another_root, InvalidNameError),
        (unknown_record, EncodeError),
        (line_break_in_text, EncodeError),
        (no_bag, EncodeError),
        (pickled, PickleNotAllowedError),
        (newer_format, UnsupportedFormatError),
        (another_plan_was_first, CheckpointConflictError),
        (cleared_meanwhile, CheckpointConflictError),
        (stale, CheckpointConflictError),
    ],
    ids=lambda value: value.__name__,
)
def test_no_error_of_this_library_says_a_secret(provoke, expected, store, ear):
    with ear.error(expected):
        provoke(store, ear)
    ear.check(expected.__name__)


@pytest.mark.parametrize(
    "place, options",
    [
        (f"unknown://{LOGIN}/x", {}),
        (f"simplecache::unknown://{LOGIN}/x", {}),
        (f"ftp://{LOGIN}:port/x", {}),
        ("unknown://host/x", {"password": PASSWORD, "token": TOKEN}),
        ("abfs://bucket/x", {"connection_string": f"AccountKey;{SECRET}"}),
        ({"key": KEY, "secret": SECRET}, {}),  # the options in place of the root
    ],
    ids=["protocol", "chain", "port", "options", "connection string", "no root"],
)
def test_a_root_that_cannot_be_used_is_refused_without_its_secrets(place, options, ear):
    with ear.error(RootNotSetError):
        CheckpointStore(place, storage_options=options)
    with ear.error(RootNotSetError):
        agatha_ckpt.set_root(place, **options)
    ear.check()


@pytest.mark.parametrize(
    "section",
    [
        # JSON that is no Python, as the environment gives it.
        json.dumps(
            {"root": "s3://b", "storage-options": {"secret": SECRET, "a": None}}
        ),
        {"root": "s3://b", "storage-options": f'{{"secret": "{SECRET}"'},
        {"root": "s3://b", "storage-options": [SECRET]},
        {"root": f"unknown://{LOGIN}/x"},
    ],
    ids=["section", "cut options", "list of options", "root"],
)
def test_a_wrong_configuration_is_refused_without_its_secrets(section, ear):
    with dask.config.set({"agatha-ckpt": section}), ear.error(RootNotSetError):
        configured_store()
    ear.check()


# ---- errors of the network and of the server ----


def read_partition(store, manifest):
    return list(store.open_partition("x", manifest.plan, 0, manifest.partitions[0]))


OPERATIONS = [
    lambda store, manifest: store.is_done("x"),
    lambda store, manifest: store.names(),
    lambda store, manifest: store.status("x"),
    lambda store, manifest: store.verify("x"),
    lambda store, manifest: store.clear("x"),
    lambda store, manifest: Checkpointer(store).checkpoint("x"),
    lambda store, manifest: Checkpointer(store).repair("x", make_bag()),
    lambda store, manifest: save(Checkpointer(store), "new"),
    read_partition,
]


@pytest.mark.parametrize("code", [(403, "AccessDenied"), (400, "ExpiredToken")])
def test_what_is_noted_on_a_denied_request_holds_no_secret(code, guarded, ear):
    with Proxy(guarded.url) as proxy:
        store = by_options(guarded.through(proxy.url))
        save(silent(store))
        manifest = store.manifest("x")
        proxy.fault = lambda request: Status(*code)
        for operation in OPERATIONS:
            with ear.error(PermissionError):
                operation(store, manifest)
        proxy.fault = lambda request: Status(*code) if request.what == "PUT" else None
        with ear.error(PermissionError):
            save(Checkpointer(store), "new")
    ear.check("reading the done marker of", "reading partition 0", "saving partition")


def test_what_is_noted_on_a_wrong_secret_holds_no_secret(rclone_server, ear):
    right = by_options(rclone_server)
    save(silent(right))
    options = rclone_server.options | {"secret": SECRET}
    wrong = CheckpointStore(right.root, storage_options=options)
    for operation in OPERATIONS:
        with ear.error(PermissionError):
            operation(wrong, right.manifest("x"))
    ear.check("reading the done marker of", "reading partition 0")


@pytest.fixture
def dead_server():
    """Host and port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("url", ["s3://bucket/x", "http://user:{}@{}/x"])
def test_what_is_noted_on_a_dead_endpoint_holds_no_secret(url, dead_server, ear):
    options = {}
    if url.startswith("s3"):
        options = {
            "key": KEY,
            "secret": SECRET,
            "endpoint_url": f"http://{dead_server}",
        }
        options["config_kwargs"] = {"retries": {"max_attempts": 1}}
    url = url.format(quote(PASSWORD, safe="%"), dead_server)
    store = CheckpointStore(url, storage_options=options)
    with ear.error(Exception):
        store.is_done("x")
    ear.check("reading the done marker of checkpoint 'x' under")


def test_what_is_said_of_a_missing_bucket_holds_no_secret(guarded, ear):
    store = by_options(replace(guarded, bucket="missing"))
    with ear.error(CheckpointNotFoundError):
        Checkpointer(store).checkpoint("x")
    with ear.error(FileNotFoundError):
        save(Checkpointer(store))
    ear.check("saving partition")


# ---- errors on workers ----


def test_what_a_worker_process_raises_says_no_secret(guarded, ear):
    store = by_options(guarded)
    bag = dask.bag.from_sequence([object], npartitions=1)
    with ear.error(EncodeError):
        save(Checkpointer(store), bag=bag, scheduler="processes", num_workers=1)
    ear.check("while saving partition 0 of")


def test_a_cluster_says_no_secret_when_its_tasks_fail(store, tmp_path, ear):
    with (
        distributed.LocalCluster(
            n_workers=1,
            processes=False,
            host="127.0.0.1",
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            local_directory=tmp_path,
        ) as cluster,
        distributed.Client(cluster),
    ):
        with ear.error(ZeroDivisionError):
            save(Checkpointer(store), bag=make_bag(fail_at=5), scheduler=None)
        loaded = save(Checkpointer(store), scheduler=None)
        for path in files(store).values():
            store.fs.rm_file(path)
        with ear.error(CorruptCheckpointError):
            loaded.compute()
    ear.check("Compute Failed", "while saving partition 1 of")


# ---- the command line ----


def run(ear, *arguments, exit_code):
    ended = CliRunner().invoke(main, list(map(str, arguments)))
    ear.note("command line", ended.output)
    assert ended.exit_code == exit_code, ended.output


def test_the_command_line_says_no_credential(guarded, ear):
    with Proxy(guarded.url) as proxy:
        cloud = guarded.through(proxy.url)
        store = by_options(cloud)
        save(silent(store))
        options = ["--storage-options", json.dumps(cloud.options)]
        run(ear, *options, "ls", store.root, exit_code=0)
        run(ear, *options, "verify", store.root, exit_code=0)
        run(ear, *options, "report", store.root, "-o", "-", exit_code=0)
        change(store, first_file(store), flip)
        run(ear, *options, "verify", store.root, exit_code=1)
        proxy.fault = lambda request: Status(403, "AccessDenied")
        run(ear, *options, "ls", store.root, exit_code=1)
        run(ear, *options, "verify", store.root, exit_code=1)
    ear.check("x  ok", "x  damaged", "Error: ")


@pytest.mark.parametrize(
    "options", [f'{{"secret": "{SECRET}"', f'["{SECRET}"]', f'"{SECRET}"', SECRET]
)
def test_the_command_line_does_not_repeat_options_that_it_refuses(options, ear):
    run(ear, "--storage-options", options, "ls", "s3://bucket/x", exit_code=2)
    ear.check("is no JSON object")


def test_the_command_line_says_no_password_of_a_url(vault, ear):
    store = CheckpointStore(vault)
    save(silent(store))
    run(ear, "ls", vault, exit_code=0)
    change(store, store.done_marker("x"), flip)
    run(ear, "ls", vault, exit_code=0)
    run(ear, "verify", vault, exit_code=1)
    run(ear, "report", vault, "-o", "-", exit_code=0)
    run(ear, "ls", f"unknown://{LOGIN}/x", exit_code=1)
    ear.check("its seal does not match", "x  damaged", "Error: the root")
