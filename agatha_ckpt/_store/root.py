"""The root of a store: as it was given, as a path, and as a URL."""

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from tarfile import TarError
from typing import Any
from unicodedata import normalize
from zipfile import BadZipFile

import fsspec
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.local import LocalFileSystem

from agatha_ckpt._errors import (
    InvalidNameError,
    InvalidValueError,
    RootNotSetError,
    error_note,
    redact,
)
from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.factory import filesystem_of, is_chain
from agatha_ckpt._format.names import validate_name
from agatha_ckpt._settings import fault_of
from agatha_ckpt._store.folder import make_folder

_EXTRAS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs",
    "az": "azure", "abfs": "azure", "abfss": "azure",
}  # fmt: skip

_LOCAL = ("file", "local")
_COLLAPSED_URL = re.compile(r"(?P<protocol>[\w+.-]+):(?!//)")
_COLLAPSED_BELOW = re.compile(r"/(?P<protocol>[\w+.-]+):/(?!/)")
_SAME_FILESYSTEM = re.compile(r"(?:dir(?::///?)?::)+")  # a directory without a path
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Root:
    """The folder under which checkpoints lie, on one fsspec filesystem.

    Raises
    ------
    RootNotSetError
        *root* is empty, not a path, or a file; or its filesystem is not installed.
    """

    def __init__(
        self,
        root: object,
        fs: fsspec.AbstractFileSystem | None,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        self.given = _as_text(root)
        self.shown = redact(self.given)
        # A UPath brings options of its own.
        own = dict(getattr(root, "storage_options", {}))
        if fs is None:
            fs, base = _filesystem_of(self.given, {**own, **(storage_options or {})})
        else:
            base = fs._strip_protocol(self.given)
        self.fs = fs
        self.is_local = isinstance(fs, LocalFileSystem)
        if self.is_local:
            base = Path(base).as_posix()  # as the operating system takes slashes
        self.base: str = base.rstrip("/") or "/"
        if fault := self._fault():
            raise RootNotSetError(f"the root {self.shown!r} {fault}")

    def _fault(self) -> str:
        """Return what is wrong with it, and what to do; an empty string for nothing."""
        beyond = self.given.rpartition("://")[2]
        if self.is_local:
            if not beyond:
                return "names no folder; add its path"
            if os.path.exists(self.base) and not os.path.isdir(self.base):
                return "is a file; set a folder as the root"
            return ""
        protocol = fsspec.utils.get_protocol(self.given)
        if protocol in _EXTRAS and self.base.startswith("/"):
            return f"names no bucket; write it as {protocol}://bucket/run-1"
        if protocol in ("http", "https") and re.search("[?#]", self.base):
            return "has a query; give what the server needs as storage options"
        # Object stores keep such names as they are, and no listing finds what is below.
        parts = self.base.rpartition("://")[2].removeprefix("/").split("/")
        if self.base != "/" and not {"", ".", ".."}.isdisjoint(parts[:-1] + parts[1:]):
            return "cannot contain '//', '/./' or '/../'; write it without them"
        return ""

    @property
    def url(self) -> str:
        """The absolute root as a URL."""
        if "::" in self.given:
            return self.given
        url: str = self.fs.unstrip_protocol(self.base)
        return url

    @property
    def as_given(self) -> Path | str:
        """The root as it was given: a path on local disk, a URL elsewhere."""
        if not self.is_local:
            return self.path()
        is_path = "://" not in self.given and not self.given.startswith("~")
        return Path(self.given if is_path else self.base)

    def path(self, *segments: str) -> Path | str:
        """Return a place below the root: an absolute path, or a URL."""
        if self.is_local:
            return Path(self.base, *segments)
        # Of a chained URL, below the first link that has a path.
        links = (self.given if "://" in self.given else self.url).split("::")
        number = next(i for i, link in enumerate(links) if "://" in link)
        protocol, _, path = links[number].partition("://")
        links[number] = f"{protocol}://{'/'.join([path.rstrip('/'), *segments])}"
        return "::".join(links)

    def exists(self) -> bool:
        """Return whether it exists; on an object store, whether it has objects."""
        with error_note(f"looking for the root {self.shown!r}"):
            return bool(self.fs.exists(self.base))

    def folder(self, name: str) -> str:
        """Return the filesystem's own path of a checkpoint's folder."""
        path = f"{self.base.rstrip('/')}/{validate_name(name)}"
        # Archives list what is in them by paths without a slash before.
        return (
            path.lstrip("/") if isinstance(self.fs, AbstractArchiveFileSystem) else path
        )

    def name_of(self, name: object) -> str:
        """Return the checkpoint name in *name*: itself, or the last part of a path.

        Raises
        ------
        InvalidNameError
            It is neither a legal name nor a path directly under the root.
        """
        if isinstance(name, os.PathLike) or hasattr(name, "storage_options"):
            name = str(name)
        if isinstance(name, str) and ("/" in name or os.sep in name):
            roots = (str(self.as_given), self.base, self.url)
            below = [f"{root.rstrip('/')}/\0" for root in roots]
            for place in (str(self.path("\0")), *below):
                before, _, after = place.partition("\0")
                beyond = name.removeprefix(before).removesuffix(after)
                if f"{before}{beyond}{after}" == name:
                    return validate_name(beyond)
        return validate_name(name)


def folder_names(root: Root, files: Files, pattern: str, links: bool) -> list[str]:
    """Return the sorted names of the folders under a root that can be checkpoints."""
    if not isinstance(pattern, str | os.PathLike):
        raise InvalidValueError(
            f"invalid pattern {pattern!r}: patterns are strings; use one such as "
            "'*_sentences'"
        )
    found = set()
    with error_note(f"listing the checkpoints under {root.shown!r}"):
        folders = files.folders(root.base, links)
    for name in (normalize("NFC", folder) for folder in folders):  # macOS takes apart
        try:
            validate_name(name)
        except InvalidNameError:
            continue
        if fnmatchcase(name, os.fspath(pattern)):
            found.add(name)
    return sorted(found)


def make_root(root: Root, files: Files) -> None:
    """Make the root on local disk; a bucket is never made.

    Raises
    ------
    RootNotSetError
        The folder cannot be made.
    """
    if root.is_local:
        make_folder(files, root.base, f"the root {root.shown!r}")


def _as_text(root: object) -> str:
    text: object  # os.fspath may give bytes
    if isinstance(root, str):
        text = root
    elif hasattr(root, "storage_options"):
        # Handed to fsspec as it is, a remote UPath becomes a local path.
        text = str(root)
    elif isinstance(root, os.PathLike):
        text = os.fspath(root)
    else:
        text = ""
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        # A dict in the place of the root may be storage options: do not show it.
        hidden = isinstance(root, dict | list | tuple | set)
        what = f"a {type(root).__name__}" if hidden else repr(root)
        raise RootNotSetError(
            f"{what} cannot be the root; give a path or an fsspec URL"
        )
    if fault := _text_fault(text):
        raise RootNotSetError(f"the root {redact(text)!r} {fault}")
    # Of these, fsspec gives the path twice.
    return text[found.end() :] if (found := _SAME_FILESYSTEM.match(text)) else text


def _text_fault(text: str) -> str:
    """Return why *text* is not what was meant, and what to do; or an empty string."""
    if text != text.strip():
        return "begins or ends with white space; remove it"
    if os.name != "nt" and _WINDOWS_PATH.match(text):
        return "is a path of Windows, and this is another system; give a path of it"
    known = {*fsspec.available_protocols(), *fsspec.registry}
    for link in text.split("::"):
        if link.startswith("file://localhost/"):
            url = link.replace("localhost", "", 1)
            return f"names a host, which would be a folder here; write it as {url!r}"
        # pathlib makes s3:/bucket of s3://bucket, which would be a local folder.
        found = _COLLAPSED_URL.match(link) or _COLLAPSED_BELOW.search(link)
        if found and found["protocol"] in known:
            protocol, rest = found["protocol"], link[found.end() :].lstrip("/")
            rest = f"/{rest}" if protocol in _LOCAL else rest
            url = f"{protocol}://{rest}"
            return (
                f"is not a URL, which has '://'; give {url!r} as a str (pathlib "
                "removes slashes); a folder with such a name needs another one"
            )
    if "::" in text and not is_chain(text):
        return (
            "has '::', which makes a chain of filesystems; write it as "
            "zip://folder::URL, and rename a folder with such a name"
        )
    return ""


def check_options(fs: object, storage_options: object, fsync: object) -> None:
    """Refuse what a store cannot be made with.

    Raises
    ------
    InvalidValueError
        *fs* is not a filesystem, *storage_options* not a dict, or both are given; or
        *fsync* is not a bool.
    """
    if fault := fault_of("fsync", fsync, "fsync"):
        raise InvalidValueError(fault)
    if not isinstance(fs, fsspec.AbstractFileSystem | None):
        raise InvalidValueError(
            f"invalid value of type {type(fs).__name__} for fs: expected an fsspec "
            "filesystem, such as fsspec.filesystem('s3')"
        )
    if storage_options is None:
        return
    if not isinstance(storage_options, Mapping) or not all(
        isinstance(key, str) for key in storage_options
    ):
        raise InvalidValueError(  # which may hold secrets
            f"invalid value of type {type(storage_options).__name__} for "
            "storage_options: expected a dict with strings as keys, such as "
            "{'anon': True}"
        )
    if fs is not None and storage_options:
        raise InvalidValueError(
            "fs and storage_options are both given; give the options to the filesystem"
        )


def _filesystem_of(
    root: str, options: dict[str, Any]
) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        with error_note(f"opening the root {redact(root)!r}"):
            fs, base = filesystem_of(root, options)
    except (
        ImportError, TypeError, ValueError,
        AttributeError, FileNotFoundError, IsADirectoryError,  # of a chain
        BadZipFile, TarError,
    ) as error:  # fmt: skip
        raise RootNotSetError(
            f"the root {redact(root)!r} cannot be used: {redact(str(error))}; "
            f"{_advice(error, fsspec.utils.get_protocol(root))}"
        ) from None  # it may show what is redacted here
    return fs, base


def _advice(error: Exception, protocol: str) -> str:
    """Return what to do where a filesystem cannot be made."""
    if isinstance(error, ImportError):
        if extra := _EXTRAS.get(protocol):
            return f"pip install 'agatha-ckpt[{extra}]' brings what it needs"
        return "install what its filesystem needs, or set another root"
    if protocol not in fsspec.available_protocols():
        return (
            "set a path as the root, or a URL whose scheme fsspec supports, such as "
            "s3://bucket/run-1"
        )
    return "correct the root or its storage options"
