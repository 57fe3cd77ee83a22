"""What S3, GCS and Azure have in common: requests on a condition."""

import errno
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from agatha_ckpt._filesystem.base import Files, FolderGoneError
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._filesystem.remote import SPOOL_BYTES, RemoteFiles

_TRIES = 12  # of a conditional write, while another one is under way
# What a server answers that cannot remove several objects at once, or lets this account
# remove them only one by one.
_NO_BATCHES = (400, 404, 405, 411, 501)
_MIB = 1024 * 1024
_MAX_PARTS = 9_000  # S3 takes 10,000 parts in one upload


class ObjectStoreFiles(RemoteFiles, ABC):
    """An object store whose requests can be conditional on an object's tag.

    A tag (ETag, generation) changes with each write of the object.
    """

    has_folders = False
    batch_size = 100  # objects that one request removes

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

    def clone(self, source: Files, path: str, target: str, link: bool) -> bool:
        if not isinstance(source, ObjectStoreFiles) or source._fs != self._fs:
            return False
        try:
            self._fs.cp_file(path, target)
        except NotImplementedError:
            return False
        return True

    def remove(self, folder: str, names: Iterable[str]) -> None:
        paths: Sequence[str] = [f"{folder}/{name}" for name in names]
        for start in range(0, len(paths), self.batch_size):
            left = paths[start : start + self.batch_size]
            if len(left) > 1:
                left = self._remaining(left)
            # Alone each gets an error of its own.
            for _ in map_ordered(self._remove_if_there, left):
                pass

    def _remaining(self, paths: Sequence[str]) -> Sequence[str]:
        """Remove objects by one request; return those that it may have left."""
        try:
            return self._remove_batch(paths)
        except Exception as error:
            if _http_status(error) not in _NO_BATCHES and not _is_forbidden(error):
                raise
            return paths

    @abstractmethod
    def _remove_batch(self, paths: Sequence[str]) -> Sequence[str]:
        """Remove at most `batch_size` objects; return those that were refused."""

    def _remove_if_there(self, path: str) -> None:
        try:
            self._remove_one(path)
        except FileNotFoundError:
            pass
        except Exception as error:
            if not _is_forbidden(error) or isinstance(error, PermissionError):
                raise
            raise PermissionError(errno.EACCES, str(error), path) from error

    def _remove_one(self, path: str) -> None:
        self._fs.rm_file(path)

    def _ls_files(self, folder: str) -> Iterable[Any]:
        bucket, _, key = folder.partition("/")
        try:
            return self._find(bucket, f"{key}/")
        except FileNotFoundError as error:
            raise FolderGoneError(bucket) from error

    def _find(self, bucket: str, prefix: str) -> Iterable[Any]:
        """Return the objects whose keys begin with *prefix*.

        Raises
        ------
        FileNotFoundError
            There is no such bucket.
        """
        # By prefix: a listing of an absent folder costs a second request, which asks
        # whether it is a file.
        found = self._fs.find(bucket, prefix=prefix, detail=True)
        entries: Iterable[Any] = found.values()
        return entries

    def make_folder(self, folder: str) -> None:
        """Do nothing: object stores have no folders."""

    def remove_folder(self, folder: str) -> None:
        """Do nothing."""


def _is_refusal(error: Exception) -> bool:
    # Some servers do not report which condition failed, and then s3fs raises OSError.
    return isinstance(error, FileExistsError) or _http_status(error) == 412


def _is_forbidden(error: Exception) -> bool:
    # gcsfs raises an OSError without a number.
    forbidden = isinstance(error, OSError) and str(error).startswith("Forbidden")
    return forbidden or _http_status(error) == 403


def _is_absence(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or _http_status(error) == 404


def _http_status(error: Exception) -> int | None:
    """Return the status of the answer that an error of a client is about."""
    cause = error.__cause__ or error
    status = getattr(cause, "status_code", None) or getattr(cause, "code", None)
    response = getattr(cause, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None
