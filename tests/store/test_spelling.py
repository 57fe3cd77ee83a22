"""Names that differ in case or Unicode form alone are of one folder on some disks."""

import errno
import os
from unicodedata import normalize

import dask.bag
import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointStore,
    Manifest,
    Plan,
)
from agatha_ckpt._format.names import is_variant
from tests.store.folding import Folding

BAG = dask.bag.from_sequence(range(4), npartitions=2)
OTHER = BAG.map(str)


@pytest.fixture
def ckpt(tmp_path):
    store = CheckpointStore("root", fs=Folding(tmp_path))
    return Checkpointer(store, verbose=False)


def save(ckpt, name, bag=BAG, **options):
    return ckpt.checkpoint(name, bag, scheduler="sync", **options)


def refused(call, *args, **kwargs):
    with pytest.raises(CheckpointConflictError) as caught:
        call(*args, **kwargs)
    assert "'terms' under 'root'" in str(caught.value)
    assert "'Terms', a name that differs in case" in str(caught.value)


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


def test_a_root_that_cannot_be_listed_can_be_saved_to(tmp_path, monkeypatch):
    real = os.scandir

    def scandir(folder):
        if os.path.samefile(folder, tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    local = Checkpointer(tmp_path, verbose=False)
    for version in ("1", "2"):
        loaded = save(local, "terms", version=version)
        assert loaded.compute(scheduler="sync") == [0, 1, 2, 3]


def test_a_name_in_other_case_than_a_done_checkpoint_is_refused(ckpt, tmp_path):
    save(ckpt, "Terms")
    before = content(tmp_path)
    store = ckpt.store
    for bag in (BAG, OTHER):
        refused(save, ckpt, "terms", bag)
        refused(save, ckpt, "terms", bag, overwrite=True)
    refused(ckpt.repair, "terms", BAG)
    refused(ckpt.checkpoint, "terms")
    refused(store.manifest, "terms")
    refused(store.verify, "terms")
    refused(store.clear, "terms")
    refused(store.write_partition, "terms", Plan(1), 0, [1])
    assert not store.is_done("terms")
    assert store.status("terms").state == "damaged"
    assert content(tmp_path) == before
    assert store.names() == ["Terms"]
    assert save(ckpt, "Terms").compute(scheduler="sync") == [0, 1, 2, 3]
    assert store.clear("Terms")


def test_a_name_in_other_case_than_a_partial_is_refused(ckpt, tmp_path):
    ckpt.store.write_partition("Terms", Plan(2), 0, [1])
    before = content(tmp_path)
    refused(save, ckpt, "terms")
    refused(save, ckpt, "terms", allow_partial=False)
    refused(ckpt.store.clear, "terms")
    assert content(tmp_path) == before
    save(ckpt, "Terms")
    ckpt.store.clear_all()
    assert not content(tmp_path)


def test_names_that_differ_in_case_are_two_where_the_disk_has_both(store):
    ckpt = Checkpointer(store, verbose=False)
    save(ckpt, "Terms")
    save(ckpt, "terms", OTHER)
    store.write_partition("TERMS", Plan(2), 0, [1])
    save(ckpt, "TERMS")
    assert store.names() == ["TERMS", "Terms", "terms"]
    assert ckpt.checkpoint("terms").compute(scheduler="sync") == list("0123")
    assert store.clear("terms")
    assert store.names() == ["TERMS", "Terms"]


def test_a_folder_that_was_renamed_in_case_alone_can_be_cleared(tmp_path):
    ckpt = Checkpointer(tmp_path, verbose=False)
    save(ckpt, "Terms")
    save(ckpt, "good")
    (tmp_path / "Terms").rename(tmp_path / "terms")
    with pytest.raises(CheckpointConflictError, match="is that of 'Terms'"):
        ckpt.checkpoint("terms")
    assert ckpt.names() == ["good"]
    assert "is that of 'Terms'" in ckpt.status("terms").problem
    assert ckpt.clear("terms")
    save(ckpt, "Terms")
    (tmp_path / "Terms").rename(tmp_path / "words")  # as anyone may
    assert ckpt.checkpoint("words").compute(scheduler="sync") == [0, 1, 2, 3]


def test_a_disk_that_takes_characters_apart_lists_the_names_that_were_saved(tmp_path):
    store = CheckpointStore("root", fs=Folding(tmp_path, decomposes=True))
    ckpt = Checkpointer(store, verbose=False)
    store.write_partition("Sätze", Plan(2), 0, [1])
    save(ckpt, "Sätze")
    assert (tmp_path / "root" / normalize("NFD", "Sätze")).is_dir()
    assert store.names() == ["Sätze"]
    store.clear_all()
    assert store.names() == []


def test_a_marker_has_the_name_of_its_checkpoint(store):
    info = store.write_partition("x", Plan(1), 0, [1])
    assert store.mark_done("x", Manifest(Plan(1), (info,))).name == "x"
    assert store.manifest("x").name == "x"


@pytest.mark.parametrize(
    "name, other, expected",
    [
        ("Terms", "tERMS", True),
        ("Terms", "Terms", False),
        ("terms", "term", False),
        ("Straße", "STRASSE", True),
        ("ﬁle", "file", True),
        ("Ätze", "a\u0308tze", True),
        ("İ", "i\u0307", True),
    ],
)
def test_what_differs_in_case_or_unicode_form_alone(name, other, expected):
    assert is_variant(name, other) == is_variant(other, name) == expected
