"""What all formats have in common: the registry, and damage seen through a store."""

import dask.bag as db
import pytest

from agatha_ckpt import (
    Checkpointer,
    CorruptCheckpointError,
    PickleNotAllowedError,
    Plan,
    UnsupportedFormatError,
)
from agatha_ckpt._format.codec import codec_for, codec_of_suffix
from tests.format.memory_file import decode, encode
from tests.format.specification import array_block, write_checkpoint
from tests.format.values import CreatesFile, load

LINES = ["a", "b", "", "ह", "c", "d"]


def test_each_format_has_one_codec():
    for form, suffix in (("msgpack", "msgpack"), ("text", "txt"), ("pickle", "pkl")):
        codec = codec_for(form)
        assert (codec.name, codec.suffix) == (form, suffix)
        assert codec_of_suffix(suffix) is codec
    assert codec_of_suffix("orc") is None
    with pytest.raises(UnsupportedFormatError, match="'orc': expected one of"):
        codec_for("orc")


def test_a_store_refuses_to_write_an_unknown_format(store):
    with pytest.raises(UnsupportedFormatError, match="unknown format"):
        store.write_partition("a", Plan(1, "orc"), 0, [1])
    assert store.names() == []


@pytest.mark.parametrize("form", ["msgpack", "text"])
def test_the_first_records_are_read_in_pieces(form):
    file, info = encode(LINES, form)
    assert decode(file, info, form, piece=1000) == LINES
    assert file.reads == [1000]


# ---- hostile writers, whose checksums and seals are right ----


def test_p8_no_flag_or_manifest_makes_a_load_unpickle(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    file, _ = encode([CreatesFile(str(victim))], allow_pickle=True)
    payload = file.data[39 + 17 : -59]
    root = tmp_path / "root"
    write_checkpoint(root / "flags-cleared", [[(1, 1, payload)]])
    write_checkpoint(root / "all-flags-cleared", [[(0, 1, payload)]])
    write_checkpoint(root / "no-pickle-by-the-manifest", [[(3, 1, payload)]])
    for name in ("flags-cleared", "no-pickle-by-the-manifest"):
        with pytest.raises(PickleNotAllowedError, match=name):
            load(root, name)
    with pytest.raises(CorruptCheckpointError):
        load(root, "all-flags-cleared")
    assert not victim.exists()
    load(root, "flags-cleared", allow_pickle=True)
    assert victim.exists()


def test_p8_verify_unpickles_only_when_allowed(tmp_path):
    victim = tmp_path / "created-by-unpickling"
    allowing = Checkpointer(tmp_path / "root", verbose=False, allow_pickle=True)
    bag = db.from_sequence([CreatesFile(str(victim))], npartitions=1)
    allowing.checkpoint("a", bag, scheduler="sync")
    victim.unlink(missing_ok=True)  # dask may copy what a bag is made from
    assert allowing.store.verify("a") == []
    assert not victim.exists()
    assert allowing.store.verify("a", allow_pickle=True) == []
    assert victim.exists()


def test_p5_verify_names_and_repair_replaces_a_block_that_does_not_decode(tmp_path):
    """Under checksums that are right, as a defect of a writer would leave it."""
    records = [[1], [2], [3]]
    blocks = [array_block([record]) for record in records]
    blocks[1] = (1, 1, b"\x91\x92\xc7\x00\x9b\x90")  # a set of a list
    write_checkpoint(tmp_path / "a", [[block] for block in blocks])
    checkpointer = Checkpointer(tmp_path, verbose=False)
    with pytest.raises(CorruptCheckpointError, match="partition 1 of"):
        load(tmp_path, "a")
    (found,) = checkpointer.store.verify("a")
    assert (found.index, "does not decode" in found.reason) == (1, True)
    bag = db.from_sequence(records, npartitions=3)
    assert checkpointer.repair("a", bag).compute(scheduler="sync") == records
