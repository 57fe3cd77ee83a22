"""``agatha-ckpt verify``."""

import pytest

from tests.cli.cases import (
    damage_marker,
    damage_one_partition,
    fill,
    forbidden,
    make_unsupported,
    refused,
    run,
    save,
    save_as_agatha,
)

ALL_OK = {
    "en_sentences": "ok",
    "lines": "ok",
    "unfinished": "partial 1/2, not checked",
}
slow_and_fast = pytest.mark.parametrize("fast", [(), ("--fast",)])


def results(ended):
    """The result of each checkpoint, by name."""
    lines = [line for line in ended.stdout.splitlines() if not line.startswith(" ")]
    return {name: text.strip() for name, _, text in (x.partition("  ") for x in lines)}


@slow_and_fast
def test_undamaged_checkpoints_are_ok(folder, fast):
    ended = run("verify", folder, *fast)
    assert results(ended) == ALL_OK
    assert (ended.exit_code, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["en_sentences", "lines"])
def test_a_damaged_partition_is_named_and_the_exit_code_is_1_P5(root, name):
    fill(root)
    damage_one_partition(root, name)
    ended = run("verify", root)
    assert ended.exit_code == 1
    assert results(ended) == ALL_OK | {name: "damaged"}
    assert "\n    partition 0: " in ended.stdout
    assert "partition 1" not in ended.stdout
    assert ended.stderr.startswith("Error: 1 of 3 checkpoints damaged; repair with ")
    assert run("verify", root, "unfinished").exit_code == 0


@slow_and_fast
def test_partitions_with_the_same_fault_are_named_together(tmp_path, fast):
    save(tmp_path, range(8), 8)
    for index in (1, 3, 4, 5):
        next(tmp_path.glob(f"x/part-0000{index}-*")).unlink()
    ended = run("verify", tmp_path, *fast)
    assert ended.exit_code == 1
    [reason] = [line for line in ended.stdout.splitlines() if line.startswith("  ")]
    assert reason.startswith("    partitions 1, 3-5: its file is missing")


def test_fast_compares_sizes_alone(folder):
    damage_one_partition(folder, "en_sentences")
    assert run("verify", folder, "--fast").exit_code == 0
    path = min(folder.glob("lines/part-*"))
    path.write_bytes(path.read_bytes()[:-1])
    ended = run("verify", folder, "--fast")
    assert ended.exit_code == 1
    assert "partition 0: its file has 3 bytes, not 4" in ended.stdout


@pytest.mark.parametrize(
    "change, state", [(damage_marker, "damaged"), (make_unsupported, "unsupported")]
)
def test_a_marker_that_cannot_be_used_fails(folder, change, state):
    change(folder, "lines")
    ended = run("verify", folder)
    assert ended.exit_code == 1
    assert results(ended) == ALL_OK | {"lines": state}
    assert "checkpoint 'lines' under" in ended.stdout
    assert ended.stderr.startswith(f"Error: 1 of 3 checkpoints {state}; ")


@slow_and_fast
@pytest.mark.parametrize(
    "what, mode, reason",
    [
        (".", 0, "checkpoint 'lines' under "),
        ("__done__", 0, "checkpoint 'lines' under "),
        ("part-00001-*", 0, "partition 1: no permission"),
        (".", 0o111, "partitions 0-1: no permission"),  # cannot be listed
    ],
)
def test_a_missing_permission_is_not_damage_and_hides_none_P5(
    shared, what, mode, reason, fast
):
    damage_marker(shared, "en_sentences")
    [path] = shared.glob(f"lines/{what}") if "*" in what else [shared / "lines" / what]
    with forbidden(path, mode):
        ended = run("verify", shared, *fast)
        alone = run("verify", shared, "lines", *fast)
    if (fast and "*" in what) or (not fast and mode):  # not needed for this
        assert (results(alone), alone.exit_code) == ({"lines": "ok"}, 0)
        return
    assert ended.exit_code == alone.exit_code == 1
    wrong = {"en_sentences": "damaged", "lines": "unreadable"}
    assert results(ended) == ALL_OK | wrong
    assert f"    {reason}" in alone.stdout
    assert "no permission to read it (Permission denied)" in alone.stdout
    assert ended.stderr.startswith("Error: 1 of 3 checkpoints damaged, 1 unreadable; ")
    assert alone.stderr.startswith("Error: 1 of 1 checkpoint unreadable; use an acc")


def test_pickles_of_agatha_are_read_only_if_allowed(tmp_path):
    save_as_agatha(tmp_path, "old", b"not a pickle")
    ended = run("verify", tmp_path)
    assert ended.exit_code == 0
    assert results(ended) == {"old": "ok, content of pickles not checked"}
    allowed = run("verify", tmp_path, "--allow-pickle")
    assert allowed.exit_code == 1
    assert "    partition 0: " in allowed.stdout


def test_a_pattern_without_a_match_is_an_error(folder):
    assert "no checkpoint 'x*'" in refused("verify", folder, "x*")
    assert run("verify", folder.joinpath("foreign")).exit_code == 0
