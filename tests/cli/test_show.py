"""``agatha-ckpt show``: everything that is known of one checkpoint."""

import json

import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.cli.cli_cases import damage_marker, fill, fill_with_foreign_files, run, tree
from tests.cli.test_delete import leave_over
from tests.store.test_requests import counting


@pytest.fixture
def folder(tmp_path):
    fill_with_foreign_files(tmp_path)
    return tmp_path


def facts(ended):
    """What stands before the tables, by label."""
    lines = ended.stdout.partition("\n\n")[0].splitlines()
    return {
        label: text.strip() for label, _, text in (x.partition("  ") for x in lines)
    }


def family(root):
    """A parent, a child and a grandchild."""
    checkpointer = Checkpointer(root, verbose=False)
    bag = dask.bag.from_sequence(range(6), npartitions=3)
    documents = checkpointer.checkpoint("documents", bag, scheduler="sync")
    sentences = checkpointer.checkpoint("sentences", documents, scheduler="sync")
    checkpointer.checkpoint("terms", sentences, scheduler="sync")
    return checkpointer


def test_it_shows_what_ls_shows_and_where_it_is(root):
    fill(root)
    ended = run("show", root, "en_sentences")
    assert (ended.exit_code, ended.stderr) == (0, "")
    store = CheckpointStore(root)
    manifest = store.manifest("en_sentences")
    shown = facts(ended)
    assert shown["name"] == "en_sentences"
    assert shown["state"] == "done"
    assert shown["where"] == str(store.path("en_sentences"))
    assert shown["format"] == "msgpack"
    assert shown["partitions"] == "2"
    assert shown["records"] == "4"
    assert shown["version"] == "2"
    assert shown["id"] == manifest.id
    assert manifest.created[:10] in shown["made"]


def test_it_writes_nothing_P6(folder):
    before = tree(folder)
    for name in ("en_sentences", "lines", "unfinished"):
        assert run("show", folder, name).exit_code == 0
    assert tree(folder) == before


def test_parents_and_children_are_found(root):
    family(root)
    shown = facts(run("show", root, "sentences"))
    assert (shown["parents"], shown["children"]) == ("documents", "terms")
    assert "stale" not in shown
    assert facts(run("show", root, "documents"))["parents"] == "none"
    assert facts(run("show", root, "terms"))["children"] == "none"


def test_it_says_why_a_checkpoint_is_stale(root):
    checkpointer = family(root)
    checkpointer.clear("documents")
    other = dask.bag.from_sequence(range(7), npartitions=3)
    checkpointer.checkpoint("documents", other, scheduler="sync")
    shown = facts(run("show", root, "sentences"))
    assert shown["stale"] == "its parent 'documents' has other records now"
    assert "has other records now" in shown["parents"]
    assert "is stale" in facts(run("show", root, "terms"))["stale"]


def test_a_partial_shows_how_much_is_there_and_when_it_was_written(folder):
    shown = facts(run("show", folder, "unfinished"))
    assert shown["state"] == "partial 1/2"
    assert shown["written"].endswith(" ago")
    with CheckpointStore(folder).hold("unfinished", "0123abcd"):
        shown = facts(run("show", folder, "unfinished"))
    assert shown["now"] == "a run is saving it"


def test_a_damaged_marker_is_shown_and_the_exit_code_is_1(folder):
    damage_marker(folder, "lines")
    ended = run("show", folder, "lines")
    assert ended.exit_code == 1
    assert facts(ended)["state"] == "damaged"
    assert "done marker of checkpoint 'lines'" in ended.stderr


def test_what_is_left_over_or_foreign_is_said(folder):
    leave_over(folder, "lines")
    shown = facts(run("show", folder, "lines"))
    assert shown["left over"].startswith("4 files, 16 B")
    assert shown["foreign"] == "1 file of others"


def sizes(part):
    """One partition has ten times the records of the others."""
    [index] = part
    return ["x" * 100] * (10_000 if index == 2 else 1_000)


def test_the_spread_of_the_partitions_names_the_largest(tmp_path):
    bag = dask.bag.from_sequence(range(4), npartitions=4).map_partitions(sizes)
    Checkpointer(tmp_path, verbose=False).checkpoint("x", bag, scheduler="sync")
    ended = run("show", tmp_path, "x")
    lines = ended.stdout.splitlines()
    [records] = [line.split() for line in lines if line.startswith("records  ")][1:]
    assert records[1:5] == ["1,000", "1,000", "10,000", "13,000"]
    assert records[5:7] == ["partition", "2,"]
    start = next(i for i, line in enumerate(lines) if line.startswith("SIZE "))
    bars = lines[start + 1 : start + 9]
    counts = [int(line.rstrip("# ").split()[-1]) for line in bars]
    assert counts == [3, 0, 0, 0, 0, 0, 0, 1]
    assert bars[0].endswith("  " + "#" * 40)


def test_equal_partitions_have_no_picture_of_sizes(folder):
    assert "\nSIZE " not in run("show", folder, "lines").stdout


def test_a_checkpoint_of_no_partitions_is_shown(tmp_path):
    (tmp_path / "touched").mkdir()
    (tmp_path / "touched" / "__done__").touch()
    ended = run("show", tmp_path, "touched")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert facts(ended)["partitions"] == "0"


def test_what_agatha_saved_is_shown(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    folder.joinpath("part-0.pkl").write_bytes(b"12345")
    folder.joinpath("__done__").write_text("/gone/old/part-0.pkl\n")
    shown = facts(run("show", tmp_path, "old"))
    assert (shown["format"], shown["records"], shown["size"]) == ("pickle", "?", "5 B")
    assert shown["made"] == "?, by Agatha itself"
    assert shown["pickle"] == "holds pickled values"


def test_what_a_marker_says_cannot_reach_the_terminal(tmp_path):
    bag = dask.bag.from_sequence([1], npartitions=1)
    checkpointer = Checkpointer(tmp_path, verbose=False)
    checkpointer.checkpoint("x", bag, scheduler="sync", version="\x1b[2J\n")
    for command in (["show", tmp_path, "x"], ["ls", tmp_path]):
        ended = run(*command)
        assert "\x1b" not in ended.stdout
        assert "\\u001b[2J\\n" in ended.stdout


def test_json_has_the_relatives_and_every_partition(root):
    family(root)
    document = json.loads(run("show", root, "sentences", "--json").stdout)
    manifest = CheckpointStore(root).manifest("sentences")
    assert document["parents"] == [
        {"name": "documents", "now": "documents", "problem": None}
    ]
    assert document["children"] == ["terms"]
    assert [p["file"] for p in document["stored"]] == [
        p.file for p in manifest.partitions
    ]
    assert document["where"] == str(CheckpointStore(root).path("sentences"))


def test_it_costs_the_markers_and_two_listings(s3):
    with counting(s3) as counted:
        family(counted.root)
        cost = counted.cost(run, "show", counted.root, "sentences")
    assert cost == {"LIST": 3, "GET marker": 3}
