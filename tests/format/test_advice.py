"""Refused values: each message proposes what to store in place of the value."""

import enum
from collections import defaultdict, namedtuple
from dataclasses import dataclass
from datetime import datetime

import dask.bag
import numpy as np
import pandas as pd
import pytest

from agatha_ckpt import EncodeError
from tests.format.values import round_trip


@dataclass
class Term:
    name: str
    count: int


class Colour(enum.Enum):
    RED = 1


Number = enum.IntEnum("Number", "ONE")
Pair = namedtuple("Pair", "a b")
Str, List = type("Str", (str,), {}), type("List", (list,), {})
Datetime = type("Datetime", (datetime,), {})
FRAME = pd.DataFrame({"a": [1, 2]})
ADVICE = [
    (dask.delayed(1), "as a checkpoint of its own"),
    (dask.bag.from_sequence([1]), "compute it where it is made"),
    (Term("a", 1), "dataclasses.asdict(value)"),
    (Colour.RED, "value.name, value.value"),
    (Number.ONE, "value.name, value.value"),
    (Pair(1, 2), "tuple(value)) or a dict (value._asdict())"),
    (Str("a"), "map it to a str (str(value))"),
    (List("a"), "map it to a list (list(value))"),
    (Datetime(2025, 1, 1), "the class of the module datetime"),
    (range(3), "map it to a list (list(value))"),
    (defaultdict(list), "map it to a dict (dict(value))"),
    (FRAME, "list(frame.itertuples(name=None))"),
    (FRAME["a"], "series.tolist()"),
    (FRAME.index, "value.tolist()"),
    (pd.array([1, 2]), "value.tolist()"),
    (pd.Timestamp(0), "value.to_pydatetime()"),
    (pd.Timedelta(0), "value.to_pytimedelta()"),
    *[(pd.NaT, "map it to None"), (pd.NA, "map it to None")],
    *[(pd.Interval(0, 1), "value.left"), (pd.Period("2025"), "str(value)")],
    (np.array([None]), "value.tolist()"),
    (object(), "change the records"),
]


@pytest.mark.parametrize("value, advice", ADVICE, ids=lambda v: type(v).__name__)
def test_a_refused_value_comes_with_what_to_store_instead(value, advice):
    for record in (value, {"k": [value]}):
        with pytest.raises(EncodeError) as caught:
            round_trip([record])
        before, after = str(caught.value).split("; ")
        name = type(value).__name__
        assert name in before or "dtype object" in before
        assert advice in after
        assert "allow pickle" in after


def test_a_member_of_a_set_is_named_and_not_the_set():
    for record in ({Colour.RED}, [frozenset({(1, Colour.RED)})]):
        with pytest.raises(EncodeError) as caught:
            round_trip([record])
        assert str(caught.value).count("stored only as a pickle") == 1
        assert "map it to its name or value" in str(caught.value)


def test_pickle_is_not_proposed_for_what_cannot_be_pickled():
    with pytest.raises(EncodeError, match=r"cannot be pickled.*; map it to a list"):
        round_trip([(i for i in range(3))], allow_pickle=True)
    with pytest.raises(EncodeError, match=r"memoryview.*; map it to bytes"):
        round_trip([memoryview(b"a")])
