"""An in-memory `Files` in which each operation is a switch point between actors.

Actors are greenlets that run the real code of the store. Before each operation an actor
gives control to the scheduler, which decides who does the next one, whether an actor
crashes there, or whether its operation happens but reports an error (a lost answer).
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from agatha_ckpt._filesystem.base import FileInfo, FolderGoneError
from agatha_ckpt._format.names import DONE_MARKER, temporary_filename

ROOT = "memory://simulation"
OLD, NEW = 0.0, 4e9  # times of writing: before and after any minimum age


class LostAnswer(OSError):
    """The operation happened, and its answer was lost."""


class Actor:
    """One caller of the library.

    Parameters
    ----------
    name : str
    body : callable
        Called with the world; its result, or the exception that it raises, is kept.
    """

    def __init__(self, name: str, body: Callable[["World"], Any]) -> None:
        self.name = name
        self.body = body
        self.pending: str | None = None  # operation that it is about to do
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = self.crashed = False
        self.lose_answer = False
        self.operations: list[str] = []  # and what they returned
        self.drawn = 0


@dataclass
class World:
    """The files of one root, and the actors that use them.

    Attributes
    ----------
    atomic : bool
        Whether `swap` is atomic; if not, looking and writing are two operations.
    compare : bool
        Whether `swap` compares at all.
    temporaries : bool
        Whether a file is written under a temporary name first, as on local disk.
    format : str
        Name of the format that the actors save in.
    """

    actors: list[Actor]
    atomic: bool = True
    compare: bool = True
    temporaries: bool = False
    format: str = "msgpack"
    files: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    alive: bool = False
    tearing: bool = False

    def __post_init__(self) -> None:
        self._greenlets: dict[int, Actor] = {}
        self._hub = getcurrent()
        self._nobody = Actor("set-up", lambda world: None)

    # ---- scheduling ----

    def start(self) -> None:
        """Bring each actor to its first operation."""
        self.alive = True
        self._lets = {}
        for actor in self.actors:
            let = greenlet(self._run, self._hub)
            self._greenlets[id(let)] = actor
            self._lets[actor.name] = let
            let.switch(actor)

    def _run(self, actor: Actor) -> None:
        try:
            actor.result = actor.body(self)
        except Exception as error:
            actor.error = error
        actor.ended, actor.pending = True, None

    def runnable(self) -> list[Actor]:
        """Return the actors that have an operation to do."""
        return [a for a in self.actors if not (a.ended or a.crashed)]

    def step(self, actor: Actor, kind: str = "do") -> None:
        """Let *actor* do its operation, or crash.

        *kind* is "do", "lose" (it happens and its answer is lost), "crash" (before it)
        or "tear" (in the middle of a bulk delete).
        """
        if kind in ("crash", "tear"):
            actor.crashed = True
            if kind == "tear":
                self.tearing = True
                self._lets[actor.name].switch()
                self.tearing = False
            return
        actor.lose_answer = kind == "lose"
        self._lets[actor.name].switch()

    def close(self) -> None:
        """End the actors that have not ended; they change nothing more."""
        self.alive = False
        for let in self._lets.values():
            if not let.dead:
                let.throw()

    def _operation(self, text: str, act: Callable[[], Any]) -> Any:
        """Do one operation of the current actor when the scheduler says so."""
        actor = self._greenlets.get(id(getcurrent()))
        if actor is None or not self.alive:  # set-up, checks, and ended actors
            return act() if actor is None else None
        actor.pending = text
        self._hub.switch()
        if not self.alive:
            raise KeyboardInterrupt
        lose, actor.lose_answer = actor.lose_answer, False
        try:
            result = act()
        except (OSError, FolderGoneError) as error:
            actor.operations.append(f"{text} raises {type(error).__name__}")
            raise
        actor.operations.append(f"{text} {_brief(result)}{' lost' * lose}")
        if lose:
            raise LostAnswer(text)
        if self.tearing:
            self._hub.switch()  # never to come back
        return result

    def state(self) -> str:
        """Return a digest of all that decides what can still happen."""
        known = [sorted(self.files), _token(self.files)]
        for actor in self.actors:
            known.append([actor.name, actor.crashed, actor.ended, *actor.operations])
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def token_hex(self, count: int) -> str:
        """Return digits that depend on the actor and not on the schedule."""
        actor = self._greenlets.get(id(getcurrent()))
        actor = actor or self._nobody
        actor.drawn += 1
        digits = hashlib.sha256(f"{actor.name} {actor.drawn}".encode()).hexdigest()
        return digits[: 2 * count]


def _brief(result: Any) -> str:
    if isinstance(result, dict):
        return " ".join(sorted(result))
    if isinstance(result, bytes):
        if not result.startswith(b"{"):  # a partition file: it has how long it took
            return f"{len(result)} bytes"
        return hashlib.sha256(result).hexdigest()[:16]
    return repr(result)


def _token(files: dict[str, tuple[bytes, float]]) -> str:
    marker = files.get(DONE_MARKER)
    return _brief(marker[0]) if marker else ""


class SimulatedFiles:
    """`Files` over a `World`: one flat folder, whatever the path before the name."""

    local = False
    remote = False
    one_process = False
    concurrent = False
    has_folders = False

    def __init__(self, world: World) -> None:
        self._world = world
        self.format = world.format  # in which the actors save

    def _do(self, text: str, act: Callable[[], Any]) -> Any:
        return self._world._operation(text, act)

    def _get(self, path: str) -> bytes:
        name = path.rpartition("/")[2]
        try:
            return self._world.files[name][0]
        except KeyError:
            raise FileNotFoundError(path) from None

    def read(self, path: str) -> bytes:
        name = path.rpartition("/")[2]
        return self._do(f"read {name}", lambda: self._get(path))

    def open(self, path: str, size: int, piece: int = 0) -> io.BytesIO:
        return io.BytesIO(self.read(path))

    def tail(self, path: str, size: int, count: int) -> bytes:
        return self.read(path)[-count:] if count else b""

    def list(self, folder: str) -> dict[str, FileInfo]:
        def act() -> dict[str, FileInfo]:
            files = self._world.files.items()
            return {name: FileInfo(len(data), time) for name, (data, time) in files}

        return self._do("list", act)

    def folders(self, folder: str, links: bool) -> Sequence[str]:
        return ["x"] if self._world.files else []

    def publish(self, folder: str, write: Any) -> str:
        sink = io.BytesIO()
        temporary = temporary_filename()
        if self._world.temporaries:
            self._do(f"begin {temporary}", lambda: self._put(temporary, b""))
        name = write(sink)

        def act() -> None:
            if self._world.temporaries and not self._world.files.pop(temporary, None):
                raise FolderGoneError(folder)
            self._put(name, sink.getvalue())

        self._do(f"publish {name}", act)
        return name

    def _put(self, name: str, data: bytes) -> None:
        self._world.files[name] = data, NEW

    def atomic_swap(self, folder: str) -> bool:
        return self._world.atomic

    def swap(self, path: str, expected: bytes | None, data: bytes | None) -> bool:
        name = path.rpartition("/")[2]
        files = self._world.files
        if not self._world.atomic:
            found = self._do(f"look {name}", lambda: files.get(name, (None,))[0])
            if found != expected:
                return False
            return self._do(f"write {name}", lambda: self._swap(name, found, data))
        return self._do(f"swap {name}", lambda: self._swap(name, expected, data))

    def _swap(self, name: str, expected: bytes | None, data: bytes | None) -> bool:
        files = self._world.files
        found = files.get(name, (None,))[0]
        if self._world.atomic and self._world.compare and found != expected:
            return False
        if data is None:
            files.pop(name, None)
        else:
            self._put(name, data)
        return True

    def remove(self, folder: str, names: Any) -> None:
        # A bulk delete is one operation, of which a crash may leave the second half.
        names = sorted(names)

        def act() -> None:
            for name in names[: len(names) // 2 if self._world.tearing else None]:
                self._world.files.pop(name, None)

        if names:
            self._do(f"remove {' '.join(names)}", act)

    def make_folder(self, folder: str) -> None:
        """Do nothing: there is one folder."""

    def remove_folder(self, folder: str) -> None:
        """Do nothing: there is one folder."""

    def sync_folder(self, folder: str) -> None:
        """Do nothing: what is written is durable."""
