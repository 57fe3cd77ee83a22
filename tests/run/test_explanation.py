"""What a call would do, explained without touching anything, and then done."""

import pickle
import shutil
from dataclasses import FrozenInstanceError, replace
from itertools import product

import dask.bag
import pytest

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointHalt,
    CheckpointNotFoundError,
    EncodeError,
    InvalidNameError,
    RootNotSetError,
)
from agatha_ckpt._run.explanation import numbers
from tests.format.test_agatha import write_legacy

PARTITIONS = 4
HOLES = (1, 3)  # partitions whose file is taken away
RECORDS = [f"record {i}" for i in range(8)]
computed = []


def note(records):
    """Remember which partition was computed, and hand on its records."""
    records = list(records)
    computed.append(RECORDS.index(records[0]) * PARTITIONS // len(RECORDS))
    return records


def parent_of(root, name="parent", records=RECORDS):
    bag = dask.bag.from_sequence(records, npartitions=PARTITIONS)
    return Checkpointer(root, verbose=False).checkpoint(name, bag, scheduler="sync")


class Own:
    """What only a pickle can hold."""


def save(root, bag, **given):
    kw = {"allow_pickle": given.pop("allow_pickle", False)}
    Checkpointer(root, verbose=False, **kw).checkpoint(
        "x", bag, scheduler="sync", **given
    )


def lose(root, indexes=HOLES, marker=False):
    for index in indexes:
        (path,) = (root / "x").glob(f"part-{index:05}-*")
        path.unlink()
    if marker:
        (root / "x" / "__done__").unlink()


def legacy(root, text=False):
    (root).mkdir()
    parts = [RECORDS[i : i + 2] for i in range(0, 8, 2)]
    write_legacy(root / "x", parts, text)


def absent(root, bag, other):
    pass


def partial(root, bag, other):
    save(root, bag)
    lose(root, marker=True)


def partial_whole(root, bag, other):
    save(root, bag)
    lose(root, (), marker=True)


def partial_text(root, bag, other):
    save(root, bag, textfile=True)
    lose(root, marker=True)


def partial_of_another_version(root, bag, other):
    save(root, bag, version="old")
    lose(root, marker=True)


def partial_damaged(root, bag, other):
    partial(root, bag, other)
    path = min((root / "x").glob("part-*"))
    path.write_bytes(path.read_bytes()[:-1])


def broken_marker(root, bag, other):
    save(root, bag)
    (root / "x" / "__done__").write_bytes(b'{"manifest":')
    lose(root)


def done(root, bag, other):
    save(root, bag)


def missing(root, bag, other):
    save(root, bag)
    lose(root)


def count_missing(root, bag, other):
    save(root, bag.repartition(npartitions=2))
    lose(root, (1,))


def version(root, bag, other):
    save(root, bag, version="old")


def version_missing(root, bag, other):
    save(root, bag, version="old")
    lose(root)


def parents(root, bag, other):
    save(root, other)


def parents_missing(root, bag, other):
    save(root, other)
    lose(root)


def recompute_begun(root, bag, other):
    """A stale checkpoint is done, and a run that computes it again has died."""
    save(root, bag)
    kept = [(p.name, p.read_bytes()) for p in (root / "x").glob("part-*")]
    shutil.rmtree(root / "x")
    save(root, bag, version="old")
    for name, data in kept[:2]:
        (root / "x" / name).write_bytes(data)


def text(root, bag, other):
    save(root, bag, textfile=True)


def text_missing(root, bag, other):
    text(root, bag, other)
    lose(root)


def agatha(root, bag, other):
    legacy(root)


def agatha_missing(root, bag, other):
    legacy(root)
    (root / "x" / "part-1.pkl").unlink()


def agatha_text(root, bag, other):
    legacy(root, text=True)


def touched_by_hand(root, bag, other):
    (root / "x").mkdir(parents=True)
    (root / "x" / "__done__").touch()


def pickled(root, bag, other):
    save(root, bag.map_partitions(lambda _: [Own()]), allow_pickle=True)


STATES = [
    absent,
    partial,
    partial_whole,
    partial_text,
    partial_of_another_version,
    partial_damaged,
    broken_marker,
    done,
    missing,
    count_missing,
    version,
    version_missing,
    parents,
    parents_missing,
    recompute_begun,
    text,
    text_missing,
    agatha,
    agatha_missing,
    agatha_text,
    touched_by_hand,
    pickled,
]
SETTINGS = [
    {
        "enabled": enabled,
        "on_stale": on_stale,
        "allow_partial": allow_partial,
        "allow_pickle": allow_pickle,
    }
    for enabled, on_stale, allow_partial, allow_pickle in product(
        (True, False), ("warn", "recompute", "error"), (True, False), (True, False)
    )
]
# Whether the bag is given, the version, whether text is asked for.
REQUESTS = [
    *product((True,), (None, "old"), (False, True)),
    *product((False,), (None, "new"), (False, True)),
]


def listing(root):
    """Every file and folder, with what would tell that it was touched."""
    found = sorted(root.rglob("*")) if root.exists() else []
    return [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in found]


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A bag with a parent, and one with the parent's other records."""
    before = parent_of(tmp_path_factory.mktemp("parents"))
    after = parent_of(tmp_path_factory.mktemp("parents"), records=RECORDS[::-1])
    return before.map_partitions(note), after.map(str)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_call_does_what_was_explained(state, bags, tmp_path, capsys):
    actions, before = set(), None
    state(tmp_path / "template", *bags)
    place = tmp_path / "root"  # the root is part of what is said
    for number, (settings, request) in enumerate(product(SETTINGS, REQUESTS)):
        if before is None or listing(place) != before:
            shutil.rmtree(place, ignore_errors=True)
            if (tmp_path / "template").exists():
                shutil.copytree(tmp_path / "template", place)
        before = listing(place)
        given, label, textfile = request
        arguments = {
            "bag": bags[0] if given else None,
            "version": label,
            "textfile": textfile,
            "halt_after": ("x", "y")[number % 2],
        }
        computed.clear()
        explained = Checkpointer(place, **settings).explain("x", **arguments)
        assert listing(place) == before, (settings, request)
        assert (computed, capsys.readouterr().out) == ([], ""), (settings, request)
        what_happens = call(Checkpointer(place, **settings), arguments)
        said = capsys.readouterr().out
        assert what_happens == as_explained(explained), (settings, request)
        if not explained.error:
            assert f"\t- {explained.line}\n" in said, (settings, request)
        actions.add(explained.action)
    assert len(actions) > 2


def call(checkpointer, arguments):
    """Return outcome, and the partitions that were computed."""
    before = listing(checkpointer.store.root)
    halted, error, found = False, None, None
    try:
        found = checkpointer.checkpoint("x", scheduler="sync", **arguments)
    except CheckpointHalt:
        halted = True
    except CheckpointError as raised:
        error = (type(raised), str(raised))
    written = listing(checkpointer.store.root) != before
    passed = found is not None and found is arguments["bag"]
    return {
        "error": error,
        "halted": halted,
        "passed through": passed,
        "wrote": written,
        "computed": sorted(computed),
    }


def as_explained(explained):
    error = explained.error and (type(explained.error), str(explained.error))
    return {
        "error": error,
        "halted": explained.halts,
        "passed through": explained.action == "pass through",
        "wrote": explained.action in ("compute", "resume", "repair", "recompute"),
        "computed": list(explained.compute),
    }


def explain(root, bag, **given):
    return Checkpointer(root, verbose=False).explain("x", bag, **given)


def test_each_action_has_its_word_and_its_partitions(bags, tmp_path):
    bag, other = bags
    expected = {
        absent: ("compute", (0, 1, 2, 3), 0),
        partial: ("resume", HOLES, 2),
        partial_whole: ("resume", (), 4),
        partial_of_another_version: ("compute", (0, 1, 2, 3), 0),
        broken_marker: ("resume", HOLES, 2),
        done: ("load", (), 0),
        missing: ("repair", HOLES, 2),
        count_missing: ("recompute", (0, 1, 2, 3), 0),
        parents: ("load", (), 0),
        parents_missing: ("recompute", (0, 1, 2, 3), 0),
    }
    found = {}
    for state in expected:
        state(tmp_path / state.__name__, bag, other)
        it = explain(tmp_path / state.__name__, bag)
        found[state] = (it.action, it.compute, it.kept)
    assert found == expected


def test_what_an_interrupted_recompute_has_stored_counts(bags, tmp_path):
    recompute_begun(tmp_path / "root", *bags)
    ckpt = Checkpointer(tmp_path / "root", on_stale="recompute")
    explained = ckpt.explain("x", bags[0])
    assert (explained.action, explained.kept) == ("recompute", 2)
    assert explained.reason == "stale: it has version 'old', not None"


def test_it_reads_as_a_sentence(bags, tmp_path):
    partial(tmp_path / "root", *bags)
    explained = explain(tmp_path / "root", bags[0], halt_after="x")
    assert str(explained) == (
        "x: resume. Saving 2 of 4 partitions; 2 kept, whole and of the same plan. "
        "It computes partitions 1, 3. Then the program halts"
    )
    refused = explain(tmp_path / "root", None)
    assert str(refused).startswith("x: CheckpointNotFoundError. checkpoint 'x' under ")
    assert isinstance(refused.error, CheckpointNotFoundError)


def test_it_is_a_value_that_can_be_pickled(bags, tmp_path):
    explained = explain(tmp_path, bags[0])
    assert replace(explained) == explained
    assert pickle.loads(pickle.dumps(explained)) == explained
    with pytest.raises(FrozenInstanceError):
        explained.action = "load"


@pytest.mark.parametrize(
    "arguments, error",
    [
        (("no/name", None), InvalidNameError),
        (("x", [1, 2]), EncodeError),
        (("x", None), CheckpointNotFoundError),
    ],
)
def test_an_error_that_the_call_would_raise_is_explained(tmp_path, arguments, error):
    ckpt = Checkpointer(tmp_path, verbose=False)
    explained = ckpt.explain(*arguments)
    with pytest.raises(error) as raised:
        ckpt.checkpoint(*arguments)
    assert type(explained.error) is error
    assert explained.line == str(explained.error) == str(raised.value)
    assert explained.action == "error"


def test_without_a_root_that_is_what_is_explained():
    assert isinstance(Checkpointer().explain("x").error, RootNotSetError)


def test_a_call_is_explained_by_changing_its_name(bags, tmp_path, capsys):
    ckpt = Checkpointer(tmp_path)
    given = {"verbose": True, "scheduler": "sync", "num_workers": 2}
    assert ckpt.explain("x", bags[0], **given).action == "compute"
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "indexes, words",
    [
        ([3], "partition 3"),
        ([0, 1, 2], "partitions 0-2"),
        ([9, 2, 1, 5], "partitions 1-2, 5, 9"),
    ],
)
def test_partition_numbers_are_said_in_few_words(indexes, words):
    assert numbers(indexes) == words
