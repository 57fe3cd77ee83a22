"""A filesystem that keeps the case of names and finds them in any, as macOS does."""

import os
from unicodedata import normalize

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem


def folded(name):
    return normalize("NFD", name).casefold()


class Folding(AbstractFileSystem):
    """Local disk below a folder, where names are found in any case and Unicode form."""

    cachable = False
    protocol = "folding"

    def __init__(self, folder, decomposes=False):
        super().__init__()
        self.folder, self.decomposes = folder, decomposes
        self.real = LocalFileSystem()

    def _find(self, path):
        found = str(self.folder)
        for name in path.strip("/").split("/"):
            there = os.listdir(found) if os.path.isdir(found) else []
            new = normalize("NFD", name) if self.decomposes else name
            same = (other for other in there if folded(other) == folded(name))
            found = os.path.join(found, next(same, new))
        return found

    def ls(self, path, detail=True, **kwargs):
        found = self.real.ls(self._find(path), detail=True)
        return [
            entry | {"name": f"{path}/{os.path.basename(entry['name'])}"}
            for entry in found
        ]

    def cat_file(self, path, start=None, end=None, **kwargs):
        return self.real.cat_file(self._find(path), start, end)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self.real.pipe_file(self._find(path), value)

    def info(self, path, **kwargs):
        return self.real.info(self._find(path)) | {"name": path}

    def rm_file(self, path):
        self.real.rm_file(self._find(path))

    def makedirs(self, path, exist_ok=False):
        self.real.makedirs(self._find(path), exist_ok=exist_ok)

    def rmdir(self, path):
        self.real.rmdir(self._find(path))

    def mv(self, path1, path2, **kwargs):
        os.replace(self._find(path1), self._find(path2))
