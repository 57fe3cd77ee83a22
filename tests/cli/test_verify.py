"""``agatha-ckpt verify``: whether it is what was saved."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.cli.cli_cases import (
    damage_marker,
    damage_one_partition,
    fill,
    fill_with_foreign_files,
    forbidden,
    make_bag,
    refused,
    run,
    run_forbidden,
    tree,
)


@pytest.fixture
def folder(tmp_path):
    fill_with_foreign_files(tmp_path)
    return tmp_path


def results(ended):
    """What is said of each checkpoint, by name."""
    lines = [line for line in ended.stdout.splitlines() if not line.startswith(" ")]
    return {name: text.strip() for name, _, text in (x.partition("  ") for x in lines)}


ALL_WELL = {
    "en_sentences": "ok",
    "lines": "ok",
    "unfinished": "partial 1/2, not checked",
}


@pytest.mark.parametrize("fast", [(), ("--fast",)])
def test_all_is_well(folder, fast):
    before = tree(folder)
    ended = run("verify", folder, *fast)
    assert results(ended) == ALL_WELL
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert tree(folder) == before


def test_it_checks_on_every_filesystem(root):
    fill(root)
    assert results(run("verify", root)) == ALL_WELL
    store = CheckpointStore(root)
    path = next(p for p in store.fs.find(f"{root}/lines") if "/part-00001" in p)
    store.fs.pipe_file(path, store.fs.cat_file(path).replace(b"d", b"x"))
    ended = run("verify", root)
    assert results(ended)["lines"] == "damaged"
    assert ended.exit_code == 1


@pytest.mark.parametrize("name", ["en_sentences", "lines"])
def test_the_damaged_partition_is_named_and_the_exit_code_is_1_P5(folder, name):
    damage_one_partition(folder, name)
    before = tree(folder)
    ended = run("verify", folder)
    assert ended.exit_code == 1
    assert results(ended) == ALL_WELL | {name: "damaged"}
    assert "\n    partition 0: " in ended.stdout
    assert "partition 1" not in ended.stdout
    assert ended.stderr.startswith("Error: 1 of 3 checkpoints damaged; ")
    assert tree(folder) == before
    [other] = {"en_sentences", "lines"} - {name}
    assert run("verify", folder, other).exit_code == 0


@pytest.mark.parametrize("fast", [(), ("--fast",)])
def test_partitions_that_lack_for_the_same_reason_are_named_together(tmp_path, fast):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    checkpointer.checkpoint("x", make_bag(None, 8, 8), scheduler="sync")
    for index in (1, 3, 4, 5):
        next(tmp_path.glob(f"x/part-0000{index}-*")).unlink()
    ended = run("verify", tmp_path, *fast)
    assert ended.exit_code == 1
    reasons = [line for line in ended.stdout.splitlines() if line.startswith("  ")]
    [reason] = reasons
    assert reason.startswith("    partitions 1, 3-5: its file is missing")


def test_fast_sees_another_size_and_no_flipped_bit(folder):
    damage_one_partition(folder, "en_sentences")
    assert run("verify", folder, "--fast").exit_code == 0
    path = min(folder.glob("lines/part-*"))
    path.write_bytes(path.read_bytes()[:-1])
    ended = run("verify", folder, "--fast")
    assert ended.exit_code == 1
    assert "partition 0: its file has 3 bytes, not 4" in ended.stdout


@pytest.mark.parametrize("fast", [(), ("--fast",)])
@pytest.mark.parametrize("what", [".", "__done__", "part-00001-*"])
def test_what_may_not_be_read_is_no_damage_and_hides_none_P5(folder, what, fast):
    damage_marker(folder, "en_sentences")
    [path] = folder.glob(f"lines/{what}") if "*" in what else [folder / "lines" / what]
    with forbidden(path):
        ended = run_forbidden("verify", folder, *fast)
        alone = run_forbidden("verify", folder, "lines", *fast)
    if fast and "*" in what:  # its size is known
        assert (results(alone), alone.exit_code) == ({"lines": "ok"}, 0)
        return
    assert ended.exit_code == alone.exit_code == 1
    wrong = {"en_sentences": "damaged", "lines": "unreadable"}
    assert results(ended) == ALL_WELL | wrong
    assert "    partition 1: it may not be" in alone.stdout or "*" not in what
    assert "it may not be read (Permission denied)" in alone.stdout
    assert ended.stderr.startswith("Error: 1 of 3 checkpoints damaged, 1 unreadable; ")
    assert alone.stderr.startswith("Error: 1 of 1 checkpoint unreadable; use an acc")


def test_fast_says_of_files_that_may_not_be_listed_that_they_are_unreadable(folder):
    path = folder / "lines"
    path.chmod(0o311)  # what is in it may be read by its name
    try:
        ended = run_forbidden("verify", folder, "--fast")
    finally:
        path.chmod(0o755)
    assert results(ended) == ALL_WELL | {"lines": "unreadable"}
    assert "partitions 0-1: it may not be read" in ended.stdout


def test_a_broken_marker_is_damage(folder):
    damage_marker(folder, "lines")
    ended = run("verify", folder)
    assert ended.exit_code == 1
    assert results(ended)["lines"] == "damaged"
    assert "    the done marker of checkpoint 'lines'" in ended.stdout


def test_what_agatha_pickled_is_only_read_if_that_is_allowed(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    folder.joinpath("part-0.pkl").write_bytes(b"no pickle")
    folder.joinpath("__done__").write_text("/gone/old/part-0.pkl\n")
    ended = run("verify", tmp_path)
    assert ended.exit_code == 0
    assert "but for the content of its pickles" in ended.stdout
    allowed = run("verify", tmp_path, "--allow-pickle")
    assert allowed.exit_code == 1
    assert "partition 0: it is no pickle" in allowed.stdout


def test_a_pattern_that_nothing_matches_is_not_all_well(folder):
    assert "did you mean 'lines'?" in refused("verify", folder, "line")
    assert "no checkpoint 'x*'" in refused("verify", folder, "x*")
    assert run("verify", folder.joinpath("foreign")).exit_code == 0


def on_terminal(*arguments):
    """Run the program with stderr on a terminal; return its stdout and what is seen."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    os.set_blocking(controller, False)
    command = [sys.executable, "-m", "agatha_ckpt", *map(str, arguments)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal)
    seen = os.read(controller, 100_000)
    os.close(terminal)
    os.close(controller)
    return ended.stdout.decode(), seen.decode()


def test_a_bar_is_drawn_on_a_terminal_alone(folder):
    out, seen = on_terminal("verify", folder, "[el]*")
    assert out == run("verify", folder, "[el]*").stdout
    assert "verifying:" in seen
