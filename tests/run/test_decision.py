"""What a call does, and why: the whole table, without dask or files."""

from itertools import product

import pytest

from agatha_ckpt import (
    CheckpointConflictError,
    CheckpointError,
    CheckpointNotFoundError,
    PickleNotAllowedError,
    Plan,
    Settings,
)
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._run.decision import Action, Request, Stored, decide
from agatha_ckpt._store.folder import DamagedPartition

WHERE = "checkpoint 'one' under 'root'"
PARENTS = (("parent", "1" * 32),)
REMADE = (("parent", "2" * 32),)
MISSING = (DamagedPartition(1, "its file is missing"),)


def manifest(
    npartitions=2, kind="msgpack", version=None, parents=PARENTS, pickled=False
):
    info = PartitionInfo("a-file", 1, 1, "00", 0.0, pickled)
    plan = Plan(npartitions, kind, version, parents)
    return Manifest(plan, (info,) * npartitions)


def agathas(kind):
    """Return the manifest of what the original Agatha wrote: it kept no parents."""
    info = PartitionInfo("a-file", -1, -1, "", 0.0, kind == "pickle")
    return Manifest(Plan(2, kind), (info,) * 2, created="", library="agatha", token="")


# In all of them the bag that is given has two partitions and the parents PARENTS.
STORED = {
    "absent": Stored(),
    "broken": Stored(problem="its done marker is cut"),
    "done": Stored(manifest()),
    "done-missing": Stored(manifest(), MISSING),
    "count-missing": Stored(manifest(npartitions=3), MISSING),
    "version": Stored(manifest(version="old")),
    "parents": Stored(manifest(parents=REMADE)),
    "version-missing": Stored(manifest(version="old"), MISSING),
    "parents-missing": Stored(manifest(parents=REMADE), MISSING),
    "text": Stored(manifest(kind="text")),
    "text-missing": Stored(manifest(kind="text"), MISSING),
    "agatha": Stored(agathas("pickle")),
    "agatha-missing": Stored(agathas("pickle"), MISSING),
    "agathatext": Stored(agathas("text")),
    "agathatext-missing": Stored(agathas("text"), MISSING),
    "pickled": Stored(manifest(pickled=True)),
}
# "label": no bag, but a version that none of those stored has.
REQUESTS = {"given": (2, PARENTS, None), "none": (None, (), None)}
REQUESTS["label"] = (None, (), "new")

AXES = {
    "enabled": ("yes", "no"),
    "stored": tuple(STORED),
    "bag": tuple(REQUESTS),
    "textfile": ("yes", "no"),
    "on_stale": ("warn", "recompute", "error"),
    "partial": ("yes", "no"),
    "pickle": ("yes", "no"),
}

# The columns are the axes, then what is decided, and a part of the reason or message
# (none: nothing is said). "*" is anything. The first row that fits counts.
TABLE = """
enabled | stored                                          | bag        | textfile | on_stale  | partial | pickle | outcome                 | reason

no      | *                                               | given      | *        | *         | *       | *      | PASS_THROUGH            | disabled

*       | absent                                          | given      | *        | *         | *       | *      | COMPUTE                 |
*       | broken                                          | given      | *        | *         | *       | *      | COMPUTE                 | its done marker is cut
*       | absent broken                                   | none label | *        | *         | *       | *      | CheckpointNotFoundError | give the bag

*       | text text-missing agathatext agathatext-missing | label      | *        | error     | *       | *      | CheckpointConflictError | not 'new'
*       | text text-missing agathatext agathatext-missing | label      | *        | recompute | *       | *      | CheckpointNotFoundError | not 'new'
*       | text text-missing agathatext agathatext-missing | label      | *        | warn      | *       | *      | LOAD                    | not 'new'
*       | text agathatext                                 | *          | *        | *         | *       | *      | LOAD                    |
*       | text-missing                                    | given      | no       | *         | *       | *      | RECOMPUTE               | stored as text
*       | text-missing                                    | given      | yes      | *         | yes     | *      | REPAIR                  | partition 1
*       | text-missing                                    | given      | yes      | *         | no      | *      | RECOMPUTE               | allow_partial is off
*       | agathatext-missing                              | given      | *        | *         | *       | *      | RECOMPUTE               | cannot be kept
*       | text-missing agathatext-missing                 | none       | *        | *         | *       | *      | LOAD                    |

*       | *                                               | *          | yes      | *         | *       | *      | CheckpointConflictError | textfile=True

*       | *                                               | label      | no       | error     | *       | *      | CheckpointConflictError | not 'new'
*       | *                                               | label      | no       | recompute | *       | *      | CheckpointNotFoundError | not 'new'
*       | agatha agatha-missing pickled                   | label      | no       | warn      | *       | no     | PickleNotAllowedError   | set_allow_pickle
*       | *                                               | label      | no       | warn      | *       | *      | LOAD                    | not 'new'

*       | version version-missing                         | given      | no       | error     | *       | *      | CheckpointConflictError | version 'old', not None
*       | version version-missing                         | given      | no       | recompute | *       | *      | RECOMPUTE               | version 'old', not None
*       | version                                         | given      | no       | warn      | *       | *      | LOAD                    | version 'old', not None
*       | version-missing                                 | given      | no       | warn      | yes     | *      | RECOMPUTE               | version 'old', not None
*       | version-missing                                 | given      | no       | warn      | no      | *      | RECOMPUTE               | cannot be kept
*       | parents parents-missing                         | given      | no       | error     | *       | *      | CheckpointConflictError | its parent 'parent'
*       | parents parents-missing                         | given      | no       | recompute | *       | *      | RECOMPUTE               | its parent 'parent'
*       | parents                                         | given      | no       | warn      | *       | *      | LOAD                    | its parent 'parent'
*       | parents-missing                                 | given      | no       | warn      | yes     | *      | RECOMPUTE               | its parent 'parent'
*       | parents-missing                                 | given      | no       | warn      | no      | *      | RECOMPUTE               | cannot be kept

*       | done-missing                                    | given      | no       | *         | yes     | *      | REPAIR                  | partition 1
*       | done-missing                                    | given      | no       | *         | no      | *      | RECOMPUTE               | allow_partial is off
*       | count-missing                                   | given      | no       | *         | *       | *      | RECOMPUTE               | 2 partitions
*       | agatha-missing                                  | given      | no       | *         | *       | *      | RECOMPUTE               | stored as pickle

*       | agatha agatha-missing                           | *          | no       | *         | *       | no     | PickleNotAllowedError   | set_allow_pickle
*       | pickled                                         | *          | no       | *         | *       | no     | PickleNotAllowedError   | set_allow_pickle
*       | *                                               | *          | no       | *         | *       | *      | LOAD                    |
"""  # noqa: E501
LINES = [line for line in TABLE.splitlines() if line][1:]
ROWS = [[cell.strip() for cell in line.split("|")] for line in LINES]


def first_row(combination):
    for number, row in enumerate(ROWS):
        cells = zip(row, combination, strict=False)
        if all(cell == "*" or value in cell.split() for cell, value in cells):
            return number
    raise AssertionError(f"no row for {combination}")


def combinations_by_row():
    found = {number: [] for number in range(len(ROWS))}
    for combination in product(*AXES.values()):
        found[first_row(combination)].append(combination)
    return found


BY_ROW = combinations_by_row()


def settings_of(enabled, on_stale, partial, pickle):
    return Settings(
        enabled=enabled == "yes",
        on_stale=on_stale,
        allow_partial=partial == "yes",
        allow_pickle=pickle == "yes",
    )


def outcome_of(settings, request, stored):
    """Return the name of the action or error, its reason, and the decision."""
    try:
        decision = decide(settings, request, stored)
    except CheckpointError as error:
        return type(error).__name__, str(error), None
    return decision.action.name, decision.reason, decision


@pytest.mark.parametrize("number", BY_ROW, ids=lambda number: f"row{number}")
def test_the_decision_is_the_one_in_the_table(number):
    *_, expected, reason = ROWS[number]
    assert BY_ROW[number], f"other rows hide this one: {ROWS[number]}"
    for combination in BY_ROW[number]:
        enabled, stored, bag, textfile, on_stale, partial, pickle = combination
        npartitions, parents, version = REQUESTS[bag]
        request = Request(WHERE, npartitions, parents, version, textfile == "yes")
        settings = settings_of(enabled, on_stale, partial, pickle)
        outcome, said, _ = outcome_of(settings, request, STORED[stored])
        assert (outcome, reason in said) == (expected, True), (combination, said)
        assert reason or not said, (combination, said)


# ---- what holds whatever is asked for and stored ----

NO_PARENTS, OTHER = (), (("other", "3" * 32),)


def everything_stored():
    yield from (Stored(), Stored(problem="its done marker is cut"))
    plans = product((2, 3), ("msgpack", "text"), (None, "v"), (NO_PARENTS, PARENTS))
    for plan in plans:
        for pickled, damaged in product((False, True), ((), MISSING)):
            yield Stored(manifest(*plan, pickled), damaged)
    for kind, damaged in product(("pickle", "text"), ((), MISSING)):
        yield Stored(agathas(kind), damaged)


def everything_asked_for():
    bags = product((2,), (NO_PARENTS, PARENTS, OTHER))
    for bag in [*bags, (None, ())]:
        for version, textfile in product((None, "v"), (False, True)):
            yield Request(WHERE, *bag, version, textfile)


def everything_set():
    choices = product(("yes", "no"), AXES["on_stale"], ("yes", "no"), ("yes", "no"))
    return [settings_of(*choice) for choice in choices]


ALL_OUTCOMES = [
    (case, outcome_of(*case))
    for case in product(everything_set(), everything_asked_for(), everything_stored())
]


def agree(request, found):
    """Say whether what is done was saved from the same version and parents."""
    parents_known = found.library != "agatha"
    same_parents = {i for _, i in request.parents} == {i for _, i in found.plan.parents}
    return request.version == found.plan.version and (same_parents or not parents_known)


def cases_with(*outcomes):
    found = [case for case, (outcome, *_) in ALL_OUTCOMES if outcome in outcomes]
    assert found
    return found


def test_only_the_documented_errors_are_raised():
    errors = {
        error.__name__
        for error in (
            CheckpointConflictError,
            CheckpointNotFoundError,
            PickleNotAllowedError,
        )
    }
    seen = {outcome for _, (outcome, *_) in ALL_OUTCOMES}
    assert seen == errors | {action.name for action in Action} - {"RESUME", "ERROR"}
    messages = {said for _, (outcome, said, _) in ALL_OUTCOMES if outcome in errors}
    assert [said for said in messages if not said.startswith(WHERE)] == []


def test_a_bag_is_passed_through_exactly_when_disabled():
    for (settings, request, _), (outcome, *_) in ALL_OUTCOMES:
        disabled = not settings.enabled and request.has_bag
        assert (outcome == "PASS_THROUGH") == disabled


def test_without_a_bag_there_is_nothing_but_loading():
    for (_, request, _), (_, _, decision) in ALL_OUTCOMES:
        if not request.has_bag and decision:
            assert decision.action is Action.LOAD


def test_without_a_bag_disabling_changes_nothing():
    for (settings, request, stored), (outcome, said, _) in ALL_OUTCOMES:
        if not request.has_bag:
            enabled = settings.override(enabled=True)
            assert outcome_of(enabled, request, stored)[:2] == (outcome, said)


def test_nothing_is_loaded_or_mended_without_a_manifest():
    """P1: what has no done marker that counts is never loaded."""
    for _, _, stored in cases_with("LOAD", "REPAIR", "RECOMPUTE"):
        assert stored.manifest is not None
    for _, _, stored in cases_with("COMPUTE"):
        assert stored.manifest is None


def test_a_bag_that_is_given_mends_what_is_damaged():
    for _, request, stored in cases_with("LOAD"):
        assert not (request.has_bag and stored.damaged)


def test_repair_mixes_only_partitions_of_one_plan():
    """P4: count, format, version and parents agree, and partitions may be kept."""
    for settings, request, stored in cases_with("REPAIR"):
        old, new = stored.manifest.plan, request.plan
        assert stored.damaged
        assert settings.allow_partial
        assert (old.npartitions, old.format) == (new.npartitions, new.format)
        assert agree(request, stored.manifest)
        # The files that are kept carry the plan in their names.
        assert old.digest == new.digest
        assert stored.manifest.library != "agatha"


def test_partials_are_kept_only_where_that_is_allowed():
    """P4: with allow_partial off, all of it is computed again."""
    for (settings, _, _), (outcome, _, decision) in ALL_OUTCOMES:
        if decision and decision.keep_partial:
            assert settings.allow_partial
            assert outcome in ("COMPUTE", "RECOMPUTE")
        if outcome == "COMPUTE":
            assert decision.keep_partial is settings.allow_partial


def test_what_is_stale_is_loaded_only_with_a_warning():
    for (settings, request, stored), (outcome, said, decision) in ALL_OUTCOMES:
        if outcome == "LOAD" and request.has_bag:
            stale = not agree(request, stored.manifest)
            assert ("stale" in said, decision.warn) == (stale, stale)
            assert not stale or settings.on_stale == "warn"
        if outcome == "REPAIR":
            assert agree(request, stored.manifest)


def test_pickles_are_loaded_only_where_that_is_allowed():
    """P8: with allow_pickle off, no bag is made that would meet a pickle."""
    for settings, request, stored in cases_with("LOAD"):
        if stored.manifest.holds_pickle and not request.textfile:
            assert settings.allow_pickle


def test_text_is_asked_for_only_of_text():
    for _, request, stored in cases_with("LOAD", "REPAIR"):
        assert not request.textfile or stored.manifest.plan.format == "text"


def test_everything_but_the_ordinary_has_a_reason():
    """P4: what is computed again, and why, is said."""
    for _, (outcome, said, _) in ALL_OUTCOMES:
        if outcome not in ("LOAD", "COMPUTE"):
            assert said


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
        ((A1,), (A1, B1), "built from other checkpoints (see 'b')"),
        ((A1, B1), (A1,), "built from other checkpoints (see 'b')"),
        ((A1,), (), "built from other checkpoints (see 'a')"),
        ((), (A1,), "built from other checkpoints (see 'a')"),
    ],
)
def test_parents_that_hold_other_records_make_a_checkpoint_stale(saved, asked, reason):
    request = Request(WHERE, 2, asked)
    decision = decide(Settings(), request, Stored(manifest(parents=saved)))
    assert decision.action is Action.LOAD
    assert reason in decision.reason
    assert bool(decision.reason) == bool(reason)


def test_several_damaged_partitions_are_counted():
    damaged = tuple(DamagedPartition(i, "its file is missing") for i in range(3))
    decision = decide(
        Settings(), Request(WHERE, 3, PARENTS), Stored(manifest(3), damaged)
    )
    assert decision.action is Action.REPAIR
    assert "partition 0" in decision.reason
    assert "2 more" in decision.reason
