"""FTP."""

import ftplib

from agatha_ckpt._filesystem.remote import RemoteFiles


class FTPFiles(RemoteFiles):
    """An FTP filesystem of fsspec."""

    def _means_absent(self, error: Exception, path: str) -> bool:
        # fsspec makes a FileNotFoundError of each error of a read, also where the
        # connection was lost. Code 550 means absent, not permitted and others.
        cause = error if isinstance(error, ftplib.Error) else error.__cause__
        if not isinstance(cause, ftplib.Error):
            return super()._means_absent(error, path)
        folder, _, name = path.rpartition("/")
        return str(cause).startswith("550") and not self._is_listed(folder, name)

    def _is_listed(self, folder: str, name: str) -> bool:
        self._fs.invalidate_cache(folder)
        try:
            entries = self._fs.ls(folder, detail=True)
        except FileNotFoundError as error:
            if isinstance(error.__cause__, ftplib.Error):
                raise OSError(f"{folder}: {error.__cause__}") from error
            return False
        return any(entry["name"].rpartition("/")[2] == name for entry in entries)
