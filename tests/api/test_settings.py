"""Settings: one frozen value, replaced and never changed."""

from dataclasses import FrozenInstanceError, fields

import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, InvalidValueError, Settings

DEFAULTS = {
    "verbose": True,
    "allow_partial": True,
    "enabled": True,
    "read_only": False,
    "halt_after": None,
    "allow_pickle": False,
    "compression": "auto",
    "on_stale": "warn",
    "on_error": "raise",
}
# Another good value of each, and values that it does not take.
GOOD = {
    "verbose": [False],
    "allow_partial": [False],
    "enabled": [False],
    "read_only": [True],
    "halt_after": ["one"],
    "allow_pickle": [True],
    "compression": [None, "zstd"],
    "on_stale": ["recompute", "error"],
    "on_error": ["continue"],
}
BAD = {
    "verbose": [None, 1, 0, "yes"],
    "allow_partial": [None, 1, "no"],
    "enabled": [None, 0, []],
    "read_only": [None, 1, "yes"],
    "halt_after": [3, True, b"one"],
    "allow_pickle": [None, 1, "False"],
    "compression": ["gzip", "", True, 1],
    "on_stale": [None, "ignore", True],
    "on_error": [None, "ignore", True],
}


def pairs(table):
    return [(name, value) for name, values in table.items() for value in values]


def test_the_defaults_are_the_documented_ones():
    assert {f.name: getattr(Settings(), f.name) for f in fields(Settings)} == DEFAULTS
    assert vars(Checkpointer().settings) == DEFAULTS


@pytest.mark.parametrize("name, value", pairs(GOOD))
def test_a_setting_is_replaced_in_a_new_value(name, value):
    settings = Settings()
    changed = settings.override(**{name: value})
    assert getattr(changed, name) == value
    assert vars(settings) == DEFAULTS
    assert vars(changed) == DEFAULTS | {name: value}
    assert changed == Settings(**{name: value})
    assert hash(changed) == hash(Settings(**{name: value}))
    assert repr(changed) == f"Settings({name}={value!r})"


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_cannot_be_assigned_to(name):
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        setattr(settings, name, DEFAULTS[name])


@pytest.mark.parametrize("name, value", pairs(BAD))
def test_a_bad_value_is_refused_and_named(name, value):
    checkpointer = Checkpointer()
    for make in (Settings, Settings().override, Checkpointer, checkpointer.configure):
        with pytest.raises(InvalidValueError) as caught:
            make(**{name: value})
        assert name in str(caught.value)
        assert repr(value) in str(caught.value)
    assert vars(checkpointer.settings) == DEFAULTS


def test_an_unknown_name_is_a_type_error():
    checkpointer = Checkpointer()
    for make in (Settings, Settings().override, Checkpointer, checkpointer.configure):
        with pytest.raises(TypeError, match="verbos"):
            make(verbos=True)
    with pytest.raises(TypeError, match="is 'storage_options'"):
        Checkpointer(storage_option=1)
    assert vars(checkpointer.settings) == DEFAULTS


def test_settings_take_no_positional_arguments():
    with pytest.raises(TypeError):
        Settings(True)


def test_configure_replaces_the_value_and_leaves_the_old_one_alone():
    checkpointer = Checkpointer(verbose=False)
    before = checkpointer.settings
    checkpointer.configure(allow_pickle=True, on_stale="error")
    assert before == Settings(verbose=False)
    assert checkpointer.settings == Settings(
        verbose=False, allow_pickle=True, on_stale="error"
    )
    checkpointer.configure()
    assert checkpointer.settings.on_stale == "error"


def test_a_bad_change_among_good_ones_changes_nothing():
    checkpointer = Checkpointer()
    with pytest.raises(InvalidValueError):
        checkpointer.configure(verbose=False, on_stale="never")
    assert checkpointer.settings == Settings()


def test_two_checkpointers_have_nothing_in_common(tmp_path):
    one = Checkpointer(CheckpointStore(tmp_path / "one"), verbose=False)
    two = Checkpointer(CheckpointStore(tmp_path / "two"))
    one.configure(halt_after="here", allow_partial=False)
    assert two.settings == Settings()
    two.store = CheckpointStore(tmp_path / "three")
    assert one.store.root == tmp_path / "one"


@pytest.mark.parametrize("kind", [str, lambda path: path, CheckpointStore])
def test_a_path_stands_for_the_store_of_that_root(tmp_path, kind):
    assert Checkpointer(kind(tmp_path)).store == CheckpointStore(tmp_path)
    assert list(tmp_path.iterdir()) == []
