"""The documented functions: their signatures, and what each of them promises."""

import inspect
import subprocess
import sys
import uuid
from pathlib import Path

import dask
import dask.bag
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import agatha_ckpt as checkpoint
from agatha_ckpt import (
    CheckpointConflictError,
    CheckpointError,
    CheckpointHalt,
    CheckpointNotFoundError,
    EncodeError,
    InvalidNameError,
    InvalidValueError,
    RootNotSetError,
)

SIGNATURES = {
    "checkpoint": "(name, bag=None, verbose=None, allow_partial=None, halt_after=None,"
    " textfile=False, *, version=None, overwrite=False, metadata=None,"
    " **options)",
    "ckpt": "(bag_name, ckpt_prefix=None, **kwargs)",
    "clear_all_ckpt": "()",
    "clear_ckpt": "(name)",
    "clear_halt_point": "()",
    "disable": "()",
    "enable": "()",
    "get_allow_partial": "()",
    "get_allow_pickle": "()",
    "get_compression": "()",
    "get_on_error": "()",
    "get_on_stale": "()",
    "get_read_only": "()",
    "get_checkpoints_like": "(glob_pattern)",
    "get_done_file_path": "(name)",
    "get_or_make_ckpt_dir": "(name)",
    "get_root": "()",
    "get_verbose": "()",
    "guarded": "(function)",
    "is_ckpt_done": "(name)",
    "reset": "()",
    "set_allow_partial": "(allow)",
    "set_allow_pickle": "(allow)",
    "set_compression": "(compression)",
    "set_on_error": "(on_error)",
    "set_on_stale": "(on_stale)",
    "set_read_only": "(is_read_only)",
    "set_halt_point": "(name)",
    # Both set_root(path) and the documented set_root(ckpt_root=path).
    "set_root": "(root=None, *, storage_options=None, fsync=True, **options)",
    "set_verbose": "(is_verbose)",
}

VALUES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def _surroundings():
    # No root from the environment, and no processes for bags of four letters.
    with dask.config.set({"scheduler": "sync", "agatha-ckpt": {}}):
        yield


@pytest.fixture
def folder(tmp_path):
    """The root: set, and quiet."""
    checkpoint.set_root(tmp_path / "root")
    checkpoint.set_verbose(False)
    return tmp_path / "root"


@pytest.fixture
def memory_url():
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    fs = fsspec.filesystem("memory")
    if fs.exists(url):
        fs.rm(url, recursive=True)


def make_bag(calls=None, fail_at=None):
    """Return a bag of two partitions that notes each record it computes in *calls*.

    Where *fail_at* is a number, it fails once that many records were computed.
    """
    compute = Compute([] if calls is None else calls, fail_at)
    return dask.bag.from_sequence(VALUES, npartitions=2).map(compute)


class Compute:
    def __init__(self, calls, fail_at):
        self.calls, self.fail_at = calls, fail_at

    def __dask_tokenize__(self):
        return "the same for all calls"

    def __call__(self, value):
        if len(self.calls) == self.fail_at:
            raise ZeroDivisionError(value)
        self.calls.append(value)
        return value


def save_one_partition(name):
    # Which of the two is up to the scheduler; the other one fails.
    with pytest.raises(ZeroDivisionError):
        checkpoint.checkpoint(name, make_bag(fail_at=2))


def tree(folder):
    """Return every file below *folder* with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob("*")
    }


def python(*arguments):
    """Run a Python of its own, and return it with its output."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- signatures ----


def public_functions():
    return {
        name: getattr(checkpoint, name)
        for name in checkpoint.__all__
        if not inspect.isclass(getattr(checkpoint, name))
    }


def test_every_public_function_has_a_pinned_signature():
    assert set(SIGNATURES) == set(public_functions())


@pytest.mark.parametrize("name, expected", SIGNATURES.items())
def test_the_signature_is_the_documented_one(name, expected):
    signature = inspect.signature(getattr(checkpoint, name))
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == expected


# ---- the root ----


@pytest.mark.parametrize(
    "call",
    [
        lambda path: checkpoint.set_root(path),
        lambda path: checkpoint.set_root(str(path)),
        lambda path: checkpoint.set_root(root=path),
        lambda path: checkpoint.set_root(ckpt_root=path),
        lambda path: checkpoint.set_root(f"file://{path}"),
    ],
    ids=["path", "str", "root=", "ckpt_root=", "url"],
)
def test_set_root_makes_the_local_folder_and_those_above_it(tmp_path, call):
    path = tmp_path / "one" / "two"
    call(path)
    assert path.is_dir()
    assert checkpoint.get_root() == path
    assert isinstance(checkpoint.get_root(), Path)


def test_a_remote_root_is_a_url_and_setting_it_writes_nothing(memory_url):
    checkpoint.set_root(memory_url)
    fs = fsspec.filesystem("memory")
    assert not fs.exists(memory_url)
    assert isinstance(checkpoint.get_root(), str)
    assert fs._strip_protocol(checkpoint.get_root()) == fs._strip_protocol(memory_url)
    for place in (
        checkpoint.get_or_make_ckpt_dir("one"),
        checkpoint.get_done_file_path("one"),
    ):
        assert isinstance(place, str)
        assert place.startswith(checkpoint.get_root() + "/one")
    assert not fs.exists(memory_url)


def test_storage_options_reach_the_filesystem_and_are_not_shown(capsys):
    given = []

    class Keyed(MemoryFileSystem):
        protocol = "keyed"

        def __init__(self, key=None, **kwargs):
            given.append(key)
            super().__init__(**kwargs)

    fsspec.register_implementation("keyed", Keyed, clobber=True)
    checkpoint.set_root("keyed://some/where", key="secret")
    assert given == ["secret"]
    checkpoint.is_ckpt_done("one")
    with pytest.raises(CheckpointNotFoundError) as caught:
        checkpoint.checkpoint("one")
    assert "secret" not in str(caught.value) + capsys.readouterr().out


def test_the_root_is_kept_as_it_was_given_and_works_after_chdir(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    checkpoint.set_root("runs/first")
    checkpoint.set_verbose(False)
    before = checkpoint.checkpoint("before", make_bag())
    monkeypatch.chdir(elsewhere)

    assert checkpoint.get_root() == Path("runs/first")
    place = checkpoint.get_done_file_path("x")
    assert place == tmp_path / "runs/first/x/__done__"
    assert before.compute() == VALUES
    assert checkpoint.is_ckpt_done("before")
    assert checkpoint.checkpoint("after", make_bag()).compute() == VALUES
    assert tree(elsewhere) == {}
    assert (tmp_path / "runs/first/after/__done__").is_file()


NEED_A_ROOT = {
    "checkpoint": lambda: checkpoint.checkpoint("one", make_bag()),
    "checkpoint without bag": lambda: checkpoint.checkpoint("one"),
    "get_root": lambda: checkpoint.get_root(),
    "is_ckpt_done": lambda: checkpoint.is_ckpt_done("one"),
    "get_checkpoints_like": lambda: checkpoint.get_checkpoints_like("*"),
    "get_or_make_ckpt_dir": lambda: checkpoint.get_or_make_ckpt_dir("one"),
    "get_done_file_path": lambda: checkpoint.get_done_file_path("one"),
    "clear_ckpt": lambda: checkpoint.clear_ckpt("one"),
    "clear_all_ckpt": lambda: checkpoint.clear_all_ckpt(),
}


@pytest.mark.parametrize("call", NEED_A_ROOT.values(), ids=NEED_A_ROOT)
def test_without_a_root_it_is_said_how_to_set_one(call):
    with pytest.raises(RootNotSetError, match="set_root") as caught:
        call()
    assert "DASK_AGATHA_CKPT__ROOT" in str(caught.value)


def test_without_set_root_the_root_of_dasks_configuration_counts(tmp_path):
    with dask.config.set({"agatha-ckpt.root": str(tmp_path / "configured")}):
        assert checkpoint.get_root() == tmp_path / "configured"
        checkpoint.checkpoint("one", make_bag(), verbose=False)
    assert (tmp_path / "configured/one/__done__").is_file()


def test_set_root_counts_more_than_dasks_configuration(tmp_path):
    with dask.config.set({"agatha-ckpt.root": str(tmp_path / "configured")}):
        checkpoint.set_root(tmp_path / "set")
        assert checkpoint.get_root() == tmp_path / "set"
    assert not (tmp_path / "configured").exists()


# ---- saving and loading ----


def test_a_checkpoint_is_computed_once_and_then_loaded(folder):
    calls = []
    saved = checkpoint.checkpoint("one", make_bag(calls))
    assert sorted(calls) == VALUES
    before = tree(folder)
    again = checkpoint.checkpoint("one", make_bag(calls))
    by_name = checkpoint.checkpoint("one")
    assert [b.compute() for b in (saved, again, by_name)] == [VALUES] * 3
    assert [b.npartitions for b in (saved, again, by_name)] == [2] * 3
    assert sorted(calls) == VALUES
    assert tree(folder) == before


def test_after_disable_the_very_bag_comes_back_and_nothing_is_written(folder):
    bag = make_bag(calls := [])
    checkpoint.disable()
    assert checkpoint.checkpoint("one", bag) is bag
    assert (calls, tree(folder)) == ([], {})
    checkpoint.enable()
    assert checkpoint.checkpoint("one", bag) is not bag
    assert sorted(calls) == VALUES


def test_after_disable_a_done_checkpoint_still_loads_by_name(folder):
    checkpoint.checkpoint("one", make_bag())
    checkpoint.disable()
    assert checkpoint.checkpoint("one").compute() == VALUES
    with pytest.raises(CheckpointNotFoundError, match="'two'"):
        checkpoint.checkpoint("two")


def test_textfile_writes_lines_returns_none_and_loads_as_lines(folder):
    calls = []
    assert checkpoint.checkpoint("one", make_bag(calls), textfile=True) is None
    assert checkpoint.checkpoint("one", make_bag(calls), textfile=True) is None
    assert sorted(calls) == VALUES
    texts = [path.read_text() for path in sorted(folder.glob("one/*.txt"))]
    assert texts == ["a\nb\n", "c\nd\n"]
    assert checkpoint.checkpoint("one").compute() == VALUES


@pytest.mark.parametrize("kind", [Path, str])
def test_a_path_directly_under_the_root_names_the_checkpoint(folder, kind):
    path = kind(folder / "one")
    assert checkpoint.checkpoint(path, make_bag()).compute() == VALUES
    assert checkpoint.is_ckpt_done("one")
    assert checkpoint.is_ckpt_done(path)
    assert checkpoint.get_or_make_ckpt_dir(path) == folder / "one"
    assert checkpoint.get_done_file_path(path) == folder / "one" / "__done__"
    checkpoint.clear_ckpt(path)
    assert tree(folder) == {}


@pytest.mark.parametrize("missing", [0, 1])
def test_a_text_checkpoint_of_agathas_own_can_be_mended(folder, missing):
    folder.joinpath("one").mkdir()
    places = [folder / "one" / f"part-{index}.txt" for index in range(2)]
    folder.joinpath("one/__done__").write_text("\n".join(map(str, places)))
    places[1 - missing].write_text(["c\nd\n", "a\nb\n"][missing])
    assert checkpoint.checkpoint("one", make_bag(), textfile=True) is None
    assert checkpoint.checkpoint("one").compute() == VALUES


# ---- halting ----


def test_halt_after_halts_after_exactly_the_checkpoint_of_that_name(folder):
    for other in ("on", "one_", "*", "One"):
        checkpoint.checkpoint("one", make_bag(), halt_after=other)
    with pytest.raises(CheckpointHalt) as caught:
        checkpoint.checkpoint("two", make_bag(), halt_after="two")
    assert caught.value.code == 0
    assert "'two'" in str(caught.value)
    assert checkpoint.is_ckpt_done("two")
    assert checkpoint.checkpoint("two").compute() == VALUES


@pytest.mark.parametrize("textfile", [False, True])
def test_the_halt_point_halts_at_a_new_and_at_a_done_checkpoint(folder, textfile):
    checkpoint.set_halt_point("one")
    checkpoint.checkpoint("before", make_bag(), textfile=textfile)
    for bag in (make_bag(), make_bag(), None):
        with pytest.raises(CheckpointHalt):
            checkpoint.checkpoint("one", bag, textfile=textfile)
        assert checkpoint.is_ckpt_done("one")
    checkpoint.clear_halt_point()
    checkpoint.checkpoint("one", make_bag(), textfile=textfile)


SCRIPT = """\
import sys

import dask.bag

import agatha_ckpt as checkpoint

if __name__ == "__main__":
    checkpoint.set_root(sys.argv[1])
    bag = dask.bag.from_sequence("abcd", npartitions=2)
    checkpoint.ckpt("bag", halt_after="bag", scheduler="sync")
    print("went on")
"""


def test_a_script_that_halts_ends_with_status_0_and_nothing_on_stderr(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = python(script, tmp_path / "root")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "went on" not in ended.stdout
    checkpoint.set_root(tmp_path / "root")
    assert checkpoint.checkpoint("bag", verbose=False).compute() == list("abcd")


# ---- looking ----


def test_get_checkpoints_like_gives_the_names_of_the_done_ones_as_str(folder):
    for name in ("a_sentences", "b_sentences", "b_terms"):
        checkpoint.checkpoint(name, make_bag())
    save_one_partition("c_sentences")
    checkpoint.get_or_make_ckpt_dir("d_sentences")
    folder.joinpath("e_sentences").write_text("a file, no folder")

    found = checkpoint.get_checkpoints_like("*_sentences")
    assert found == {"a_sentences", "b_sentences"}
    assert {type(name) for name in found} == {str}
    assert checkpoint.get_checkpoints_like("b_*") == {"b_sentences", "b_terms"}
    assert checkpoint.get_checkpoints_like("b_terms") == {"b_terms"}
    assert checkpoint.get_checkpoints_like("[!ab]*") == set()
    loaded = [checkpoint.checkpoint(name).compute() for name in found]
    assert loaded == [VALUES] * 2


def test_get_done_file_path_is_where_the_marker_appears(folder):
    path = checkpoint.get_done_file_path("one")
    assert isinstance(path, Path)
    assert tree(folder) == {}
    checkpoint.checkpoint("one", make_bag())
    assert path.is_file()


# ---- clearing ----


def test_clear_ckpt_removes_one_checkpoint_and_says_whether_there_was_one(folder):
    folder.joinpath("mine.txt").write_text("mine")
    checkpoint.checkpoint("one", make_bag())
    before = tree(folder)
    checkpoint.checkpoint("two", make_bag())
    save_one_partition("partial")
    assert [checkpoint.clear_ckpt(n) for n in ("two", "partial")] == [True, True]
    assert checkpoint.clear_ckpt("two") is False
    assert tree(folder) == before


def test_clear_all_ckpt_keeps_foreign_files_and_the_root(folder):
    folder.joinpath("mine.txt").write_text("mine")
    checkpoint.checkpoint("one", make_bag())
    checkpoint.checkpoint("two", make_bag(), textfile=True)
    save_one_partition("partial")
    checkpoint.get_or_make_ckpt_dir("empty")
    checkpoint.clear_all_ckpt()
    assert tree(folder) == {"mine.txt": b"mine"}
    calls = []
    assert checkpoint.checkpoint("one", make_bag(calls)).compute() == VALUES
    assert sorted(calls) == VALUES


# ---- what is said ----


def test_verbose_says_name_saving_done_ready_and_halting(folder, capsys):
    checkpoint.set_verbose(True)
    checkpoint.checkpoint("one", make_bag())
    saved = capsys.readouterr().out
    checkpoint.checkpoint("one")
    loaded = capsys.readouterr().out
    with pytest.raises(CheckpointHalt):
        checkpoint.checkpoint("one", halt_after="one")
    halted = capsys.readouterr().out
    for said in (saved, loaded, halted):
        assert said.startswith("Checkpoint: one")
    assert "Saving 2 of 2 partitions" in saved
    assert "Done! 2 partitions, 4 records" in saved
    assert "Ready: 2 partitions, 4 records" in loaded
    assert "Halting" in halted
    assert "Saving" not in loaded + halted
    assert "Halting" not in saved + loaded


def test_quiet_says_nothing(folder, capsys):
    checkpoint.checkpoint("one", make_bag())
    save_one_partition("two")
    checkpoint.checkpoint("two", make_bag())
    checkpoint.checkpoint("one").compute()
    checkpoint.clear_all_ckpt()
    assert capsys.readouterr() == ("", "")


# ---- settings ----


@pytest.mark.parametrize(
    "setting, values",
    [
        ("allow_partial", (True, False, True)),
        ("allow_pickle", (False, True, False)),
        ("verbose", (True, False, True)),
        ("compression", ("auto", None, "zstd")),
        ("on_error", ("raise", "continue")),
        ("on_stale", ("warn", "error", "recompute")),
        ("read_only", (False, True, False)),
    ],
)
def test_a_setting_is_what_was_set_last(setting, values):
    read = getattr(checkpoint, f"get_{setting}")
    write = getattr(checkpoint, f"set_{setting}")
    assert read() == values[0]  # the default
    for value in values:
        write(value)
        assert read() == value


def test_allow_pickle_saves_and_loads_values_of_other_types(folder):
    """P8: nothing is unpickled, and so nothing pickled, unless it was allowed."""
    bag = make_bag().map(lambda value: slice(value))
    with pytest.raises(EncodeError, match="set_allow_pickle"):
        checkpoint.checkpoint("one", bag)
    checkpoint.set_allow_pickle(True)
    loaded = checkpoint.checkpoint("one", bag)
    assert loaded.compute() == [slice(value) for value in VALUES]


def test_reset_forgets_the_root_and_every_setting(folder):
    checkpoint.set_allow_partial(False)
    checkpoint.set_allow_pickle(True)
    checkpoint.set_halt_point("one")
    checkpoint.disable()
    checkpoint.reset()
    with pytest.raises(RootNotSetError):
        checkpoint.get_root()
    assert checkpoint.get_verbose()
    assert checkpoint.get_allow_partial()
    assert not checkpoint.get_allow_pickle()
    checkpoint.set_root(folder)
    calls = []
    checkpoint.checkpoint("one", make_bag(calls), verbose=False)
    assert sorted(calls) == VALUES


# ---- misuse ----

# What is done wrong; the error; pieces of its message.
MISUSE = {
    "name of another type": (
        lambda: checkpoint.checkpoint(5, make_bag()),
        (InvalidNameError, "must be a str", "5"),
    ),
    "name of two segments": (
        lambda: checkpoint.checkpoint("a/b", make_bag()),
        (InvalidNameError, "'a/b'", "'/'"),
    ),
    "pattern of another type": (
        lambda: checkpoint.get_checkpoints_like(None),
        (CheckpointError, "None"),
    ),
    "list as bag": (
        lambda: checkpoint.checkpoint("new", [1, 2]),
        (EncodeError, "list", "bag"),
    ),
    "nothing stored and no bag": (
        lambda: checkpoint.checkpoint("new"),
        (CheckpointNotFoundError, "'new'", "root", "give the collection"),
    ),
    "msgpack asked for as text": (
        lambda: checkpoint.checkpoint("done", make_bag(), textfile=True),
        (CheckpointConflictError, "'done'", "textfile"),
    ),
    "objects": (
        lambda: checkpoint.checkpoint("new", make_bag().map(lambda _: object())),
        (EncodeError, "partition", "object", "'new'", "set_allow_pickle"),
    ),
    "version of another type": (
        lambda: checkpoint.checkpoint("new", make_bag(), version=7),
        (InvalidValueError, "version", "str", "7"),
    ),
    "no root": (lambda: checkpoint.set_root(), (RootNotSetError, "None")),
    "empty root": (lambda: checkpoint.set_root(""), (RootNotSetError, "''")),
    "file as root": (
        lambda: checkpoint.set_root(checkpoint.get_done_file_path("done")),
        (RootNotSetError, "is a file"),
    ),
}


@pytest.mark.parametrize("misuse, expected", MISUSE.values(), ids=MISUSE)
def test_misuse_is_an_error_of_ours_with_one_finished_message(folder, misuse, expected):
    """P5: a documented error that names what was asked for, before any damage."""
    checkpoint.checkpoint("done", make_bag())
    before = tree(folder / "done")
    error_type, *pieces = expected
    with pytest.raises(CheckpointError) as caught:
        misuse()
    assert isinstance(caught.value, error_type)
    assert caught.value.args == (str(caught.value),)
    for piece in pieces:
        assert piece in str(caught.value)
    assert tree(folder / "done") == before
