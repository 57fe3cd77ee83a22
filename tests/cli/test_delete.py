"""``agatha-ckpt clear`` and ``prune``: what goes, what stays, and what is asked."""

import os
import time
from datetime import UTC, datetime

import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._cli import delete as _cli_clear
from agatha_ckpt._filesystem.base import FileInfo
from agatha_ckpt._format.names import (
    new_attempt,
    new_run,
    run_filename,
    temporary_filename,
)
from agatha_ckpt._store.contents import Contents
from agatha_ckpt._store.prune import Criteria, decide
from agatha_ckpt._store.status import Status
from tests.cli.cli_cases import (
    cells,
    damage_marker,
    fill,
    fill_with_foreign_files,
    make_bag,
    make_newer,
    refused,
    run,
    tree,
)

DAY = 86_400


@pytest.fixture
def folder(tmp_path):
    fill_with_foreign_files(tmp_path)
    return tmp_path


def names(store):
    return [status.name for status in CheckpointStore(store).statuses()]


def grow_old(folder, days):
    """Let everything below *folder* have been written so many days ago."""
    then = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def leave_over(folder, name):
    """Leave what a run that was killed leaves beside a done checkpoint."""
    [first, *_] = sorted((folder / name).glob("part-*"))
    part = first.name.replace(first.stem.rpartition("-")[2], new_attempt())
    left = [part, temporary_filename(), run_filename(new_run()), ".next-" + 16 * "0"]
    for filename in left:
        (folder / name / filename).write_bytes(b"left")
    (folder / name / "foreign.txt").write_bytes(b"mine")
    return left


# ---- clear ----


def test_clear_says_what_goes_asks_and_deletes_only_that_P6(folder):
    before = tree(folder)
    ended = run("clear", folder, "lines", "unfinished", input="y\n")
    assert ended.exit_code == 0
    rows = cells(ended)
    size = sum(p.stat().st_size for p in folder.glob("en_sentences/*"))
    assert size > 0
    assert rows[0][:4] == ["lines", "done", "all", "3"]
    assert rows[1][:5] == ["unfinished", "partial", "1/2", "all", "1"]
    assert "Delete 2 checkpoints, " in ended.stderr
    kept = {p: c for p, c in before.items() if not {"lines", "unfinished"} & {*p.parts}}
    assert tree(folder) == kept


def test_clear_says_how_much_it_frees(folder):
    stored = sum(path.stat().st_size for path in folder.glob("lines/*"))
    ended = run("clear", folder, "lines", "--yes")
    assert ended.stdout.splitlines()[-1] == f"freed {stored} B"


@pytest.mark.parametrize(
    "options, answer, code",
    [
        (["--dry-run"], None, 0),
        (["--dry-run", "--yes"], None, 0),
        ([], "n\n", 1),
        ([], "\n", 1),
        ([], "", 1),
    ],
)
@pytest.mark.parametrize(
    "command", [["clear", "lines"], ["clear", "--all"], ["prune", "--partial"]]
)
def test_nothing_goes_unless_it_is_agreed(folder, command, options, answer, code):
    before = tree(folder)
    command, *what = command
    ended = run(command, folder, *what, *options, input=answer)
    assert ended.exit_code == code
    assert ("lines" in ended.stdout) or command == "prune"
    last = ended.stderr.splitlines()[-1]
    assert ("Would delete 1 checkpoint" if code == 0 else "nothing was deleted") in (
        last.replace("3 checkpoints", "1 checkpoint")
    )
    assert tree(folder) == before


def test_clear_works_on_every_filesystem(root):
    fill(root)
    assert run("clear", root, "lines", "--yes").exit_code == 0
    assert names(root) == ["en_sentences", "unfinished"]
    assert run("clear", root, "--all", "--yes").exit_code == 0
    assert names(root) == []


def test_clear_all_leaves_what_is_foreign_P6(folder):
    folder.joinpath("lines/mine.txt").write_text("mine")
    ended = run("clear", folder, "--all", "--yes")
    assert ended.exit_code == 0
    assert "1 foreign file stays" in ended.stdout
    left = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert left == {"notes.txt", "foreign/data.csv", "lines/mine.txt"}


def test_one_wrong_name_and_nothing_goes(folder):
    before = tree(folder)
    message = refused("clear", folder, "lines", "en_sentence", "--yes")
    assert "did you mean 'en_sentences'?" in message
    assert "cannot name a checkpoint" in refused("clear", folder, "li/nes", "--yes")
    assert "cannot name a checkpoint" in refused("clear", folder, "..", "--yes")
    assert "nothing of this program's" in refused("clear", folder, "foreign", "--yes")
    assert tree(folder) == before


def test_clear_takes_the_path_of_a_checkpoint(folder):
    assert run("clear", folder, folder / "lines", "--yes").exit_code == 0
    assert names(folder) == ["en_sentences", "unfinished"]


@pytest.mark.parametrize("arguments", [[], ["lines", "--all"]])
def test_clear_wants_either_names_or_all(folder, arguments):
    before = tree(folder)
    ended = run("clear", folder, *arguments, "--yes")
    assert ended.exit_code == 2
    assert "either the names of checkpoints or --all" in ended.stderr
    assert tree(folder) == before


def test_clear_removes_what_is_damaged_or_newer_if_it_is_named(folder):
    damage_marker(folder, "lines")
    make_newer(folder, "en_sentences")
    ended = run("clear", folder, "lines", "en_sentences", "--yes")
    assert [row[1] for row in cells(ended)[:2]] == ["damaged", "newer"]
    assert names(folder) == ["unfinished"]


def test_clear_says_that_a_run_goes_on(folder):
    store = CheckpointStore(folder)
    with store.hold("unfinished", "0123abcd"):
        ended = run("clear", folder, "unfinished", "--dry-run")
    assert "a run is saving it now" in ended.stdout
    assert "foreign" not in ended.stdout  # its lock is ours


def test_clear_removes_what_agatha_saved(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    folder.joinpath("part-0.pkl").write_bytes(b"12345")
    folder.joinpath("__done__").write_text("/gone/old/part-0.pkl\n")
    assert run("clear", tmp_path, "old", "--yes").exit_code == 0
    assert not folder.exists()


@pytest.mark.parametrize("command", [["clear", "unfinished"], ["prune", "--partial"]])
def test_what_changes_while_the_question_is_asked_stays(folder, monkeypatch, command):
    """A run finished what was a partial when it was looked at."""

    def answer(*_, **__):
        Checkpointer(folder, verbose=False).checkpoint(
            "unfinished", make_bag(), scheduler="sync"
        )
        return True

    monkeypatch.setattr(_cli_clear.click, "confirm", answer)
    command, *arguments = command
    ended = run(command, folder, *arguments)
    assert ended.exit_code == 1
    assert "unfinished has changed meanwhile" in ended.stderr
    assert CheckpointStore(folder).is_done("unfinished")


# ---- prune ----


def test_prune_without_a_criterion_is_refused(folder):
    before = tree(folder)
    ended = run("prune", folder, "--yes")
    assert ended.exit_code == 2
    assert "--older-than AGE, --partial, --leftovers" in ended.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    "age",
    ["banana", "", "30", "-3d", "1e9d", "inf d", "nan d", "3 d 4 h", "6m", "6M", "d",
     "30parsecs", "9" * 400 + "d"],
)  # fmt: skip
def test_an_age_that_is_none_is_refused_in_one_line(folder, age):
    before = tree(folder)
    message = refused("prune", folder, "--older-than", age, "--yes", code=2)
    assert "36h, 30d or 8w" in message
    assert tree(folder) == before


def test_prune_partial_removes_partials_alone(folder):
    ended = run("prune", folder, "--partial", "--yes")
    assert ended.exit_code == 0
    assert [row[0] for row in cells(ended)[:1]] == ["unfinished"]
    assert names(folder) == ["en_sentences", "lines"]


def test_prune_takes_a_pattern(folder):
    ended = run("prune", folder, "x*", "--partial", "--yes")
    assert "nothing to delete" in ended.stderr
    assert "unfinished" in names(folder)


def test_prune_older_than_goes_by_the_commit_and_by_the_newest_file(folder):
    """The time of a file that was copied is not when the checkpoint was made."""
    grow_old(folder, 40)
    run("prune", folder, "--older-than", "30d", "--yes")
    assert names(folder) == ["en_sentences", "lines"]
    run("prune", folder, "--older-than", "0s", "--yes")
    assert names(folder) == []


def test_prune_leaves_a_partial_that_is_not_that_old(folder):
    grow_old(folder, 3)
    ended = run("prune", folder, "--older-than", "30d", "--partial", "--yes")
    assert "nothing to delete" in ended.stderr
    assert "unfinished" in names(folder)


def test_prune_partial_leaves_what_a_run_saves_and_says_so(folder):
    store = CheckpointStore(folder)
    before = tree(folder)
    with store.hold("unfinished", "0123abcd"):
        for options in (["--partial"], ["--older-than", "0s", "--partial"]):
            ended = run("prune", folder, *options, "--yes")
            assert ended.exit_code == 0
            assert cells(ended)[0][-6:] == ["a", "run", "is", "saving", "it", "now"]
            assert "nothing to delete" in ended.stderr
    assert tree(folder) == before


def test_prune_leaves_damaged_markers_unless_age_alone_is_given(folder):
    damage_marker(folder, "lines")
    grow_old(folder, 40)
    run("prune", folder, "--partial", "--leftovers", "--older-than", "30d", "--yes")
    assert names(folder) == ["en_sentences", "lines"]
    run("prune", folder, "--older-than", "30d", "--yes")
    assert names(folder) == ["en_sentences"]


def test_prune_never_removes_what_takes_a_newer_version(folder):
    make_newer(folder, "lines")
    grow_old(folder, 40)
    ended = run("prune", folder, "lines", "--older-than", "30d", "--yes")
    assert "it takes a newer version of this program" in ended.stdout
    assert "lines" in names(folder)


def test_prune_leftovers_removes_what_no_marker_names_and_nothing_foreign(folder):
    before = tree(folder)
    left = leave_over(folder, "en_sentences")
    ended = run("prune", folder, "--leftovers", "--yes")
    assert cells(ended)[0][:4] == ["en_sentences", "done", "left-over", str(len(left))]
    assert "deleted what was left over in en_sentences\nfreed 16 B" in ended.stdout
    after = tree(folder)
    assert after.pop(folder / "en_sentences/foreign.txt") == b"mine"
    assert after == before
    assert run("verify", folder, "en_sentences").exit_code == 0


def test_prune_leftovers_leaves_those_of_a_run_that_goes_on(folder):
    leave_over(folder, "lines")
    before = tree(folder)
    with CheckpointStore(folder).hold("lines", "0123abcd"):
        ended = run("prune", folder, "--leftovers", "--yes")
    assert "a run is saving it now" in ended.stdout
    assert tree(folder) == before


def test_prune_leftovers_removes_a_folder_of_leftovers_alone(folder):
    folder.joinpath("dead").mkdir()
    folder.joinpath("dead", temporary_filename()).write_bytes(b"left")
    ended = run("prune", folder, "--leftovers", "--yes")
    assert cells(ended)[0][:3] == ["dead", "absent", "left-over"]
    assert not folder.joinpath("dead").exists()
    assert "unfinished" in names(folder)


def test_prune_on_a_bucket_leaves_what_is_new_unless_an_age_is_given(s3):
    """There it cannot be seen whether a run goes on."""
    root = s3.new_root()
    fill(root)
    ended = run("prune", root, "--partial", "--yes")
    assert "a run may be saving it" in ended.stdout
    assert names(root) == ["en_sentences", "lines", "unfinished"]
    run("prune", root, "--partial", "--older-than", "0s", "--yes")
    assert names(root) == ["en_sentences", "lines"]


NOW = datetime(2026, 3, 4, tzinfo=UTC)


def contents(days=1.0, goes_on=None, names=("part-x",)):
    modified = NOW.timestamp() - days * DAY
    return Contents({name: FileInfo(5, modified) for name in names}, 0, goes_on)


def ago(days):
    return datetime.fromtimestamp(NOW.timestamp() - days * DAY, UTC).isoformat()


@pytest.mark.parametrize(
    "state, days, goes_on, criteria, expected",
    [
        ("partial", 0, False, Criteria(partial=True), "goes"),
        ("partial", 0, None, Criteria(partial=True), "less than 24 h"),
        ("partial", 1.1, None, Criteria(partial=True), "goes"),
        ("partial", 0, None, Criteria(0, partial=True), "goes"),
        ("partial", 40, True, Criteria(partial=True), "a run is saving"),
        ("partial", 40, True, Criteria(30 * DAY), "a run is saving"),
        ("partial", 29, False, Criteria(30 * DAY, partial=True), None),
        ("done", 29, False, Criteria(30 * DAY), None),
        ("done", 31, False, Criteria(30 * DAY), "goes"),
        ("done", 31, None, Criteria(30 * DAY), "goes"),
        ("done", 31, True, Criteria(30 * DAY), "a run is saving"),
        ("done", None, False, Criteria(30 * DAY), "not known"),
    ],
)
def test_what_goes_and_why_the_rest_stays(state, days, goes_on, criteria, expected):
    when = None if days is None else ago(days)
    status = Status("x", state, changed=when)
    found = contents(days or 0, goes_on)
    if days is None:
        found = Contents({"part-x": FileInfo(5)}, 0, goes_on)
    assert criteria.concerns(status)
    removal = decide(status, found, criteria, NOW)
    if expected is None:
        assert removal is None
    elif expected == "goes":
        assert (removal.stays, removal.whole) == (None, True)
    else:
        assert expected in removal.stays


@pytest.mark.parametrize(
    "criteria, concerned",
    [
        (Criteria(partial=True), ["partial"]),
        (Criteria(leftovers=True), ["absent", "done"]),
        (Criteria(partial=True, leftovers=True), ["absent", "done", "partial"]),
        (Criteria(DAY), ["damaged", "done", "newer", "partial"]),
        (Criteria(DAY, partial=True), ["partial"]),
    ],
)
def test_what_criteria_concern(criteria, concerned):
    statuses = [
        Status("x", "absent"),
        Status("x", "partial"),
        Status("x", "done"),
        Status("x", "partial", problem="cut"),
        Status("x", "done", problem="newer"),
    ]
    found = [s.condition for s in statuses if criteria.concerns(s)]
    assert sorted(found) == concerned
