"""Arrays, through the same call as bags."""

import dask
import dask.array as da
import numpy as np
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
    EncodeError,
)

NAMED = np.dtype([("a", "<i4"), ("b", ">f8", (2,))])
ARRAYS = {
    "one dimension": da.arange(10, chunks=4),
    "two": da.ones((10, 7), chunks=(4, 3)),
    "three, random": da.random.default_rng(1).normal(size=(5, 4, 3), chunks=2),
    "a reduction": da.arange(10, chunks=4).sum(),
    "without dimensions": da.from_array(np.array(5.0)),
    "empty": da.zeros((0, 3), chunks=(0, 3)),
    "Fortran order": da.from_array(np.asfortranarray(np.arange(12.0).reshape(3, 4))),
    "strided": da.from_array(np.arange(24).reshape(4, 6)[::2, ::3]),
    "transposed": da.from_array(np.arange(12.0).reshape(3, 4), chunks=2).T,
    "structured": da.from_array(np.zeros(3, NAMED), chunks=2),
    "datetime": da.from_array(np.array(["2020-01-01", "NaT"], "M8[s]")),
    "timedelta": da.from_array(np.array([1, 2], "m8[25us]")),
    "strings": da.from_array(np.array(["a", "bb"])),
    "bytes": da.from_array(np.array([b"a", b"bb"])),
    "bool": da.arange(5, chunks=2) > 2,
    "complex": da.from_array(np.array([1 + 2j])),
    "big endian": da.from_array(np.array([1, 2], ">i2")),
    "half": da.ones(3, dtype="f2"),
    "scalar, text": da.from_array(np.array(["a", "bbb"]), chunks=1)[0],
    "scalar, empty text": da.from_array(np.array(["", "b"]), chunks=1)[0],
    "scalar, bytes": da.from_array(np.array([b"a", b"bbb"]), chunks=1)[0],
    "scalar, big endian": da.from_array(np.array([1, 2], ">i2"), chunks=1)[0],
    "scalar, big endian date": da.from_array(np.array(["2020"], ">M8[s]"))[0],
    "scalar, structured": da.from_array(np.zeros(2, NAMED), chunks=1)[0],
    "NaN and infinity": da.from_array(np.array([np.nan, np.inf, -0.0])),
}


def same(a, b):
    """Whether two results are equal in type, dtype, shape, order and every bit."""
    kinds = type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape
    orders = [(x.flags.c_contiguous, x.flags.f_contiguous) for x in (a, b)]
    is_strided = not any(orders[1])  # which no file keeps
    return (
        kinds and (is_strided or orders[0] == orders[1]) and a.tobytes() == b.tobytes()
    )


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_comes_back(checkpointer, array):
    loaded = checkpointer.checkpoint("x", array, scheduler="sync")
    assert isinstance(loaded, da.Array)
    assert (loaded.chunks, loaded.dtype) == (array.chunks, array.dtype)
    expected = array.compute(scheduler="sync")
    assert same(loaded.compute(scheduler="sync"), expected)
    again = checkpointer.checkpoint("x")
    assert same(again.compute(scheduler="sync"), expected)
    assert checkpointer.store.verify("x") == []
    assert checkpointer.checkpoint("x", again, on_stale="error") is not None
    if isinstance(expected, np.generic):
        assert repr([*checkpointer.store.records("x")]) == repr([expected])


def test_numpy_reads_the_files(tmp_path):
    checkpointer = Checkpointer(tmp_path / "root", verbose=False)
    array = da.arange(10, chunks=4)
    checkpointer.checkpoint("x", array)
    blocks = [
        np.load(tmp_path / "root" / "x" / info.file)
        for info in checkpointer.store.manifest("x").partitions
    ]
    assert np.concatenate(blocks).tolist() == list(range(10))


def test_a_loaded_array_computes_as_one_in_memory(checkpointer):
    array = da.arange(24, chunks=5).reshape(6, 4)
    loaded = checkpointer.checkpoint("x", array, scheduler="sync")
    for use in (
        lambda x: x.T @ x,
        lambda x: x[1:5:2, ::-1],
        lambda x: x.rechunk(2).mean(axis=0),
        lambda x: x.map_blocks(np.sqrt),
    ):
        expected = use(array).compute(scheduler="sync")
        assert np.array_equal(use(loaded).compute(scheduler="sync"), expected)


def test_what_is_done_to_a_block_does_not_reach_its_file(checkpointer):
    def clear(block):
        block[:] = 0
        return block

    loaded = checkpointer.checkpoint("x", da.ones(4, chunks=2), scheduler="sync")
    assert loaded.map_blocks(clear).compute(scheduler="sync").tolist() == [0, 0, 0, 0]
    assert loaded.compute(scheduler="sync").tolist() == [1, 1, 1, 1]
    assert checkpointer.store.verify("x") == []


def test_a_block_on_local_disk_is_mapped(tmp_path):
    checkpointer = Checkpointer(tmp_path / "root", verbose=False)
    loaded = checkpointer.checkpoint("x", da.ones(4, chunks=4))
    key = loaded.__dask_keys__()[0]
    block = loaded.dask[key][0](*loaded.dask[key][1:])
    while isinstance(block, np.ndarray):
        block = block.base
    assert type(block.obj).__name__ == "mmap"


ALIGNED = np.dtype([("a", "i1"), ("b", "f8")], align=True)


def unknown_chunks():
    x = da.ones(5, chunks=2)
    return x[x > 0]


REFUSED = {
    "object": (
        lambda: da.from_array(np.array([1, "a"], object), chunks=1),
        "convert it with astype",
    ),
    "masked": (lambda: da.ma.masked_array(np.arange(4), [0, 1, 0, 1]), "getmaskarray"),
    "aligned": (lambda: da.zeros(3, dtype=ALIGNED), "aligned.*convert it with astype"),
    "aligned in a field": (lambda: da.zeros(3, dtype=[("a", ALIGNED)]), "astype"),
    "metadata in a field": (
        lambda: da.zeros(3, dtype=[("a", np.dtype("i4", metadata={"unit": "m"}))]),
        "astype",
    ),
    "a header that is too long": (
        lambda: da.zeros(3, dtype=[(f"{n:0200}", "i1") for n in range(5000)]),
        "convert it with astype",
    ),
    "a long header, without dimensions": (
        lambda: da.zeros((), dtype=[(f"{n:0200}", "i1") for n in range(500)]),
        "convert it with astype",
    ),
    "names of fields beyond Latin-1": (lambda: da.zeros(3, dtype=[("ж", "i1")]), "ж"),
    "unknown chunks": (unknown_chunks, "compute_chunk_sizes"),
    "another library's": (
        lambda: da.ones(3).map_blocks(Sparse, meta=Sparse(np.ones(0))),
        "numpy.asarray",
    ),
}


class Sparse:
    """Stands for an array of another library, as cupy or sparse have."""

    def __init__(self, values):
        self.values = values

    dtype = property(lambda self: self.values.dtype)
    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    __array_function__ = None

    def __getitem__(self, key):
        return Sparse(self.values[key])


@pytest.mark.parametrize("make, advice", REFUSED.values(), ids=REFUSED)
def test_what_npy_files_do_not_keep_is_refused_first(tmp_path, make, advice):
    array = make()
    with pytest.raises(EncodeError, match=advice) as raised:
        Checkpointer(tmp_path).checkpoint("x", array, scheduler="sync")
    assert "checkpoint 'x'" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


BROKEN_SCALARS = {
    "a NUL at its end": (np.str_("ab\0"), "ends in NUL"),
    "longer": (np.str_("abcd"), "promises <U3"),
    "other kind": (np.bytes_(b"a"), "promises <U3"),
}


@pytest.mark.parametrize("value, reason", BROKEN_SCALARS.values(), ids=BROKEN_SCALARS)
def test_p9_a_scalar_that_is_not_as_promised_is_refused(checkpointer, value, reason):
    array = da.from_delayed(dask.delayed(lambda: value)(), (), "U3")
    with pytest.raises(EncodeError, match=reason):
        checkpointer.checkpoint("x", array, scheduler="sync")


BROKEN_PROMISES = {
    "dtype": (lambda b: b.astype("f4"), "has dtype float32"),
    "shape": (lambda b: b[1:], r"shape \(1,\)"),
    "type": (lambda b: b.tolist(), "builtins.list"),
    "masked": (lambda b: np.ma.masked_array(b), "masked array"),
}


@pytest.mark.parametrize("break_it, reason", BROKEN_PROMISES.values(), ids=[*"dstm"])
def test_a_block_that_is_not_as_promised_is_refused(checkpointer, break_it, reason):
    array = da.ones(4, chunks=2).map_blocks(break_it, dtype="f8", meta=np.ones(0))
    with pytest.raises(EncodeError, match=reason) as raised:
        checkpointer.checkpoint("x", array, scheduler="sync")
    assert "of checkpoint 'x'" in str(raised.value)
    assert not checkpointer.is_done("x")


@pytest.mark.parametrize("place", [0, 60, 130, -1])
def test_a_changed_byte_is_reported(tmp_path, place):
    checkpointer = Checkpointer(tmp_path / "root", verbose=False)
    array = da.arange(10, chunks=5)
    loaded = checkpointer.checkpoint("x", array)
    loaded.compute()  # whose checksums are then known to be right
    path = tmp_path / "root" / "x" / checkpointer.store.manifest("x").partitions[1].file
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match="partition 1 of checkpoint 'x'"):
        loaded.compute()
    assert [d.index for d in checkpointer.store.verify("x")] == [1]
    assert checkpointer.repair("x", array).compute().tolist() == list(range(10))


def test_p5_damage_in_any_piece_of_a_large_block_is_reported(tmp_path):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    array = da.arange(400_000, chunks=200_000)  # 1.6 MB in a block
    loaded = checkpointer.checkpoint("x", array)
    assert np.array_equal(loaded.compute(), np.arange(400_000))
    path = tmp_path / "x" / checkpointer.store.manifest("x").partitions[0].file
    whole = path.read_bytes()
    assert len(whole) == 128 + 1_600_000
    for place in (0, 127, 128, 700_000, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorruptCheckpointError, match="partition 0"):
            loaded.compute()


def test_another_array_makes_it_stale(checkpointer):
    checkpointer.checkpoint("x", da.ones(4, chunks=2), scheduler="sync")
    with pytest.raises(CheckpointConflictError, match="2 of 2 partitions"):
        checkpointer.checkpoint("x", da.zeros(4, chunks=2), on_stale="error")


def test_the_lock_under_which_an_array_is_read_is_not_an_input(checkpointer):
    for _ in range(2):
        array = da.from_array(np.arange(4), chunks=2, lock=True)
        checkpointer.checkpoint("x", array, on_stale="error", scheduler="sync")


def test_a_partition_is_a_sequence_of_rows(checkpointer):
    array = da.arange(24, chunks=12).reshape(6, 4)
    checkpointer.checkpoint("x", array, scheduler="sync")
    rows = list(checkpointer.store.records("x"))
    assert np.array_equal(rows, array.compute(scheduler="sync"))
    assert checkpointer.status("x").records == 6


def test_no_fsync_changes_nothing_else(tmp_path):
    store = CheckpointStore(tmp_path, fsync=False)
    loaded = Checkpointer(store, verbose=False).checkpoint("x", da.ones(4, chunks=2))
    assert loaded.sum().compute() == 4


def test_a_dtype_with_metadata_is_refused(checkpointer):
    dtype = np.dtype("i4", metadata={"unit": "m"})
    with pytest.raises(EncodeError, match="does not keep its dtype"):
        checkpointer.checkpoint("x", da.zeros(3, dtype=dtype), scheduler="sync")


@pytest.mark.skipif(np.dtype("i8").char == "q", reason="they are one type here")
def test_a_long_long_is_not_called_an_integer_of_its_size(checkpointer):
    with pytest.raises(EncodeError, match="dtype longlong; convert"):
        checkpointer.checkpoint("x", da.zeros(3, dtype=np.longlong))
