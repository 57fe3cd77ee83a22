"""numpy arrays and scalars."""

import numpy as np
import pytest

from agatha_ckpt import EncodeError
from agatha_ckpt._format.arrays import encode_numpy
from tests.format.values import assert_same, round_trip

# Times with a unit: numpy is giving up those without.
CODES = [*"?bhilBHILefdgFDG", "m8[s]", "M8[s]"]
STRUCTURED = np.dtype([("a", "<i4"), ("b", "S3"), ("c", ">f8", (2, 2))])
ALIGNED = np.dtype([("a", "i1"), ("b", "f8"), (("t", "c"), "g")], align=True)
SPARSE = np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [5], "itemsize": 12})
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
    *[np.longlong(5), np.array([1], "q"), np.array([[1, 2]] * 2, ">Q", order="F")],
    *[np.zeros((2, 3, 4)).T, np.zeros((2, 3), "U3", "F"), np.zeros((2, 3), "g", "F")],
    np.zeros((2, 2), ALIGNED, "F"),
    np.zeros(2, [("x", "u1"), ("n", ALIGNED.descr[:1])]),
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


@pytest.mark.parametrize(
    "dtype",
    [
        ALIGNED,
        SPARSE,
        np.dtype([("x", "u1"), ("inner", SPARSE, (2, 1)), ("c", "G")]),
        np.dtype((np.record, [("a", "i1"), ("b", "g")])),
        *map(np.dtype, "gG"),
        np.dtype("g").newbyteorder(),
    ],
)
def test_bytes_that_mean_nothing_are_not_stored(dtype):
    """Equal records give equal digests; the memory between fields is not stored."""

    def filled(junk):
        array = np.zeros((3, 2), dtype)
        array.view("u1")[:] = junk
        fill(array)
        return array

    def fill(array):
        for name in array.dtype.names or ():
            fill(array[name])
        if array.dtype.char in "gG":  # by value, as arithmetic leaves the rest
            meaningless = np.array(array)
            exact = np.array(1.5, array.dtype).tobytes()
            kept = [i for i in range(len(exact)) if means_something(array.dtype, i)]
            raw = np.frombuffer(meaningless.tobytes(), "u1").copy()
            raw = raw.reshape(-1, len(exact))
            raw[:, kept] = np.frombuffer(exact, "u1")[kept]
            array[...] = raw.reshape(-1).view(array.dtype).reshape(array.shape)
        elif not array.dtype.names:
            array[...] = 2

    def means_something(dtype, byte):
        size = np.dtype("g").itemsize
        used = 10 if np.finfo("g").nmant == 63 else size
        at = byte % size
        return at < used if dtype.isnative else at >= size - used

    clean, dirty = filled(0), filled(7)
    for record in (clean, clean[0, 0]):
        other = dirty if record is clean else dirty[0, 0]
        assert encode_numpy(record) == encode_numpy(other)
    assert_same(round_trip([dirty.T]), [dirty.T])


def test_p9_dtypes_that_would_come_back_as_others_are_refused():
    mixed = np.dtype([("a", "i1"), ("inner", ALIGNED)])
    (kept,) = round_trip([np.zeros(1, mixed)], allow_pickle=True)
    assert_same(kept, np.zeros(1, mixed))
    with pytest.raises(EncodeError, match="allow pickle"):
        round_trip([np.zeros(1, mixed)])
    # A pickle of it loses the difference as well.
    for allow_pickle in (False, True):
        with pytest.raises(EncodeError, match=r"dtype [^;]*; change the records$"):
            round_trip([np.zeros(1, [("a", "q")])], allow_pickle)
        swapped = np.dtype(np.dtype("m8[D]").newbyteorder(), metadata={"unit": "m"})
        with pytest.raises(EncodeError, match="metadata"):
            round_trip([np.zeros(2, swapped)], allow_pickle)
