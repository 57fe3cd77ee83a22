"""The table of a notebook."""

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
