"""A filesystem on which some calls are not permitted."""

from fsspec.implementations.memory import MemoryFileSystem


class Locked(MemoryFileSystem):
    """The memory filesystem, where some calls of some names are not permitted."""

    cachable = False
    locked = ("", "")

    def _allow(self, call, path):
        kind, name = self.locked
        if call == kind and (str(path).endswith(name) or f"/{name}" in str(path)):
            raise PermissionError(13, "no", path)

    def cat_file(self, path, *args, **kwargs):
        self._allow("read", path)
        return super().cat_file(path, *args, **kwargs)

    def ls(self, path, *args, **kwargs):
        self._allow("list", path)
        return super().ls(path, *args, **kwargs)

    def rm_file(self, path):
        self._allow("delete", path)
        super().rm_file(path)
