"""The page in Chromium, which is started once for all views."""

from functools import partial

import pytest

from agatha_ckpt._report.page import render
from tests.report import samples
from tests.report.pages import CHROMIUM, run_in_chromium

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

SCRIPT = """
const right = (e) => e.getBoundingClientRect().right;
const names = (selector) => [...document.querySelectorAll(selector)]
  .filter((e) => e.checkVisibility()).map((e) => e.textContent);
const style = getComputedStyle(document.body);
const found = {
  width: document.documentElement.scrollWidth,
  overflowing: [...document.querySelectorAll('h1, h2, h3, p, dd, dt, li, input, '
    + 'figcaption, .attention *, .card *')]
    .filter((e) => right(e) > innerWidth + 0.5 && !e.closest('.graph, .wide'))
    .map((e) => e.outerHTML),
  cut: [...document.querySelectorAll('.totals div, .card, figcaption dl')]
    .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML),
  graphs: [...document.querySelectorAll('.graph')]
    .map((e) => e.getBoundingClientRect().height / innerHeight),
  names: names('.card h3'),
  colours: [style.backgroundColor, style.color]
    .map((c) => Math.max(...c.match(/\\d+/g).slice(0, 3).map(Number))),
  sorted: {},
  filtered: {},
};
for (const name of ['bytes', 'bytes', 'name', 'state']) {
  const button = [...document.querySelectorAll('.overview th button')]
    .find((each) => each.textContent === name);
  button.click();
  found.sorted[name + button.parentNode.getAttribute('aria-sort')]
    = names('.overview tbody th');
}
const input = document.querySelector('.search input');
for (const text of ['SV_ lemmas damaged', 'damaged experiment', 'no such', '']) {
  input.value = text;
  input.dispatchEvent(new Event('input'));
  found.filtered[text] = {
    rows: names('.overview tbody th'),
    cards: names('.card h3'),
    concerns: names('.attention a'),
    graphs: names('.graph').length,
    boxes: names('.alone text:not(.what)').length,
    count: document.querySelector('output').value,
  };
}
return found;
"""
VIEWS = {
    "large": (partial(samples.large, 200), 1280, "light"),
    "hostile": (samples.hostile, 400, "light"),
    "pipeline": (samples.pipeline, 400, "dark"),
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The result of the script on each of the views."""
    views = [
        (render(sample()), width, scheme, SCRIPT)
        for sample, width, scheme in VIEWS.values()
    ]
    found = run_in_chromium(tmp_path_factory.mktemp("pages"), views)
    return dict(zip(VIEWS, found, strict=True))


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_the_window_or_cut(seen, view):
    found = seen[view]
    assert found["width"] == VIEWS[view][1]
    assert found["overflowing"] == found["cut"] == []
    assert max(found["graphs"]) <= 0.9


def test_a_hostile_name_runs_no_script(seen):
    """A script that ran would open a dialog, and Chromium would not end."""
    names = seen["hostile"]["names"]
    assert len(names) == len(samples.hostile().entries)
    assert samples.HOSTILE[0] in names


def test_a_click_on_a_heading_sorts_the_table(seen):
    found = seen["pipeline"]["sorted"]
    entries = samples.pipeline().entries
    by_bytes = [e.name for e in sorted(entries, key=lambda entry: entry.status.bytes)]
    assert found["bytesascending"] == by_bytes
    assert found["bytesdescending"] == by_bytes[::-1]
    assert found["nameascending"] == [entry.name for entry in entries]
    assert found["stateascending"][:2] == ["lemmas", "topic_model"]


def test_the_search_box_filters_by_name_and_state(seen):
    found = seen["large"]["filtered"]
    one = found["SV_ lemmas damaged"]
    assert one["rows"] == one["cards"] == one["concerns"] == ["sv_lemmas"]
    assert (one["graphs"], one["boxes"], one["count"]) == (1, 0, "1 of 200")
    damaged = found["damaged experiment"]
    assert len(damaged["rows"]) == damaged["boxes"] == 2
    assert sorted(damaged["rows"]) == damaged["cards"] == damaged["concerns"]
    assert (damaged["graphs"], damaged["count"]) == (0, "2 of 200")
    assert found["no such"]["rows"] == []
    assert found["no such"]["count"] == "0 of 200"
    assert len(found[""]["rows"]) == len(found[""]["cards"]) == 200
    assert found[""]["count"] == ""


def test_the_colour_scheme_of_the_reader_is_followed(seen):
    paper, ink = seen["pipeline"]["colours"]
    assert paper < 60 < 200 < ink
    paper, ink = seen["large"]["colours"]
    assert ink < 60 < 200 < paper
