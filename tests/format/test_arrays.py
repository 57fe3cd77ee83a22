"""numpy arrays and scalars."""

import numpy as np
import pytest

from agatha_ckpt import EncodeError
from agatha_ckpt._format.arrays import encode_numpy
from tests.format.values import assert_same, round_trip

# Times with a unit: numpy is giving up those without.
CODES = [*"?bhilBHILefdgFDG", "m8[s]", "M8[s]"]
STRUCTURED = np.dtype([("a", "<i4"), ("b", "S3"), ("c", ">f8", (2, 2))])
NUMPY = [
    *(np.ones((2, 3), code) for code in CODES),
    *(np.ones(1, code)[0] for code in CODES),
    np.arange(6, dtype=">i2").reshape(2, 3),
    *[np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(10)[::-3]],
    *[np.broadcast_to(np.float32(1), (3, 2)), np.array(5), np.array("x")],
    *[np.zeros((0, 3)), np.zeros((3, 0, 2), "<M8[25s]"), np.zeros(3, "V0")],
    *[np.zeros(3, []), np.zeros(3, [("a", "S0")])["a"]],
    *[np.zeros((2, 0), [("a", "U0")])["a"], np.array(["a", "bcd", "ह"])],
    *[np.array([b"a", b"\0b"]), np.array([(1, b"x", np.ones((2, 2)))], STRUCTURED)],
    np.array([(1, b"x", np.ones((2, 2)))], STRUCTURED)[0],
    np.zeros(2, np.dtype([("a", "i1"), ("b", "i8")], align=True)),
    np.zeros(2, np.dtype([(("title", "a"), "i1"), ("n", [("x", "U2")])])),
    *[np.array(["2025-01-01", "NaT"], "M8[D]"), np.datetime64("NaT", "s")],
    *[np.datetime64(5, "25us"), np.timedelta64(-3, "W"), np.str_("ह"), np.str_("")],
    *[np.bytes_(b"x"), np.void(b"a\0"), np.float64("nan"), np.bool_(True)],
    # numpy takes zeros at the end of fixed-width text for padding.
    *[np.str_("a\0"), np.bytes_(b"a\0\0"), np.rec.array([(1, 2.0)])[0]],
    np.asarray(np.rec.array([(1, 2.0)])),
]


@pytest.mark.parametrize("value", NUMPY, ids=lambda v: f"{type(v).__name__}-{v.dtype}")
def test_p9_numpy_values_come_back_equal_in_value_and_type(value):
    for record in (value, [value], {"k": (value, 1)}):
        assert_same(round_trip([record]), [record])


def test_a_loaded_numpy_array_can_be_written_to():
    for array in (np.arange(3), np.arange(3), np.zeros(3, [("a", "i4")])):
        (loaded,) = round_trip([array])
        loaded[0] = loaded[1]
        assert loaded.flags.aligned
        assert loaded.flags.owndata


def test_arrays_that_were_stored_apart_do_not_share_the_names_of_their_fields():
    array = np.zeros(2, [("a", "i4"), ("b", "f8")])
    first, second = round_trip([array, array])
    first.dtype.names = ("x", "y")
    assert second.dtype == array.dtype
    assert_same(round_trip([array]), [array])


def test_p9_arrays_whose_dtype_and_shape_were_met_before_come_back_as_well():
    plain = np.arange(6, dtype="i4").reshape(2, 3)
    arrays = [
        plain,
        np.asfortranarray(plain + 1),
        np.arange(12, dtype="i4").reshape(2, 6)[:, ::2],
        plain.astype(">i4"),
        np.broadcast_to(np.int32(7), (2, 3)),
        plain.view("f4"),
        plain > 2,
        np.zeros((2, 0), "i4"),
        np.zeros((0, 2), "i4"),
        np.array(5, "i4"),
        *(np.arange(n % 1100, dtype="i2") for n in range(3_000)),
    ]
    assert_same(round_trip(arrays + arrays), arrays + arrays)
    described = plain.astype(np.dtype("i4", metadata={"unit": "m"}))
    with pytest.raises(EncodeError, match="metadata"):
        round_trip([plain, described])


@pytest.mark.parametrize(
    "value, elements",
    [
        (np.str_(""), 4 * b"\0"),  # what numpy takes for it
        (np.bytes_(b""), b"\0"),
        (np.bytes_(b"ab"), b"ab"),
        (np.int16(258), b"\2\1"),
        (np.datetime64(1, "s"), b"\1" + 7 * b"\0"),
    ],
)
def test_the_payload_of_a_numpy_scalar_is_fixed(value, elements):
    """Equal records give equal digests in whatever version stored them."""
    _, payload = encode_numpy(value)
    head = 4 + int.from_bytes(payload[:4], "little")
    assert payload[head:] == elements
