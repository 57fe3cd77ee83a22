"""T6: nothing outside of ``root/name`` is read for ours, written, or removed (P6, P7).

Hostile names through every public call that takes one; a tree of foreign files around
and inside the root, compared before and after every call; questions that leave no
trace; roots that cannot be written to, and roots that were moved.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dask
import dask.bag
import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given, settings
from hypothesis import strategies as st

import agatha_ckpt
from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    InvalidNameError,
    Plan,
)
from agatha_ckpt._cli.main import main
from agatha_ckpt._format.manifest import Manifest
from tests.cli.cli_cases import without_privileges
from tests.reliability.hostile_names import ILLEGAL, LEGAL, elsewhere, is_legal

RECORDS = [["one", 1], ("two", {2})]
LINES = ["one", "two"]


@pytest.fixture(autouse=True)
def _in_this_process():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def figures(record_property):
    """Counts; says at the end how many there were of each."""
    counted = Counter()
    yield counted
    line = ", ".join(f"{n:,} {what}" for what, n in sorted(counted.items()))
    record_property("figures", line)


class Place:
    """A folder on some filesystem, in which a root called ``root`` will be."""

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
        """Save a done, a text, a partial, a broken and a legacy checkpoint."""
        save = self.checkpointer.checkpoint
        save("done", bag())
        save("lines", bag(LINES), textfile=True)
        save("broken", bag())
        self.put("root/broken/__done__", b"{")
        plan = Plan(2)
        self.store.begin("partial")
        self.store.write_partition("partial", plan, 0, [RECORDS[0]])
        for index, line in enumerate(LINES):
            self.put(f"root/legacy/part-{index}.txt", f"{line}\n".encode())
        self.put("root/legacy/__done__", b"/gone/part-0.txt\n/gone/part-1.txt\n")


def local_tree(folder):
    """Everything below *folder*: kind, rights, time, and target or content."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        said = (stat.filemode(status.st_mode), status.st_mtime_ns, content)
        found[str(path.relative_to(folder))] = said
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


# ---- names ----


def calls_of(place):
    """Every public call that takes the name of a checkpoint, by its name."""
    store, checkpointer, given_bag = place.store, place.checkpointer, bag()
    plan = Plan(1)
    functions = {
        f"store.{name}": getattr(store, name)
        for name in (
            *("path", "done_marker", "name_of", "describe", "is_done", "manifest"),
            *("find_manifest", "status", "verify", "begin", "clear"),
            *("contents",),
        )
    }
    functions |= {
        "store.write_partition": lambda n: store.write_partition(n, plan, 0, [1]),
        "store.mark_done": lambda n: store.mark_done(n, Manifest(Plan(0), ())),
        "store.survey": lambda n: store.survey(n, plan),
        "store.missing": lambda n: store.missing(n, Manifest(Plan(0), ())),
        "store.adopt": lambda n: store.adopt(n, plan, None, "01234567"),
        "store.faults": lambda n: list(store.faults([(n, Manifest(plan, ()))])),
        "store.sync": CheckpointStore(place.root).sync,
        "store.hold": lambda n: store.hold(n, "01234567").__enter__(),
        "store.remove_left_over": lambda n: store.remove_left_over(n, ["__done__"]),
        "checkpoint": checkpointer.checkpoint,
        "checkpoint with a bag": lambda n: checkpointer.checkpoint(n, given_bag),
        "checkpoint of lines": lambda n: checkpointer.checkpoint(
            n, given_bag, textfile=True
        ),
        "repair": lambda n: checkpointer.repair(n, given_bag),
        "is_done": checkpointer.is_done,
        "status": checkpointer.status,
        "clear": checkpointer.clear,
        "facade.checkpoint": agatha_ckpt.checkpoint,
        "facade.checkpoint with a bag": lambda n: agatha_ckpt.checkpoint(n, given_bag),
        "facade.is_ckpt_done": agatha_ckpt.is_ckpt_done,
        "facade.get_or_make_ckpt_dir": agatha_ckpt.get_or_make_ckpt_dir,
        "facade.get_done_file_path": agatha_ckpt.get_done_file_path,
        "facade.clear_ckpt": agatha_ckpt.clear_ckpt,
    }
    return functions


def commands_of(place, name):
    """The command lines that take the name of a checkpoint."""
    return [
        ["show", "--", place.root, name],
        ["head", "--", place.root, name],
        ["clear", "--yes", "--", place.root, name],
    ]


def hostile(place):
    return {**ILLEGAL, **elsewhere(place.root)}


def test_p6_every_call_refuses_every_hostile_name_and_touches_nothing(place, figures):
    place.checkpointer.checkpoint("name", bag())
    place.checkpointer.checkpoint("other", bag())
    place.put("other/__done__", b"beside the root")
    agatha_ckpt.set_root(place.root)
    agatha_ckpt.set_verbose(False)
    before = place.tree()
    escaped = []
    for kind, name in hostile(place).items():
        for call_name, call in calls_of(place).items():
            try:
                found = call(name)
                escaped.append(f"{call_name} takes {kind}: {found!r}")
            except InvalidNameError:
                figures["calls refused"] += 1
            except Exception as error:
                escaped.append(f"{call_name} of {kind} raises {error!r}")
        explained = place.checkpointer.explain(name)
        assert type(explained.error) is InvalidNameError
        assert place.tree() == before, kind
    figures["names"] = len(hostile(place))
    assert not escaped, "\n".join(escaped)


def test_p6_the_command_line_refuses_every_hostile_name_and_touches_nothing(
    place, figures
):
    place.checkpointer.checkpoint("name", bag())
    place.checkpointer.checkpoint("other", bag())
    before = place.tree()
    escaped = []
    for kind, name in hostile(place).items():
        if not isinstance(name, str):
            continue
        for command in commands_of(place, name):
            ended = CliRunner().invoke(main, command)
            if ended.exit_code in (1, 2) and ended.stderr and not ended.stdout:
                figures["command lines refused"] += 1
            else:
                escaped.append(f"{command[0]} of {kind}: {ended!r} {ended.output}")
        assert place.tree() == before, kind
    assert not escaped, "\n".join(escaped)


def test_p6_odd_legal_names_lie_beside_each_other(place, figures):
    checkpointer, store = place.checkpointer, place.store
    for name in LEGAL:
        assert is_legal(name)
        checkpointer.checkpoint(name, bag([[name, 1], [name, 2]]))
    assert store.names() == sorted(LEGAL)
    for name in LEGAL:
        assert checkpointer.checkpoint(name).compute() == [[name, 1], [name, 2]]
        assert checkpointer.checkpoint(store.path(name)).npartitions == 2
        assert store.verify(name) == []
    left = list(LEGAL)
    for name in LEGAL:
        store.clear(name)
        left.remove(name)
        assert store.names() == sorted(left)
    assert {p for p in place.tree() if "part-" in p and "__" in p} == set()
    figures["names"] = len(LEGAL)


# Text of what tools and filesystems give a meaning to, as it is and within words.
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


class Below:
    """A root on local disk, and whether a name leads out of it."""

    def __init__(self, folder):
        self.folder = folder
        self.place = Place(str(folder))
        self.place.put("root/name/__done__", b"foreign")
        self.place.put("name/__done__", b"foreign")
        self.before = self.entries()

    def entries(self):
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*")}

    def check(self, name):
        """Save under *name*; return whether it was taken. Fail where it escapes."""
        store, plan = self.place.store, Plan(1)
        try:
            store.begin(name)
        except InvalidNameError:
            assert not is_legal(name)
            assert self.entries() == self.before
            return False
        assert is_legal(name)
        if name != "name":
            info = store.write_partition(name, plan, 0, [name])
            store.mark_done(name, Manifest(plan, (info,)))
            new = self.entries() - self.before
            here = f"root/{name}"
            assert new == {here, f"{here}/__done__", f"{here}/{info.file}"}
            store.clear(name)
        assert self.entries() == self.before
        return True


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    return Below(tmp_path_factory.mktemp("below"))


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(_names)
@example("..")
@example("name/../../x")
def test_p6_no_text_leads_out_of_the_root(below, name):
    below.check(name)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_p6_none_of_10_000_texts_leads_out_of_the_root(below, figures):
    @settings(max_examples=10_000, deadline=None, database=None)
    @given(_names)
    def check(name):
        figures["taken" if below.check(name) else "refused"] += 1

    check()


# ---- foreign files ----

PART = "part-00000-0123abcd-0123456789abcdef.msgpack"
FOREIGN = {
    "file": b"beside the root",
    "root-2/done/__done__": b"of a root whose name begins like ours",
    f"root-2/done/{PART}": b"of a root whose name begins like ours",
    f"done/{PART}": b"below no root",
    "root/notes.txt": b"in the root",
    "root/__done__": b"in the root",
    f"root/{PART}": b"in the root",
    "root/.tmp-0123456789abcdef": b"in the root",
    "root/.hidden/__done__": b"in a folder that is no name",
    f"root/-x/{PART}": b"in a folder that is no name",
    f"root/__x__/{PART}": b"in a folder that is no name",
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
            PART.replace("-0123abcd", ""),
            PART.replace("msgpack", "pkl"),
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
    """What of the tree is not ours; of a folder of ours, its existence alone."""
    ours = {"root/legacy", "root/legacy/part-0.txt", "root/legacy/part-1.txt"}
    names = ("done", "lines", "broken", "partial", "legacy", "new")
    folders = {f"root/{name}" for name in names}
    found = {}
    for path, said in place.tree().items():
        path = path.lstrip("/")
        folder = path.rpartition("/")[0]
        is_ours = path in FOREIGN or path.endswith("/link") or "deeper" in path
        if path in folders or path in ("root", ".") or path in ours:
            continue
        if folder in folders and not is_ours:
            continue
        found[path] = said
    return found


def questions_of(place):
    """Every public call that only asks, by its name."""
    store, checkpointer, given_bag = place.store, place.checkpointer, bag()
    names = ("done", "lines", "broken", "partial", "legacy", "absent", "data")

    def of_each(call):
        def ask():
            for name in names:
                with suppress(CheckpointError):
                    call(name)

        return ask

    def load(name):
        loaded = checkpointer.checkpoint(name)
        loaded.compute()
        loaded.count().compute()
        loaded.take(1)

    def read(name):
        manifest = store.manifest(name)
        store.missing(name, manifest)
        for index, info in enumerate(manifest.partitions):
            list(store.open_partition(name, manifest.plan, index, info))
            store.bag_of(name, index, info)

    def command(*arguments):
        return lambda: CliRunner().invoke(
            main, [*arguments[:1], place.root, *arguments[1:]]
        )

    return {
        "names": store.names,
        "names of a pattern": lambda: checkpointer.names("*one*"),
        "folders": store.folders,
        "statuses": lambda: list(store.statuses()),
        "exists": store.exists,
        "repr": lambda: (repr(store), store._repr_html_(), checkpointer._repr_html_()),
        "path": of_each(store.path),
        "done_marker": of_each(store.done_marker),
        "is_done": of_each(store.is_done),
        "status": of_each(store.status),
        "manifest": of_each(store.manifest),
        "verify": of_each(store.verify),
        "contents": of_each(store.contents),
        "survey": of_each(lambda name: store.survey(name, Plan(2))),
        "open_partition": of_each(read),
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
        "ls": command("ls"),
        "ls --json": command("ls", "--json"),
        "report": command("report", "-o", "-"),
        "verify on the command line": command("verify"),
        "prune --dry-run": command("prune", "--partial", "--leftovers", "--dry-run"),
        "clear --dry-run": command("clear", "--all", "--dry-run"),
        **{
            f"{what} {name}": command(what, name)
            for what in ("show", "head")
            for name in names
        },
    }


def changes_of(place):
    """Public calls that write and remove, in an order in which each does something."""
    store, checkpointer = place.store, place.checkpointer

    def damage():
        (first, *_) = store.manifest("done").partitions
        place.put(f"root/done/{first.file}", b"damaged")

    def command(*arguments):
        ended = CliRunner().invoke(main, [*arguments[:1], place.root, *arguments[1:]])
        assert ended.exit_code == 0, ended.output

    return {
        "save": lambda: checkpointer.checkpoint("new", bag()),
        "resume": lambda: checkpointer.checkpoint("partial", bag()),
        "save over a broken marker": lambda: checkpointer.checkpoint("broken", bag()),
        "damage": damage,
        "repair": lambda: checkpointer.repair("done", bag()),
        "recompute": lambda: Checkpointer(
            store, verbose=False, on_stale="recompute"
        ).checkpoint("lines", bag(LINES), textfile=True, version="2"),
        "get_or_make_ckpt_dir": lambda: agatha_ckpt.get_or_make_ckpt_dir("new"),
        "clear": lambda: checkpointer.clear("done"),
        "clear of what is foreign": lambda: checkpointer.clear("data"),
        "clear_ckpt": lambda: agatha_ckpt.clear_ckpt("legacy"),
        "clear on the command line": lambda: command("clear", "--yes", "lines"),
        "a partial again": lambda: (
            store.begin("partial"),
            store.write_partition("partial", Plan(3), 0, [1]),
        ),
        "prune": lambda: command("prune", "--leftovers", "--older-than", "0h", "--yes"),
        "clear_all_ckpt": agatha_ckpt.clear_all_ckpt,
        "clear_all": store.clear_all,
    }


# Of what is there when they are called.
CHANGES_NOTHING = ("get_or_make_ckpt_dir", "clear of what is foreign", "clear_all")


@pytest.fixture
def filled(place):
    place.fill()
    put_foreign(place)
    agatha_ckpt.set_root(place.root)
    agatha_ckpt.set_verbose(False)
    return place


def test_p6_a_question_leaves_no_trace(filled, figures):
    before = filled.tree()
    for what, ask in questions_of(filled).items():
        ask()
        assert filled.tree() == before, what
        figures["questions"] += 1
    figures["files compared"] = len(before)


def test_p6_no_call_touches_a_foreign_file(filled, figures):
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


def test_p6_what_a_link_leads_to_is_cleared_by_its_name_and_not_with_all(tmp_path):
    elsewhere, here = Place(str(tmp_path / "a")), Place(str(tmp_path / "b"))
    elsewhere.checkpointer.checkpoint("done", bag())
    here.checkpointer.checkpoint("own", bag())
    Path(here.root, "linked").symlink_to(elsewhere.store.path("done"))
    Path(here.root, "loop").symlink_to(here.root)
    Path(here.root, PART).write_bytes(b"in the root")
    before = elsewhere.tree()
    assert here.checkpointer.names() == ["linked", "own"]
    for everything in (
        ["clear", here.root, "--all", "--yes"],
        ["prune", here.root, "--older-than", "0h", "--yes"],
    ):
        assert CliRunner().invoke(main, everything).exit_code == 0
        assert here.checkpointer.names() == ["linked"]
        here.checkpointer.checkpoint("own", bag())
    here.store.clear_all()
    assert here.checkpointer.names() == ["linked"]
    assert elsewhere.tree() == before
    assert Path(here.root, PART).exists()
    here.checkpointer.clear("linked")
    assert elsewhere.checkpointer.names() == []


# ---- a root that cannot be written to ----

READS = """
import json
import sys
import dask
from agatha_ckpt import Checkpointer
dask.config.set(scheduler="sync")
ckpt = Checkpointer(sys.argv[1], verbose=False)
loaded = {n: [repr(r) for r in ckpt.checkpoint(n).compute()] for n in ckpt.names()}
found = {n: ckpt.store.verify(n) for n in ckpt.names()}
states = {n: ckpt.status(n).state for n in ("done", "partial", "broken", "absent")}
refused = []
for call in (
    lambda: ckpt.clear("done"),
    lambda: ckpt.checkpoint("absent", dask.bag.from_sequence([1])),
):
    try:
        call()
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        refused.append([type(error).__name__, str(error), notes])
print(json.dumps([loaded, found, states, refused]))
"""


def test_p6_p7_a_root_that_cannot_be_written_to_loads(tmp_path):
    place = Place(str(tmp_path / "place"))
    place.fill()
    root = Path(place.root)
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for path in root.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    for path in folders:
        path.chmod(0o555)
    before = local_tree(root)
    try:
        command = without_privileges(sys.executable, "-c", READS, str(root))
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert local_tree(root) == before
    finally:
        for path in folders:
            path.chmod(0o755)
    loaded, found, states, refused = json.loads(ended.stdout)
    assert loaded["done"] == [repr(record) for record in RECORDS]
    assert loaded["lines"] == loaded["legacy"] == [repr(line) for line in LINES]
    assert found == {"done": [], "legacy": [], "lines": []}
    expected = {"done": "done", "partial": "partial", "broken": "partial"}
    assert states == {**expected, "absent": "absent"}
    (clearing, _, notes), (saving, said, _) = refused
    assert clearing == "PermissionError"
    assert "clearing checkpoint 'done'" in notes[0]
    assert saving == "RootNotSetError"
    assert "set a root that can be written to" in said


class ReadOnly(MemoryFileSystem):
    """The memory filesystem of a user who may not write."""

    cachable = False
    protocol = "read-only"

    def _refuse(self, path, *args, **kwargs):
        raise PermissionError(f"may not change {path}")

    pipe_file = put_file = mkdir = makedirs = rmdir = rm = rm_file = mv = touch = (
        _refuse
    )
    cp_file = _rm = _refuse

    def _open(self, path, mode="rb", **kwargs):
        return (
            super()._open(path, mode, **kwargs) if mode == "rb" else self._refuse(path)
        )


def test_p6_a_user_who_may_only_read_an_object_store_loads():
    place = Place(f"memory://{uuid.uuid4().hex}")
    place.fill()
    before = place.tree()
    store = CheckpointStore(place.store.fs._strip_protocol(place.root), fs=ReadOnly())
    checkpointer = Checkpointer(store, verbose=False)
    try:
        assert checkpointer.checkpoint("done").compute() == RECORDS
        assert checkpointer.checkpoint("done", bag()).compute() == RECORDS
        assert checkpointer.names() == ["done", "legacy", "lines"]
        assert store.verify("done") == []
        assert checkpointer.status("partial").state == "partial"
        for change in (
            lambda: checkpointer.checkpoint("new", bag()),
            lambda: checkpointer.checkpoint("partial", bag()),
            lambda: checkpointer.clear("done"),
            checkpointer.clear_all,
        ):
            with pytest.raises(PermissionError) as caught:
                change()
            assert "checkpoint '" in str(caught.value.__notes__)
        assert place.tree() == before
    finally:
        place.fs.rm(place.path, recursive=True)


# ---- a root that was moved ----


@pytest.fixture
def moved_from(tmp_path):
    """A root with checkpoints of each kind, and another working directory."""
    place = Place(str(tmp_path / "place"))
    place.fill()
    place.checkpointer.configure(compression="zstd")
    place.checkpointer.checkpoint("compressed", bag())
    child = place.checkpointer.checkpoint("compressed").map(str)
    place.checkpointer.checkpoint("child", child)
    return Path(place.root)


def _check_moved(root):
    checkpointer = Checkpointer(root, verbose=False, on_stale="error")
    for name in ("done", "compressed"):
        assert checkpointer.checkpoint(name).compute() == RECORDS
        assert checkpointer.checkpoint(name, bag()).compute() == RECORDS
        assert checkpointer.store.verify(name) == []
    for name in ("lines", "legacy"):
        assert checkpointer.checkpoint(name).compute() == LINES
    # Its parent is the same checkpoint, wherever it lies.
    child = checkpointer.checkpoint("compressed").map(str)
    again = checkpointer.checkpoint("child", child)
    assert again.compute() == [str(record) for record in RECORDS]
    # The partition that was there is kept.
    assert checkpointer.explain("partial", bag()).kept == 1
    assert checkpointer.checkpoint("partial", bag()).compute() == RECORDS


def test_p7_a_root_loads_and_goes_on_wherever_it_is(moved_from, tmp_path, monkeypatch):
    copied = shutil.copytree(moved_from, tmp_path / "elsewhere" / "a copy")
    _check_moved(copied)
    linked = tmp_path / "linked"
    linked.symlink_to(shutil.copytree(moved_from, tmp_path / "behind"))
    _check_moved(linked)
    monkeypatch.chdir(shutil.copytree(moved_from, tmp_path / "here"))
    _check_moved(".")
    monkeypatch.chdir("done")
    _check_moved(f"../../{shutil.copytree(moved_from, tmp_path / 'there').name}")
    renamed = moved_from.rename(tmp_path / "ह [1] {a} ~")
    _check_moved(renamed)


def test_p7_a_bag_loads_after_its_program_went_to_another_folder(
    moved_from, monkeypatch
):
    monkeypatch.chdir(moved_from.parent)
    checkpointer = Checkpointer("root", verbose=False)
    loaded = checkpointer.checkpoint("done")
    monkeypatch.chdir("/")
    assert loaded.compute(scheduler="processes", num_workers=1) == RECORDS
    assert checkpointer.checkpoint("compressed").compute() == RECORDS
