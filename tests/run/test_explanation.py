"""What a call would do, explained without writing anything, and then done."""

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
from tests.format.test_agatha import write_legacy
from tests.report.pages import parsed

pytestmark = pytest.mark.filterwarnings("ignore::agatha_ckpt.StaleCheckpointWarning")

PARTITIONS = 4
HOLES = (1, 3)  # partitions whose file is removed
RECORDS = [f"record {i}" for i in range(8)]
computed = []


def note(records):
    """Remember which partition was computed, and return its records."""
    records = list(records)
    computed.append(RECORDS.index(records[0]) * PARTITIONS // len(RECORDS))
    return records


class Own:
    """What only a pickle can hold."""


def objects(records):
    return [Own() for _ in records]


def parent_of(root, records=RECORDS):
    bag = dask.bag.from_sequence(records, npartitions=PARTITIONS)
    return Checkpointer(root, verbose=False).checkpoint("p", bag, scheduler="sync")


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A bag with a parent, and one with other records in that parent."""
    before = parent_of(tmp_path_factory.mktemp("parents"))
    after = parent_of(tmp_path_factory.mktemp("parents"), RECORDS[::-1])
    return before.map_partitions(note), after.map_partitions(list)


# ---- what is stored: functions of the root and the two bags ----


def saved(lost=(), undone=False, other=False, change=lambda bag: bag, **options):
    """Return a function that saves a bag and then removes files."""

    def state(root, bag, other_bag):
        checkpointer = Checkpointer(root, verbose=False)
        bag = change(other_bag if other else bag)
        checkpointer.checkpoint("x", bag, scheduler="sync", **options)
        lose(root, lost, undone)

    return state


def lose(root, indexes, undone=False):
    for index in indexes:
        (path,) = (root / "x").glob(f"part-{index:05}-*")
        path.unlink()
    if undone:
        (root / "x" / "__done__").unlink()


def damaged_partial(root, *bags):
    saved(HOLES, undone=True)(root, *bags)
    path = min((root / "x").glob("part-*"))
    path.write_bytes(path.read_bytes()[:-1])


def broken_marker(root, *bags):
    saved(HOLES)(root, *bags)
    (root / "x" / "__done__").write_bytes(b'{"checkpoint":')


def interrupted_recompute(root, bag, other):
    """A stale checkpoint is done, and a run that computes it again has died."""
    saved(other=True)(root, bag, other)
    checkpointer = Checkpointer(root, verbose=False, on_stale="recompute")
    failing = dask.bag.concat([bag, other.map_partitions((1).__truediv__)])
    with pytest.raises(TypeError):
        checkpointer.checkpoint("x", failing, scheduler="sync")


def agatha(root, text=False, lost=()):
    write_legacy(root / "x", [RECORDS[i : i + 2] for i in range(0, 8, 2)], text)
    for index in lost:
        (root / "x" / f"part-{index}.pkl").unlink()


def touched_by_hand(root, *bags):
    (root / "x").mkdir(parents=True)
    (root / "x" / "__done__").touch()


STATES = {
    "absent": lambda *_: None,
    "partial": saved(HOLES, undone=True),
    "whole partial": saved(undone=True),
    "text partial": saved(HOLES, undone=True, textfile=True),
    "partial of another version": saved(HOLES, undone=True, version="old"),
    "partial from other inputs": saved(HOLES, undone=True, other=True),
    "damaged partial": damaged_partial,
    "broken marker": broken_marker,
    "done": saved(),
    "missing": saved(HOLES),
    "other count": saved(change=lambda bag: bag.repartition(npartitions=2)),
    "other count, missing": saved((1,), change=lambda b: b.repartition(npartitions=2)),
    "version": saved(version="old"),
    "version, missing": saved(HOLES, version="old"),
    "other inputs": saved(other=True),
    "other inputs, missing": saved(HOLES, other=True),
    "interrupted recompute": interrupted_recompute,
    "text": saved(textfile=True),
    "text, missing": saved(HOLES, textfile=True),
    "agatha": lambda root, *_: agatha(root),
    "agatha, missing": lambda root, *_: agatha(root, lost=(1,)),
    "agatha's text": lambda root, *_: agatha(root, text=True),
    "touched by hand": touched_by_hand,
    "pickled": saved(change=lambda b: b.map_partitions(objects), allow_pickle=True),
}
SETTINGS = [
    {"allow_pickle": True},
    {"allow_partial": False},
    {"on_stale": "recompute", "allow_pickle": True},
    {"on_stale": "error"},
    {"enabled": False},
]
# Version; whether text is asked for; whether the bag is given; whether to overwrite.
REQUESTS = [
    *product((None, "old"), (False,), (True, False), (False,)),
    *product((None,), (True,), (True, False), (False,)),
    (None, False, True, True),
]


def listing(root):
    """Every file and folder, with what would show that it was touched."""
    found = sorted(root.rglob("*")) if root.exists() else []
    return [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in found]


@pytest.mark.parametrize("state", STATES)
def test_the_call_does_what_was_explained(state, bags, tmp_path, capsys):
    actions, before = set(), None
    STATES[state](tmp_path / "template", *bags)
    place = tmp_path / "root"  # the root is part of the messages
    for number, (settings, request) in enumerate(product(SETTINGS, REQUESTS)):
        if before is None or listing(place) != before:
            shutil.rmtree(place, ignore_errors=True)
            if (tmp_path / "template").exists():
                shutil.copytree(tmp_path / "template", place)
        before = listing(place)
        version, textfile, given, overwrite = request
        arguments = {
            "bag": bags[0] if given else None,
            "version": version,
            "textfile": textfile,
            "overwrite": overwrite,
            "halt_after": ("x", "y")[number % 2],
        }
        computed.clear()
        capsys.readouterr()
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
    """Return the outcome, and the partitions that were computed."""
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
    everything = tuple(range(PARTITIONS))
    expected = {
        "absent": ("compute", everything, 0),
        "partial": ("resume", HOLES, 2),
        "whole partial": ("resume", (), 4),
        "partial of another version": ("compute", everything, 0),
        "partial from other inputs": ("compute", everything, 0),
        "done": ("load", (), 0),
        "missing": ("repair", HOLES, 2),
        "other count": ("load", (), 0),
        "other count, missing": ("recompute", everything, 0),
        "other inputs": ("load", (), 0),
        "other inputs, missing": ("recompute", everything, 0),
    }
    found = {}
    for state in expected:
        STATES[state](tmp_path / state, *bags)
        it = explain(tmp_path / state, bags[0])
        found[state] = (it.action, it.compute, it.kept)
    assert found == expected


def test_it_reads_as_a_sentence(bags, tmp_path):
    STATES["partial"](tmp_path / "root", *bags)
    explained = explain(tmp_path / "root", bags[0], halt_after="x")
    assert str(explained) == (
        "x: resume. Saving 2 of 4 partitions; 2 kept, whole and from the same inputs. "
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


def test_an_explanation_is_readable_and_escaped(tmp_path):
    checkpointer = Checkpointer(tmp_path / "<b>", verbose=False, halt_after="x")
    bag = dask.bag.from_sequence(range(1_000), npartitions=1_000)
    explained = checkpointer.explain("x", bag)
    assert repr(explained) == (
        "<Explanation of 'x: compute. Saving 1,000 of 1,000 partitions. "
        "Then the program halts'>"
    )
    document = parsed(explained._repr_html_())
    rows = {row.one("th").text: row.one("td").text for row in document.all("tr")}
    assert rows["action"] == "compute"
    assert rows["computes"] == "partitions 0-999"
    failed = parsed(checkpointer.explain("x")._repr_html_())
    rows = {row.one("th").text: row.one("td").text for row in failed.all("tr")}
    assert rows["action"] == "CheckpointNotFoundError"
    assert "<b>" in rows["line"]
