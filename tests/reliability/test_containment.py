"""P6, P7: files outside ``root/name`` are never read as ours, written or removed.

Hostile names through every public call that takes a name; a tree of foreign files
around and inside the root, compared before and after every call; queries, which leave
no trace; roots that are read-only, and roots that were moved.
"""

import hashlib
import inspect
import json
import os
import shutil
import stat
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import dask
import dask.bag
import fsspec
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

import agatha_ckpt
from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    InvalidNameError,
)
from agatha_ckpt._cli.main import main
from tests.cli.cases import without_privileges
from tests.format import test_names

RECORDS = [["one", 1], ("two", {2})]
LINES = ["one", "two"]


pytestmark = pytest.mark.usefixtures("in_this_process")


class Place:
    """A folder on some filesystem that will contain a root called ``root``."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.root = f"{self.url}/root"
        self.fs, self.path = fsspec.url_to_fs(self.url)
        self.local = "://" not in url
        self.store = CheckpointStore(self.root, fsync=False)
        self.checkpointer = Checkpointer(self.store, verbose=False)

    def put(self, place, data):
        if self.local:
            Path(self.url, place).parent.mkdir(parents=True, exist_ok=True)
        self.fs.pipe_file(f"{self.url}/{place}", data)

    def tree(self):
        """Everything in the folder, with content and time of the last change."""
        if self.local:
            return local_tree(Path(self.url))
        self.fs.invalidate_cache()
        found = self.fs.find(self.path, detail=True)
        return {
            path.removeprefix(self.path): (
                str(entry.get("LastModified", "")),
                entry["ETag"] if "ETag" in entry else self.fs.cat_file(path),
            )
            for path, entry in found.items()
        }

    def fill(self):
        """Save a done, a text, a partial, a damaged and an Agatha checkpoint."""
        save = self.checkpointer.checkpoint
        save("done", bag())
        save("lines", bag(LINES), textfile=True)
        save("broken", bag())
        self.put("root/broken/__done__", b"{")
        save("partial", bag())
        _, last = self.store.manifest("partial").partitions
        for name in ("__done__", last.file):
            self.fs.rm_file(f"{self.root}/partial/{name}")
        for index, line in enumerate(LINES):
            self.put(f"root/legacy/part-{index}.txt", f"{line}\n".encode())
        self.put("root/legacy/__done__", b"/gone/part-0.txt\n/gone/part-1.txt\n")


def local_tree(folder):
    """Everything below *folder*: kind, permissions, time, and target or content."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        entry = (stat.filemode(status.st_mode), status.st_mtime_ns, content)
        found[str(path.relative_to(folder))] = entry
    return found


def bag(records=RECORDS):
    return dask.bag.from_sequence(records, npartitions=2)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        yield Place(str(tmp_path / "place"))
    elif request.param == "memory":
        place = Place(f"memory://{uuid.uuid4().hex}")
        yield place
        with suppress(FileNotFoundError):
            place.fs.rm(place.path, recursive=True)
    else:
        yield Place(request.getfixturevalue("s3").new_root())


def command(place, *arguments):
    """Run a command on the root; its arguments follow the root."""
    first, *others = arguments
    return CliRunner().invoke(main, [first, place.root, *others])


# ---- names ----

# Beside the names that tests/format/test_names.py tries on the rule alone.
LEGAL = [
    *test_names.LEGAL,
    *("A", "a b", "run 1", "_SUCCESS", "__done__.bak", "done", "part-00000"),
    *("tmp-0123456789abcdef", "part-00000-0123abcd-0123456789abcdef.msgpack"),
]
ILLEGAL = [
    *(name for name in test_names.HOSTILE if not isinstance(name, PurePath)),
    *("../../../../etc/passwd", "name/../../outside", "file:///etc/passwd", "name/."),
    *("memory://name", "name?versionId=1", "name%2F..%2Fother", "--help", "nul.txt"),
    *(".run-01234567", ".next-0123456789abcdef", "__name__", "x" * 100_000, "\u212a"),
    *("a\u2066b", "name\uff0fother", "name\u2215other", "\u2025", "\u0378", "x\udcff"),
    *(Path("/etc/passwd"), PurePosixPath("../other"), PureWindowsPath("C:/other")),
]


def nearly_below(root):
    """Return paths and URLs that look like those of checkpoints of *root*."""
    root = str(root)
    parent = root.rsplit("/", 1)[0]
    paths = [
        *(root, f"{root}/", f"{parent}/name", f"{root}-2/name", f"{root}/../name"),
        *(f"{root}/../root/name", f"{root}/name/other", f"{root}/name/__done__"),
        *(f"{root}//name", f"{root}/*", f"{root}/__done__", f"{root}/.name"),
    ]
    # A path object drops a second slash.
    objects = [p for p in paths if "://" not in p and not p.endswith(("/", "//name"))]
    return [*paths, *map(Path, objects)]


def calls_of(place):
    """Yield every public call that takes the name of a checkpoint, by its name."""
    manifest = place.store.manifest("name")
    values = {
        "plan": manifest.plan,
        "index": 0,
        "records": [],
        "info": manifest.partitions[0],
        "manifest": manifest,
        "store": place.store,
        "new": "another",
        "bag": bag(),
    }
    functions = {n: getattr(agatha_ckpt, n) for n in agatha_ckpt.__all__}
    for owner, members in {
        "store": dict(inspect.getmembers(place.store, inspect.ismethod)),
        "checkpointer": dict(inspect.getmembers(place.checkpointer, inspect.ismethod)),
        "facade": {n: f for n, f in functions.items() if inspect.isfunction(f)},
    }.items():
        for called, function in members.items():
            first, *others = inspect.signature(function).parameters.values() or [None]
            if called.startswith("_") or first is None or first.name != "name":
                continue
            if called == "set_halt_point":  # no file is read or written
                continue
            named = [p for p in others if p.kind is not p.VAR_KEYWORD]
            given = {p.name: values[p.name] for p in named if p.default is p.empty}
            yield f"{owner}.{called}", partial(function, **given)
            if any(p.name == "bag" for p in others):
                yield f"{owner}.{called} with a bag", partial(function, bag=bag())
    if place.local:
        for what in (["show"], ["head"], ["clear", "--yes"]):
            yield what[0], partial(command_of, place, what)


def command_of(place, what, name):
    """Run a command with a name, which has to be refused as a call refuses it."""
    if isinstance(name, str):
        ended = CliRunner().invoke(main, [*what, "--", place.root, name])
        assert ended.exit_code in (1, 2), name
        assert ended.stderr, name
        assert not ended.stdout, name
    raise InvalidNameError


def test_p6_every_call_refuses_every_hostile_name_and_changes_nothing(place, figures):
    for name in ("name", "other"):
        place.checkpointer.checkpoint(name, bag())
    place.put("other/__done__", b"beside the root")
    agatha_ckpt.set_root(place.root)
    agatha_ckpt.set_verbose(False)
    calls = dict(calls_of(place))
    assert len(calls) > 20, calls.keys()
    before, accepted = place.tree(), []
    for name in (*ILLEGAL[:: 1 if place.local else 3], *nearly_below(place.root)):
        for call_name, call in calls.items():
            try:
                found = call(name)
            except InvalidNameError:
                figures["calls refused"] += 1
                continue
            except Exception as error:
                found = error
            error = getattr(found, "error", None)  # of an explanation
            if type(error) is not InvalidNameError:
                accepted.append(f"{call_name} of {name!r:.50}: {found!r}")
        figures["names"] += 1
    assert not accepted, "\n".join(accepted)
    assert place.tree() == before


def test_p6_odd_legal_names_are_checkpoints_beside_each_other(place, figures):
    checkpointer, store = place.checkpointer, place.store
    names = LEGAL[::4] if place.url.startswith("s3") else LEGAL
    for name in names:
        checkpointer.checkpoint(name, bag([[name, 1], [name, 2]]))
    assert store.names() == sorted(names)
    for name in names:
        assert checkpointer.checkpoint(name).compute() == [[name, 1], [name, 2]]
        assert checkpointer.is_done(store.path(name))
    for name in names[::2]:
        store.clear(name)
    left = sorted(names[1::2])
    assert store.names() == left
    assert not any(store.verify(name) for name in left)
    store.clear_all()
    assert not [path for path in place.tree() if "part-" in path and "__" in path]
    figures["names"] = len(names)


# Text to which tools and filesystems give a meaning, alone and inside words.
_piece = (
    st.sampled_from(
        ["..", ".", "/", "\\", "~", "root", "name", "__done__", "__", "%2F"]
    )
    | st.sampled_from(
        ["a", "B", "-", "_", " ", "*", "?", "[1]", "{a,b}", "#", ":", "::"]
    )
    | st.sampled_from(["\0", "\n", "\u0301", "e", "é", "\u2215", "😀", "\ud800", "ह"])
    | st.text(max_size=3)
)
_names = st.lists(_piece, max_size=8).map("".join) | st.text(max_size=80)


@pytest.mark.parametrize(
    "examples",
    [100, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(3_600)])],
)
def test_p6_no_text_leads_out_of_the_root(tmp_path, figures, examples):
    place = Place(str(tmp_path))
    for path in ("root/name/__done__", "name/__done__"):
        place.put(path, b"foreign")

    def entries():
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}

    before = entries()

    @settings(max_examples=examples, derandomize=examples == 100, database=None)
    @given(_names.filter(lambda name: name != "name"))
    @example("..")
    @example("name/../../x")
    def check(name):
        try:
            place.checkpointer.checkpoint(name, bag())
        except InvalidNameError:
            figures["refused"] += 1
        else:
            figures["legal"] += 1
            here, files = f"root/{name}", place.store.manifest(name).files
            new = {here, *(f"{here}/{file}" for file in (*files, "__done__"))}
            assert entries() - before == new
            place.store.clear(name)
        assert entries() == before

    check()
    assert figures["legal"]


# ---- foreign files ----

PART = f"part-00000-{'0123abcd' * 4}-00000000-0123456789abcdef.msgpack"
FOREIGN = {
    "file": b"beside the root",
    "root-2/done/__done__": b"of a root whose name begins like ours",
    f"root-2/done/{PART}": b"of a root whose name begins like ours",
    f"done/{PART}": b"below no root",
    "root/notes.txt": b"in the root",
    "root/__done__": b"in the root",
    f"root/{PART}": b"in the root",
    "root/.tmp-0123456789abcdef": b"in the root",
    "root/.hidden/__done__": b"in a folder whose name is not legal",
    f"root/-x/{PART}": b"in a folder whose name is not legal",
    f"root/__x__/{PART}": b"in a folder whose name is not legal",
    "root/data/table.csv": b"in a folder of its own",
    "root/data/part-0.pkl": b"that no marker names",
    f"root/done/deeper/{PART}": b"deeper",
    "root/done/deeper/__done__": b"deeper",
    **{
        f"root/{name}/{file}": b"nearly a name of ours"
        for name in ("done", "partial")
        for file in (
            "__done__.bak",
            "__DONE__",
            "__done",
            f"{PART}.bak",
            f"{PART}~",
            f".{PART}",
            PART.upper(),
            PART.replace("00000", "0"),
            PART.replace("00000", "000000"),
            PART.replace("abcd", "ABCD"),
            PART.replace("-00000000", ""),
            PART.replace("0123abcd", "0123abc"),
            "part-000000-0123abcd-0123456789abcdef.msgpack",
            "part-00000-0123abcd-0123456789abcde.msgpack",
            "part-0.pkl",
            "part-0.txt",
            ".tmp-0123456789abcde",
            ".tmp-0123456789abcdefg",
            ".run-0123456",
            ".next-xyz",
            "_SUCCESS",
            " ",
        )
    },
}


def put_foreign(place):
    for path, data in FOREIGN.items():
        place.put(path, data)
    if place.local:
        outside, root = Path(place.url, "outside"), Path(place.root)
        (outside / "folder").mkdir(parents=True)
        (outside / "folder" / "table.csv").write_bytes(b"behind a link")
        (outside / PART).write_bytes(b"behind a link")
        (root / "linked").symlink_to(outside / "folder")
        (root / "dangling").symlink_to(outside / "nothing")
        (root / "loop").symlink_to(root)
        (root / "done" / "link").symlink_to(outside / PART)


def foreign(place):
    """Return the part of the tree that is not ours."""
    ours = {"root/legacy", "root/legacy/part-0.txt", "root/legacy/part-1.txt"}
    names = ("done", "lines", "broken", "partial", "legacy", "new")
    folders = {f"root/{name}" for name in names}
    found = {}
    for path, entry in place.tree().items():
        path = path.lstrip("/")
        is_foreign = path in FOREIGN or path.endswith("/link") or "deeper" in path
        if path in folders or path in ("root", ".") or path in ours:
            continue
        if path.rpartition("/")[0] in folders and not is_foreign:
            continue
        found[path] = entry
    return found


def queries_of(place):
    """Return every public call that only reads, by its name."""
    store, checkpointer, given_bag = place.store, place.checkpointer, bag()
    names = ("done", "lines", "broken", "partial", "legacy", "absent", "data")

    def of_each(call):
        def query():
            for name in names:
                with suppress(CheckpointError):
                    call(name)

        return query

    def load(name):
        loaded = checkpointer.checkpoint(name)
        loaded.compute()
        loaded.count().compute()
        loaded.take(1)

    commands = [
        ["ls"],
        ["ls", "--json"],
        ["report", "-o", "-"],
        ["verify"],
        ["prune", "--partial", "--leftovers", "--dry-run"],
        ["clear", "--all", "--dry-run"],
        *([what, name] for what in ("show", "head") for name in names),
    ]
    return {
        "names": lambda: (store.names(), checkpointer.names("*one*")),
        "statuses": lambda: list(store.statuses()),
        "repr": lambda: (repr(store), store._repr_html_(), checkpointer._repr_html_()),
        "path": of_each(store.path),
        "done_marker": of_each(store.done_marker),
        "is_done": of_each(store.is_done),
        "status": of_each(store.status),
        "manifest": of_each(store.manifest),
        "verify": of_each(store.verify),
        "checkpoint, to load": of_each(load),
        "explain": of_each(lambda name: checkpointer.explain(name, given_bag)),
        "facade": lambda: (
            of_each(agatha_ckpt.is_ckpt_done)(),
            of_each(agatha_ckpt.get_done_file_path)(),
            of_each(agatha_ckpt.checkpoint)(),
            agatha_ckpt.get_checkpoints_like("*"),
            agatha_ckpt.get_root(),
        ),
        "done, with its bag": lambda: checkpointer.checkpoint("done", given_bag),
        **{" ".join(c): lambda c=c: command(place, *c) for c in commands},
    }


def changes_of(place):
    """Return public calls that write or remove, in an order in which each has to."""
    store, checkpointer = place.store, place.checkpointer

    def damage():
        (first, *_) = store.manifest("done").partitions
        place.put(f"root/done/{first.file}", b"damaged")

    def leave_a_file():
        (first, *_) = store.manifest("new").partitions
        other = first.file[:-9].translate(str.maketrans("0123", "1032")) + "e.msgpack"
        place.put(f"root/new/{other}", b"of a run that failed")

    def succeed(*arguments):
        ended = command(place, *arguments)
        assert ended.exit_code == 0, ended.output

    return {
        "save": lambda: checkpointer.checkpoint("new", bag()),
        "resume": lambda: checkpointer.checkpoint("partial", bag()),
        "save over a damaged marker": lambda: checkpointer.checkpoint("broken", bag()),
        "damage": damage,
        "repair": lambda: checkpointer.repair("done", bag()),
        "recompute": lambda: Checkpointer(
            store, verbose=False, on_stale="recompute"
        ).checkpoint("lines", bag(LINES), textfile=True, version="2"),
        "get_or_make_ckpt_dir": lambda: agatha_ckpt.get_or_make_ckpt_dir("new"),
        "clear": lambda: checkpointer.clear("done"),
        "clear of foreign files": lambda: checkpointer.clear("data"),
        "clear_ckpt": lambda: agatha_ckpt.clear_ckpt("legacy"),
        "clear on the command line": lambda: succeed("clear", "lines", "--yes"),
        "a leftover": leave_a_file,
        "prune": lambda: succeed("prune", "--leftovers", "--older-than", "0h", "--yes"),
        "clear_all_ckpt": agatha_ckpt.clear_all_ckpt,
        "clear_all": store.clear_all,
    }


# Of what is there when they are called.
CHANGES_NOTHING = ("get_or_make_ckpt_dir", "clear of foreign files", "clear_all")


@pytest.fixture
def filled(place):
    place.fill()
    put_foreign(place)
    agatha_ckpt.set_root(place.root)
    agatha_ckpt.set_verbose(False)
    return place


def test_p6_a_query_leaves_no_trace(filled, figures):
    before = filled.tree()
    for what, query in queries_of(filled).items():
        query()
        assert filled.tree() == before, what
        figures["queries"] += 1
    figures["files compared"] = len(before)


def test_p6_no_call_changes_a_foreign_file(filled, figures):
    before = foreign(filled)
    assert before.keys() >= FOREIGN.keys()
    for what, call in changes_of(filled).items():
        was = filled.tree()
        call()
        assert filled.tree() != was or what in CHANGES_NOTHING, what
        assert foreign(filled) == before, what
        figures["calls"] += 1
    figures["foreign files compared"] = len(before)
    assert filled.store.names() == []


def test_p6_the_target_of_a_link_is_cleared_by_its_name_only(tmp_path):
    elsewhere, here = Place(str(tmp_path / "a")), Place(str(tmp_path / "b"))
    elsewhere.checkpointer.checkpoint("done", bag())
    here.checkpointer.checkpoint("own", bag())
    Path(here.root, "linked").symlink_to(elsewhere.store.path("done"))
    Path(here.root, "loop").symlink_to(here.root)
    Path(here.root, PART).write_bytes(b"in the root")
    before = elsewhere.tree()
    assert here.checkpointer.names() == ["linked", "own"]
    for everything in (["clear", "--all"], ["prune", "--older-than", "0h"]):
        assert command(here, *everything, "--yes").exit_code == 0
        assert here.checkpointer.names() == ["linked"]
        here.checkpointer.checkpoint("own", bag())
    here.store.clear_all()
    assert here.checkpointer.names() == ["linked"]
    assert elsewhere.tree() == before
    assert Path(here.root, PART).exists()
    here.checkpointer.clear("linked")
    assert elsewhere.checkpointer.names() == []


# ---- a read-only root ----

READS = """
import json
import sys
import dask
from agatha_ckpt import Checkpointer
dask.config.set(scheduler="sync")
ckpt = Checkpointer(sys.argv[1], verbose=False)
loaded = {n: [repr(r) for r in ckpt.checkpoint(n).compute()] for n in ckpt.names()}
found = [ckpt.store.verify(n) for n in ckpt.names()]
refused = []
for call in (
    lambda: ckpt.clear("done"),
    lambda: ckpt.checkpoint("absent", dask.bag.from_sequence([1])),
):
    try:
        call()
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        refused.append([type(error).__name__, " ".join([str(error), *notes])])
print(json.dumps([loaded, found, refused]))
"""


def test_p6_p7_a_root_that_cannot_be_written_to_can_be_loaded(tmp_path):
    place = Place(str(tmp_path / "place"))
    place.fill()
    root = Path(place.root)
    folders = [root, *(path for path in root.iterdir() if path.is_dir())]
    for path in (*root.glob("*/*"), *folders):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = local_tree(root)
    try:
        reads = without_privileges(sys.executable, "-c", READS, str(root))
        ended = subprocess.run(reads, capture_output=True, text=True, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert local_tree(root) == before
    finally:
        for path in folders:
            path.chmod(0o755)
    loaded, found, refused = json.loads(ended.stdout)
    assert loaded["done"] == [repr(record) for record in RECORDS]
    assert loaded["lines"] == loaded["legacy"] == [repr(line) for line in LINES]
    assert found == [[], [], []]
    (clearing, notes), (saving, message) = refused
    assert (clearing, saving) == ("PermissionError", "RootNotSetError")
    assert "clearing checkpoint 'done'" in notes
    assert "set a root that can be written to" in message


# ---- a root that was moved ----


def _check_moved(root):
    checkpointer = Checkpointer(root, verbose=False, on_stale="error")
    for name in ("done", "compressed"):
        assert checkpointer.checkpoint(name).compute() == RECORDS
        assert checkpointer.checkpoint(name, bag()).compute() == RECORDS
        assert checkpointer.store.verify(name) == []
    for name in ("lines", "legacy"):
        assert checkpointer.checkpoint(name).compute() == LINES
    # The place of a parent is not part of its identity.
    child = checkpointer.checkpoint("compressed").map(str)
    again = checkpointer.checkpoint("child", child)
    assert again.compute() == [str(record) for record in RECORDS]
    assert checkpointer.explain("partial", bag()).kept == 1
    assert checkpointer.checkpoint("partial", bag()).compute() == RECORDS


def test_p7_a_root_loads_and_resumes_wherever_it_was_moved(tmp_path, monkeypatch):
    place = Place(str(tmp_path / "place"))
    place.fill()
    place.checkpointer.configure(compression="zstd")
    compressed = place.checkpointer.checkpoint("compressed", bag())
    place.checkpointer.checkpoint("child", compressed.map(str))
    monkeypatch.chdir(place.url)
    loaded = Checkpointer("root", verbose=False).checkpoint("done")
    monkeypatch.chdir("/")
    assert loaded.compute(scheduler="processes", num_workers=1) == RECORDS

    copied = shutil.copytree(place.root, tmp_path / "elsewhere" / "a copy")
    _check_moved(copied)
    linked = tmp_path / "linked"
    linked.symlink_to(shutil.copytree(place.root, tmp_path / "behind"))
    _check_moved(linked)
    monkeypatch.chdir(shutil.copytree(place.root, tmp_path / "here"))
    _check_moved(".")
    monkeypatch.chdir("done")
    _check_moved(f"../../{shutil.copytree(place.root, tmp_path / 'there').name}")
    renamed = Path(place.root).rename(tmp_path / "ह [1] {a} ~")
    _check_moved(renamed)
