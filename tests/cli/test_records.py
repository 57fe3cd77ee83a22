"""Records as lines of JSON."""

import json
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from uuid import UUID

import numpy as np
import pytest

from agatha_ckpt._cli.records import json_line


@pytest.mark.parametrize(
    "value, shown",
    [
        ([1, "a", None, True, 1.5], [1, "a", None, True, 1.5]),
        ({"a": {"b": []}, "": 1}, {"a": {"b": []}, "": 1}),
        (2**70, 2**70),
        ("\ud800\u2028a\nb", "\ud800\u2028a\nb"),
        ((1, (2,)), {"$tuple": [1, {"$tuple": [2]}]}),
        ({3, 1, 2}, {"$set": [1, 2, 3]}),
        (frozenset({"b", "a"}), {"$frozenset": ["a", "b"]}),
        (deque([1]), {"$deque": [1]}),
        (b"\x00", {"$bytes": "AA=="}),
        (bytearray(b"\x00"), {"$bytearray": "AA=="}),
        (-(2**2000), {"$int": hex(-(2**2000))}),
        ([{10**5000: 1}], [{"$dict": [[{"$int": hex(10**5000)}, 1]]}]),
        (Fraction(3, 10**5000), {"$fraction": f"3/{hex(10**5000)}"}),
        (complex(1, -2), {"$complex": [1.0, -2.0]}),
        (float("nan"), {"$float": "nan"}),
        (float("-inf"), {"$float": "-inf"}),
        ({1: 2, "a": 3}, {"$dict": [[1, 2], ["a", 3]]}),
        ({"$tuple": [1]}, {"$dict": [["$tuple", [1]]]}),
        ({(1,): {2}}, {"$dict": [[{"$tuple": [1]}, {"$set": [2]}]]}),
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
            np.longdouble("1.5"),
            {"$numpy": {"dtype": str(np.dtype("longdouble")), "value": "1.5"}},
        ),
        (
            np.datetime64("2026-01-02"),
            {"$numpy": {"dtype": "datetime64[D]", "value": {"$date": "2026-01-02"}}},
        ),
    ],
)  # fmt: skip
def test_a_value_that_json_does_not_have_is_tagged(value, shown):
    line = json_line(value)
    assert json.loads(line) == shown
    assert "\n" not in line


def test_control_characters_of_a_terminal_are_escaped():
    text = "a\x1b[2J\x9b\u202e\u2028\U000e0001 \u00a0文"
    line = json_line(text)
    assert line.isprintable()
    assert json.loads(line) == text


def test_a_value_that_holds_itself_or_is_deep_is_one_line():
    itself = []
    itself.append(itself)
    for _ in range(10_000):
        itself = [itself]
    assert "nested too deeply" in json.loads(json_line(itself))["$object"]


class Raises(tzinfo):
    """What an unpickled object can do."""

    def __repr__(self):
        raise ZeroDivisionError

    def utcoffset(self, when):
        raise ZeroDivisionError


def test_an_object_that_raises_is_named_and_ends_nothing():
    values = [Raises(), datetime(2026, 1, 2, tzinfo=Raises()), range(10**5000)]
    assert json.loads(json_line([1, *values])) == [
        1,
        {"$object": "<Raises: ZeroDivisionError>"},
        {"$object": "<datetime: ZeroDivisionError>"},
        {"$object": "<range: ValueError>"},
    ]
