"""A filesystem on which some calls fail."""

from fsspec.implementations.memory import MemoryFileSystem


class Locked(MemoryFileSystem):
    """The memory filesystem, where some calls of some names fail with an error."""

    cachable = False
    locked = ("", "")
    error = 13, "no"  # by its number it is a PermissionError

    def _allow(self, call, path):
        kind, name = self.locked
        if call == kind and (str(path).endswith(name) or f"/{name}" in str(path)):
            raise OSError(*self.error, path)

    def cat_file(self, path, *args, **kwargs):
        self._allow("read", path)
        return super().cat_file(path, *args, **kwargs)

    def ls(self, path, *args, **kwargs):
        self._allow("list", path)
        return super().ls(path, *args, **kwargs)

    def rm_file(self, path):
        self._allow("delete", path)
        super().rm_file(path)
