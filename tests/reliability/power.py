"""What a power cut may leave of what was asked of the operating system.

`Surface` stands in the place of the operating system below `_filesystem.local`.
`Recorder` is one that writes down every call that changes something; `Disk` follows
such a trace and says which trees of files a power cut may leave at that moment:

- what was written to a file and not synced is lost, torn to half, there, or zeros;
- each change of a folder's entries (a file made, renamed, linked or removed, a folder
  made or removed) that no sync of that folder followed is lost or kept, whatever
  became of the others.
"""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, product
from unittest import mock

from agatha_ckpt._filesystem import local as _local

_MOST_TORN = 2  # files: up to here every combination of what they hold is looked at
_LOST, _THERE = 0, 2  # of what `Disk._left_of` returns
_new_files = count()


class Died(BaseException):
    """Stands for the end of the process: nothing is done after it."""


class Surface:
    """The operating system as `agatha_ckpt._filesystem.local` sees it.

    Every call that touches files goes through `call`.
    """

    def __init__(self):
        self.paths = {}  # of open descriptors

    def call(self, kind, do, *what):
        return do()

    @contextmanager
    def in_place(self) -> Iterator["Surface"]:
        with (
            mock.patch.object(_local, "os", self),
            mock.patch.object(_local, "open", self.open_file, create=True),
        ):
            yield self

    def __getattr__(self, name):
        return getattr(os, name)

    def open_file(self, path, mode, buffering=io.DEFAULT_BUFFER_SIZE):
        kind = "create" if "x" in mode or "w" in mode else "open"
        raw = self.call(kind, lambda: _RawFile(self, path, mode), path)
        self.paths[raw.fileno()] = path
        buffered = io.BufferedWriter if kind == "create" else io.BufferedReader
        return buffered(raw, buffering)

    def open(self, path, flags, mode=0o777):
        kind = "create" if flags & os.O_CREAT else "open"
        descriptor = self.call(kind, lambda: os.open(path, flags, mode), path)
        self.paths[descriptor] = path
        return descriptor

    def fsync(self, descriptor):
        path = self.paths[descriptor]
        self.call("fsync", lambda: os.fsync(descriptor), path, descriptor)

    def replace(self, source, target):
        self.call("replace", lambda: os.replace(source, target), source, target)

    def link(self, source, target):
        self.call("link", lambda: os.link(source, target), source, target)

    def unlink(self, path):
        self.call("unlink", lambda: os.unlink(path), path)

    def mkdir(self, path):
        self.call("mkdir", lambda: os.mkdir(path), path)

    def rmdir(self, path):
        self.call("rmdir", lambda: os.rmdir(path), path)

    def scandir(self, path):
        return self.call("scandir", lambda: os.scandir(path), path)


class _RawFile(io.FileIO):
    def __init__(self, surface, path, mode):
        super().__init__(path, mode)
        self._surface = surface

    def write(self, data):
        data = bytes(data)
        what = (self.name, self.fileno(), data)
        return self._surface.call("write", lambda: io.FileIO.write(self, data), *what)

    def readinto(self, buffer):
        return self._surface.call(
            "read", lambda: io.FileIO.readinto(self, buffer), self.name
        )

    def readall(self):
        return self._surface.call("read", lambda: io.FileIO.readall(self), self.name)


class Recorder(Surface):
    """Writes down what changes files; dies before the step *die_at*, if given.

    A sync is written down and not done: what it does is for `Disk` to say.
    """

    def __init__(self, die_at=None, without_links=False):
        super().__init__()
        self.trace = []
        self.dead = False
        self._die_at = die_at
        self._without_links = without_links
        self._files = {}  # number of the file that a descriptor is open on
        self._lock = threading.RLock()

    def call(self, kind, do, *what):
        if kind in ("open", "read", "scandir"):
            return do()
        with self._lock:
            if self.dead:  # what a process would do to clean up, and did not come to
                return len(what[-1]) if kind == "write" else None
            if len(self.trace) == self._die_at:
                self.dead = True
                raise Died
            return getattr(self, f"_{kind}")(do, *what)

    def _create(self, do, path):
        if os.path.exists(path):  # then nothing is made
            return do()
        opened = do()
        descriptor = opened if isinstance(opened, int) else opened.fileno()
        number = self._files[descriptor] = next(_new_files)
        self.trace.append(("create", path, number))
        return opened

    def _write(self, do, path, descriptor, data):
        written = do()
        self.trace.append(("write", self._files[descriptor], data[:written]))
        return written

    def _fsync(self, do, path, descriptor):
        if os.path.isdir(path):
            self.trace.append(("sync folder", path))
        else:
            self.trace.append(("sync", self._files[descriptor]))

    def _link(self, do, *paths):
        if self._without_links:
            raise PermissionError(1, "no hard links here")
        self._changed("link", do, *paths)

    def _replace(self, do, *paths):
        self._changed("replace", do, *paths)

    def _unlink(self, do, path):
        self._changed("unlink", do, path)

    def _mkdir(self, do, path):
        self._changed("mkdir", do, path)

    def _rmdir(self, do, path):
        self._changed("rmdir", do, path)

    def _changed(self, kind, do, *paths):
        do()
        self.trace.append((kind, *paths))


class Disk:
    """A tree of files, and what of it a power cut would leave.

    Parameters
    ----------
    base : str
        The folder that all paths of traces begin with; it is durable, and so is what
        is in it now.
    """

    def __init__(self, base):
        self._base = str(base)
        self._numbers = count()
        self._content, self._synced = {}, {}  # of files, by number
        self._now, self._durable = {}, {}  # entries of folders, by number
        self._pending = []  # (number of a folder, its changed entries)
        self._root = self._read(self._base)

    def _read(self, folder):
        number = next(self._numbers)
        entries = self._now[number] = {}
        for entry in os.scandir(folder):
            if entry.is_dir():
                entries[entry.name] = ("folder", self._read(entry.path))
            else:
                with open(entry.path, "rb") as file:
                    data = file.read()
                entries[entry.name] = ("file", entry.path)
                self._content[entry.path] = self._synced[entry.path] = data
        self._durable[number] = dict(entries)
        return number

    def follow(self, step):
        """Do what one step of a trace says."""
        kind, *what = step
        if kind == "write":
            number, data = what
            self._content[number] += data
        elif kind == "sync":
            self._synced[what[0]] = self._content[what[0]]
        elif kind == "sync folder":
            if self.holds(what[0]):
                self._sync_folder(self._folder(what[0]))
        elif kind == "create":
            path, number = what
            self._content[number] = self._synced[number] = b""
            self._change((path, ("file", number)))
        elif kind == "mkdir":
            number = next(self._numbers)
            self._now[number], self._durable[number] = {}, {}
            self._change((what[0], ("folder", number)))
        elif kind in ("unlink", "rmdir"):
            self._change((what[0], None))
        elif kind == "link":
            self._change((what[1], self._node(what[0])))
        else:
            node = self._node(what[0])
            self._change((what[0], None), (what[1], node))

    def holds(self, path):
        """Whether a folder is on this disk, and none of those above it."""
        return os.path.commonpath([self._base, path]) == self._base

    def _folder(self, path):
        number = self._root
        below = os.path.relpath(path, self._base)
        for name in [] if below == "." else below.split(os.sep):
            number = self._now[number][name][1]
        return number

    def _node(self, path):
        folder, name = os.path.split(path)
        return self._now[self._folder(folder)][name]

    def _change(self, *changes):
        (folder,) = {os.path.dirname(path) for path, _ in changes}
        number = self._folder(folder)
        edits = [(os.path.basename(path), node) for path, node in changes]
        _edit(self._now[number], edits)
        self._pending.append((number, edits))

    def _sync_folder(self, number):
        left = []
        for folder, edits in self._pending:
            if folder == number:
                _edit(self._durable[number], edits)
            else:
                left.append((folder, edits))
        self._pending = left

    def states(self, most=8):
        """Yield the trees that a power cut may leave now: path to content.

        The content of a folder is None. The same tree may come more than once. Of up
        to *most* changes that are not durable every subset is looked at, of more those
        that `_subsets` names.
        """
        for kept in _subsets(len(self._pending), most):
            entries = {n: dict(e) for n, e in self._durable.items()}
            for keep, (folder, edits) in zip(kept, self._pending, strict=True):
                if keep:
                    _edit(entries[folder], edits)
            tree = dict(self._walk(entries, self._root, ""))
            files = {number for number in tree.values() if number is not None}
            torn = [
                n for n in sorted(files, key=str) if self._content[n] != self._synced[n]
            ]
            for contents in self._contents(torn):
                known = self._synced | contents
                yield {p: None if n is None else known[n] for p, n in tree.items()}

    def _walk(self, entries, number, prefix):
        for name, (kind, node) in entries[number].items():
            yield prefix + name, None if kind == "folder" else node
            if kind == "folder":
                yield from self._walk(entries, node, f"{prefix}{name}/")

    def _contents(self, torn):
        """Yield what files that were not synced may hold."""
        left = {n: self._left_of(n) for n in torn}
        if len(torn) <= _MOST_TORN:
            for chosen in product(*left.values()):
                yield dict(zip(torn, chosen, strict=True))
            return
        for alike in range(4):
            yield {n: left[n][alike] for n in torn}
        for others, number, this in product((_LOST, _THERE), torn, range(4)):
            rest = {n: left[n][others] for n in torn}
            yield rest | {number: left[number][this]}

    def _left_of(self, number):
        synced, content = self._synced[number], self._content[number]
        new = len(content) - len(synced)
        half = content[: len(synced) + new // 2]
        return synced, half, content, synced + bytes(new)


def _edit(entries, edits):
    for name, node in edits:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _subsets(size, most):
    """Yield which of *size* changes are kept.

    All ways there are; of more than *most* changes: the first so many, all but one,
    and one alone.
    """
    if size <= most:
        yield from product((False, True), repeat=size)
        return
    for i in range(size + 1):
        yield [k < i for k in range(size)]
    for i in range(size):
        yield [k != i for k in range(size)]
        yield [k == i for k in range(size)]


def materialise(tree, folder):
    """Write a tree that `Disk.states` gave into an empty folder."""
    os.mkdir(folder)
    for path, content in tree.items():
        target = os.path.join(folder, path)
        if content is None:
            os.mkdir(target)
        else:
            with open(target, "wb") as file:
                file.write(content)
