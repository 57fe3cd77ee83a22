"""What S3, GCS and Azure have in common: requests on a condition."""

import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from agatha_ckpt._filesystem.remote import SPOOL_BYTES, RemoteFiles

_TRIES = 12  # of a conditional write, while another one is under way
_MIB = 1024 * 1024
_MAX_PARTS = 9_000  # S3 takes 10,000 parts in one upload


class ObjectStoreFiles(RemoteFiles, ABC):
    """An object store whose requests can be conditional on an object's tag.

    A tag (ETag, generation) changes with each write of the object.
    """

    has_folders = False

    @abstractmethod
    def _read_tagged(self, path: str) -> tuple[str, bytes]:
        """Return the tag and the content of an object, of the same version."""

    @abstractmethod
    def _write_if(self, path: str, data: bytes, tag: str) -> None:
        """Write an object if its tag is still *tag*."""

    @abstractmethod
    def _remove_if(self, path: str, tag: str) -> None:
        """Remove an object if its tag is still *tag*."""

    def _upload_options(self, size: int) -> dict[str, Any]:
        part = max(SPOOL_BYTES, -(-size // _MAX_PARTS // _MIB) * _MIB)
        return {"block_size": part}

    def atomic_swap(self, folder: str) -> bool:
        return True

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._swap_once(path, expected, data)
            except Exception as error:
                # S3 answers 409 while another writer's request is under way. s3fs
                # does not retry that, as it does other answers of this kind.
                if not tries_left or _http_status(error) != 409:
                    raise
            time.sleep(random.uniform(0, 0.1 * (_TRIES - tries_left)))
        raise AssertionError("unreachable")

    def _swap_once(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        tag = ""
        if expected is not None:
            try:
                tag, content = self._read_tagged(path)
            except FileNotFoundError:
                return False
            if content != expected:
                return False
        try:
            if expected is None:
                self._fs.pipe_file(path, data, mode="create")
            elif data is None:
                self._remove_if(path, tag)
            else:
                self._write_if(path, data, tag)
        except Exception as error:
            # Also where it was refused: the client may have sent the request again
            # after it lost the answer to the first one.
            if self._has_content(path, data):
                return True
            if _is_refusal(error) or (expected is not None and _is_absence(error)):
                return False
            raise
        return True

    def remove(self, folder: str, names: Iterable[str]) -> None:
        # fsspec takes a path with one of these for a pattern, and would remove
        # neighbours of the folder.
        if any(character in folder for character in "*?["):
            super().remove(folder, names)
        elif paths := [f"{folder}/{name}" for name in names]:
            self._remove_paths(paths)

    def _remove_paths(self, paths: Sequence[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(paths)

    def _ls_files(self, folder: str) -> Iterable[Any]:
        # By prefix: a listing of an absent folder costs a second request, which asks
        # whether it is a file.
        bucket, _, key = folder.partition("/")
        found = self._fs.find(bucket, prefix=f"{key}/", detail=True)
        entries: Iterable[Any] = found.values()
        return entries

    def make_folder(self, folder: str) -> None:
        """Do nothing: object stores have no folders."""

    def remove_folder(self, folder: str) -> None:
        """Do nothing."""


def _is_refusal(error: Exception) -> bool:
    # Some servers do not report which condition failed, and then s3fs raises OSError.
    return isinstance(error, FileExistsError) or _http_status(error) == 412


def _is_absence(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or _http_status(error) == 404


def _http_status(error: Exception) -> int | None:
    """Return the status of the answer that an error of botocore or Azure is about."""
    cause = error.__cause__ or error
    status = getattr(cause, "status_code", None)
    response = getattr(cause, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None
