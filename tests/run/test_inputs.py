"""What a call is given: checked before anything is computed, and kept as it is."""

import enum
import math

import dask
import dask.bag
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    EncodeError,
    PickleNotAllowedError,
)

NAMES = ["infinity", "nan", "object", "nested"]
NESTED = []
for _ in range(3_000):
    NESTED = [NESTED]


def bag_of(*values, function=None):
    bag = dask.bag.from_sequence(values, npartitions=len(values))
    return bag.map(function) if function else bag


class Label(enum.StrEnum):
    FIRST = "v1"


@pytest.mark.parametrize("value", [math.inf, math.nan, object(), NESTED], ids=NAMES)
def test_metadata_that_json_cannot_hold_is_refused_first(ckpt, value):
    with pytest.raises(EncodeError, match="metadata of checkpoint 'x'"):
        ckpt.checkpoint("x", bag_of(1), metadata={"a": value})
    assert ckpt.status("x").state == "absent"


def test_a_version_of_a_subclass_of_str_is_that_version(ckpt):
    ckpt.checkpoint("x", bag_of(1, 2), version=Label.FIRST)
    for version in (Label.FIRST, "v1"):
        ckpt.checkpoint(
            "x", bag_of(1, 2), version=version, on_stale="error", overwrite=False
        )
    assert type(ckpt.store.manifest("x").plan.version) is str


def test_a_text_checkpoint_that_becomes_msgpack_is_announced(ckpt):
    ckpt.checkpoint("x", bag_of("a", "b"), textfile=True)
    other = bag_of("a", "c")
    reason = ckpt.explain("x", other, on_stale="recompute").reason
    assert "it was stored as text and becomes msgpack" in reason
    updated = ckpt.checkpoint("x", other, on_stale="recompute")
    assert updated.compute() == ["a", "c"]


class Pickled:
    pass


def test_kept_partitions_with_pickles_are_refused_before_a_resume(ckpt):
    fails = [True]
    bag = bag_of(0, 1).map_partitions(_Make(fails))
    with pytest.raises(ZeroDivisionError):
        ckpt.checkpoint("x", bag, allow_pickle=True)
    fails.clear()
    with pytest.raises(PickleNotAllowedError):
        ckpt.checkpoint("x", bag)
    assert ckpt.status("x").state == "partial"


class _Make:
    """Fails for 0 while *fails* is not empty; for others gives what is pickled."""

    def __init__(self, fails):
        self.fails = fails

    def __dask_tokenize__(self):
        return "make"

    def __call__(self, part):
        if 0 in part and self.fails:
            raise ZeroDivisionError
        return [Pickled() if number else number for number in part]


def test_a_conflict_that_the_bag_raises_is_not_taken_for_our_own(ckpt):
    def conflict(_):
        raise CheckpointConflictError("of the bag")

    with pytest.raises(CheckpointConflictError, match="of the bag"):
        ckpt.checkpoint("x", bag_of(1, function=conflict))
