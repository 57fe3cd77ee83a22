"""What a call does, and why: the whole table, without dask or files."""

from dataclasses import replace
from itertools import product

import pytest

from agatha_ckpt import (
    CheckpointError,
    DamagedPartition,
    Manifest,
    PartitionInfo,
    Plan,
    Settings,
)
from agatha_ckpt._run.decision import (
    Action,
    Comparison,
    Request,
    Stored,
    decide,
    edited_steps,
)
from agatha_ckpt._store.folder import Marker

WHERE = "checkpoint 'one' under 'root'"
PARENTS = (("parent", "1" * 32),)
REMADE = (("parent", "2" * 32),)
DAMAGED = (DamagedPartition(1, "its file is missing"),)
CHANGED = Comparison(changed=1)
OTHER_DASK = Comparison(incomparable="another version of dask")


def done(npartitions=2, kind="msgpack", version=None, parents=PARENTS, pickled=False):
    info = PartitionInfo("a-file", 1, 1, "00", 0.0, pickled)
    plan = Plan(npartitions, kind, version, parents)
    return Stored(Marker(b"", Manifest(plan, (info,) * npartitions)))


def agathas(npartitions=2):
    info = PartitionInfo("a-file", -1, -1, "", 0.0, holds_pickle=True)
    plan = Plan(npartitions, "pickle")
    return Stored(Marker(b"", Manifest(plan, (info,) * npartitions, token="")))


def as_compared(comparison):
    return replace(done(), comparison=comparison)


# In all of them the bag that is given has two partitions and the parents PARENTS.
STORED = {
    "absent": Stored(),
    "broken": Stored(Marker(b"?"), problem="its done marker is cut"),
    "done": done(),
    "labelled": done(version="new"),
    "changed": as_compared(CHANGED),
    "parents": done(parents=REMADE),
    "count": done(npartitions=3),
    "edited": as_compared(Comparison(edited=("parse",))),
    "dask": as_compared(OTHER_DASK),
    "own": as_compared(Comparison(is_own=True)),
    "text": done(kind="text"),
    "pickled": done(pickled=True),
    "agatha": agathas(),
    "touched": agathas(0),
}
for name in ("done", "changed", "parents", "count", "dask", "own", "text", "agatha"):
    STORED[f"{name}-damaged"] = replace(STORED[name], damaged=DAMAGED)
# Partition count, parents and version. "label": a version, but no bag.
REQUESTS = {
    "given": (2, PARENTS, None),
    "version": (2, PARENTS, "new"),
    "none": (None, (), None),
    "label": (None, (), "new"),
}
AXES = {
    "enabled": ("yes", "no"),
    "overwrite": ("yes", "no"),
    "stored": tuple(STORED),
    "bag": tuple(REQUESTS),
    "textfile": ("yes", "no"),
    "on_stale": ("warn", "recompute", "error"),
    "partial": ("yes", "no"),
    "pickle": ("yes", "no"),
}

# The columns are the axes, then what is decided, and a part of the reason or message
# (none: there is none). "*" is anything. The first row that fits counts.
TABLE = """
enabled | overwrite | stored                         | bag           | textfile | on_stale  | partial | pickle | outcome                 | reason

no      | *         | *                              | given version | *        | *         | *       | *      | PASS_THROUGH            | disabled

*       | yes       | *                              | none label    | *        | *         | *       | *      | CheckpointNotFoundError | overwrite=True
*       | yes       | absent broken                  | *             | *        | *         | *       | *      | COMPUTE                 | overwrite=True
*       | yes       | *                              | *             | *        | *         | *       | *      | RECOMPUTE               | overwrite=True

*       | *         | absent broken                  | none label    | *        | *         | *       | *      | CheckpointNotFoundError | give the collection
*       | *         | absent                         | *             | *        | *         | *       | *      | COMPUTE                 |
*       | *         | broken                         | *             | *        | *         | *       | *      | COMPUTE                 | its done marker is cut

*       | *         | text text-damaged              | label         | *        | *         | *       | *      | CheckpointConflictError | no collection was given
*       | *         | text text-damaged              | version       | *        | error     | *       | *      | CheckpointConflictError | no version, not 'new'
*       | *         | text text-damaged              | version       | *        | *         | *       | *      | RECOMPUTE               | no version, not 'new'
*       | *         | text                           | *             | *        | *         | *       | *      | LOAD                    |
*       | *         | text-damaged                   | none          | *        | *         | *       | *      | LOAD                    |
*       | *         | text-damaged                   | given         | no       | *         | *       | *      | RECOMPUTE               | stored as text
*       | *         | text-damaged                   | given         | yes      | *         | yes     | *      | REPAIR                  | partition 1
*       | *         | text-damaged                   | given         | yes      | *         | no      | *      | RECOMPUTE               | allow_partial is off
*       | *         | *                              | *             | yes      | *         | *       | *      | CheckpointConflictError | textfile=True

*       | *         | labelled                       | *             | *        | *         | *       | *      | LOAD                    |
*       | *         | own own-damaged                | version       | *        | *         | *       | *      | CheckpointConflictError | build it again
*       | *         | *                              | label         | *        | *         | *       | *      | CheckpointConflictError | no collection was given
*       | *         | *                              | version       | *        | error     | *       | *      | CheckpointConflictError | no version, not 'new'
*       | *         | *                              | version       | *        | *         | *       | *      | RECOMPUTE               | no version, not 'new'

*       | *         | pickled agatha agatha-damaged  | none          | *        | *         | *       | no     | PickleNotAllowedError   | set_allow_pickle
*       | *         | *                              | none          | *        | *         | *       | *      | LOAD                    |

*       | *         | changed changed-damaged        | given         | *        | error     | *       | *      | CheckpointConflictError | 1 of 2 partitions has other inputs
*       | *         | changed changed-damaged        | given         | *        | recompute | *       | *      | RECOMPUTE               | stale: 1 of 2 partitions has
*       | *         | parents parents-damaged        | given         | *        | error     | *       | *      | CheckpointConflictError | its parent 'parent' has other
*       | *         | parents parents-damaged        | given         | *        | recompute | *       | *      | RECOMPUTE               | stale: its parent 'parent' has
*       | *         | count count-damaged            | given         | *        | error     | *       | *      | CheckpointConflictError | the collection has 2 partitions
*       | *         | count count-damaged            | given         | *        | recompute | *       | *      | RECOMPUTE               | stale: the collection has 2 partitions
*       | *         | changed parents count          | given         | *        | warn      | *       | *      | LOAD                    | loaded anyway; pass on_stale='recompute'

*       | *         | agatha-damaged                 | given         | *        | *         | *       | *      | RECOMPUTE               | Agatha wrote
*       | *         | done-damaged own-damaged       | given         | *        | *         | yes     | *      | REPAIR                  | partition 1
*       | *         | dask-damaged                   | given         | *        | *         | yes     | *      | RECOMPUTE               | another version of dask
*       | *         | changed-damaged                | given         | *        | *         | yes     | *      | RECOMPUTE               | other inputs
*       | *         | parents-damaged                | given         | *        | *         | yes     | *      | RECOMPUTE               | its parent 'parent'
*       | *         | count-damaged                  | given         | *        | *         | yes     | *      | RECOMPUTE               | the collection has 2 partitions
*       | *         | done-damaged own-damaged dask-damaged changed-damaged parents-damaged count-damaged | given | * | * | no | * | RECOMPUTE | allow_partial is off

*       | *         | agatha pickled                 | given         | *        | *         | *       | no     | PickleNotAllowedError   | set_allow_pickle
*       | *         | touched                        | given         | *        | *         | *       | *      | LOAD                    | made by hand
*       | *         | edited                         | given         | *        | *         | *       | *      | LOAD                    | the code of 'parse' has changed
*       | *         | *                              | given         | *        | *         | *       | *      | LOAD                    |
"""  # noqa: E501
LINES = [line for line in TABLE.splitlines() if line][1:]
ROWS = [[cell.strip() for cell in line.split("|")] for line in LINES]


def first_row(combination):
    for number, row in enumerate(ROWS):
        cells = zip(row, combination, strict=False)
        if all(cell == "*" or value in cell.split() for cell, value in cells):
            return number
    raise AssertionError(f"no row for {combination}")


def case_of(enabled, overwrite, stored, bag, textfile, on_stale, partial, pickle):
    settings = Settings(
        enabled=enabled == "yes",
        on_stale=on_stale,
        allow_partial=partial == "yes",
        allow_pickle=pickle == "yes",
    )
    asked = REQUESTS[bag]
    request = Request(WHERE, "one", *asked, textfile == "yes", overwrite == "yes")
    stored = STORED[stored]
    if not request.has_bag:  # then it is not looked at
        stored = replace(stored, damaged=(), comparison=Comparison())
    return settings, request, stored


def outcome_of(settings, request, stored):
    """Return the name of the action or error, its reason, and the decision."""
    try:
        decision = decide(settings, request, stored)
    except CheckpointError as error:
        return type(error).__name__, str(error), None
    return decision.action.name, decision.reason, decision


BY_ROW = {number: [] for number in range(len(ROWS))}
for combination in product(*AXES.values()):
    BY_ROW[first_row(combination)].append(combination)
ALL = [
    (case, outcome_of(*case))
    for case in (case_of(*combination) for combination in product(*AXES.values()))
]


@pytest.mark.parametrize("number", BY_ROW, ids=lambda number: f"row{number}")
def test_the_decision_is_the_one_in_the_table(number):
    *_, expected, reason = ROWS[number]
    assert BY_ROW[number], f"other rows hide this one: {ROWS[number]}"
    for combination in BY_ROW[number]:
        outcome, said, _ = outcome_of(*case_of(*combination))
        assert (outcome, reason in said) == (expected, True), (combination, said)
        assert reason or not said, (combination, said)


def test_every_message_names_the_checkpoint_first():
    messages = {said for _, (_, said, decision) in ALL if decision is None}
    assert [said for said in messages if not said.startswith(WHERE)] == []


def test_partitions_are_kept_only_where_that_is_allowed():
    """P4: with allow_partial off, or overwrite, all of it is computed again."""
    for (settings, request, _), (_, _, decision) in ALL:
        if decision and decision.keep_partial:
            assert settings.allow_partial
            assert not request.overwrite
            assert decision.action in ("compute", "recompute", "repair")


def test_what_needs_attention_has_a_reason():
    for _, (_, said, decision) in ALL:
        if decision and (decision.warn or decision.stale):
            assert said
        if decision and decision.stale:
            assert decision.action in (Action.LOAD, Action.RECOMPUTE)


# ---- parents ----

A1, A2, B1 = ("a", "1" * 32), ("a", "2" * 32), ("b", "3" * 32)


@pytest.mark.parametrize(
    "saved, asked, reason",
    [
        ((A1,), (A1,), ""),
        ((A1, B1), (B1, A1), ""),
        ((A1,), (("renamed", A1[1]),), ""),  # what it holds counts, not its name
        ((A1,), (A2,), "its parent 'a' has other records now"),
        ((A1, B1), (A2, B1), "its parent 'a' has other records now"),
        ((A1,), (A1, B1), "built from other checkpoints, such as 'b'"),
        ((A1, B1), (A1,), "built from other checkpoints, such as 'b'"),
        ((A1,), (), "built from other checkpoints, such as 'a'"),
        ((), (A1,), "built from other checkpoints, such as 'a'"),
    ],
)
def test_parents_that_hold_other_records_make_a_checkpoint_stale(saved, asked, reason):
    request = Request(WHERE, "one", 2, asked)
    decision = decide(Settings(), request, done(parents=saved))
    assert decision.action is Action.LOAD
    assert reason in decision.reason
    assert bool(decision.reason) == bool(reason)


def test_a_bag_built_from_the_checkpoint_itself_makes_it_stale():
    stored = done()
    request = Request(WHERE, "one", 2, (("one", stored.manifest.id),))
    assert "from this checkpoint" in decide(Settings(), request, stored).stale


@pytest.mark.parametrize("stored", ["absent", "done", "changed"])
def test_a_parent_that_is_stale_is_named(stored):
    request = Request(WHERE, "one", 2, PARENTS, stale_parents=("parent",))
    decision = decide(Settings(), request, STORED[stored])
    assert "its parent 'parent' is stale" in decision.reason
    assert decision.warn


def test_several_damaged_partitions_are_counted():
    damaged = tuple(DamagedPartition(i, "its file is missing") for i in range(3))
    stored = replace(done(3), damaged=damaged)
    decision = decide(Settings(), Request(WHERE, "one", 3, PARENTS), stored)
    assert decision.action is Action.REPAIR
    assert "partition 0" in decision.reason
    assert "2 more" in decision.reason


@pytest.mark.parametrize(
    "before, after, steps",
    [
        ("read=1;parse=2", "read=1;parse=2", []),
        ("read=1;parse=2", "read=3;parse=4", ["read", "parse"]),
        ("<lambda>=1;<lambda>=2", "<lambda>=1;<lambda>=3", ["<lambda>"]),
        ("read=1", "read=1;parse=2", []),  # not known, and so not compared
        ("", "read=1", []),
        ("read=1", "", []),
    ],
)
def test_steps_with_other_code_are_named(before, after, steps):
    assert edited_steps(before, after) == steps
