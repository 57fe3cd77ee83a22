"""What prune selects, and what it skips."""

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from agatha_ckpt import CheckpointStore, InvalidValueError, Manifest, Plan, Status
from agatha_ckpt._cli.main import main
from agatha_ckpt._filesystem.base import FileInfo
from agatha_ckpt._store.contents import Contents
from agatha_ckpt._store.prune import Criteria, decide
from agatha_ckpt._store.status import State
from tests.store.locked import Locked

DAY = 86_400
NOW = datetime(2026, 3, 4, tzinfo=UTC)


def ago(days):
    return datetime.fromtimestamp(NOW.timestamp() - days * DAY, UTC).isoformat()


@pytest.mark.parametrize(
    "state, days, criteria, expected",
    [
        ("partial", 0, Criteria(partial=True), "less than 24 h"),
        ("partial", 1.1, Criteria(partial=True), "removed"),
        ("partial", 0, Criteria(0, partial=True), "removed"),
        ("partial", None, Criteria(partial=True), "is not known"),
        ("partial", 29, Criteria(30 * DAY, partial=True), None),
        ("done", 29, Criteria(30 * DAY), None),
        ("done", 31, Criteria(30 * DAY), "removed"),
        ("done", None, Criteria(30 * DAY), "is not known"),
        ("unsupported", 31, Criteria(30 * DAY), "another version of the format"),
    ],
)
def test_what_is_removed_and_why_the_rest_is_not(state, days, criteria, expected):
    modified = None if days is None else NOW.timestamp() - days * DAY
    contents = Contents({"part-x": FileInfo(5, modified)}, 0)
    status = Status("x", State(state), changed=None if days is None else ago(days))
    assert criteria.concern(status.state)
    removal = decide(status, contents, criteria, NOW)
    if expected is None:
        assert removal is None
    elif expected == "removed":
        assert (removal.skip_reason, removal.whole) == (None, True)
    else:
        assert expected in removal.skip_reason


@pytest.mark.parametrize(
    "criteria, states",
    [
        (Criteria(partial=True), "partial unreadable"),
        (Criteria(leftovers=True), "absent done unreadable"),
        (Criteria(partial=True, leftovers=True), "absent partial done unreadable"),
        (Criteria(DAY), "partial done damaged unsupported unreadable"),
        (Criteria(DAY, partial=True), "partial unreadable"),
        (Criteria(keep=2), "done unreadable"),
        (Criteria(keep=2, partial=True), "partial done unreadable"),
    ],
)
def test_which_states_criteria_concern(criteria, states):
    assert [s for s in State if criteria.concern(s)] == states.split()


# ---- from Python ----


def save(store, name, days):
    info = store.write_partition(name, Plan(1), 0, [name])
    created = (datetime.now(UTC) - timedelta(days)).isoformat()
    return store.mark_done(name, Manifest(Plan(1), (info,), created=created))


@pytest.fixture
def filled(store):
    """Checkpoints of 1 to 4 days ago, and a partial of now."""
    for days in (3, 1, 4, 2):
        save(store, f"a{days}", days)
    save(store, "b9", 9)
    store.write_partition("a-partial", Plan(2), 0, [1])
    return store


def test_the_newest_that_match_are_kept(filled):
    would = filled.prune("a*", keep=2, dry_run=True)
    assert len(filled.names()) == 5
    removed = filled.prune("a*", keep=2)
    assert [r.name for r in would] == [r.name for r in removed] == ["a3", "a4"]
    assert [r.files for r in would] == [r.files for r in removed]
    assert all(r.bytes and r.whole and r.skip_reason is None for r in removed)
    assert filled.names() == ["a1", "a2", "b9"]
    assert filled.status("a-partial").state == "partial"
    assert filled.prune("a*", keep=2) == filled.prune("*", keep=3) == []
    assert [r.name for r in filled.prune(keep=1, older_than=5 * DAY)] == ["b9"]


def test_partials_are_kept_while_a_run_may_be_saving_them(filled):
    [skipped] = filled.prune(partial=True)
    assert "less than 24 h ago" in skipped.skip_reason
    assert filled.prune(partial=True, min_age=0)[0].skip_reason is None
    assert filled.status("a-partial").state == "absent"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"keep": 0},
        {"keep": -1},
        {"keep": "2"},
        {"keep": 1.5},
        {"keep": True},
        {"older_than": -1},
        {"older_than": True},
        {"min_age": 0},
    ],
    ids=str,
)
def test_a_selection_that_cannot_be_is_refused(store, wrong):
    with pytest.raises(InvalidValueError):
        store.prune(**wrong)


@pytest.mark.parametrize("call", ["read", "list", "delete"])
def test_what_cannot_be_read_or_removed_ends_nothing(call):
    fs = Locked()
    store = CheckpointStore("/prune-locked", fs=fs)
    for name in "abc":
        save(store, name, 9)
    fs.locked = (call, "/b" if call == "list" else "b/__done__")
    a, b, c = store.prune(older_than=DAY)
    assert (a.skip_reason, c.skip_reason) == (None, None)
    assert b.name == "b"
    assert b.skip_reason
    fs.locked = ("", "")
    assert store.names() == ["b"]
    store.clear_all()


def test_the_command_keeps_the_newest(tmp_path):
    store = CheckpointStore(tmp_path)
    for days in (1, 2, 3):
        save(store, f"x{days}", days)
    arguments = ["prune", str(tmp_path), "--keep", "1", "--yes"]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    assert "deleted x2" in ended.stdout
    assert store.names() == ["x1"]
