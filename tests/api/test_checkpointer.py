"""Checkpointer: what it is made of, and how it travels."""

import copy
import pickle

import cloudpickle
import dask.bag
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, Settings

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
