"""The ``agatha-ckpt`` section of dask's configuration."""

import contextlib
import json
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import dask.config

from agatha_ckpt._errors import InvalidValueError, RootNotSetError
from agatha_ckpt._settings import Settings, fault_of
from agatha_ckpt._store.store import CheckpointStore

_SECTION = "agatha-ckpt"
_STORE_KEYS = ("root", "storage_options", "fsync")
_DEFAULTS = Path(__file__).with_name("agatha-ckpt.yaml")
_SETTINGS = tuple(field.name for field in fields(Settings))


@cache
def _load_defaults() -> None:
    """Give dask the packaged defaults, which what the user has set overrides.

    Called when the section is first read: importing the package reads no file.
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
        advice = f"use {_shown(close[0])}" if close else "remove it"
        known = ", ".join(map(_shown, [*_STORE_KEYS, *_SETTINGS]))
        raise TypeError(
            f"{_label(name)} is not a setting; {advice} (known are {known})"
        )
    return found


def has_root() -> bool:
    """Return whether the configuration names a root."""
    return bool(_section().get("root"))


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
        There is no root, or the section's root cannot be used.
    InvalidValueError
        ``fsync`` is neither true nor false.
    TypeError
        The section has a key that is not a setting.
    """
    section = _section()
    if root is None:
        root = section.get("root") or None
    if root is None:
        raise RootNotSetError(
            "no root is set for checkpoints; call set_root(path_or_url), use "
            "Checkpointer(path_or_url), or set "
            "DASK_AGATHA_CKPT__ROOT in the environment"
        )
    if not isinstance(root, str):
        # dask reads the environment as Python, and 2026 as a number.
        raise RootNotSetError(
            f"{_label('root')} is the {type(root).__name__} "
            f"{root!r}, not a path or URL; write it as './{root}' or in full"
        )
    fsync = section.get("fsync", True)
    if fault := fault_of("fsync", fsync, _label("fsync")):
        raise InvalidValueError(fault)
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
            f"{_label('storage_options')} is not a mapping; write it as JSON, such as "
            "'{\"anon\": true}'"
        )
    return options


def configured_settings() -> Settings:
    """Return the settings of the configuration.

    Raises
    ------
    InvalidValueError
        A setting does not take its value.
    TypeError
        The section has a key that is not a setting.
    """
    section = _section()  # without all keys where it was set as a whole
    found = {name: section[name] for name in _SETTINGS if name in section}
    for name, value in found.items():
        if fault := fault_of(name, value, _label(name)):
            raise InvalidValueError(fault)
    return Settings(**found)


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _label(name: str) -> str:
    """Return what messages call a key: its name in YAML and in the environment."""
    variable = f"DASK_AGATHA_CKPT__{name.upper().replace('-', '_')}"
    return f"{_SECTION}.{_shown(name)} ({variable}) in dask's configuration"
