"""What a power cut may leave of what was asked of the operating system.

`Recorder` records every call that changes something. `Disk` follows such a trace and
tells which trees of files a power cut may leave at that moment:

- what was written to a file and not synced is lost, half there, there, or zeros;
- each change of a folder's entries (a file made, renamed, linked or removed, a folder
  made or removed) that no sync of that folder followed is lost or kept, independently
  of the others.
"""

import os
import threading
from itertools import count, product

from tests.reliability.system import Died, System

_MOST_TORN = 2  # files: up to here every combination of their contents is tried
_LOST, _THERE = 0, 2  # of what `Disk._left_of` returns
_new_files = count()


class Recorder(System):
    """Records what changes files; dies before the step *die_at*, if given.

    A sync is recorded and not done: `Disk` knows what it would do.
    """

    def __init__(self, folder, die_at=None, without_links=False):
        super().__init__(folder)
        self.trace = []
        self.dead = False
        self._die_at = die_at
        self._without_links = without_links
        self._numbers = {}  # path of a file that was made to its number
        self._lock = threading.RLock()

    def _is_dead(self):
        """Return whether nothing is done any more; die if this is the moment."""
        if len(self.trace) == self._die_at and not self.dead:
            self.dead = True
            raise Died
        return self.dead

    def call(self, kind, do, *paths):
        exists = kind == "create" and os.path.exists(paths[0])  # then nothing is made
        if kind in ("open", "scandir") or exists:
            return do()
        with self._lock:
            if self._is_dead():
                if kind == "create":
                    raise Died
                return None
            if kind == "link" and self._without_links:
                raise PermissionError(1, "no hard links here")
            if kind == "fsync" and os.path.isdir(paths[0]):
                self.trace.append(("sync folder", *paths))
                return None
            if kind == "fsync":
                self.trace.append(("sync", self._numbers[paths[0]]))
                return None
            found = do()
            if kind == "create":
                number = self._numbers[paths[0]] = next(_new_files)
                self.trace.append(("create", *paths, number))
            else:
                self.trace.append((kind, *paths))
            if kind in ("replace", "link"):
                self._numbers[paths[1]] = self._numbers.get(paths[0])
            return found

    def write(self, do, path, data):
        with self._lock:
            if self._is_dead():
                return len(data)
            written = do(data)
            self.trace.append(("write", self._numbers[path], data[:written]))
            return written


class Disk:
    """A tree of files, and what a power cut would leave of it.

    Parameters
    ----------
    base : str
        The folder that all paths of traces begin with; its present content is durable.
    """

    def __init__(self, base):
        self._base = os.path.realpath(base)
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
        """Apply one step of a trace."""
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
        """Return whether a folder is on this disk."""
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
        to *most* changes that are not durable every subset is tried, of more those
        that `_subsets` yields.
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

    All subsets; of more than *most* changes: the first so many, all but one, and one
    alone.
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
