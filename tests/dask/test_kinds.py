"""What a save promises, for every kind of collection on every kind of filesystem."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import dask
import dask.array as da
import dask.bag
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask import delayed

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    StaleCheckpointWarning,
    UnsupportedFormatError,
)

INPUTS = (1, 2, 3)


class BoomError(Exception):
    """What a function of the collection raises."""


@dataclass
class Work:
    """What the tasks of the collections do, in the process of the test."""

    done: ClassVar[list[int]] = []
    failing: ClassVar[set[int]] = set()
    meanwhile: ClassVar[list[Any]] = []

    @classmethod
    def on(cls, number):
        if cls.meanwhile:
            cls.meanwhile.pop()()
        if number in cls.failing:
            raise BoomError(number)
        cls.done.append(number)
        return number


def record(n):
    return {"n": Work.on(n), "text": f"é{n}"}


def rows(n):
    return pd.DataFrame({"n": [Work.on(n)] * n, "text": [f"é{n}"] * n})


def block(n):
    return np.full((2, 3), Work.on(n), "i4")


def total(*numbers):
    return {"total": sum(map(Work.on, numbers))}


def bag(inputs):
    return dask.bag.from_sequence(inputs, npartitions=len(inputs)).map(record)


def dataframe(inputs):
    meta = pd.DataFrame({"n": [1], "text": ["a"]})
    return dd.from_map(rows, inputs, meta=meta.iloc[:0])


def array(inputs):
    blocks = [da.from_delayed(delayed(block)(n), (2, 3), "i4") for n in inputs]
    return da.concatenate(blocks)


KINDS = {
    "bag": bag,
    "dataframe": dataframe,
    "series": lambda inputs: dataframe(inputs)["n"],
    "array": array,
    "delayed": lambda inputs: delayed(total)(*inputs),
    "item": lambda inputs: bag(inputs).pluck("n").sum(),
}
SINGLE = {"delayed", "item"}


def same(found, wanted):
    if isinstance(wanted, pd.DataFrame | pd.Series):
        return found.equals(wanted) and list(found.index) == list(wanted.index)
    if isinstance(wanted, np.ndarray):
        return found.dtype == wanted.dtype and np.array_equal(found, wanted)
    return found == wanted and type(found) is type(wanted)


class Case:
    """One kind of collection, and a Checkpointer."""

    def __init__(self, kind, store):
        self.make = KINDS[kind]
        self.ckpt = Checkpointer(store, verbose=False)
        self.store = self.ckpt.store
        self.count = 1 if kind in SINGLE else len(INPUTS)
        self.single = kind in SINGLE

    def save(self, inputs=INPUTS, **options):
        Work.done.clear()
        return self.ckpt.checkpoint("x", self.make(inputs), **options)

    def expected(self, inputs=INPUTS):
        failing, Work.failing = Work.failing, set()
        value = self.make(inputs).compute()
        Work.failing = failing
        Work.done.clear()
        return value

    def check(self, loaded, inputs=INPUTS):
        expected = self.expected(inputs)
        assert type(loaded).__name__.removeprefix("Loaded") == type(
            self.make(inputs)
        ).__name__.replace("DelayedLeaf", "Delayed")
        assert same(loaded.compute(), expected)
        assert same(self.ckpt.checkpoint("x").compute(), expected)
        assert Work.done == []  # nothing but what was stored was used
        assert self.store.verify("x") == []

    def path(self, index):
        name = self.store.manifest("x").partitions[index].file
        return f"{self.store._folder('x').path}/{name}"


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def case(kind, root):
    Work.failing, Work.meanwhile = set(), []
    Work.done.clear()
    with dask.config.set(scheduler="sync"):
        yield Case(kind, root)


EVERYWHERE = pytest.mark.parametrize("root", ["local", "memory", "s3"], indirect=True)


@EVERYWHERE
def test_p1_it_is_saved_and_loaded(case):
    with pytest.raises(CheckpointNotFoundError):
        case.ckpt.checkpoint("x")
    loaded = case.save()
    assert sorted(Work.done) == [*INPUTS]
    case.check(loaded)
    again = case.save()
    assert Work.done == []
    case.check(again)
    assert case.ckpt.names() == ["x"]
    status = case.store.status("x")
    assert (status.state, status.partitions) == ("done", case.count)


@EVERYWHERE
@pytest.mark.parametrize("failing", INPUTS)
def test_p4_a_failed_save_is_resumed(case, failing):
    Work.failing = {failing}
    with pytest.raises(BoomError):
        case.save()
    assert not case.ckpt.is_done("x")
    partial = case.store.status("x")
    assert partial.expected in (case.count, None)
    Work.failing = set()
    loaded = case.save()
    if case.single:
        assert sorted(Work.done) == [*INPUTS]
    else:
        assert len(Work.done) == case.count - partial.partitions
    case.check(loaded)


def missing(fs, path, other):
    fs.rm_file(path)


def cut(fs, path, other):
    fs.pipe_file(path, fs.cat_file(path)[:-1])


def changed(fs, path, other):
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 4
    fs.pipe_file(path, bytes(data))


def emptied(fs, path, other):
    fs.pipe_file(path, b"")


def swapped(fs, path, other):
    fs.pipe_file(path, fs.cat_file(other))


DAMAGE = (missing, cut, changed, emptied, swapped)


@EVERYWHERE
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_p5_damage_is_reported_and_repaired(case, damage):
    if damage is swapped and case.single:
        pytest.skip("there is no other partition")
    loaded = case.save()
    damage(case.store.fs, case.path(0), case.path(-1))
    with pytest.raises(CorruptCheckpointError, match="partition 0 of checkpoint 'x'"):
        loaded.compute()
    assert [damaged.index for damaged in case.store.verify("x")] == [0]
    Work.done.clear()
    repaired = case.ckpt.repair("x", case.make(INPUTS))
    assert sorted(Work.done) == ([*INPUTS] if case.single else [INPUTS[0]])
    case.check(repaired)


@EVERYWHERE
def test_p4_a_damaged_partial_is_not_kept(case):
    case.save()
    first = case.path(0)
    changed(case.store.fs, first, None)
    case.store.fs.rm_file(str(case.store._folder("x").marker))
    case.check(case.save())


@EVERYWHERE
def test_a_recompute_computes_all(case):
    case.save()
    loaded = case.save(overwrite=True)
    assert sorted(Work.done) == [*INPUTS]
    case.check(loaded)


@EVERYWHERE
def test_p4_another_input_makes_it_stale_and_is_computed_alone(case):
    case.save()
    other = (1, 2, 7)
    with pytest.raises(CheckpointConflictError, match=f"1 of {case.count} partition"):
        case.save(other, on_stale="error")
    with pytest.warns(StaleCheckpointWarning):
        loaded = case.save(other)
    assert Work.done == []
    loaded = case.save(other, on_stale="recompute")
    assert sorted(Work.done) == ([*other] if case.single else [7])
    case.check(loaded, other)


CHILDREN = {
    "bag": lambda loaded: loaded.pluck("n"),
    "dataframe": lambda loaded: loaded.assign(m=loaded.n + 1),
    "series": lambda loaded: loaded + 1,
    "array": lambda loaded: loaded.T + 1,
    "delayed": lambda loaded: delayed(dict)(parent=loaded),
    "item": lambda loaded: dask.bag.from_sequence([1]).map(max, loaded),
}


def test_p4_a_child_is_stale_when_its_parent_has_changed(case, kind):
    child = CHILDREN[kind]
    case.ckpt.checkpoint("y", child(case.save()))
    assert [name for name, _ in case.store.manifest("y").plan.parents] == ["x"]
    case.save(overwrite=True)  # the same values, in other files
    case.ckpt.checkpoint("y", child(case.ckpt.checkpoint("x")), on_stale="error")
    changed = case.save((1, 2, 7), on_stale="recompute")
    with pytest.raises(CheckpointConflictError, match="'x' has other records now"):
        case.ckpt.checkpoint("y", child(changed), on_stale="error")


def test_a_deferred_save_is_of_every_kind(case):
    save = case.save(compute=False)
    assert Work.done == []
    save.compute()
    assert sorted(Work.done) == [*INPUTS]
    case.check(case.ckpt.checkpoint("x"))


@EVERYWHERE
def test_another_version_is_computed_again(case):
    case.save(version="1")
    loaded = case.save(version="2")
    assert sorted(Work.done) == [*INPUTS]
    case.check(loaded)
    assert case.store.manifest("x").plan.version == "2"


@EVERYWHERE
def test_p1_of_two_savers_the_second_adopts(case):
    Work.meanwhile.append(lambda: case.ckpt.checkpoint("x", case.make(INPUTS)))
    loaded = case.save()
    token = case.store.manifest("x").token
    case.check(loaded)
    assert case.store.manifest("x").token == token
    files = {f.rpartition("/")[2] for f in case.store.files("x")}
    listed = {name for name in case.store._folder("x").list() if name != "__done__"}
    assert listed == files


def grid(axis):
    blocks = [da.from_delayed(delayed(block)(n), (2, 3), "i4") for n in INPUTS]
    return da.concatenate(blocks, axis)


def divided(*divisions):
    parts = [delayed(rows)(n) for n in INPUTS]
    return dd.from_delayed(
        parts, rows(1), divisions=divisions or None, verify_meta=False
    )


LAYOUTS = {
    "chunks": (grid(0), grid(1)),
    "other divisions": (divided(0, 1, 2, 3), divided(0, 2, 3, 4)),
    "known divisions": (divided(), divided(0, 1, 2, 3)),
}


def layout_of(collection):
    if isinstance(collection, da.Array):
        return collection.chunks
    return collection.divisions


@pytest.mark.parametrize("before, now", LAYOUTS.values(), ids=LAYOUTS)
def test_p4_equal_partitions_in_other_places_are_stale(store, before, now):
    ckpt = Checkpointer(store, verbose=False)
    with dask.config.set(scheduler="sync"):
        old = ckpt.checkpoint("x", before)
        Work.done.clear()
        with pytest.warns(StaleCheckpointWarning, match="other chunks or divisions"):
            assert layout_of(ckpt.checkpoint("x", now)) == layout_of(before)
        found = ckpt.checkpoint("x", now, on_stale="recompute")
        assert layout_of(found) == layout_of(now)
        assert Work.done == []  # the partitions are kept
        with pytest.raises(CheckpointConflictError, match="built from this checkpoint"):
            ckpt.checkpoint("x", old, on_stale="error")
        assert ckpt.explain("x", now).reason == ""


def test_p1_equal_partitions_in_other_places_are_not_adopted(store):
    ckpt = Checkpointer(store, verbose=False)
    Work.meanwhile.append(lambda: ckpt.checkpoint("x", grid(1), scheduler="sync"))
    with pytest.raises(CheckpointConflictError, match="other inputs"):
        ckpt.checkpoint("x", grid(0), scheduler="sync")
    assert ckpt.checkpoint("x").chunks == grid(1).chunks


@EVERYWHERE
def test_a_clear_removes_all(case):
    case.save()
    assert case.ckpt.clear("x")
    assert case.store._folder("x").list() == {}
    assert not case.ckpt.is_done("x")
    case.check(case.save())


@EVERYWHERE
def test_a_checkpoint_of_another_kind_is_not_replaced(case):
    case.save()
    kind = case.store.manifest("x").collection["kind"]
    for other, make in KINDS.items():
        if other != kind:
            with pytest.raises(CheckpointConflictError, match=f"of kind {kind}"):
                case.ckpt.checkpoint("x", make(INPUTS), on_stale="recompute")
    case.check(case.save())


@EVERYWHERE
def test_p7_a_copy_loads_elsewhere(case):
    case.save()
    for name, info in case.store._folder("x").list().items():
        source = f"{case.store._folder('x').path}/{name}"
        assert info.bytes > 0
        data = case.store.fs.cat_file(source)
        case.store.fs.makedirs(case.store._folder("y").path, exist_ok=True)
        case.store.fs.pipe_file(f"{case.store._folder('y').path}/{name}", data)
    assert same(case.ckpt.checkpoint("y").compute(), case.expected())


@pytest.mark.parametrize(
    "described, error",
    [
        ({"kind": "array"}, CorruptCheckpointError),
        ({"kind": "array", "chunks": [[2]], "dtype": "?!"}, CorruptCheckpointError),
        ({"kind": "dataframe", "divisions": None}, CorruptCheckpointError),
        ({"kind": "series", "meta": "AAAA", "divisions": 3}, CorruptCheckpointError),
        ({"kind": "cube"}, UnsupportedFormatError),
    ],
)
def test_p5_a_manifest_that_does_not_describe_its_kind_is_refused(
    store, described, error
):
    checkpointer = Checkpointer(store, verbose=False)
    checkpointer.checkpoint("x", array(INPUTS), scheduler="sync")
    manifest = store.manifest("x")
    other = replace(manifest, collection=described, token="0" * 16)
    store.mark_done("x", other, replaces=manifest)
    with pytest.raises(error, match="checkpoint 'x'"):
        checkpointer.checkpoint("x")
