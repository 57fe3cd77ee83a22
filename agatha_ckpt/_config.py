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


def configured_store() -> CheckpointStore:
    """Return the store that the configuration names.

    Raises
    ------
    RootNotSetError
        It names none.
    """
    section = _section()
    if not section.get("root"):
        raise RootNotSetError(
            "no root is set for checkpoints; call set_root(path_or_url), make a "
            "Checkpointer(CheckpointStore(path_or_url)), or set "
            "DASK_AGATHA_CKPT__ROOT in the environment"
        )
    return CheckpointStore(
        section["root"],
        storage_options=_mapping(section.get("storage_options") or {}),
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
