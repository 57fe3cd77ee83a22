"""``agatha-ckpt clear`` and ``prune``: what is deleted, kept, shown and asked."""

import io
import os
import time

import pytest

from agatha_ckpt import CheckpointStore
from agatha_ckpt._human import format_bytes
from tests.cli.cases import (
    damage_marker,
    fill,
    forbidden,
    leave_over,
    make_unsupported,
    refused,
    rows,
    run,
    save,
    save_as_agatha,
    tree,
)

DAY = 86_400
NOW = ("--older-than", "0s", "--yes")  # whatever its age


def names(root):
    return [status.name for status in CheckpointStore(root).statuses()]


def grow_old(folder, days):
    """Set the times of all files below *folder* back."""
    then = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


# ---- clear ----


def test_clear_shows_what_it_deletes_asks_and_deletes_only_that_P6(folder):
    folder.joinpath("lines/mine.txt").write_text("mine")
    before = tree(folder)
    ended = run("clear", folder, "lines", "unfinished", input="y\n")
    assert ended.exit_code == 0
    lines, unfinished = rows(ended)[:2]
    assert lines[:4] == ["lines", "done", "all", "3"]
    assert lines[-4:] == ["keeps", "1", "foreign", "file"]
    assert unfinished[:5] == ["unfinished", "partial", "1/2", "all", "1"]
    assert "Delete 2 checkpoints, " in ended.stderr
    deleted = before.keys() - tree(folder).keys()
    parents = {path.parent.name for path in deleted}
    assert parents == {"lines", "unfinished", folder.name}
    assert folder / "lines/mine.txt" not in deleted
    stored = sum(len(before[path] or b"") for path in deleted)
    assert ended.stdout.splitlines()[-1] == f"freed {format_bytes(stored)}"


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
    "command", [["clear", "lines"], ["clear", "--all"], ["prune", "--older-than", "0s"]]
)
def test_nothing_is_deleted_without_consent(folder, command, options, answer, code):
    before = tree(folder)
    command, *what = command
    ended = run(command, folder, *what, *options, input=answer)
    assert ended.exit_code == code
    assert "lines" in ended.stdout
    last = ended.stderr.splitlines()[-1]
    assert ("nothing was deleted" if code else "Would delete ") in last
    assert tree(folder) == before


def test_an_interrupt_at_the_question_deletes_nothing(folder):
    class Interrupt(io.BytesIO):
        def read1(self, size=-1):
            raise KeyboardInterrupt

    before = tree(folder)
    ended = run("clear", folder, "lines", input=Interrupt())
    assert ended.exit_code == 130
    assert ended.stderr.splitlines()[-1].startswith("Delete 1 checkpoint")
    assert tree(folder) == before


def test_they_work_on_every_filesystem_by_name_or_path(root):
    fill(root)
    path = CheckpointStore(root).path("lines")
    assert run("clear", root, path, "--yes").exit_code == 0
    assert names(root) == ["en_sentences", "unfinished"]
    run("prune", root, "--partial", *NOW)
    assert names(root) == ["en_sentences"]
    assert run("clear", root, "--all", "--yes").exit_code == 0
    assert names(root) == []


@pytest.mark.parametrize(
    "command, message",
    [
        ("clear ROOT", "either the names of checkpoints or --all"),
        ("clear ROOT lines --all", "either the names of checkpoints or --all"),
        ("prune ROOT", "--older-than AGE, --keep N, --partial, --leftovers"),
    ],
)
def test_without_a_selection_nothing_is_deleted(folder, command, message):
    before = tree(folder)
    ended = run(*command.replace("ROOT", str(folder)).split(), "--yes")
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    "name, message",
    [
        ("en_sentence", "did you mean 'en_sentences'?"),
        ("..", "invalid name"),
        ("foreign", "holds no files of agatha_ckpt"),
    ],
)
def test_one_wrong_name_and_nothing_is_deleted(folder, name, message):
    before = tree(folder)
    assert message in refused("clear", folder, "lines", name, "--yes")
    assert tree(folder) == before


def test_clear_deletes_checkpoints_in_every_state(folder):
    damage_marker(folder, "lines")
    make_unsupported(folder, "en_sentences")
    save_as_agatha(folder, "old", b"12345")
    chosen = ["lines", "en_sentences", "old"]
    ended = run("clear", folder, *chosen, "--yes")
    assert [row[1] for row in rows(ended)[:3]] == ["damaged", "unsupported", "done"]
    assert names(folder) == ["unfinished"]


@pytest.mark.parametrize(
    "command", [["clear", "unfinished"], ["prune", "--partial", "--older-than", "0s"]]
)
def test_a_checkpoint_that_changed_since_it_was_shown_is_kept(folder, command):
    """A run commits it while the question waits for an answer."""

    class Answer(io.BytesIO):
        def read1(self, size=-1):
            save(folder, ["a", "b"], 2, name="unfinished")
            return b"y\n"

    command, *arguments = command
    ended = run(command, folder, *arguments, input=Answer())
    assert ended.exit_code == 1
    assert "kept unfinished: it has changed" in ended.stderr
    assert CheckpointStore(folder).is_done("unfinished")


def test_what_this_account_may_not_delete_is_kept_with_the_reason(shared):
    with forbidden(shared / "lines", 0o555):
        ended = run("clear", shared, "lines", "--yes")
    assert ended.exit_code == 1
    assert "kept lines: no permission to delete it (Permission denied)" in ended.stderr
    assert CheckpointStore(shared).is_done("lines")


# ---- prune ----


@pytest.mark.parametrize(
    "age",
    ["banana", "", "30", "-3d", "1e9d", "inf d", "nan d", "3 d 4 h", "6m", "6M", "d",
     "30parsecs", "9" * 400 + "d"],
)  # fmt: skip
def test_an_invalid_age_is_one_line(folder, age):
    message = refused("prune", folder, "--older-than", age, "--yes", code=2)
    assert "36h, 30d or 8w" in message


@pytest.mark.parametrize(
    "age, days",
    [("24h", 1), ("90 minutes", 1 / 16), ("30d", 30), ("2 weeks", 14), ("1.5w", 10.5)],
)
def test_an_age_has_a_unit(folder, age, days):
    grow_old(folder, days * 0.99)
    run("prune", folder, "--partial", "--older-than", age, "--yes")
    assert "unfinished" in names(folder)
    grow_old(folder, days * 1.01)
    run("prune", folder, "--partial", "--older-than", age, "--yes")
    assert "unfinished" not in names(folder)


def test_prune_partial_removes_old_partials_alone(folder):
    ended = run("prune", folder, "--partial", "--yes")
    assert "less than 24 h ago, so a run may be saving it" in ended.stdout
    assert "nothing to delete" in ended.stderr
    grow_old(folder, 2)
    ended = run("prune", folder, "x*", "--partial", "--yes")
    assert "nothing to delete" in ended.stderr
    ended = run("prune", folder, "--partial", "--yes")
    assert ended.exit_code == 0
    assert names(folder) == ["en_sentences", "lines"]


def test_prune_older_than_goes_by_the_commit_or_the_newest_file(folder):
    """The time of a file that was copied is not when the checkpoint was saved."""
    grow_old(folder, 40)
    run("prune", folder, "--older-than", "30d", "--yes")
    assert names(folder) == ["en_sentences", "lines"]
    run("prune", folder, *NOW)
    assert names(folder) == []


def test_prune_leftovers_removes_unnamed_files_and_no_foreign_one(folder):
    before = tree(folder)
    left = leave_over(folder, "en_sentences")
    recent = run("prune", folder, "--leftovers", "--yes")
    assert "less than 24 h ago" in recent.stdout
    grow_old(folder, 2)
    ended = run("prune", folder, "--leftovers", "--yes")
    assert rows(ended)[0][:4] == ["en_sentences", "done", "leftovers", str(len(left))]
    assert "deleted leftovers of en_sentences\nfreed 8 B" in ended.stdout
    assert tree(folder).keys() - before.keys() == {folder / "en_sentences/foreign.txt"}
    assert before.keys() <= tree(folder).keys()
    assert run("verify", folder, "en_sentences").exit_code == 0


def test_prune_leftovers_removes_a_folder_of_leftovers_alone(folder):
    folder.joinpath("dead").mkdir()
    folder.joinpath("dead", ".tmp-" + 16 * "0").write_bytes(b"left")
    ended = run("prune", folder, "--leftovers", *NOW)
    assert rows(ended)[0][:3] == ["dead", "absent", "leftovers"]
    assert not folder.joinpath("dead").exists()
    assert "unfinished" in names(folder)
