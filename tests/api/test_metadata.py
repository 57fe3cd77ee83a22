"""The caller's own metadata: kept, checked first, and part of no identity."""

import collections
import decimal
import enum
import json
import types

import dask
import dask.bag
import numpy
import pytest

from agatha_ckpt import EncodeError

LIMIT = 65_536


def numbers():
    return dask.bag.from_sequence(range(4), npartitions=2)


def filled(size):
    """Return metadata of that many bytes as JSON, with characters of two bytes."""
    spare = size - len('{"a": "éé"}'.encode())
    return {"a": "éé" + "x" * spare}


def cycle():
    inner = {}
    inner["again"] = [inner]
    return {"a": inner}


def shared():
    value = []
    for _ in range(40):
        value = [value, value]
    return {"a": value}


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


KEPT = [
    {},
    {"source": ["a", None, 1.5], "deep": {"é": True, "": []}},
    {"large": 2**80, "small": -0.0, "tiny": 5e-324},
    {"line": "a\nb\x00\u2028", "emoji": "\N{GRINNING FACE}"},
    filled(LIMIT),
    collections.OrderedDict(a=1, b=collections.Counter("aab")),
    types.MappingProxyType({"a": types.MappingProxyType({"b": [{}]})}),
]
# What JSON would change or cannot hold, and what the message names.
REFUSED = {
    "a list": ([1], "it is not a dict"),
    "text": ("a", "it is not a dict"),
    "pairs": ([("a", 1)], "it is not a dict"),
    "tuple in a mapping": (
        types.MappingProxyType({"a": collections.OrderedDict(b=())}),
        "metadata['a']['b'] is of type builtins.tuple",
    ),
    "number as key": ({"a": {1: "b"}}, "metadata['a'] has the key 1"),
    "None as key": ({None: "b"}, "the key None"),
    "enum as key": ({Colour.RED: "b"}, "which is not a str"),
    "tuple": ({"a": [0, (1, 2)]}, "metadata['a'][1] is of type builtins.tuple"),
    "set": ({"a": {1}}, "builtins.set"),
    "bytes": ({"a": b"1"}, "builtins.bytes"),
    "nan": ({"a": float("nan")}, "metadata['a'] is nan"),
    "infinity": ({"a": [float("-inf")]}, "metadata['a'][0] is -inf"),
    "numpy float": ({"a": numpy.float64(1.5)}, "numpy.float64"),
    "numpy int": ({"a": numpy.int64(1)}, "numpy.int64"),
    "numpy bool": ({"a": numpy.bool_(True)}, "numpy.bool"),
    "array": ({"a": numpy.zeros(2)}, "numpy.ndarray"),
    "Decimal": ({"a": decimal.Decimal(1)}, "decimal.Decimal"),
    "enum of str": ({"a": Colour.RED}, "Colour"),
    "enum of int": ({"a": Number.ONE}, "Number"),
    "surrogate": ({"a": "\ud800"}, "surrogates not allowed"),
    "thousands of digits": ({"a": 10**5_000}, "digits"),
    "cycle": (cycle(), "nested too deeply, or in itself"),
    "shared": (shared(), "more than 65,536 values"),
    "too large": (filled(LIMIT + 1), "it has 65,537 bytes as JSON, and 65,536 are"),
}


@pytest.mark.parametrize("metadata", KEPT, ids=lambda metadata: str(metadata)[:20])
def test_what_json_can_hold_is_kept(ckpt, metadata):
    ckpt.checkpoint("x", numbers(), metadata=metadata)
    kept = ckpt.store.manifest("x").metadata
    given = json.dumps(metadata, sort_keys=True, default=dict)
    assert json.dumps(kept, sort_keys=True) == given
    ckpt.checkpoint("x", numbers(), overwrite=True)
    assert ckpt.store.manifest("x").metadata == {}


@pytest.mark.parametrize("metadata, named", REFUSED.values(), ids=REFUSED)
def test_what_json_would_change_is_refused_first(ckpt, metadata, named):
    with pytest.raises(EncodeError, match="metadata of checkpoint 'x'") as caught:
        ckpt.checkpoint("x", numbers(), metadata=metadata)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 500
    explained = ckpt.explain("x", numbers(), metadata=metadata)
    assert isinstance(explained.error, EncodeError)
    assert ckpt.store.fs.find(ckpt.store.url) == []


def test_a_change_while_the_bag_is_computed_is_not_kept(ckpt):
    metadata = {"a": [1]}

    def change(n):
        metadata["a"].append({n})
        return n

    ckpt.checkpoint("x", numbers().map(change), metadata=metadata)
    assert ckpt.store.manifest("x").metadata == {"a": [1]}


def test_metadata_is_part_of_no_identity(ckpt):
    def build(**metadata):
        parent = ckpt.checkpoint("parent", numbers(), metadata=metadata)
        return ckpt.checkpoint("child", parent.map(str), on_stale="error")

    first = build(a=1)
    before = {name: ckpt.store.manifest(name) for name in ckpt.names()}
    assert build(a=2).name == first.name
    assert ckpt.store.manifest("parent") == before["parent"]  # it was loaded
    ckpt.checkpoint("parent", numbers(), metadata={"a": 3}, overwrite=True)
    after = ckpt.store.manifest("parent")
    assert after.metadata == {"a": 3}
    assert after.id == before["parent"].id
    assert after.fingerprints == before["parent"].fingerprints
    assert build().name == first.name


calls = []


def fail_once(n):
    calls.append(n)
    if len(calls) == 3:
        raise ZeroDivisionError
    return n


def test_a_resume_may_have_other_metadata(ckpt):
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        ckpt.checkpoint("x", numbers().map(fail_once), metadata={"a": 1})
    ckpt.checkpoint("x", numbers().map(fail_once), metadata={"a": 2})
    assert len(calls) == 5
    assert ckpt.store.manifest("x").metadata == {"a": 2}
