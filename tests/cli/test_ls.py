"""``agatha-ckpt ls``."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from agatha_ckpt import Checkpointer, Manifest, Plan
from agatha_ckpt._format.done_marker import encode_manifest
from tests.cli.cases import (
    damage_marker,
    family,
    forbidden,
    make_unsupported,
    on_terminal,
    rows,
    run,
    save,
)
from tests.servers.proxy import Fault
from tests.store.test_requests import ranges_of, save_noise


def test_it_lists_done_and_partial_checkpoints(folder):
    ended = run("ls", folder)
    assert ended.exit_code == 0
    header = ended.stdout.splitlines()[0].split()
    assert header[:5] == ["NAME", "STATE", "FORMAT", "PARTITIONS", "RECORDS"]
    assert header[5:] == ["SIZE", "AGE", "VERSION"]
    sentences, lines, unfinished = rows(ended)
    assert sentences[:5] == ["en_sentences", "done", "msgpack", "2", "4"]
    assert sentences[-1] == "2"
    assert lines[:7] == ["lines", "done", "text", "2", "4", "8", "B"]
    assert unfinished[:5] == ["unfinished", "partial", "1/2", "msgpack", "1"]


def test_columns_are_aligned_numbers_at_the_right(tmp_path):
    for name in ("文章", "abcd"):
        save(tmp_path, ["a"], name=name)
    header, *lines = run("ls", tmp_path).stdout.splitlines()
    assert [line.partition("done")[0] for line in lines] == ["abcd  ", "文章  "]
    end = header.index("PARTITIONS") + len("PARTITIONS")
    assert lines[0][end - 2 : end] == " 1"


@pytest.mark.parametrize(
    "environment, coloured",
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False),
     ({"TERM": "dumb"}, False)],
)  # fmt: skip
def test_colours_are_left_out_where_the_environment_asks(folder, environment, coloured):
    environment = {"NO_COLOR": None, "TERM": "xterm"} | environment
    # CliRunner's color=True stands for a terminal.
    ended = run("ls", folder, color=True, env=environment)
    assert ("\x1b" in ended.stdout) is coloured


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("*_sentences", ["en_sentences"]),
        ("[lu]*", ["lines", "unfinished"]),
        ("nothing", []),
    ],
)
def test_a_pattern_selects_checkpoints(folder, pattern, names):
    ended = run("ls", folder, pattern)
    assert [row[0] for row in rows(ended)] == names
    assert ended.exit_code == 0
    message = f"No checkpoint under {str(folder)!r} matches 'nothing'.\n"
    assert ended.stderr == ("" if names else message)


def test_json_has_exact_figures(folder):
    damage_marker(folder, "lines")
    sentences, lines, unfinished = json.loads(run("ls", folder, "--json").stdout)
    manifest = Checkpointer(folder).store.manifest("en_sentences")
    assert sentences == {
        "name": "en_sentences",
        "state": "done",
        "kind": "bag",
        "format": "msgpack",
        "partitions": 2,
        "expected": 2,
        "records": 4,
        "bytes": sum(info.bytes for info in manifest.partitions),
        "created": manifest.created,
        "changed": manifest.created,
        "version": "2",
        "id": manifest.id,
        "parents": [],
        "problem": None,
        "stale": [],
    }
    assert (lines["state"], lines["records"]) == ("damaged", None)
    assert "seal does not match" in lines["problem"]
    assert (unfinished["state"], unfinished["partitions"]) == ("partial", 1)
    assert unfinished["expected"] == 2
    assert json.loads(run("ls", folder, "nothing", "--json").stdout) == []


@pytest.mark.parametrize(
    "change, state, advice",
    [
        (damage_marker, "damaged", "or clear it"),
        (make_unsupported, "unsupported", "upgrade agatha_ckpt"),
    ],
)
def test_a_marker_that_cannot_be_used_is_a_state_with_its_reason(
    folder, change, state, advice
):
    change(folder, "lines")
    ended = run("ls", folder)
    assert ended.exit_code == 0
    assert [row[1] for row in rows(ended)] == ["done", state, "partial"]
    assert "checkpoint 'lines'" in ended.stderr
    assert advice in ended.stderr


@pytest.mark.parametrize("what", [".", "__done__"])
def test_a_checkpoint_without_permission_hides_no_other(shared, what):
    with forbidden(shared / "lines" / what):
        ended = run("ls", shared)
        as_json = run("ls", shared, "--json")
    states = [row[1] for row in rows(ended)]
    assert states == ["done", "unreadable", "partial"]
    assert rows(ended)[1][2:] == ["?"] * 5
    reason, last = ended.stderr.strip().splitlines()
    assert reason.startswith("checkpoint 'lines' under ")
    assert "no permission to read it (Permission denied); use an account" in reason
    assert last.startswith("Error: 1 of 3 checkpoints unreadable; use an account")
    assert ended.exit_code == as_json.exit_code == 1
    _, lines, _ = json.loads(as_json.stdout)
    assert (lines["state"], lines["problem"]) == ("unreadable", reason)
    assert (lines["partitions"], lines["records"], lines["bytes"]) == (None,) * 3


def test_the_age_of_a_partial_is_that_of_its_newest_file(folder):
    [path] = folder.glob("unfinished/part-*")
    then = datetime.now(UTC) - timedelta(days=3, hours=1)
    os.utime(path, (then.timestamp(), then.timestamp()))
    assert rows(run("ls", folder, "unfinished"))[0][-2:] == ["3", "d"]


@pytest.mark.parametrize("pattern", ["*", "terms"])
def test_a_stale_checkpoint_is_a_state_with_its_reason(root, pattern):
    family(root)
    assert [row[1] for row in rows(run("ls", root))] == ["done"] * 3
    Checkpointer(root).clear("documents")
    ended = run("ls", root, pattern)
    line = ended.stdout.splitlines()[-1]
    assert line.split()[:2] == ["terms", "stale"]
    assert line.endswith("its parent 'sentences' is stale")
    assert ended.exit_code == 0
    found = json.loads(run("ls", root, pattern, "--json").stdout)[-1]
    assert (found["state"], found["stale"]) == (
        "done",
        ["its parent 'sentences' is stale"],
    )


def test_an_empty_root_is_one_line(tmp_path):
    ended = run("ls", tmp_path)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"There are no checkpoints under {str(tmp_path)!r}.\n"


def test_a_root_without_checkpoints_names_the_roots_one_level_below(store):
    root = str(store.root)
    for name in ("run-1", "run 2", "run-3"):
        save(f"{root}/{name}", "ab")
    store.fs.rm(f"{root}/run-3/x", recursive=True)
    store.fs.makedirs(f"{root}/foreign/data", exist_ok=True)
    ended = run("ls", root)
    assert (ended.exit_code, ended.stdout) == (0, "")
    below = f"'{root}/run 2', {root}/run-1"
    assert ended.stderr == (
        f"There are no checkpoints under {root!r}. Roots one level below: {below}\n"
    )
    assert rows(run("ls", f"{root}/run-1"))[0][0] == "x"


@pytest.mark.parametrize(
    "columns, header",
    [
        (160, "NAME STATE FORMAT PARTITIONS RECORDS SIZE AGE VERSION"),
        (50, "NAME STATE RECORDS SIZE AGE"),
        (40, "NAME STATE SIZE AGE"),
        (30, "NAME STATE AGE"),
    ],
)
def test_a_narrow_terminal_gets_shorter_names_and_fewer_columns(
    tmp_path, monkeypatch, columns, header
):
    long = f"terms-of-{'documents-' * 5}2026"
    save(tmp_path, "ab", name=long, version="2")
    monkeypatch.setenv("COLUMNS", str(columns))
    first, line = on_terminal("ls", tmp_path).splitlines()
    assert first.split() == header.split()
    assert len(line) <= columns
    shown = line.split()[0]
    assert shown.startswith("terms-of-")
    assert shown.endswith("-2026")
    assert ("…" in shown) is (columns < 160)


# ---- what it costs ----


class Together(Fault):
    """The answer comes when as many requests have arrived."""

    def __init__(self, requests):
        self.arrived = threading.Barrier(requests, timeout=60)

    def happen(self, handler, request):
        self.arrived.wait()
        super().happen(handler, request)


def test_markers_are_read_concurrently_after_one_listing(counted):
    names = [f"c{i}" for i in range(8)]
    marker = encode_manifest(Manifest(Plan(0), ()))
    counted.server.fs.pipe({f"{counted.root}/{n}/__done__": marker for n in names})
    together = Together(len(names))
    counted.proxy.fault = lambda request: (
        together if "__done__" in request.path else None
    )
    ended = []
    cost = counted.cost(lambda: ended.append(run("ls", counted.root)))
    assert [row[0] for row in rows(ended[0])] == names
    assert cost == {"LIST": 1, "GET marker": len(names)}


def test_a_partial_costs_a_listing_and_one_small_read_more(counted):
    save_noise(counted, 2, 40)
    counted.interrupt(missing=[1])
    cost = counted.cost(run, "ls", counted.root)
    assert cost == {"LIST": 2, "GET marker": 1, "GET part": 1}
    counted.keep_only("GET part")
    [(first, last)] = ranges_of(counted)
    assert (first, last < 4096) == (0, True)
