"""The ``agatha-ckpt`` section of dask's configuration."""

import contextlib
import json
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import dask.config

from agatha_ckpt._errors import InvalidNameError, RootNotSetError
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.store import CheckpointStore

_SECTION = "agatha-ckpt"
_STORE_KEYS = ("root", "storage_options", "fsync")
_DEFAULTS = Path(__file__).with_name("agatha-ckpt.yaml")
_SETTINGS = tuple(field.name for field in fields(Settings))


@cache
def _load_defaults() -> None:
    """Give dask the packaged defaults, which whatever the user has set goes before.

    When the section is first read, and not at import: that touches no file.
    """
    for defaults in dask.config.collect_yaml([str(_DEFAULTS)]):
        dask.config.update_defaults(defaults)


def _section() -> dict[str, Any]:
    _load_defaults()
    section = dask.config.get(_SECTION, None) or {}
    if not isinstance(section, dict):
        raise RootNotSetError(
            f"the section {_SECTION} of dask's configuration is a "
            f"{type(section).__name__}, not a mapping; set its keys, such as "
            "DASK_AGATHA_CKPT__ROOT"
        )
    found = {str(key).replace("-", "_"): value for key, value in section.items()}
    for name in found.keys() - {*_STORE_KEYS, *_SETTINGS}:
        close = get_close_matches(name, [*_STORE_KEYS, *_SETTINGS], n=1)
        instead = f"{_shown(close[0])} is one" if close else "remove it"
        known = ", ".join(map(_shown, [*_STORE_KEYS, *_SETTINGS]))
        raise TypeError(
            f"{_key(name)} in dask's configuration is no setting; {instead} "
            f"(all of them: {known})"
        )
    return found


def configured_store(
    root: str | None = None, storage_options: dict[str, Any] | None = None
) -> CheckpointStore:
    """Return the store that the configuration names, or the one at *root*.

    Parameters
    ----------
    root : str, optional
        In place of the configured one.
    storage_options : dict, optional
        In addition to the configured ones, and before them.

    Raises
    ------
    RootNotSetError
        There is no root, or what the section says of it is none.
    InvalidNameError
        ``fsync`` is neither true nor false.
    TypeError
        The section has a key that is no setting.
    """
    section = _section()
    if root is None:
        root = section.get("root") or None
    if root is None:
        raise RootNotSetError(
            "no root is set for checkpoints; call set_root(path_or_url), make a "
            "Checkpointer(CheckpointStore(path_or_url)), or set "
            "DASK_AGATHA_CKPT__ROOT in the environment"
        )
    if not isinstance(root, str):
        # dask reads the environment as Python, and 2026 as a number.
        raise RootNotSetError(
            f"{_key('root')} in dask's configuration is the {type(root).__name__} "
            f"{root!r}, not a path or URL; write it as './{root}' or in full"
        )
    fsync = section.get("fsync", True)
    if not isinstance(fsync, bool):
        raise _bad_value("fsync", fsync, "use one of True, False")
    options = _mapping(section.get("storage_options") or {})
    return CheckpointStore(
        root, storage_options=options | (storage_options or {}), fsync=fsync
    )


def _mapping(options: object) -> dict[str, Any]:
    if isinstance(options, str):
        # dask reads environment variables as Python; true, false, null are JSON.
        with contextlib.suppress(ValueError):
            options = json.loads(options)
    if not isinstance(options, dict):
        raise RootNotSetError(
            f"{_key('storage_options')} in dask's configuration is no mapping; write "
            "it as JSON, such as '{\"anon\": true}'"
        )
    return options


def configured_settings() -> Settings:
    """Return the settings that the configuration names.

    Raises
    ------
    InvalidNameError
        A value is none of those that the setting takes.
    TypeError
        The section has a key that is no setting.
    """
    section, settings = _section(), Settings()
    for name in _SETTINGS:
        if name not in section:  # a section that was set as a whole
            continue
        try:
            settings = settings.override(**{name: section[name]})
        except InvalidNameError as error:
            advice = str(error).partition("; ")[2]
            raise _bad_value(name, section[name], advice) from None
    return settings


def _bad_value(name: str, value: object, advice: str) -> InvalidNameError:
    return InvalidNameError(
        f"{value!r} is no value for {_key(name)} in dask's configuration; {advice}"
    )


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _key(name: str) -> str:
    """Return how messages speak of a setting: as in YAML and in the environment."""
    variable = f"DASK_AGATHA_CKPT__{name.upper().replace('-', '_')}"
    return f"{_SECTION}.{_shown(name)} ({variable})"
