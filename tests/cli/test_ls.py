"""``agatha-ckpt ls``: what is there, in a table and as JSON, and what it costs."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta

import dask
import pytest

from agatha_ckpt import Checkpointer, Plan
from agatha_ckpt._format.manifest import Manifest, encode_manifest
from agatha_ckpt._human import age
from tests.cli.cli_cases import (
    cells,
    damage_marker,
    fill,
    fill_with_foreign_files,
    forbidden,
    make_bag,
    make_newer,
    refused,
    run,
    run_forbidden,
    tree,
)
from tests.servers.proxy import Fault
from tests.store.test_requests import PAGE, counting, kind, save_noise


@pytest.fixture
def folder(tmp_path):
    fill_with_foreign_files(tmp_path)
    return tmp_path


def test_it_lists_what_is_done_and_partial_and_writes_nothing(folder):
    before = tree(folder)
    ended = run("ls", folder)
    assert ended.exit_code == 0
    header = ended.stdout.splitlines()[0].split()
    assert header[:5] == ["NAME", "STATE", "FORMAT", "PARTITIONS", "RECORDS"]
    assert header[5:] == ["SIZE", "AGE", "VERSION"]
    rows = cells(ended)
    assert [row[0] for row in rows] == ["en_sentences", "lines", "unfinished"]
    assert rows[0][1:5] == ["done", "msgpack", "2", "4"]
    assert rows[0][-1] == "2"
    assert rows[1][1:7] == ["done", "text", "2", "4", "8", "B"]
    assert rows[2][1:5] == ["partial", "1/2", "msgpack", "1"]
    assert tree(folder) == before


def test_columns_stand_below_each_other_and_figures_at_the_right(folder):
    header, *lines = run("ls", folder, "[el]*").stdout.splitlines()
    assert {line.index("done") for line in lines} == {header.index("STATE")}
    end = header.index("PARTITIONS") + len("PARTITIONS")
    assert {line[end - 2 : end] for line in lines} == {" 2"}


def test_names_of_wide_letters_keep_the_columns_in_place(tmp_path):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    for name in ("文章", "abcd"):
        checkpointer.checkpoint(name, make_bag(), scheduler="sync")
    _, *lines = run("ls", tmp_path).stdout.splitlines()
    assert [line.partition("done")[0] for line in lines] == ["abcd  ", "文章  "]


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("*_sentences", ["en_sentences"]),
        ("[lu]*", ["lines", "unfinished"]),
        ("nothing", []),
    ],
)
def test_it_takes_a_pattern(folder, pattern, names):
    ended = run("ls", folder, pattern)
    assert [row[0] for row in cells(ended)] == names
    assert ended.exit_code == 0
    assert bool(names) != (f"no checkpoints that match {pattern!r}" in ended.stderr)


def test_json_says_the_same_and_more(folder):
    damage_marker(folder, "lines")
    ended = run("ls", folder, "--json")
    sentences, lines, unfinished = json.loads(ended.stdout)
    manifest = Checkpointer(folder).store.manifest("en_sentences")
    assert sentences == {
        "name": "en_sentences",
        "state": "done",
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
    }
    assert (lines["state"], lines["records"]) == ("damaged", None)
    assert "seal does not match" in lines["problem"]
    assert (unfinished["state"], unfinished["partitions"]) == ("partial", 1)
    assert unfinished["expected"] == 2


def test_json_of_nothing_is_an_empty_array(folder):
    assert json.loads(run("ls", folder, "nothing", "--json").stdout) == []


def test_a_damaged_marker_is_a_state_with_its_reason_below(folder):
    damage_marker(folder, "lines")
    ended = run("ls", folder)
    assert ended.exit_code == 0
    assert [row[1] for row in cells(ended)] == ["done", "damaged", "partial"]
    assert "done marker of checkpoint 'lines'" in ended.stderr
    assert "or clear it" in ended.stderr


@pytest.mark.parametrize("what", [".", "__done__"])
def test_what_may_not_be_read_is_a_state_and_hides_nothing_else(folder, what):
    before = tree(folder)
    with forbidden(folder / "lines" / what):
        ended = run_forbidden("ls", folder)
        as_json = run_forbidden("ls", folder, "--json")
    assert [row[:2] for row in cells(ended)] == [
        ["en_sentences", "done"],
        ["lines", "unreadable"],
        ["unfinished", "partial"],
    ]
    assert cells(ended)[1][2:] == ["?"] * 5
    reason, last = ended.stderr.strip().splitlines()
    assert reason.startswith("checkpoint 'lines' under ")
    assert "it may not be read (Permission denied); use an account" in reason
    assert last.startswith("Error: 1 of 3 checkpoints unreadable; use an account")
    assert ended.exit_code == as_json.exit_code == 1
    _, lines, _ = json.loads(as_json.stdout)
    assert (lines["state"], lines["problem"]) == ("unreadable", reason)
    assert (lines["partitions"], lines["records"], lines["bytes"]) == (None,) * 3
    assert tree(folder) == before


def test_what_takes_a_newer_version_is_neither_done_nor_damaged(folder):
    make_newer(folder, "lines")
    ended = run("ls", folder, "lines")
    assert cells(ended)[0][1] == "newer"
    assert "upgrade agatha_ckpt" in ended.stderr


def test_the_age_of_a_partial_is_that_of_its_newest_file(folder):
    [path] = folder.glob("unfinished/part-*")
    then = datetime.now(UTC) - timedelta(days=3, hours=1)
    os.utime(path, (then.timestamp(), then.timestamp()))
    assert cells(run("ls", folder, "unfinished"))[0][-2:] == ["3", "d"]


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (3599, "59 min"),
        (47 * 3600, "47 h"),
        (48 * 3600, "2 d"),
        (59 * 86400, "59 d"),
        (100 * 86400, "3 mo"),
        (800 * 86400, "2 y"),
    ],
)
def test_an_age_has_one_unit(seconds, shown):
    now = datetime.now(UTC)
    assert age((now - timedelta(seconds=seconds)).isoformat(), now) == shown


def test_an_age_that_is_not_known_is_a_question_mark():
    assert [age(None), age(""), age("yesterday")] == ["?", "?", "?"]


def test_an_empty_root_says_so_in_one_line(tmp_path):
    ended = run("ls", tmp_path)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"There are no checkpoints under {str(tmp_path)!r}.\n"


def test_a_root_that_is_not_there_is_an_error(root):
    assert "does not exist" in refused("ls", root)
    fill(root)
    assert run("ls", root).exit_code == 0


def test_the_root_may_come_from_the_configuration(folder):
    with dask.config.set({"agatha-ckpt.root": str(folder)}):
        assert len(cells(run("ls"))) == 3
        assert [row[0] for row in cells(run("ls", "-", "lines"))] == ["lines"]
    without = run("ls")
    assert without.exit_code == 2
    assert "DASK_AGATHA_CKPT__ROOT" in without.stderr


@pytest.fixture
def counted(s3):
    with counting(s3) as counted:
        yield counted


def test_1000_checkpoints_cost_one_listing_and_one_read_each(counted):
    n = PAGE + 1
    marker = encode_manifest(Manifest(Plan(0), ()))
    paths = {f"{counted.root}/c{i:04d}/__done__": marker for i in range(n)}
    counted.server.fs.pipe(paths)
    ended = []
    cost = counted.cost(lambda: ended.append(run("ls", counted.root, "--json")))
    assert cost == {"LIST": 2, "GET marker": n}
    assert len(json.loads(ended[0].stdout)) == n


class Together(Fault):
    """The answer comes when as many requests are there."""

    def __init__(self, requests):
        self.all_there = threading.Barrier(requests, timeout=300)

    def happen(self, handler, request):
        self.all_there.wait()
        super().happen(handler, request)


def test_the_reads_go_out_side_by_side(counted):
    names = [f"c{i}" for i in range(8)]
    marker = encode_manifest(Manifest(Plan(0), ()))
    counted.server.fs.pipe({f"{counted.root}/{n}/__done__": marker for n in names})
    together = Together(len(names))
    counted.proxy.fault = lambda request: (
        together if "__done__" in request.path else None
    )
    assert [row[0] for row in cells(run("ls", counted.root))] == names
    assert counted.ckpt.names() == names


def test_a_partial_costs_a_listing_and_the_beginning_of_one_file_more(counted):
    save_noise(counted, 2, 40)
    counted.interrupt(missing=[1])
    cost = counted.cost(run, "ls", counted.root)
    assert cost == {"LIST": 2, "GET marker": 1, "GET part": 1}
    [read] = [r for r in counted.proxy.requests if kind(r) == "GET part"]
    assert read.headers["Range"] == "bytes=0-4095"


def test_an_empty_prefix_of_a_bucket_is_a_root_that_is_not_there(s3):
    assert "does not exist" in refused("ls", s3.new_root())
    assert "does not exist" in refused("ls", "s3://no-such-bucket/run")
