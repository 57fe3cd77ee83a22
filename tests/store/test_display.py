"""The table of a notebook."""

import re

import dask.bag
import pytest

from agatha_ckpt import Checkpointer
from tests.report.pages import parsed


@pytest.fixture
def save(local):
    checkpointer = Checkpointer(local, verbose=False)

    def save(name, bag, **options):
        return checkpointer.checkpoint(name, bag, scheduler="sync", **options)

    return save


def test_a_notebook_shows_one_row_for_each_checkpoint(local, save):
    save("a", dask.bag.from_sequence("abcdef", npartitions=3), version="<b>")
    save("cut", dask.bag.from_sequence([1], npartitions=1))
    local.done_marker("cut").write_bytes(b"")
    for shown in (local, Checkpointer(local)):
        document = parsed(shown._repr_html_())
        assert document.one("code").text == repr(shown)
        first, second = document.one("tbody").all("tr")
        assert first.one("th").text == "a"
        assert [c.text for c in first.all("td")][:4] == ["done", "msgpack", "3", "6"]
        assert list(first.all("td"))[-1].text == "<b>"
        assert next(second.all("td")).text == "damaged"


def test_a_notebook_shows_at_most_fifty(local, save):
    bag = dask.bag.from_sequence([1], npartitions=1)
    for k in range(51):
        save(f"c{k:02d}", bag)
    html = local._repr_html_()
    assert len(list(parsed(html).one("tbody").all("tr"))) == 50
    assert "there are more" in html


def test_a_notebook_shows_why_there_is_no_table(local):
    assert "no checkpoints" in local._repr_html_()
    assert "RootNotSetError: " in Checkpointer()._repr_html_()


def test_a_status_is_readable_and_escaped(local, save):
    save("a", dask.bag.from_sequence("abcdef", npartitions=3), version="<b>")
    status = local.status("a")
    assert re.fullmatch(
        r"<Status of 'a': done, 3 partitions, 6 records, \d+ B, msgpack, "
        r"version '<b>', written 20\S+>",
        repr(status),
    )
    document = parsed(status._repr_html_())
    rows = {row.one("th").text: row.one("td").text for row in document.all("tr")}
    assert (rows["state"], rows["records"], rows["version"]) == ("done", "6", "<b>")
    assert "problem" not in rows


def test_the_status_of_what_is_not_done_is_readable(local, save):
    assert repr(local.status("absent")) == "<Status of 'absent': absent>"
    assert "absent" in local.status("absent")._repr_html_()
    save("cut", dask.bag.from_sequence([1], npartitions=1))
    local.done_marker("cut").write_bytes(b"")
    problem = "the done marker of checkpoint 'cut' under"
    assert "<Status of 'cut': damaged, 1 partition, " in repr(local.status("cut"))
    assert problem in repr(local.status("cut"))
    assert problem in parsed(local.status("cut")._repr_html_()).text
