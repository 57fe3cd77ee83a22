"""What the functions of bags raise in test_on_error; workers import it by name."""

import os
import sys
import threading
import types
import uuid
from dataclasses import dataclass
from pathlib import Path

import dask.bag


class BadRecord(Exception):
    """An exception whose constructor takes other arguments than its args."""

    def __init__(self, record, why):
        super().__init__(f"{record}: {why}")
        self.record = record


class BadValue(ValueError):
    """One whose message is made of attributes."""

    def __init__(self, *, value):
        self.value = value

    def __str__(self):
        return f"bad value {self.value}"


class BadFile(OSError):
    """One of a builtin type whose own constructor sets fields."""

    def __init__(self, path):
        super().__init__(2, "no such gene", path)


class BadText(UnicodeError):
    """One that holds what cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Refusing(Exception):
    """One that refuses to be pickled."""

    def __reduce__(self):
        raise TypeError("not to be pickled")


def group():
    return ExceptionGroup(
        "several", [BadRecord(1, "a"), ExceptionGroup("b", [BadRecord(2, "c")])]
    )


EXCEPTIONS = {
    "other arguments": lambda: BadRecord(2, "no such gene"),
    "keywords": lambda: BadValue(value=3),
    "builtin": lambda: BadFile("/genes"),
    "lock": lambda: BadText("ä"),
    "refusing": lambda: Refusing("message"),
    "group": group,
    "plain": lambda: KeyError("gene"),
}


def text_of(error):
    fields = {k: v for k, v in vars(error).items() if type(v) in (int, str)}
    return (
        str(error),
        str(getattr(error, "exceptions", "")),
        getattr(error, "errno", 0),
        fields,
    )


def numbers(npartitions):
    return dask.bag.from_sequence(range(npartitions), npartitions=npartitions)


def add(a, b):
    return a + b


def fail_for_all(_):
    raise BadRecord(0, "no such gene")


def fail_at_1(n):
    if n == 1:
        raise BadRecord(n, "no such gene")
    return n


def fail_plainly(value):
    raise ValueError("no such gene")


def fail_deeply(n):
    return fail_deeply(n)


def fail_lazily(part):
    yield from part
    raise ValueError("no such gene")


def unknown_type_at_1(n):
    return object() if n == 1 else n


def memory_error_at_1(n):
    if n == 1:
        raise MemoryError
    return n


def fail_with_a_local(part):
    records = list(part)
    raise BadRecord(len(records), "no such gene")


def raise_elsewhere(_):
    module = types.ModuleType("only_in_a_worker")
    sys.modules[module.__name__] = module
    exec("class Elsewhere(Exception): pass", vars(module))
    raise module.Elsewhere("only there")


def raises(error):
    def function(_):
        raise error

    return function


@dataclass(frozen=True)
class Raise:
    name: str

    def __call__(self, _):
        raise EXCEPTIONS[self.name]()


@dataclass(frozen=True)
class RaiseErrno:
    number: int

    def __call__(self, _):
        raise OSError(self.number, os.strerror(self.number))


@dataclass(frozen=True)
class FailOnce:
    """Fails the first time that a partition is computed, and notes each time."""

    folder: str
    at: frozenset

    def __dask_tokenize__(self):
        return "whatever the folder"

    def __call__(self, part):
        (index,) = part
        before = list(Path(self.folder).glob(f"computed-{index}-*"))
        Path(self.folder, f"computed-{index}-{uuid.uuid4()}").touch()
        if index in self.at and not before:
            raise BadRecord(index, "no such gene")
        return [index]


@dataclass(frozen=True)
class ExitAt:
    index: int

    def __call__(self, part):
        (index,) = part
        if index == self.index:
            os._exit(1)
        return [index]
