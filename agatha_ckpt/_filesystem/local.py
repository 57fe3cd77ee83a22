"""Local disk: how a file becomes visible, whole and durable there."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from agatha_ckpt._filesystem.base import FileInfo, Files, FolderGoneError, Writer
from agatha_ckpt._filesystem.descriptors import open_file, sync_file
from agatha_ckpt._filesystem.folder_lock import OpenFolder, is_lockable, lock_folder
from agatha_ckpt._format.names import temporary_filename

_TRIES = 100  # against other runs that make and remove a folder at the same moment


class LocalFiles:
    """Local disk: temporary file in the same folder, sync, rename.

    With *fsync*, what is written survives a power cut.
    """

    local = True
    remote = False
    one_process = False
    concurrent = True
    has_folders = True

    def __init__(self, fsync: bool) -> None:
        self._fsync = fsync

    def read(self, path: str) -> bytes:
        with open_file(path) as file:
            return file.read()

    def open(self, path: str, size: int, piece: int = 0) -> BinaryIO:
        return open_file(path)

    def tail(self, path: str, size: int, count: int) -> bytes:
        with open_file(path) as file:
            file.seek(max(size - count, 0))
            return file.read(count)

    def list(self, folder: str) -> dict[str, FileInfo]:
        found = {}
        with _scan(folder) as entries:
            for entry in entries:
                info = _file_info(entry)
                if info is not None:
                    found[entry.name] = info
        return found

    def folders(self, folder: str, links: bool) -> Sequence[str]:
        with _scan(folder) as entries:
            return [entry.name for entry in entries if _is_folder(entry, links)]

    def publish(self, folder: str, write: Writer) -> str:
        place = OpenFolder(folder)
        with self._written(place, write) as (temporary, filename):
            place.rename(temporary, filename)
        return filename

    @contextlib.contextmanager
    def _written(self, folder: OpenFolder, write: Writer) -> Iterator[tuple[str, str]]:
        """Yield a whole and durable temporary file, and the name *write* returned."""
        temporary = temporary_filename()
        file = folder.create(temporary)
        try:
            with file:
                filename = write(file)
                self._sync(file)
            yield temporary, filename
        except BaseException:
            with contextlib.suppress(OSError):
                folder.unlink(temporary)
            raise

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        if self._fsync:
            sync_file(file.fileno())

    def atomic_swap(self, folder: str) -> bool:
        return is_lockable(folder)

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        folder_path, name = os.path.split(path)
        with lock_folder(folder_path) as folder:
            if folder.read(name) != expected:
                return False
            if data is None:
                done = folder.unlink(name)
            else:
                done = self._put(folder, name, data, exclusive=expected is None)
            if done and self._fsync:
                folder.sync()
            return done

    def _put(
        self, folder: OpenFolder, name: str, data: bytes, *, exclusive: bool
    ) -> bool:
        def write(file: BinaryIO) -> str:
            file.write(data)
            return name

        with self._written(folder, write) as (temporary, _):
            if not exclusive:
                folder.rename(temporary, name)
                return True
            # A link, so that one writer wins also on a filesystem without locks.
            try:
                folder.link(temporary, name)
            except FileExistsError:
                # NFS reports this too where its answer to the first try was lost.
                written = folder.read(name) == data
            except OSError:  # a filesystem without hard links
                folder.rename(temporary, name)
                return True
            else:
                written = True
            folder.unlink(temporary)
            return written

    def remove(self, folder: str, names: Iterable[str]) -> None:
        # Locked, as one of them may be a file that another run swaps.
        with contextlib.suppress(FolderGoneError), lock_folder(folder) as place:
            for name in names:
                place.unlink(name)

    def clone(self, source: Files, path: str, target: str, link: bool) -> bool:
        if not (link and source.local):
            return False
        try:
            os.link(path, target)
        except FileNotFoundError as error:
            if os.path.exists(path):
                raise FolderGoneError(os.path.dirname(target)) from error
            raise
        except OSError:  # a filesystem without hard links, or another one
            return False
        return True

    def make_folder(self, folder: str) -> None:
        # Other runs may make or remove it, and its parents, at the same moment.
        for tries_left in reversed(range(_TRIES)):
            parent = os.path.dirname(folder)
            if os.path.isdir(folder):
                with contextlib.suppress(FileNotFoundError):
                    _check_writable(folder)
                    # The run that made it may have been killed before this.
                    with contextlib.suppress(PermissionError):
                        self.sync_folder(parent)
                    return
            self.make_folder(parent)
            try:
                os.mkdir(folder)
                self.sync_folder(parent)
            except (FileNotFoundError, FileExistsError):
                if not tries_left or os.path.isfile(folder):
                    raise

    def remove_folder(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(folder)

    def sync_folder(self, folder: str) -> None:
        if self._fsync:
            OpenFolder(folder).sync()


def _scan(folder: str) -> Any:
    try:
        return os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return contextlib.nullcontext(())


def _file_info(entry: os.DirEntry[str]) -> FileInfo | None:
    """Return a file; None for what is not one, or was removed meanwhile."""
    try:
        if entry.is_file():
            found = entry.stat()
            return FileInfo(found.st_size, found.st_mtime)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return None


def _is_folder(entry: os.DirEntry[str], links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=links)
    except PermissionError:  # a link; that it cannot be read is found when it is read
        return True
    except OSError:
        return False


def _check_writable(folder: str) -> None:
    effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        os.stat(folder)  # another run may have removed it
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
