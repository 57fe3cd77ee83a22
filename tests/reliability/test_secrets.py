"""No credential in a file, a log, a repr, a graph or a message of this library.

Credentials come as storage options, in a filesystem that is passed in, or as a password
in the URL of the root. Messages of other libraries are not checked; the notes and
errors that this library makes of them are.
"""

import contextlib
import hashlib
import json
import logging
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
from tests.conftest import CLOUDS
from tests.dask.cluster_cases import a_cluster
from tests.reliability.faulty_files import flipped
from tests.servers import azure
from tests.servers.proxy import Proxy, Status

KEY, SECRET, TOKEN = "KEY-c4a9ry", "SECRET-c4a9ry", "TOKEN-c4a9ry"
# With characters that a URL allows in a password, and with some that it does not.
PASSWORD = "PASS-c4a9ry%2F@WORD-c4a9ry"
SECRETS = [KEY, SECRET, TOKEN, "PASS-c4a9ry", "WORD-c4a9ry"]
LOGIN = f"user:{PASSWORD}@host"
RECORDS = list(range(12))


class Output:
    """Everything that the library prints, logs, raises, returns or writes."""

    def __init__(self, capfd, caplog):
        self._capfd, self._caplog = capfd, caplog
        self.secrets = list(SECRETS)
        self.noted = []

    def note(self, where, *values):
        for value in values:
            if isinstance(value, bytes):
                value = value.decode("latin-1")
            self.noted.append((where, value if isinstance(value, str) else repr(value)))

    @contextlib.contextmanager
    def error(self, expected):
        """Expect an error; note this library's messages, and its notes on others."""
        with pytest.raises(expected) as caught:
            yield
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

    def graph(self):
        """Note the graphs that are computed in a ``with`` block."""
        return Callback(start=lambda graph: self.tasks("graph of a save", graph))

    def tasks(self, where, graph):
        """Note a graph and everything that its tasks hold, at any depth."""
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
        """Assert that no secret was noted, and that each *expected* text was."""
        for stream in self._capfd.readouterr():
            self.note("printed", stream)
        for record in self._caplog.records:
            self.note("logged", record.getMessage(), record.args)
        wanted = {form for s in self.secrets for form in (s, quote(s, safe=""))}
        leaks = {
            f"{where}: {text}"
            for where, text in self.noted
            if any(form in text for form in wanted)
        }
        assert sorted(leaks) == []
        everything = "\n".join(text for _, text in self.noted)
        assert [text for text in expected if text not in everything] == []


@pytest.fixture
def output(capfd, caplog):
    caplog.set_level(logging.DEBUG, "agatha_ckpt")
    return Output(capfd, caplog)


# ---- stores that hold secrets ----


class Vault(DirFileSystem):
    """A server whose URLs contain a login, like those of SFTP and FTP."""

    protocol = "vault"

    def __init__(self, host=None, username=None, password=None, **kwargs):
        super().__init__(path="/vault", fs=MemoryFileSystem(), **kwargs)
        if password != PASSWORD:
            raise PermissionError("wrong password")

    @classmethod
    def _strip_protocol(cls, path):
        if path.startswith("vault://"):
            path = infer_storage_options(path)["path"].lstrip("/")
        return super()._strip_protocol(path)

    @staticmethod
    def _get_kwargs_from_urls(path):
        found = infer_storage_options(path)
        return {k: found[k] for k in ("host", "username", "password") if k in found}


@pytest.fixture
def vault():
    """The URL of a root that contains a password."""
    fsspec.register_implementation("vault", Vault, clobber=True)
    yield f"vault://{LOGIN}/{uuid.uuid4().hex}"
    with contextlib.suppress(FileNotFoundError):
        MemoryFileSystem().rm("/vault", recursive=True)


@pytest.fixture
def bucket(request, output, monkeypatch):
    """The object store that the parameter names, each of its credentials a secret."""
    if request.param == "s3":
        found = request.getfixturevalue("s3_server")
        secret = {"key": KEY, "secret": SECRET, "token": TOKEN}
        return replace(found, options=found.options | secret)
    if request.param == "s3-rclone":
        found = request.getfixturevalue("rclone_server")
        output.secrets += [found.options["key"], found.options["secret"]]
    elif request.param == "gcs":
        # Otherwise gcsfs asks Google how long the token is valid.
        monkeypatch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")
        found = request.getfixturevalue("gcs_server")
        found = replace(found, options=found.options | {"token": TOKEN})
    else:
        found = request.getfixturevalue("azure_server")
        output.secrets += [azure.KEY, found.options["connection_string"]]
    return found


ON_S3 = pytest.mark.parametrize("bucket", ["s3"], indirect=True)


def by_options(bucket):
    return CheckpointStore(bucket.new_root(), storage_options=bucket.options)


def by_filesystem(bucket):
    fs = fsspec.filesystem(bucket.protocol, **bucket.options)
    return CheckpointStore(bucket.new_root(), fs=fs)


# ---- what is done with a store ----


def make_bag(records=RECORDS, npartitions=4, fail_at=None):
    def compute(record):
        if record == fail_at:
            raise ZeroDivisionError("raised by the bag")
        return record

    return dask.bag.from_sequence(records, npartitions=npartitions).map(compute)


def save(checkpointer, name="x", bag=None, **options):
    options = {"scheduler": "sync"} | options
    return checkpointer.checkpoint(name, bag or make_bag(), **options)


def silent(store, **settings):
    """Return a Checkpointer that prints nothing and does not compress."""
    return Checkpointer(store, verbose=False, compression=None, **settings)


def files(store, name="x"):
    """Return file names and paths, read past the store."""
    folder = store.fs._strip_protocol(str(store.path(name)))
    return {path.rsplit("/", 1)[1]: path for path in store.fs.find(folder)}


def first_file(store):
    return min((name, path) for name, path in files(store).items() if "part" in name)[1]


def change(store, path, edit):
    store.fs.pipe_file(path, edit(store.fs.cat_file(path)))


def cut(content):
    return content[:-1]


def tour(output, store):
    """Do everything that can be done with a store, and note all that comes of it."""
    checkpointer = Checkpointer(store, compression=None)
    output.note("repr", store, checkpointer, checkpointer.settings)
    with output.error(ZeroDivisionError):
        save(checkpointer, bag=make_bag(fail_at=11))
    output.note("partial", checkpointer.status("x"), checkpointer.explain("x"))
    with output.graph():
        loaded = save(checkpointer, bag=make_bag())
    output.note("bag", loaded, loaded.name, str(loaded.dask))
    output.tasks("graph of a load", loaded.dask)
    assert loaded.compute(scheduler="sync") == RECORDS
    output.note("done", store.manifest("x"), checkpointer.status("x"))
    change(store, first_file(store), flipped)
    output.note("verify", store.verify("x"))
    checkpointer.repair("x", make_bag(), scheduler="sync")
    change(store, first_file(store), cut)
    assert save(checkpointer).compute(scheduler="sync") == RECORDS
    save(checkpointer, version="2")
    change(store, store.done_marker("x"), cut)
    output.note("damaged", checkpointer.status("x"), checkpointer.is_done("x"))
    save(checkpointer)
    with output.graph():
        save(checkpointer, "lines", make_bag(["a", "b"]), textfile=True)
    output.note("names", checkpointer.names())
    with output.error(CheckpointHalt):
        save(checkpointer, halt_after="x")
    written = store.fs.find(store.fs._strip_protocol(str(store.root)))
    assert len(written) == 4 + 1 + 2 + 1  # two checkpoints and their markers
    for path in written:
        output.note("written", path, store.fs.cat_file(path))
    checkpointer.clear("x")
    checkpointer.clear_all()


# What a complete tour and all errors print, raise and write.
EXPECTED = [
    "Saving 4 of 4 partitions",
    "3 kept",
    "Done! 4 partitions",
    "Halting",
    "CheckpointStore(",
    "partitions stored; ",
    '"format_version"',
    *("its seal does not match", "from other inputs", "'a/b'"),
]


@pytest.mark.parametrize("given", [by_options, by_filesystem])
@pytest.mark.parametrize("bucket", list(CLOUDS), indirect=True)
def test_no_credential_of_an_object_store_is_printed_written_or_raised(
    request, bucket, given, output
):
    store = given(bucket)
    tour(output, store)
    # rclone's server ignores conditions: there both of two runs succeed.
    has_conditions = request.node.callspec.params["bucket"] != "s3-rclone"
    provoke_every_error(output, store, has_conditions)
    overtaken = set() if has_conditions else {"from other inputs"}
    output.check(*(text for text in EXPECTED if text not in overtaken))


@pytest.mark.parametrize("given", ["URL", "filesystem", "option"])
def test_a_password_in_the_url_is_shown_as_stars(vault, given, output):
    shown, options = vault.replace(PASSWORD, "***"), {}
    if given == "option":
        vault = shown = vault.replace(LOGIN, "host")
        options = {"storage_options": {"password": PASSWORD}}
    elif given == "filesystem":
        options = {"fs": Vault(password=PASSWORD)}
    store = CheckpointStore(vault, **options)
    tour(output, store)
    provoke_every_error(output, store)
    output.check(*EXPECTED, f"CheckpointStore('{shown}')", f"under '{shown}'")


def test_root_and_path_can_be_used_where_the_url_contains_a_password(vault):
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
def test_a_root_without_a_password_is_shown_as_it_was_given(url):
    store = CheckpointStore(url, fs=MemoryFileSystem())
    assert repr(store) == f"CheckpointStore({url!r})"
    with pytest.raises(CheckpointNotFoundError, match="checkpoint 'x' under") as caught:
        store.manifest("x")
    assert repr(url) in str(caught.value)


# ---- every error of this library ----


def provoke_every_error(output, store, has_conditions=True):
    loud, quiet = Checkpointer(store), silent(store)

    def damage(edit, path=None):
        loaded = save(quiet)
        change(store, path or first_file(store), edit)
        output.note("status", store.status("x"))
        return loaded

    with output.error(CheckpointNotFoundError):
        loud.checkpoint("x")
    damage(cut, store.done_marker("x"))
    with output.error(CorruptCheckpointError):
        loud.checkpoint("x")
    loaded = damage(flipped)
    output.note("verify", store.verify("x"))
    with output.error(CorruptCheckpointError):
        loaded.compute(scheduler="sync")
    store.fs.rm_file(first_file(store))
    output.note("verify", store.verify("x"))
    with output.error(CorruptCheckpointError):
        loaded.compute(scheduler="sync")
    store.clear("x")
    with output.error(CorruptCheckpointError):
        loaded.compute(scheduler="sync")

    with output.error(InvalidNameError):
        loud.checkpoint("a/b", make_bag())
    with output.error(InvalidNameError):
        loud.checkpoint(f"{store.path('x')}/y", make_bag())
    with output.error(InvalidNameError):
        loud.is_done(f"vault://{LOGIN}/another/x")
    with output.error(EncodeError):
        save(loud, bag=make_bag([object()], 1))
    with output.error(EncodeError):
        save(loud, bag=make_bag(["a\nb"], 1), textfile=True)
    with output.error(EncodeError):
        loud.checkpoint("x", RECORDS)
    save(silent(store, allow_pickle=True), bag=make_bag([object], 1))
    with output.error(PickleNotAllowedError):
        loud.checkpoint("x").compute(scheduler="sync")
    store.clear("x")
    damage(from_the_future, store.done_marker("x"))
    with output.error(UnsupportedFormatError):
        loud.checkpoint("x")
    store.clear("x")

    def is_overtaken(part):
        save(quiet)
        return list(part)

    overtaken = make_bag(npartitions=1).map_partitions(is_overtaken)
    if has_conditions:
        with output.error(CheckpointConflictError):
            save(loud, bag=overtaken)
    save(quiet)
    with output.error(CheckpointConflictError):
        save(silent(store, on_stale="error"), version="2")
    store.clear("x")

    def is_cleared(part):
        for path in files(store).values():
            store.fs.rm_file(path)
        return list(part)

    with output.error(CheckpointConflictError):
        save(loud, bag=make_bag(npartitions=2).map_partitions(is_cleared))


def from_the_future(marker):
    start, end = marker.index(b":") + 1, marker.rindex(b',"seal"')
    body = marker[start:end].replace(b'"format_version":1', b'"format_version":99')
    seal = hashlib.sha256(body).hexdigest().encode()
    return marker[:start] + body + b',"seal":"' + seal + b'"}\n'


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
def test_an_unusable_root_is_refused_without_its_secrets(place, options, output):
    with output.error(RootNotSetError):
        CheckpointStore(place, storage_options=options)
    with output.error(RootNotSetError):
        agatha_ckpt.set_root(place, **options)
    output.check()


@pytest.mark.parametrize(
    "section",
    [
        # As an environment variable gives it: JSON that Python cannot evaluate.
        json.dumps(
            {"root": "s3://b", "storage-options": {"secret": SECRET, "a": None}}
        ),
        {"root": "s3://b", "storage-options": f'{{"secret": "{SECRET}"'},
        {"root": "s3://b", "storage-options": [SECRET]},
        {"root": f"unknown://{LOGIN}/x"},
    ],
    ids=["section", "cut options", "list of options", "root"],
)
def test_a_wrong_configuration_is_refused_without_its_secrets(section, output):
    with dask.config.set({"agatha-ckpt": section}), output.error(RootNotSetError):
        Checkpointer().names()
    output.check()


# ---- errors of the network and of the server ----


OPERATIONS = [
    lambda store: store.is_done("x"),
    lambda store: store.names(),
    lambda store: store.status("x"),
    lambda store: store.verify("x"),
    lambda store: store.clear("x"),
    lambda store: Checkpointer(store).checkpoint("x"),
    lambda store: Checkpointer(store).repair("x", make_bag()),
    lambda store: save(Checkpointer(store), "new"),
]


@ON_S3
@pytest.mark.parametrize("code", [(403, "AccessDenied"), (400, "ExpiredToken")])
def test_the_note_on_a_denied_request_contains_no_secret(code, bucket, output):
    with Proxy(bucket.url) as proxy:
        store = by_options(bucket.through(proxy.url))
        save(silent(store))
        loaded = Checkpointer(store).checkpoint("x")
        proxy.fault = lambda request: Status(*code)
        for operation in OPERATIONS:
            with output.error(PermissionError):
                operation(store)
        with output.error(PermissionError):
            loaded.compute(scheduler="sync")
        proxy.fault = lambda request: Status(*code) if request.what == "PUT" else None
        with output.error(PermissionError):
            save(Checkpointer(store), "new")
    output.check("reading the done marker of", "reading partition", "of 'new' failed")


@pytest.fixture
def dead_server():
    """Host and port on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("url", ["s3://bucket/x", "http://user:{}@{}/x"])
def test_the_note_on_a_dead_endpoint_contains_no_secret(url, dead_server, output):
    options = {}
    if url.startswith("s3"):
        endpoint = f"http://{dead_server}"
        options = {"key": KEY, "secret": SECRET, "endpoint_url": endpoint}
        options["config_kwargs"] = {"retries": {"max_attempts": 1}}
    url = url.format(quote(PASSWORD, safe="%"), dead_server)
    store = CheckpointStore(url, storage_options=options)
    with output.error(Exception):
        store.is_done("x")
    output.check("reading the done marker of checkpoint 'x' under")


@ON_S3
def test_the_errors_of_a_missing_bucket_contain_no_secret(bucket, output):
    store = by_options(replace(bucket, name="missing"))
    with output.error(CheckpointNotFoundError):
        Checkpointer(store).checkpoint("x")
    with output.error(RootNotSetError):
        save(Checkpointer(store))
    output.check("the bucket 'missing' of checkpoint 'x' under")


# ---- errors on workers ----


@ON_S3
def test_the_error_of_a_worker_process_contains_no_secret(bucket, output):
    store = by_options(bucket)
    bag = dask.bag.from_sequence([object], npartitions=1)
    with output.error(EncodeError):
        save(Checkpointer(store), bag=bag, scheduler="processes", num_workers=1)
    output.check("partition 0 of 'x' failed")


@ON_S3
def test_a_cluster_logs_no_secret_when_its_tasks_fail(bucket, vault, tmp_path, output):
    with (
        a_cluster(tmp_path, n_workers=1, processes=False) as cluster,
        distributed.Client(cluster),
    ):
        given = [by_options(bucket), by_filesystem(bucket)]
        for store in (*given, CheckpointStore(vault)):
            with output.error(ZeroDivisionError):
                save(Checkpointer(store), bag=make_bag(fail_at=5), scheduler=None)
            loaded = save(Checkpointer(store), scheduler=None)
            for path in files(store).values():
                store.fs.rm_file(path)
            with output.error(CorruptCheckpointError):
                loaded.compute()
    output.check("Compute Failed", "partition 1 of 'x' failed")


# ---- the command line ----


def run(output, *arguments, exit_code):
    ended = CliRunner().invoke(main, list(map(str, arguments)))
    output.note("command line", ended.output)
    assert ended.exit_code == exit_code, ended.output


def look_at(output, store, *options):
    """Show a checkpoint by each command, then damaged, and then its damaged marker."""
    root = store.root
    save(silent(store))
    run(output, *options, "verify", root, exit_code=0)
    change(store, first_file(store), flipped)
    run(output, *options, "verify", root, exit_code=1)
    change(store, store.done_marker("x"), flipped)
    run(output, *options, "ls", root, exit_code=0)
    run(output, *options, "verify", root, exit_code=1)
    run(output, *options, "report", root, "-o", "-", exit_code=0)


@ON_S3
def test_the_command_line_prints_no_credential(bucket, output):
    with Proxy(bucket.url) as proxy:
        cloud = bucket.through(proxy.url)
        store = by_options(cloud)
        options = ["--storage-options", json.dumps(cloud.options)]
        look_at(output, store, *options)
        proxy.fault = lambda request: Status(403, "AccessDenied")
        run(output, *options, "ls", store.root, exit_code=1)
        run(output, *options, "verify", store.root, exit_code=1)
    output.check("x  ok", "x  damaged", "its seal does not match", "Error: ")


@pytest.mark.parametrize(
    "options", [f'{{"secret": "{SECRET}"', f'["{SECRET}"]', f'"{SECRET}"', SECRET]
)
def test_the_command_line_does_not_repeat_options_that_it_refuses(options, output):
    run(output, "--storage-options", options, "ls", "s3://bucket/x", exit_code=2)
    output.check("storage-options")


def test_the_command_line_prints_no_password_of_a_url(vault, output):
    look_at(output, CheckpointStore(vault))
    run(output, "ls", f"unknown://{LOGIN}/x", exit_code=1)
    output.check("its seal does not match", "x  damaged", "Error: the root")
