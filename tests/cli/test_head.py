"""``agatha-ckpt head``: which records, and how little is read for them."""

import json
import pickle
import random

import dask.bag

from agatha_ckpt import Checkpointer
from tests.cli.cases import (
    damage_marker,
    damage_one_partition,
    fill,
    refused,
    run,
    save,
    save_as_agatha,
)
from tests.store.test_requests import MIB, noise, ranges_of


def printed(*arguments):
    ended = run("head", *arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_it_prints_the_first_records_also_of_several_partitions(root):
    save(root, range(30), 8)
    assert printed(root, "x") == list(range(10))
    assert printed(root, "x", "-n", 3) == [0, 1, 2]
    assert printed(root, "x", "-n", 0) == []
    assert printed(root, "x", "-n", 100) == list(range(30))


def test_it_prints_one_partition_that_exists(tmp_path):
    save(tmp_path, range(9), 3)
    assert printed(tmp_path, "x", "--partition", 1) == [3, 4, 5]
    assert printed(tmp_path, "x", "--partition", 2, "-n", 1) == [6]
    message = refused("head", tmp_path, "x", "--partition", 3)
    assert "has 3 partitions, numbered from 0" in message
    assert run("head", tmp_path, "x", "--partition", -1).exit_code == 2
    assert run("head", tmp_path, "x", "-n", -1).exit_code == 2


def test_empty_partitions_are_skipped(tmp_path):
    bag = dask.bag.from_sequence(range(9), npartitions=3).filter(lambda n: n > 6)
    Checkpointer(tmp_path, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert printed(tmp_path, "x", "-n", 1) == [7]


def test_it_prints_the_lines_of_text_and_no_partial(root):
    fill(root)
    assert printed(root, "lines", "-n", 3) == ["a", "b", "c"]
    assert "is not done" in refused("head", root, "unfinished")


def test_damage_is_an_error_P5(tmp_path):
    save(tmp_path, ["a" * 1000])
    damage_one_partition(tmp_path, "x")
    message = refused("head", tmp_path, "x")
    assert "partition 0 of checkpoint 'x'" in message
    assert "is damaged" in message
    damage_marker(tmp_path, "x")
    assert "or clear it" in refused("head", tmp_path, "x")


class Own:
    def __repr__(self):
        return "<own>"


def test_pickles_are_loaded_only_if_allowed_P8(tmp_path):
    save(tmp_path, [Own()], allow_pickle=True)
    save_as_agatha(tmp_path, "old", pickle.dumps([1, (2,), 3]))
    for name in ("x", "old"):
        assert "give --allow-pickle" in refused("head", tmp_path, name)
    assert printed(tmp_path, "x", "--allow-pickle") == [{"$object": "<own>"}]
    shown = printed(tmp_path, "old", "--allow-pickle", "-n", 2)
    assert shown == [1, {"$tuple": [2]}]


# ---- what it costs ----


def test_of_a_large_partition_only_the_beginning_is_read_P10(counted):
    bag = dask.bag.from_sequence([1_000] * 2, npartitions=2).map_partitions(noise)
    counted.ckpt.checkpoint("noise", bag, scheduler="sync")
    ended = []
    cost = counted.cost(lambda: ended.append(run("head", counted.root, "noise")))
    # The footer tells whether the file is the one that was saved.
    assert cost == {"GET marker": 1, "GET part": 2}
    counted.keep_only("GET part")
    (first, last), (tail, _) = ranges_of(counted)
    assert (first, last < MIB, tail > 9 * MIB) == (0, True, True)
    assert len(ended[0].stdout.splitlines()) == 10
    cost = counted.cost(run, "head", counted.root, "noise", "-n", 1_000)
    assert cost["GET part"] <= 4  # larger pieces


def test_of_a_large_text_partition_only_the_beginning_is_read(counted):
    lines = [random.Random(i).randbytes(500).hex() for i in range(5_000)]
    bag = dask.bag.from_sequence(lines, npartitions=1)
    counted.ckpt.checkpoint("lines", bag, textfile=True, scheduler="sync")
    ended = []
    counted.cost(lambda: ended.append(run("head", counted.root, "lines", "-n", 2)))
    assert [json.loads(line) for line in ended[0].stdout.splitlines()] == lines[:2]
    counted.keep_only("GET part")
    assert sum(last - first for first, last in ranges_of(counted)) < MIB


def test_partitions_that_are_not_needed_are_not_read(counted):
    save(counted.root, range(4), 2)
    cost = counted.cost(run, "head", counted.root, "x", "-n", 2)
    assert cost == {"GET marker": 1, "GET part": 1}
