"""``agatha-ckpt show``."""

import json
import re

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.cli.cases import (
    damage_marker,
    family,
    fill,
    leave_over,
    run,
    save,
    save_as_agatha,
)


def facts(ended):
    """The lines before the tables, by label."""
    lines = ended.stdout.partition("\n\n")[0].splitlines()
    return {
        label: text.strip() for label, _, text in (x.partition("  ") for x in lines)
    }


def test_it_shows_the_facts_of_a_done_checkpoint(root):
    fill(root)
    ended = run("show", root, "en_sentences")
    assert (ended.exit_code, ended.stderr) == (0, "")
    store = CheckpointStore(root)
    manifest = store.manifest("en_sentences")
    shown = facts(ended)
    assert manifest.created[:10] in shown.pop("saved")
    assert "stale" not in shown
    size = shown.pop("size")
    assert shown == {
        "name": "en_sentences",
        "state": "done",
        "where": str(store.path("en_sentences")),
        "format": "msgpack",
        "partitions": "2",
        "records": "4",
        "version": "2",
        "parents": "none",
        "children": "none",
        "pickle": "none",
        "id": manifest.id,
    }
    assert size == f"{sum(info.bytes for info in manifest.partitions)} B"


def test_it_names_parents_children_and_why_it_is_stale(root):
    checkpointer = family(root)
    shown = facts(run("show", root, "sentences"))
    assert (shown["parents"], shown["children"]) == ("documents", "terms")
    checkpointer.clear("documents")
    save(root, range(7), 3, name="documents")
    shown = facts(run("show", root, "sentences"))
    assert shown["stale"] == "its parent 'documents' has other records now"
    assert "has other records now" in shown["parents"]
    assert "is stale" in facts(run("show", root, "terms"))["stale"]


def test_a_partial_has_a_count_and_the_time_of_its_last_write(folder):
    shown = facts(run("show", folder, "unfinished"))
    assert shown["state"] == "partial 1/2"
    assert shown["written"].endswith(" ago")


def test_of_a_damaged_marker_the_exit_code_is_1(folder):
    damage_marker(folder, "lines")
    ended = run("show", folder, "lines")
    assert ended.exit_code == 1
    assert facts(ended)["state"] == "damaged"
    assert len(ended.stderr.splitlines()) == 1
    assert "done marker of checkpoint 'lines'" in ended.stderr
    assert "or clear it" in ended.stderr


def test_leftovers_and_foreign_files_are_counted(folder):
    left = leave_over(folder, "lines")
    shown = facts(run("show", folder, "lines"))
    assert shown["leftovers"].startswith(f"{len(left)} files, {4 * len(left)} B")
    assert shown["foreign"] == "1 file"


def unequal(part):
    """One partition has ten times the records of the others."""
    [index] = part
    return ["x" * 100] * (10_000 if index == 2 else 1_000)


def test_unequal_partitions_alone_have_a_histogram(folder, tmp_path):
    assert "\nSIZE " not in run("show", folder, "lines").stdout
    bag = dask.bag.from_sequence(range(4), npartitions=4).map_partitions(unequal)
    Checkpointer(tmp_path, verbose=False).checkpoint("x", bag, scheduler="sync")
    lines = run("show", tmp_path, "x").stdout.splitlines()
    [records] = [line.split() for line in lines if line.startswith("records  ")][1:]
    assert records[1:5] == ["1,000", "1,000", "10,000", "13,000"]
    assert records[5:7] == ["partition", "2,"]
    start = next(i for i, line in enumerate(lines) if line.startswith("SIZE "))
    bars = lines[start + 1 : start + 9]
    counts = [int(line.rstrip("# ").split()[-1]) for line in bars]
    assert counts == [3, 0, 0, 0, 0, 0, 0, 1]
    assert bars[0].endswith("  " + "#" * 40)


def test_checkpoints_of_agatha_are_shown(tmp_path):
    save_as_agatha(tmp_path, "old", b"12345")
    shown = facts(run("show", tmp_path, "old"))
    assert (shown["format"], shown["records"], shown["size"]) == ("pickle", "?", "5 B")
    assert shown["saved"] == "?, by Agatha"
    assert shown["pickle"] == "holds pickled values"
    (tmp_path / "touched").mkdir()
    (tmp_path / "touched" / "__done__").touch()
    assert facts(run("show", tmp_path, "touched"))["partitions"] == "0"


@pytest.mark.parametrize("command", [["show", "x"], ["ls"]], ids=lambda c: c[0])
def test_no_control_character_of_a_marker_reaches_the_terminal(tmp_path, command):
    save(tmp_path, [1], version="\x1b[2J\n")
    ended = run(command[0], tmp_path, *command[1:])
    assert "\x1b" not in ended.stdout
    assert "\\u001b[2J\\n" in ended.stdout


def test_metadata_has_a_line_for_each_key(tmp_path):
    metadata = {"source": ["é", None], "ü\x1b": "x" * 1_000}
    save(tmp_path, [1], metadata=metadata)
    shown = run("show", tmp_path, "x").stdout
    assert re.search(r'^metadata +source = \["é", null\]$', shown, re.MULTILINE)
    long = r'^metadata +ü\\u001b = "x{199}\.\.\. \(all of it'
    assert re.search(long, shown, re.MULTILINE)
    document = json.loads(run("show", tmp_path, "x", "--json").stdout)
    assert document["metadata"] == metadata


def test_json_has_the_relatives_and_every_partition(root):
    family(root)
    document = json.loads(run("show", root, "sentences", "--json").stdout)
    store = CheckpointStore(root)
    assert document["parents"] == [
        {"name": "documents", "now": "documents", "problem": None}
    ]
    assert document["children"] == ["terms"]
    assert document["where"] == str(store.path("sentences"))
    files = [partition["file"] for partition in document["stored"]]
    assert files == [info.file for info in store.manifest("sentences").partitions]


def test_it_costs_the_markers_and_three_listings(counted):
    family(counted.root)
    cost = counted.cost(run, "show", counted.root, "sentences")
    assert cost == {"LIST": 3, "GET marker": 3}
