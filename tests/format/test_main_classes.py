"""Pickled objects of classes that the program itself defines."""

import pickle
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass, make_dataclass
from enum import Enum
from typing import NamedTuple

import pytest

from agatha_ckpt import (
    CorruptCheckpointError,
    PickleNotAllowedError,
    UnsupportedFormatError,
)
from agatha_ckpt._format.blocks import CLASSES
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.main_classes import MainClasses
from tests.format.memory_file import MemoryFile, decode, encode, info_of
from tests.format.specification import array_block, partition_file
from tests.format.values import CreatesFile, load

CODEC = codec_for("msgpack")


def defined():
    """Return classes as a program defines them."""

    class Kind(Enum):
        GENE = 1
        DRUG = 2

    @dataclass(frozen=True)
    class Term:
        kind: Kind
        name: str

        class Inner(NamedTuple):
            a: int

    for cls in (Kind, Term, Term.Inner):
        cls.__module__ = "__main__"
        cls.__qualname__ = cls.__qualname__.rpartition("<locals>.")[2]
    return {"Kind": Kind, "Term": Term}


@pytest.fixture
def program(monkeypatch):
    """A call that defines the classes, or others, in ``__main__``."""

    def define(**classes):
        main = sys.modules["__main__"]
        for name in ("Kind", "Term"):
            monkeypatch.delattr(main, name, raising=False)
        for name, cls in classes.items():
            monkeypatch.setattr(main, name, cls, raising=False)
        return classes

    return define


def records_of(Kind, Term, count=500):
    kinds = [Kind.GENE, Kind.DRUG]
    return [
        *[Term(kinds[i % 2], f"t{i}") for i in range(count)],
        {Kind.GENE: {Term.Inner(1)}, "classes": [Term, Kind]},
    ]


def encoded(records):
    return encode(records, allow_pickle=True)


def decoded(file, info=None):
    return decode(file, info, allow_pickle=True)


def test_p9_objects_load_as_the_class_that_the_program_defines_now(program):
    file, info = encoded(records_of(**program(**defined())))
    again = program(**defined())
    found = decoded(file, info)
    assert found == records_of(**again)
    assert {type(record) for record in found[:-1]} == {again["Term"]}
    assert found[0].kind is again["Kind"].GENE
    assert found[-1]["classes"] == [again["Term"], again["Kind"]]


def test_objects_take_no_more_bytes_than_in_pickles_of_their_own(program):
    records = records_of(**program(**defined()))
    file, _ = encoded(records)
    assert file.size < 8_000 + sum(len(pickle.dumps(record)) for record in records)


def test_equal_objects_have_equal_digests_whichever_program_defined_the_class(program):
    infos = [encoded(records_of(**program(**defined())))[1] for _ in range(2)]
    assert infos[0].digest == infos[1].digest
    assert infos[0].classes == infos[1].classes == ("Term", "Kind", "Term.Inner")


@pytest.mark.parametrize("others", [{}, {"Term": print, "Kind": "a"}], ids=bool)
def test_p9_without_such_a_class_they_load_as_the_stored_one(program, others):
    classes = program(**defined())
    file, _ = encoded(records_of(**classes))
    program(**others)
    found = decoded(file)
    assert found[0].name == "t0"
    assert len({type(record) for record in found[:-1]}) == 1
    assert found[0].kind is found[2].kind
    CODEC.verify(file, CODEC.inspect(file), allow_pickle=True)


def test_p9_objects_of_a_class_that_was_defined_anew_stay_of_the_old_one(program):
    old = program(**defined())
    records = records_of(**old)
    program(**defined())
    found = decoded(encoded(records)[0])
    assert found[:-1] == records[:-1]


def test_p9_two_classes_of_one_name_stay_two(program):
    program()
    one, two = (make_dataclass("Point", [(name, int)]) for name in "ab")
    one.__module__ = two.__module__ = "__main__"
    records = [one(1), two(2), one(3), [two(4), one(5)]]
    assert decoded(encoded(records)[0]) == records


def test_p9_an_inner_class_is_found_by_the_name_that_workers_know(program):
    """cloudpickle sends ``Term.Inner`` to a worker as ``Inner``."""
    classes = program(**defined())
    sent = namedtuple("Inner", "a", module="__main__")
    program()  # as on a worker
    file, _ = encoded([sent(1)])
    program(**classes)
    assert decoded(file) == [classes["Term"].Inner(1)]
    assert type(decoded(file)[0]) is classes["Term"].Inner


def test_a_class_that_cannot_be_pickled_is_stored_by_its_name_alone(program):
    cls = make_dataclass("Term", ["name"], namespace={"lock": threading.Lock()})
    cls.__module__ = "__main__"
    program(Term=cls)
    file, _ = encoded([cls("a")])
    assert decoded(file) == [cls("a")]
    program()
    with pytest.raises(
        UnsupportedFormatError, match="does not define the class 'Term'"
    ):
        decoded(file)


def test_a_resume_keeps_the_names_of_the_classes(program):
    file, info = encoded(records_of(**program(**defined())))
    assert CODEC.inspect(file) == info
    far = MemoryFile(file.data, file.filename, remote=True)
    assert CODEC.inspect(far) == info
    assert pickle.loads(pickle.dumps(MainClasses(("Gone",)))) == ("Gone",)


def test_a_footer_names_as_many_classes_as_there_is_room_for(program):
    program()
    classes = [type(f"C{i:050}", (), {"__module__": "__main__"}) for i in range(100)]
    file, info = encode([c() for c in classes], code="f=01234567", allow_pickle=True)
    found = CODEC.inspect(file)
    assert found.code == "f=01234567"
    assert 20 < len(found.classes) < 100
    assert found.classes == info.classes[: len(found.classes)]
    assert len(decoded(file)) == 100


# ---- on workers, and in the next run ----

PROGRAM = """
import sys
from enum import Enum
from dataclasses import dataclass
from agatha_ckpt import Checkpointer

class Kind(Enum):
    GENE = 1
    DRUG = 2

@dataclass(frozen=True)
class Term:
    kind: Kind
    name: str

def is_right(term):
    return isinstance(term, Term) and term.kind is Kind.GENE and term == Term(
        Kind.GENE, "a"
    )

if __name__ == "__main__":
    bag = Checkpointer(sys.argv[1], verbose=False, allow_pickle=True).checkpoint("a")
    for options in ({"scheduler": "sync"}, {"scheduler": "processes"}):
        assert bag.map(is_right).compute(**options) == [True] * 4, options
        assert all(map(is_right, bag.compute(**options))), options
"""


def test_p9_in_another_process_functions_and_objects_have_the_same_classes(
    program, tmp_path
):
    import dask.bag

    from agatha_ckpt import Checkpointer

    classes = program(**defined())
    terms = [classes["Term"](classes["Kind"].GENE, "a")] * 4
    ckpt = Checkpointer(tmp_path / "root", verbose=False, allow_pickle=True)
    bag = dask.bag.from_sequence(terms, npartitions=2)
    ckpt.checkpoint("a", bag, scheduler="sync")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    subprocess.run([sys.executable, path, tmp_path / "root"], check=True, timeout=60)
    assert load(tmp_path / "root", allow_pickle=True) == terms


# ---- damage, and hostile writers ----


def test_p8_definitions_run_no_code_unless_pickle_is_allowed(tmp_path):
    import cloudpickle
    import msgpack

    marker = tmp_path / "ran"
    payload = msgpack.packb({"Term": cloudpickle.dumps(CreatesFile(marker))})
    named = b"\x80\x05\x8c\x04TermQ."  # the persistent id "Term"
    value = b"\x91\xc7" + bytes([len(named)]) + b"\xba" + named
    file = MemoryFile(partition_file([(CLASSES, 0, payload), (3, 1, value)], 1, 3))
    with pytest.raises(PickleNotAllowedError):
        decode(file)
    CODEC.verify(file, CODEC.inspect(file), allow_pickle=False)
    assert not marker.exists()
    assert len(decoded(file)) == 1
    assert marker.exists()


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x90", b"\x81\x01\x02", b"\x80\x80"]
)
def test_p5_a_block_that_defines_no_classes_is_damage(payload):
    data = partition_file([(CLASSES, 0, payload), array_block([1])], 1, 3)
    with pytest.raises(CorruptCheckpointError, match="defines no classes"):
        decode(MemoryFile(data))


def test_p5_a_block_that_defines_classes_and_has_records_is_damage():
    data = partition_file([(CLASSES, 1, b"\x80"), array_block([1])], 1, 3)
    file = MemoryFile(data)
    with pytest.raises(CorruptCheckpointError, match="has records"):
        decode(file, info_of(file, CODEC.inspect(MemoryFile(data, remote=True)).digest))
