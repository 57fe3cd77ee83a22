"""The agatha-ckpt section of dask's configuration."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import dask
import dask.bag
import dask.config
import pytest
import yaml

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    InvalidValueError,
    RootNotSetError,
    Settings,
)
from agatha_ckpt._config import _DEFAULTS, _load_defaults

STORE = {"root": None, "storage-options": None, "fsync": True}
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


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


def test_options_take_precedence_over_the_section(tmp_path):
    events = []
    section = {"root": str(tmp_path), "verbose": True, "on-stale": "error"}
    with dask.config.set({"agatha-ckpt": section}):
        ckpt = Checkpointer.from_config(verbose=False, on_event=events.append)
    assert ckpt.settings == Settings(verbose=False, on_stale="error")
    ckpt.checkpoint("x", dask.bag.from_sequence([1]), scheduler="sync")
    assert events


def test_a_root_alone_gives_the_default_settings(tmp_path):
    with dask.config.set({"agatha-ckpt.root": str(tmp_path)}):
        checkpointer = Checkpointer.from_config()
    assert checkpointer.settings == Settings()
    assert checkpointer.store.fsync is True


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
        pytest.raises(TypeError, match=r"verbos .*; use verbose"),
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


def from_environment(**variables):
    """Return the Checkpointer that dask's variables in the environment configure."""
    variables = {f"DASK_AGATHA_CKPT__{key}": v for key, v in variables.items()}
    with dask.config.set(dask.config.collect_env(variables)):
        return Checkpointer.from_config()


def test_the_environment_alone_is_enough(tmp_path):
    found = from_environment(
        ROOT=str(tmp_path / "root"), VERBOSE="false", ON_STALE="error", FSYNC="False"
    )
    assert found.settings == Settings(verbose=False, on_stale="error")
    assert (found.store.root, found.store.fsync) == (tmp_path / "root", False)


@pytest.mark.parametrize(
    "variables, options",
    [
        (
            {"STORAGE_OPTIONS": '{"token": "t", "deep": {"n": 1}}'},
            {"token": "t", "deep": {"n": 1}},
        ),
        (
            {"STORAGE_OPTIONS": '{"anon": true, "key": null}'},
            {"anon": True, "key": None},
        ),
        ({"STORAGE_OPTIONS__ANON": "true"}, {"anon": True}),
    ],
    ids=["strings", "true-and-null", "variables of their own"],
)
def test_storage_options_in_the_environment_are_json(variables, options):
    found = from_environment(ROOT="memory://configured", **variables)
    assert found.store.fs.storage_options == options


# ---- the packaged defaults, and the page ----


def documented_defaults():
    settings = {f.name.replace("_", "-"): f.default for f in fields(Settings)}
    return STORE | settings


def test_the_packaged_defaults_are_those_of_the_code_and_each_has_a_comment():
    text = _DEFAULTS.read_text("utf-8")
    assert yaml.safe_load(text) == {"agatha-ckpt": documented_defaults()}
    lines = text.splitlines()
    keys = [i for i, line in enumerate(lines) if re.match(r"  [a-z]", line)]
    assert len(keys) == len(documented_defaults())
    assert [lines[i] for i in keys if not lines[i - 1].startswith("  # ")] == []


def test_the_page_has_each_setting_with_its_default():
    row = r"\| `([a-z-]+)` \| `([a-z]+)` \| \S.* \|"
    rows = re.findall(row, PAGE.read_text("utf-8"))
    documented = {name: yaml.safe_load(default) for name, default in rows}
    assert documented == documented_defaults()


def test_defaults_go_behind_what_was_set_before_they_were_read():
    code = """
import dask.config
before = dask.config.get("agatha-ckpt", None)
import agatha_ckpt
assert dask.config.get("agatha-ckpt", None) == before  # importing reads no file
try:
    agatha_ckpt.get_root()
except agatha_ckpt.RootNotSetError:
    pass
print(dask.config.get("agatha-ckpt.on-stale"), dask.config.get("agatha-ckpt.verbose"))
"""
    variables = {"DASK_AGATHA_CKPT__ON_STALE": "error", "PYTHONWARNINGS": "error"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("error True\n", "")


def test_the_section_may_be_taken_away_again():
    _load_defaults()
    with dask.config.set({"agatha-ckpt": {"root": "memory://r", "verbose": False}}):
        assert Checkpointer.from_config().settings == Settings(verbose=False)


@pytest.mark.parametrize(
    "key, value, error",
    [
        ("verbose", "yes", InvalidValueError),
        ("verbose", 1, InvalidValueError),
        ("halt-after", 2026, InvalidValueError),
        ("compression", "gzip", InvalidValueError),
        ("on-stale", "ignore", InvalidValueError),
        ("fsync", "no", InvalidValueError),
        ("fsync", None, InvalidValueError),
        ("root", 2026, RootNotSetError),
        ("root", ["a"], RootNotSetError),
        ("storage-options", "anon", RootNotSetError),
    ],
)
def test_a_bad_value_is_named_as_in_yaml_and_in_the_environment(key, value, error):
    section = {"root": "memory://configured"} | {key: value}
    with dask.config.set({"agatha-ckpt": section}), pytest.raises(error) as caught:
        Checkpointer.from_config()
    assert isinstance(caught.value, CheckpointError)
    variable = f"DASK_AGATHA_CKPT__{key.upper().replace('-', '_')}"
    assert f"agatha-ckpt.{key} ({variable})" in str(caught.value)
    assert re.search("; |expected", str(caught.value))  # and what to do


def test_a_section_that_is_no_mapping_is_refused():
    with (
        dask.config.set({"agatha-ckpt": "s3://bucket"}),
        pytest.raises(RootNotSetError, match="not a mapping"),
    ):
        Checkpointer.from_config()
