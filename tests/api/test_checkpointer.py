"""Checkpointer: what it is made of, and how it travels."""

import copy
import pickle

import cloudpickle
import dask.bag
import pytest
from fsspec.implementations.local import LocalFileSystem

import agatha_ckpt
from agatha_ckpt import (
    Checkpointer,
    CheckpointStore,
    InvalidValueError,
    RootNotSetError,
    Settings,
)

COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "cloudpickle": lambda value: pickle.loads(cloudpickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


class Pipeline:
    """Keeps its Checkpointer, and maps methods of its own."""

    def __init__(self, checkpointer):
        self.ckpt = checkpointer
        self.suffix = "!"

    def clean(self, text):
        return text.strip() + self.suffix

    def run(self, **options):
        texts = dask.bag.from_sequence([" a", "b "], npartitions=2)
        return self.ckpt.checkpoint("clean", texts.map(self.clean), **options)


# ---- copies ----


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_same_store_and_settings(root, duplicate):
    first = Checkpointer(root, verbose=False, halt_after="never")
    first.checkpoint("x", dask.bag.from_sequence([1]), scheduler="sync")
    second = duplicate(first)
    assert second.store == first.store
    assert second.settings == first.settings
    assert second.checkpoint("x").compute(scheduler="sync") == [1]
    second.configure(halt_after=None)
    assert first.settings.halt_after == "never"


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_without_a_store_looks_for_its_own(tmp_path, duplicate):
    second = duplicate(Checkpointer(verbose=False))
    assert second.settings == Settings(verbose=False)
    with dask.config.set({"agatha-ckpt.root": str(tmp_path)}):
        assert second.store.root == tmp_path


def test_a_copy_keeps_the_options_of_its_filesystem(tmp_path):
    store = CheckpointStore(tmp_path, storage_options={"auto_mkdir": True}, fsync=False)
    for duplicate in COPIES.values():
        copied = duplicate(Checkpointer(store)).store
        assert copied.fs.auto_mkdir
        assert not copied.fsync


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_pipeline_that_holds_its_checkpointer_maps_its_methods(tmp_path, scheduler):
    pipeline = Pipeline(Checkpointer(tmp_path / "root", verbose=False))
    options = {"scheduler": scheduler, "num_workers": 1}
    assert pipeline.run(**options).compute(scheduler="sync") == ["a!", "b!"]
    pipeline.ckpt.close()


# ---- the store of a Checkpointer ----


def test_a_url_may_have_options(tmp_path):
    options = {"auto_mkdir": True}
    ckpt = Checkpointer(tmp_path, storage_options=options, fsync=False, verbose=False)
    assert ckpt.store == CheckpointStore(tmp_path)
    assert ckpt.store.fs.auto_mkdir
    assert not ckpt.store.fsync
    assert Checkpointer(str(tmp_path)).store.fsync


def test_the_options_reach_an_object_store(s3):
    options = s3.options | {"key": "mine"}
    ckpt = Checkpointer(s3.new_root(), storage_options=options, verbose=False)
    ckpt.checkpoint("x", dask.bag.from_sequence([1]), scheduler="sync")
    assert ckpt.names() == ["x"]
    assert pickle.loads(pickle.dumps(ckpt)).store.fs.key == "mine"
    assert "mine" not in repr(ckpt)


def test_a_store_can_be_assigned_as_a_path(tmp_path):
    ckpt = Checkpointer()
    ckpt.store = tmp_path
    assert ckpt.store == CheckpointStore(tmp_path)
    ckpt.store = ckpt.store
    assert ckpt.store == CheckpointStore(tmp_path)
    with pytest.raises(RootNotSetError):
        ckpt.store = 5


WRONG = {
    "fs": ({"fs": 5}, "filesystem"),
    "fs is a name": ({"fs": "s3"}, "filesystem"),
    "fs is a class": ({"fs": LocalFileSystem}, "filesystem"),
    "options are text": ({"storage_options": "x"}, "expected a dict"),
    "options are pairs": ({"storage_options": [("key", "a")]}, "expected a dict"),
    "options by number": ({"storage_options": {1: "a"}}, "expected a dict"),
    "both": ({"fs": LocalFileSystem(), "storage_options": {"a": 1}}, "both"),
    "fsync is text": ({"fsync": "no"}, "'no' for fsync: expected True or False"),
    "fsync is a number": ({"fsync": 1}, "1 for fsync"),
}


@pytest.mark.parametrize("wrong, message", WRONG.values(), ids=WRONG)
def test_a_wrong_option_of_a_store_is_refused(tmp_path, wrong, message):
    with pytest.raises(InvalidValueError, match=message):
        CheckpointStore(tmp_path / "root", **wrong)
    if "fs" in wrong:
        return
    for make in (Checkpointer, agatha_ckpt.set_root):
        with pytest.raises(InvalidValueError, match=message):
            make(tmp_path / "root", **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", [None, b"root", 5, {"root": "x"}, "", " ", "a\0b"])
def test_what_cannot_be_a_root_is_refused(root):
    with pytest.raises(RootNotSetError, match="cannot be the root"):
        CheckpointStore(root)
    if root is not None:
        with pytest.raises(RootNotSetError, match="cannot be the root"):
            Checkpointer(root)


@pytest.mark.parametrize("options", [{"storage_options": {}}, {"fsync": True}])
def test_options_without_a_path_or_url_are_refused(tmp_path, options):
    for store in (None, CheckpointStore(tmp_path)):
        with pytest.raises(InvalidValueError, match="belong to a path or URL"):
            Checkpointer(store, **options)


# ---- what is printed ----


def test_clear_prints_whether_there_was_a_checkpoint(tmp_path, capsys):
    ckpt = Checkpointer(tmp_path)
    ckpt.checkpoint("x", dask.bag.from_sequence([1]), scheduler="sync")
    capsys.readouterr()
    assert ckpt.clear("x")
    assert "Checkpoint: x " in (printed := capsys.readouterr().out)
    assert "- Cleared" in printed
    assert not ckpt.clear(tmp_path / "typo")
    assert f"- No checkpoint 'typo' under '{tmp_path}'" in capsys.readouterr().out
    ckpt.configure(verbose=False)
    assert not ckpt.clear("typo")
    assert capsys.readouterr().out == ""


def test_repair_prints_what_it_verified(tmp_path, capsys):
    ckpt = Checkpointer(tmp_path)
    bag = dask.bag.from_sequence(range(3), npartitions=3)
    ckpt.checkpoint("x", bag, scheduler="sync")
    capsys.readouterr()
    ckpt.repair("x", bag, scheduler="sync")
    printed = capsys.readouterr().out
    assert printed.count("Checkpoint: x") == 1
    assert "- Verified 3 partitions, 3 records, " in printed
    assert ": all whole" in printed
    next(tmp_path.glob("x/part-00001*")).write_bytes(b"")
    ckpt.repair("x", bag, scheduler="sync")
    assert ": 1 damaged" in capsys.readouterr().out
