"""Roots in memory, for one test each."""

import subprocess
import sys

import dask
import dask.bag
import fsspec
import pytest

import agatha_ckpt
from agatha_ckpt import Checkpointer, InvalidValueError, Settings
from agatha_ckpt.testing import memory_checkpointer, memory_root

IMPORT = """\
import sys
sys.modules["pytest"] = None
import agatha_ckpt.testing
sys.exit("dask" in sys.modules)
"""


def save(checkpoints, name="x"):
    # Where no scheduler is set, a bag is computed in other processes.
    return checkpoints.checkpoint(name, dask.bag.from_sequence([1, 2])).compute()


def test_each_has_a_root_of_its_own_that_is_removed():
    with memory_checkpointer() as one, memory_checkpointer() as two:
        assert save(one) == save(two, "y") == [1, 2]
        assert (one.names(), two.names()) == (["x"], ["y"])
        urls = one.store.url, two.store.url
    assert not any(map(fsspec.filesystem("memory").exists, urls))


def test_one_is_quiet_and_takes_what_a_checkpointer_takes(capsys):
    with memory_checkpointer() as ckpt:
        save(ckpt)
    assert capsys.readouterr().out == ""
    with memory_checkpointer(verbose=True, on_stale="error") as ckpt:
        assert ckpt.settings == Settings(on_stale="error")
    with pytest.raises(InvalidValueError), memory_checkpointer(on_stale="?"):
        pass


def test_the_functions_use_it_and_then_what_they_used_before(tmp_path):
    agatha_ckpt.set_root(tmp_path)
    agatha_ckpt.set_on_stale("recompute")
    with memory_root(on_stale="error") as root:
        assert save(agatha_ckpt) == [1, 2]
        assert agatha_ckpt.get_root() == root
        assert Checkpointer().names() == Checkpointer(root).names() == ["x"]
        assert agatha_ckpt.get_on_stale() == "error"
        assert not agatha_ckpt.get_verbose()
    assert agatha_ckpt.get_root() == tmp_path
    assert agatha_ckpt.get_on_stale() == "recompute"
    assert agatha_ckpt.get_verbose()
    assert list(tmp_path.iterdir()) == []


def test_it_imports_without_pytest_and_loads_no_dask():
    assert subprocess.run([sys.executable, "-c", IMPORT]).returncode == 0
