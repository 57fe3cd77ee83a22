"""The ``agatha-ckpt`` section of dask's configuration."""

import contextlib
import json
from typing import Any

import dask.config

from agatha_ckpt._errors import RootNotSetError
from agatha_ckpt._store import CheckpointStore

_SECTION = "agatha-ckpt"
_STORE_KEYS = ("root", "storage_options", "fsync")


def _section() -> dict[str, Any]:
    section = dask.config.get(_SECTION, None) or {}
    if not isinstance(section, dict):
        raise RootNotSetError(
            f"the section {_SECTION} of dask's configuration is a "
            f"{type(section).__name__}, not a mapping; set its keys, such as "
            "DASK_AGATHA_CKPT__ROOT"
        )
    return {key.replace("-", "_"): value for key, value in section.items()}


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
        There is no root.
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
    options = _mapping(section.get("storage_options") or {})
    return CheckpointStore(
        root,
        storage_options=options | (storage_options or {}),
        fsync=section.get("fsync", True),
    )


def _mapping(options: object) -> dict[str, Any]:
    if isinstance(options, str):
        # dask reads environment variables as Python; true, false, null are JSON.
        with contextlib.suppress(ValueError):
            options = json.loads(options)
    if not isinstance(options, dict):
        raise RootNotSetError(
            f"{_SECTION}.storage-options in dask's configuration is no mapping; write "
            "it as JSON, such as '{\"anon\": true}'"
        )
    return options


def configured_settings() -> dict[str, Any]:
    """Return the settings that the configuration names, unchecked."""
    return {k: v for k, v in _section().items() if k not in _STORE_KEYS}
