"""``agatha-ckpt head``: the first records as JSON, and how little is read for them."""

import json
import pickle
import random
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from uuid import UUID

import dask.bag
import numpy as np
import pytest

from agatha_ckpt import Checkpointer
from agatha_ckpt._cli.records import json_line
from tests.cli.cli_cases import fill, interrupt, make_bag, refused, run
from tests.store.test_requests import MIB, counting, noise, ranges_of


def save(root, values, npartitions=1, **options):
    checkpointer = Checkpointer(root, verbose=False, **options)
    bag = dask.bag.from_sequence(values, npartitions=npartitions)
    checkpointer.checkpoint("x", bag, scheduler="sync")


def printed(*arguments):
    ended = run("head", *arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


# ---- which records ----


def test_ten_records_unless_told_otherwise(root):
    save(root, range(30), 3)
    assert printed(root, "x") == list(range(10))
    assert printed(root, "x", "-n", 3) == [0, 1, 2]
    assert printed(root, "x", "-n", 0) == []


def test_it_goes_on_in_the_next_partitions(root):
    save(root, range(9), 4)
    assert printed(root, "x", "-n", 5) == [0, 1, 2, 3, 4]
    assert printed(root, "x", "-n", 100) == list(range(9))


def test_one_partition_alone(root):
    save(root, range(9), 3)
    assert printed(root, "x", "--partition", 1) == [3, 4, 5]
    assert printed(root, "x", "--partition", 2, "-n", 1) == [6]


def test_a_partition_that_there_is_not_is_one_line(tmp_path):
    save(tmp_path, range(9), 3)
    message = refused("head", tmp_path, "x", "--partition", 3)
    assert "has 3 partitions, counted from 0" in message
    assert run("head", tmp_path, "x", "--partition", -1).exit_code == 2
    assert run("head", tmp_path, "x", "-n", -1).exit_code == 2


def test_empty_partitions_are_passed_over(tmp_path):
    bag = dask.bag.from_sequence(range(9), npartitions=3).filter(lambda n: n > 6)
    Checkpointer(tmp_path, verbose=False).checkpoint("x", bag, scheduler="sync")
    assert printed(tmp_path, "x", "-n", 1) == [7]


def test_lines_of_a_text_checkpoint(root):
    fill(root)
    assert printed(root, "lines", "-n", 3) == ["a", "b", "c"]


def test_what_is_not_done_has_no_records_to_show(tmp_path):
    interrupt(Checkpointer(tmp_path, verbose=False), "x")
    assert "is not done" in refused("head", tmp_path, "x")


def test_damage_in_what_is_shown_is_said_P5(tmp_path):
    save(tmp_path, ["a" * 1000], 1)
    [path] = tmp_path.glob("x/part-*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = refused("head", tmp_path, "x")
    assert "partition 0 of checkpoint 'x'" in message
    assert "is damaged" in message


class Own:
    def __repr__(self):
        return "<own>"


def test_pickled_values_are_loaded_only_if_that_is_allowed_P8(tmp_path):
    save(tmp_path, [Own()], allow_pickle=True)
    assert "give --allow-pickle" in refused("head", tmp_path, "x")
    shown = printed(tmp_path, "x", "--allow-pickle")
    assert shown == [{"$object": "<own>"}]


def test_what_agatha_pickled_is_loaded_only_if_that_is_allowed_P8(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    folder.joinpath("part-0.pkl").write_bytes(pickle.dumps([1, (2,), 3]))
    folder.joinpath("__done__").write_text("/gone/old/part-0.pkl\n")
    assert "give --allow-pickle" in refused("head", tmp_path, "old")
    shown = printed(tmp_path, "old", "--allow-pickle", "-n", 2)
    assert shown == [1, {"$tuple": [2]}]


# ---- how they are shown ----


@pytest.mark.parametrize(
    "value, shown",
    [
        ([1, "a", None, True, 1.5], [1, "a", None, True, 1.5]),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        (2**70, 2**70),
        ((1, (2,)), {"$tuple": [1, {"$tuple": [2]}]}),
        ({3, 1, 2}, {"$set": [1, 2, 3]}),
        (frozenset({"b", "a"}), {"$frozenset": ["a", "b"]}),
        (deque([1]), {"$deque": [1]}),
        (b"\x00", {"$bytes": "AA=="}),
        (bytearray(b"\x00"), {"$bytearray": "AA=="}),
        (complex(1, -2), {"$complex": [1.0, -2.0]}),
        (float("nan"), {"$float": "nan"}),
        (float("-inf"), {"$float": "-inf"}),
        ({1: 2, "a": 3}, {"$dict": [[1, 2], ["a", 3]]}),
        ({"$tuple": [1]}, {"$dict": [["$tuple", [1]]]}),
        (Counter("aab"), {"$counter": [["a", 2], ["b", 1]]}),
        (OrderedDict(a=1), {"$ordereddict": [["a", 1]]}),
        (defaultdict(None, a=1), {"$defaultdict": [["a", 1]]}),
        (
            datetime(2026, 1, 2, 3, tzinfo=UTC),
            {"$datetime": "2026-01-02T03:00:00+00:00"},
        ),
        (date(2026, 1, 2), {"$date": "2026-01-02"}),
        (time(3, 4), {"$time": "03:04:00"}),
        (timedelta(minutes=2), {"$timedelta": 120.0}),
        (timezone(timedelta(hours=1)), {"$timezone": "UTC+01:00"}),
        (Decimal("1.20"), {"$decimal": "1.20"}),
        (Fraction(1, 3), {"$fraction": "1/3"}),
        (UUID(int=1), {"$uuid": "00000000-0000-0000-0000-000000000001"}),
        (PurePosixPath("a/b"), {"$path": "a/b"}),
        (np.float32(1.5), {"$numpy": {"dtype": "float32", "value": 1.5}}),
        (
            np.array([[1, 2]], "i2"),
            {"$ndarray": {"dtype": "int16", "value": [[1, 2]], "shape": [1, 2]}},
        ),
        (
            np.datetime64("2026-01-02"),
            {"$numpy": {"dtype": "datetime64[D]", "value": {"$date": "2026-01-02"}}},
        ),
    ],
)  # fmt: skip
def test_values_that_json_lacks_are_tagged(tmp_path, value, shown):
    save(tmp_path, [value])
    assert printed(tmp_path, "x") == [shown]


def test_every_line_is_json_and_no_plain_dict_looks_like_a_tag(tmp_path):
    odd = ["\ud800", "\u2028", "a\nb", {"$": 1}, {"": 1}, float("inf"), {(1,): {2}}]
    save(tmp_path, odd)
    shown = printed(tmp_path, "x")
    assert len(shown) == len(odd)
    assert shown[0] == "\ud800"
    assert shown[3] == {"$dict": [["$", 1]]}


def test_nothing_that_a_terminal_obeys_is_printed():
    text = "a\x1b[2J\x9b\u202e\u2028\U000e0001 \u00a0文"
    line = json_line(text)
    assert line.isprintable()
    assert json.loads(line) == text


def test_what_holds_itself_or_is_deep_is_shown_in_one_line():
    itself = []
    itself.append(itself)
    for _ in range(10_000):
        itself = [itself]
    assert "nested too deeply" in json.loads(json_line(itself))["$object"]


# ---- how much is read ----


@pytest.fixture
def counted(s3):
    with counting(s3) as counted:
        yield counted


@pytest.mark.parametrize("count", [1_000, 2_500])
def test_of_a_large_partition_the_beginning_is_read_P10(counted, count):
    """Of 10 and 25 MB, in one request and several when a bag is loaded."""
    bag = dask.bag.from_sequence([count] * 2, npartitions=2).map_partitions(noise)
    counted.ckpt.checkpoint("noise", bag, scheduler="sync")
    ended = []
    cost = counted.cost(lambda: ended.append(run("head", counted.root, "noise")))
    # The end of a file says whether it is the one that was saved.
    assert cost == {"GET marker": 1, "GET part": 2}
    (first, last), (tail, _) = ranges_of_parts(counted)
    assert (first, last < MIB, tail > 9 * MIB) == (0, True, True)
    assert len(ended[0].stdout.splitlines()) == 10


def ranges_of_parts(counted):
    requests = counted.proxy.requests
    counted.proxy.requests = [r for r in requests if "/part-" in r.path]
    try:
        return ranges_of(counted)
    finally:
        counted.proxy.requests = requests


def test_of_a_large_text_partition_the_beginning_is_read(counted):
    lines = [random.Random(i).randbytes(500).hex() for i in range(5_000)]
    bag = dask.bag.from_sequence(lines, npartitions=1)
    counted.ckpt.checkpoint("lines", bag, textfile=True, scheduler="sync")
    ended = []
    counted.cost(lambda: ended.append(run("head", counted.root, "lines", "-n", 2)))
    assert [json.loads(line) for line in ended[0].stdout.splitlines()] == lines[:2]
    assert sum(last - first for first, last in ranges_of_parts(counted)) < MIB


def test_many_records_are_read_in_large_pieces(counted):
    bag = dask.bag.from_sequence([2_000], npartitions=1).map_partitions(noise)
    counted.ckpt.checkpoint("noise", bag, scheduler="sync")
    cost = counted.cost(run, "head", counted.root, "noise", "-n", 2_000)
    assert cost["GET part"] <= 4


def test_the_rest_of_the_partitions_is_not_read(counted):
    counted.ckpt.checkpoint("letters", make_bag(), scheduler="sync")
    cost = counted.cost(run, "head", counted.root, "letters", "-n", 2)
    assert cost == {"GET marker": 1, "GET part": 1}
