"""The page of a report, as HTML."""

import re
from pathlib import Path

import dask.bag
import pytest

import agatha_ckpt
from agatha_ckpt._report.page import anchor, render
from agatha_ckpt._report.summary import gather
from tests.report import samples
from tests.report.pages import parsed
from tests.report.samples import Root

SAMPLES = ["empty", "small", "pipeline", "large", "hostile", "broken"]


@pytest.fixture(scope="module", params=SAMPLES)
def report(request):
    return getattr(samples, request.param)()


@pytest.fixture(scope="module")
def html(report):
    return render(report)


@pytest.fixture(scope="module")
def document(html):
    return parsed(html)


def shown(name):
    return re.sub("[\x00\x1b\u202e\ud800]", "\ufffd", name)


def test_every_checkpoint_has_one_row_one_card_and_one_box(report, document):
    names = [shown(entry.name) for entry in report.entries]
    rows = [
        next(tr.all("th")).text
        for tr in document.all("tr")
        if "data-search" in tr.attributes
    ]
    cards = list(document.all("article"))
    boxes = [box.attributes["href"] for box in document.all("a", "node")]
    assert rows == [card.one("h3").text for card in cards] == names
    assert sorted(boxes) == sorted("#" + anchor(e.name) for e in report.entries)
    for entry, card in zip(report.entries, cards, strict=True):
        state = card.one("header").one("span", "state")
        assert state.text.split()[0] == entry.state
        assert state.one("use").attributes["href"] == f"#icon-{entry.state}"
        assert entry.state in card.attributes["data-search"]


def test_ids_are_unique_and_every_link_has_a_target(document):
    ids = [e.attributes["id"] for e in document.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    links = [e.attributes["href"] for e in document.all() if "href" in e.attributes]
    assert {link[1:] for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)


def test_nothing_is_fetched_and_only_the_own_script_runs(document, html):
    html.encode()  # it holds no surrogate
    assert not re.search("[\x00\x1b\u202e]", html)
    tags = [element.tag for element in document.all()]
    assert not {"img", "iframe", "object", "embed", "link", "base", "form"} & set(tags)
    assert tags.count("script") == tags.count("style") == 1
    for element in document.all():
        assert not {"src", "srcset", "action", "data"} & set(element.attributes)
        assert not [a for a in element.attributes if a.startswith("on")]
    style = document.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    policies = [e.attributes.get("content", "") for e in document.all("meta")]
    assert any("default-src 'none'" in policy for policy in policies)


def test_pictures_and_tables_have_text(document):
    for svg in document.all("svg"):
        if svg.attributes.get("role") == "img":
            assert svg.one("title").text
    for table in document.all("table"):
        assert {th.attributes["scope"] for th in table.all("th")} == {"col", "row"}


def test_a_hostile_text_is_shown_as_it_is():
    document = parsed(render(samples.hostile()))
    assert document.one("p", "root").text == samples.HOSTILE[0]
    versions = [cell.text for cell in document.all("td", "version")]
    assert {shown(text) for text in samples.HOSTILE} <= set(versions)
    titles = " ".join(title.text for title in document.all("title"))
    assert all(f"{shown(text)}: done" in titles for text in samples.HOSTILE)


def test_escaping_is_not_switched_off():
    """Each template escapes what it is given, and no filter marks it as safe."""
    folder = Path(agatha_ckpt.__file__).parent / "_report" / "templates"
    templates = list(folder.glob("*.html"))
    assert len(templates) > 5
    for template in templates:
        assert not re.search(r"\bsafe\b|autoescape", template.read_text("utf-8"))


def test_reasons_relatives_and_times_are_in_the_card():
    document = parsed(render(samples.pipeline()))
    cards = {card.one("h3").text: card.text for card in document.all("article")}
    assert "its parent 'predications' has other records now" in cards["graph_edges"]
    assert "its parent 'graph_edges' is stale" in cards["edges_tsv"]
    assert "word_counts (gone)" in cards["ngrams_frequent"]
    assert "partition 17: its file is missing" in cards["lemmas"]
    assert "37 partitions" in cards["embeddings"]
    assert "18 min ago, 2026-03-04 12:12" in cards["embeddings"]
    row = next(tr for tr in document.all("tr") if "embeddings" in tr.text)
    assert "18 min" in row.text
    assert row.one("time").text == "2026-03-04 12:12"


def test_many_concerns_of_a_kind_are_folded():
    groups = parsed(render(samples.broken())).all("ul", "attention")
    assert [len(list(group.all("li"))) for group in groups] == [4, 4, 2, 4, 3]
    folded = parsed(render(samples.broken())).all("details", "more")
    assert [e.one("summary").text for e in folded] == ["and 2 more", "and 3 more"]


def test_a_page_grows_with_the_checkpoints_not_with_their_partitions():
    few, many = Root(), Root()
    few.done("x", partitions=100)
    many.done("x", partitions=20_000)
    assert len(render(many.report())) < 1.1 * len(render(few.report()))


def test_a_time_that_is_not_valid_is_left_out():
    root = Root()
    for k, time in enumerate(["", "yesterday", "9999-12-31T23:59:59-12:00", None]):
        root.partial(f"p{k}", 1, 2)
        object.__setattr__(root.statuses[f"p{k}"], "changed", time)
    times = [time.text for time in parsed(render(root.report())).all("time")]
    assert not [time for time in times[1:] if re.search(r"\d{4}-", time)]


def test_a_card_shows_the_metadata(tmp_path):
    checkpointer = agatha_ckpt.Checkpointer(tmp_path, verbose=False)
    bag = dask.bag.from_sequence([1])
    metadata = {"source": ["<b>é", None], "long": "x" * 1_000}
    checkpointer.checkpoint("x", bag, metadata=metadata, scheduler="sync")
    document = parsed(render(gather(checkpointer.store)))
    listed = document.one("dl", "metadata")
    assert [key.text.strip() for key in listed.all("dt")] == ["source", "long"]
    first, second = (value.text.strip() for value in listed.all("dd"))
    assert first == '["<b>é", null]'
    assert len(second) == 200
