"""The ``agatha-ckpt`` section of dask's configuration."""

from typing import Any

import dask.config

from agatha_ckpt._errors import RootNotSetError
from agatha_ckpt._store import CheckpointStore

_SECTION = "agatha-ckpt"
_STORE_KEYS = ("root", "storage_options", "fsync")


def _section() -> dict[str, Any]:
    section: dict[str, Any] = dask.config.get(_SECTION, None) or {}
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
        storage_options=section.get("storage_options"),
        fsync=section.get("fsync", True),
    )


def configured_settings() -> dict[str, Any]:
    """Return the settings that the configuration names, unchecked."""
    return {k: v for k, v in _section().items() if k not in _STORE_KEYS}
