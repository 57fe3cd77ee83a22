"""The agatha-ckpt section of dask's configuration."""

import json
import os
import subprocess
import sys

import dask
import dask.config
import pytest

from agatha_ckpt import Checkpointer, RootNotSetError, Settings


@pytest.fixture(autouse=True)
def _no_section():
    with dask.config.set({"agatha-ckpt": {}}):
        yield


def test_every_key_is_read(tmp_path):
    section = {
        "root": str(tmp_path / "root"),
        "storage-options": {"auto_mkdir": True},
        "fsync": False,
        "verbose": False,
        "allow-partial": False,
        "allow_pickle": True,
        "halt-after": "one",
        "compression": None,
        "on_stale": "error",
        "enabled": False,
    }
    with dask.config.set({"agatha-ckpt": section}):
        checkpointer = Checkpointer.from_config()
    assert checkpointer.store.root == tmp_path / "root"
    assert checkpointer.store.fs.auto_mkdir
    assert checkpointer.store.fsync is False
    assert checkpointer.settings == Settings(
        verbose=False,
        allow_partial=False,
        allow_pickle=True,
        halt_after="one",
        compression=None,
        on_stale="error",
        enabled=False,
    )
    assert not (tmp_path / "root").exists()


def test_a_root_alone_gives_the_default_settings(tmp_path):
    with dask.config.set({"agatha-ckpt.root": str(tmp_path)}):
        checkpointer = Checkpointer.from_config()
    assert checkpointer.settings == Settings()
    assert checkpointer.store.fsync is True


def test_from_config_makes_one_of_the_class_it_was_called_on(tmp_path):
    class Mine(Checkpointer):
        pass

    with dask.config.set({"agatha-ckpt.root": str(tmp_path)}):
        assert type(Mine.from_config()) is Mine


@pytest.mark.parametrize("section", [{}, None, {"root": None}, {"root": ""}])
def test_without_a_root_it_is_said_what_to_set(section):
    with (
        dask.config.set({"agatha-ckpt": section}),
        pytest.raises(RootNotSetError, match="DASK_AGATHA_CKPT__ROOT"),
    ):
        Checkpointer.from_config()


def test_an_unknown_key_is_a_type_error_that_names_it(tmp_path):
    section = {"root": str(tmp_path), "verbos": False}
    with (
        dask.config.set({"agatha-ckpt": section}),
        pytest.raises(TypeError, match="verbos"),
    ):
        Checkpointer.from_config()


def test_a_bad_value_is_refused(tmp_path):
    section = {"root": str(tmp_path), "on-stale": "ignore"}
    with (
        dask.config.set({"agatha-ckpt": section}),
        pytest.raises(ValueError, match="on_stale"),
    ):
        Checkpointer.from_config()


def test_a_checkpointer_without_store_looks_the_root_up_when_it_is_needed(tmp_path):
    checkpointer = Checkpointer()
    with pytest.raises(RootNotSetError):
        _ = checkpointer.store
    with dask.config.set({"agatha-ckpt.root": str(tmp_path)}):
        assert checkpointer.store.root == tmp_path
    # Once found, it stays: a run has one root.
    assert checkpointer.store.root == tmp_path


SCRIPT = """\
import json
from agatha_ckpt import Checkpointer
found = Checkpointer.from_config()
print(json.dumps([str(found.store.root), found.store.fsync,
                  dict(found.store.fs.storage_options), repr(found.settings)]))
"""


def from_environment(**variables):
    """Return root, fsync, storage options and settings in a process of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DASK_")}
    added = {f"DASK_AGATHA_CKPT__{key}": value for key, value in variables.items()}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=kept | added,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_the_environment_alone_is_enough(tmp_path):
    found = from_environment(
        ROOT=str(tmp_path / "root"), VERBOSE="false", ON_STALE="error", FSYNC="False"
    )
    settings = "Settings(verbose=False, on_stale='error')"
    assert found == [str(tmp_path / "root"), False, {}, settings]


@pytest.mark.parametrize(
    "given",
    [{"token": "t", "deep": {"n": 1}}, {"anon": True, "key": None}],
    ids=["strings", "true-and-null"],
)
def test_storage_options_in_the_environment_are_json(given):
    found = from_environment(
        ROOT="memory://configured", STORAGE_OPTIONS=json.dumps(given)
    )
    assert found[0] == "memory:///configured" or found[0] == "memory://configured"
    assert found[2] == given


def test_storage_options_can_be_variables_of_their_own():
    found = from_environment(ROOT="memory://configured", STORAGE_OPTIONS__ANON="true")
    assert found[2] == {"anon": True}
