"""What prune selects, and what it skips."""

from datetime import UTC, datetime

import pytest

from agatha_ckpt import Status
from agatha_ckpt._filesystem.base import FileInfo
from agatha_ckpt._store.contents import Contents
from agatha_ckpt._store.prune import Criteria, decide
from agatha_ckpt._store.status import State

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
        (Criteria(partial=True), "partial"),
        (Criteria(leftovers=True), "absent done"),
        (Criteria(partial=True, leftovers=True), "absent partial done"),
        (Criteria(DAY), "partial done damaged unsupported unreadable"),
        (Criteria(DAY, partial=True), "partial"),
    ],
)
def test_which_states_criteria_concern(criteria, states):
    assert [s for s in State if criteria.concern(s)] == states.split()
