"""The report: figures of a real root, and the page that shows them."""

import re
from collections import Counter
from html import unescape
from urllib.parse import unquote

import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._cli.main import main
from agatha_ckpt._html import anchor, fitted, shown
from agatha_ckpt._report.charts import profile, strip
from agatha_ckpt._report.page import page
from agatha_ckpt._report.skew import SKEW_FACTOR, SKEW_LEAST_BYTES, Spread, spread_of
from agatha_ckpt._report.summary import gather
from tests.report import report_samples
from tests.report.pages import CHROMIUM, parsed, seen_by_chromium
from tests.report.report_samples import Root
from tests.servers.proxy import Proxy
from tests.store.test_store import Locked

SAMPLES = ["small", "pipeline", "large"]
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</style><script>",
    "</title>&amp;",
    "javascript:alert(1)",
    "a\x00b\x1b[2Jc",
    "turned \u202e around",
    "half \ud800 letter",
    "white\u00a0space and\ttab\nline",
]


@pytest.fixture(scope="module", params=SAMPLES)
def report(request):
    return getattr(report_samples, request.param)()


# ---- what is gathered of a root ----


def make_bag(values="abcdef", fail_after=None):
    computed = []

    def compute(value):
        if len(computed) == fail_after:
            raise ZeroDivisionError
        computed.append(value)
        return value

    return dask.bag.from_sequence(values, npartitions=3).map(compute)


@pytest.fixture
def filled(checkpointer):
    """A checkpoint of each state, and its store."""

    def save(name, bag, **settings):
        return checkpointer.checkpoint(name, bag, scheduler="sync", **settings)

    parent = save("parent", make_bag())
    child = save("child", parent.map(str.upper), version="2")
    save("grandchild", child.map(str.isupper))
    save("lines", make_bag(), textfile=True)
    with pytest.raises(ZeroDivisionError):
        save("unfinished", make_bag(fail_after=4))
    save("cut", make_bag())
    store = checkpointer.store
    marker = f"{store._root.folder('cut')}/__done__"
    store.fs.pipe_file(marker, store.fs.cat_file(marker)[:-10])
    save("robbed", make_bag("ghijkl"))
    info = store.manifest("robbed").partitions[1]
    store.fs.rm_file(f"{store._root.folder('robbed')}/{info.file}")
    return store


def contents(store):
    return {path: store.fs.cat_file(path) for path in store.fs.find(store._root.base)}


def test_each_state_is_found_and_nothing_is_written(filled):
    before = contents(filled)
    entries = {entry.name: entry for entry in gather(filled).entries}
    assert {name: entry.state for name, entry in entries.items()} == {
        "parent": "done",
        "child": "done",
        "grandchild": "done",
        "lines": "done",
        "unfinished": "partial",
        "cut": "damaged",
        "robbed": "damaged",
    }
    assert entries["robbed"].problems == ["partition 1: its file is missing"]
    (problem,) = entries["cut"].problems
    assert problem.startswith("the done marker is cut, changed or empty")
    assert contents(filled) == before


def test_what_was_built_from_a_parent_that_changed_is_stale(filled):
    checkpointer = Checkpointer(filled, verbose=False)
    checkpointer.clear("parent")
    entries = {entry.name: entry for entry in gather(filled).entries}
    assert entries["child"].state == "stale"
    assert entries["grandchild"].state == "stale"
    assert entries["child"].kin.stale == ("its parent 'parent' is gone",)
    bag = make_bag("uvwxyz")
    checkpointer.checkpoint("parent", bag, scheduler="sync")
    entries = {entry.name: entry for entry in gather(filled).entries}
    assert entries["child"].kin.stale == ("its parent 'parent' has other records now",)
    checkpointer.clear("parent")
    checkpointer.checkpoint("parent", make_bag(), scheduler="sync")
    assert gather(filled).by_state["stale"] == []


@pytest.mark.parametrize(
    "call, name, reason",
    [
        ("read", "/parent/__done__", "it is not known: it may not be read (no); use"),
        ("list", "/parent", "of its files, it may not be read (no)"),
    ],
)
def test_what_may_not_be_read_is_unreadable_and_makes_nothing_stale(call, name, reason):
    fs = Locked()
    store = CheckpointStore("/locked", fs=fs)
    checkpointer = Checkpointer(store, verbose=False)
    parent = checkpointer.checkpoint("parent", make_bag(), scheduler="sync")
    checkpointer.checkpoint("child", parent.map(str.upper), scheduler="sync")
    fs.locked = (call, name)
    report = gather(store)
    fs.locked = ("", "")
    store.clear_all()
    child, parent = report.entries
    assert (child.state, parent.state) == ("done", "unreadable")
    (problem,) = parent.problems
    assert problem.startswith(reason)
    assert reason in unescape(page(report))


def test_totals_are_the_sums(filled):
    report = gather(filled)
    done = [e.status for e in report.entries if e.status.manifest]
    assert report.records == sum(status.records for status in done) == 5 * 6
    assert report.partitions == 5 * 3 + 2 + 3
    assert report.bytes == sum(entry.status.bytes for entry in report.entries)


def test_a_report_costs_a_read_and_a_listing_of_each_and_one_listing(s3_server):
    with Proxy(s3_server.url) as proxy:
        cloud = s3_server.through(proxy.url)
        store = CheckpointStore(cloud.new_root(), storage_options=cloud.options)
        checkpointer = Checkpointer(store, verbose=False)
        for k in range(7):
            checkpointer.checkpoint(f"c{k}", make_bag(), scheduler="sync")
        proxy.forget()
        assert len(gather(store).entries) == 7
        found = Counter(request.what for request in proxy.requests)
        assert found == {"LIST": 1 + 7, "GET": 7}
        proxy.forget()
        store._repr_html_()
        found = Counter(request.what for request in proxy.requests)
        assert found == {"LIST": 1, "GET": 7}


def test_an_empty_root_has_an_empty_page(store):
    html = page(gather(store))
    assert "There are none under this root." in html
    parsed(html)


# ---- the page ----


def test_every_checkpoint_has_one_row_one_card_and_one_box(report):
    document = parsed(page(report))
    names = [entry.name for entry in report.entries]
    rows = document.one("table", "overview").one("tbody").all("tr")
    assert [next(row.all("th")).text for row in rows] == names
    assert [card.one("h3").text for card in document.all("article")] == names
    targets = [box.attributes["href"] for box in document.all("a", "node")]
    assert sorted(targets) == sorted("#" + anchor(name) for name in names)


def test_ids_are_unique_and_every_link_has_a_target(report):
    document = parsed(page(report))
    ids = [e.attributes["id"] for e in document.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    links = [e.attributes["href"] for e in document.all() if "href" in e.attributes]
    assert {link[1:] for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)


def test_nothing_is_fetched(report):
    html = page(report)
    document = parsed(html)
    for element in document.all():
        assert not {"src", "srcset", "action", "data"} & set(element.attributes)
        assert not [a for a in element.attributes if a.startswith("on")]
    style = document.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in html.replace(report.root, "").replace("// ", "")
    policies = [e.attributes.get("content", "") for e in document.all("meta")]
    assert any("default-src 'none'" in policy for policy in policies)


def test_states_are_said_in_words_and_by_a_sign(report):
    document = parsed(page(report))
    for entry, card in zip(report.entries, document.all("article"), strict=True):
        state = card.one("header").one("span", "state")
        assert state.text.split()[0] == entry.state
        assert state.one("use").attributes["href"] == f"#sign-{entry.state}"


def test_pictures_have_text(report):
    document = parsed(page(report))
    for svg in document.all("svg"):
        if svg.attributes.get("aria-hidden") == "true":
            continue
        assert svg.attributes["role"] in ("img", "group")
        assert svg.children[0].tag == "title"
        assert svg.children[0].text
    for table in document.all("table"):
        scopes = {th.attributes["scope"] for th in table.all("th")}
        assert scopes == {"col", "row"}


def test_the_same_report_gives_the_same_page():
    assert page(report_samples.pipeline()) == page(report_samples.pipeline())


def test_reasons_stand_in_the_card():
    document = parsed(page(report_samples.pipeline()))
    cards = {card.one("h3").text: card.text for card in document.all("article")}
    assert "its parent 'predications' has other records now" in cards["graph_edges"]
    assert "its parent 'graph_edges' is stale" in cards["edges_tsv"]
    assert "word_counts (gone)" in cards["ngrams_frequent"]
    assert "partition 17: its file is missing" in cards["lemmas"]
    assert "37 partitions" in cards["embeddings"]


def test_many_children_and_long_graphs_do_not_make_a_page_of_megabytes():
    """What is drawn grows with the checkpoints, not with their partitions."""
    few, many = Root(), Root()
    few.done("x", partitions=100)
    many.done("x", partitions=20_000)
    assert len(page(many.report())) < 1.1 * len(page(few.report()))


# ---- names and labels of anyone's ----


def evil_report():
    root = Root()
    for k, text in enumerate(EVIL):
        root.done(text, version=text, partitions=4)
        root.done(f"child {k}", [text, f"{text} that is gone"], partitions=2)
        root.partial(f"{text} partial", 1, 3)
    root.damaged(EVIL[0] + "!")
    return root.report(EVIL[0])


def test_whatever_a_name_or_version_holds_is_shown_and_does_nothing():
    html = page(evil_report())
    html.encode()  # what cannot be encoded could not be written
    document = parsed(html)
    tags = {element.tag for element in document.all()}
    assert not tags & {"img", "iframe", "object", "embed"}
    assert len(list(document.all("script"))) == 1
    assert len(list(document.all("style"))) == 1
    for element in document.all():
        assert not [a for a in element.attributes if a.startswith("on")]
    headings = {card.one("h3").text for card in document.all("article")}
    assert {EVIL[0], EVIL[1], EVIL[2], EVIL[5]} <= headings
    assert not re.search("[\x00\x1b\u202e\ud800]", html)
    versions = [cell.text for cell in document.all("td", "version")]
    assert EVIL[0] in versions


def test_names_that_differ_have_anchors_that_differ():
    names = ["a b", "a%20b", "a_b", "ä", "%C3%A4", "a&b", "A B"]
    assert len({anchor(name) for name in names}) == len(names)
    assert [unquote(anchor(name))[2:] for name in names] == names
    assert not any(" " in anchor(name) for name in names)


def test_text_is_shortened_in_the_middle_to_what_fits():
    assert fitted("short", 10) == "short"
    assert fitted("x" * 100, 11) == "xxxxxx…xxxx"
    assert len(fitted("文章" * 20, 10)) < 8
    assert shown(fitted("<" * 30, 10)).count("&lt;") == 8


# ---- skew, and its pictures ----


@pytest.mark.parametrize(
    "values, skewed",
    [
        ([100_000] * 9, False),
        ([100_000] * 8 + [300_000], False),
        ([100_000] * 8 + [300_001], True),
        ([10] * 8 + [SKEW_LEAST_BYTES], False),  # too small for anyone to wait
        ([10] * 8 + [SKEW_LEAST_BYTES + 1], True),
        ([0] * 8 + [300_000], True),  # the median is nothing
        ([300_000], False),
    ],
)
def test_a_checkpoint_is_skewed_above_the_factor(values, skewed):
    assert SKEW_FACTOR == 3
    assert spread_of(values, SKEW_LEAST_BYTES).is_skewed is skewed


@pytest.mark.parametrize("values", [[], [-1, -1], [5, -1], [0, 0]])
def test_what_is_not_known_has_no_spread(values):
    assert spread_of(values, 0) is None


def columns_of(svg, kind):
    (path,) = re.findall(rf'class="{kind}" d="([^"]*)"', svg) or [""]
    number = r"(-?[\d.]+)"
    return [
        tuple(map(float, column))
        for column in re.findall(rf"M{number} {number}V{number}h{number}V", path)
    ]


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000, 100_001])
def test_a_profile_stays_in_its_frame_with_a_column_for_each_partition(count):
    values = tuple(float(1 + k % 7) for k in range(count))
    svg = profile(Spread(values), "Bytes", str)
    columns = columns_of(svg, "dark")
    assert len(columns) == count if count <= 64 else 32 < len(columns) <= 64
    for x, base, top, width in columns + columns_of(svg, "pale"):
        assert x >= 0
        assert width > 0
        assert x + width <= 256.01
        assert 0 <= top < base <= 72


def test_the_partitions_that_stand_out_are_drawn_apart():
    values = (1.0,) * 20 + (9.0,) + (1.0,) * 20
    svg = profile(Spread(values), "Bytes", str)
    ((_, _, top, _),) = columns_of(svg, "high")
    assert top == 1
    assert len(columns_of(svg, "dark")) == 40
    assert 'class="limit"' in svg
    assert "largest 9.0 (partition 20)" in svg
    assert 'class="limit"' not in profile(Spread((1.0, 2.0)), "Bytes", str)


def test_a_strip_stays_in_its_frame():
    svg = strip(Spread((0.0, 1.0, 50.0, 100.0)), "Bytes", str)
    width = float(re.search(r'width="(\d+)"', svg)[1])
    xs = [float(x) for x in re.findall(r"[MH]([\d.]+)", svg)]
    assert min(xs) > 0
    assert max(xs) < width


# ---- in a notebook ----


def test_a_notebook_shows_the_table(filled):
    for shown_object in (filled, Checkpointer(filled)):
        document = parsed(shown_object._repr_html_())
        rows = list(document.one("tbody").all("tr"))
        names = [row.one("th").text for row in rows]
        assert names == sorted(names)
        cells = {row.one("th").text: [c.text for c in row.all("td")] for row in rows}
        assert cells["parent"][:4] == ["done", "msgpack", "3", "6"]
        assert cells["unfinished"][:4] == ["partial 2/3", "msgpack", "2", ""]
        assert cells["cut"][0] == "damaged"
        assert cells["child"][-1] == "2"
        assert document.one("code").text == repr(shown_object)


def test_a_notebook_shows_no_more_than_fifty(store):
    bag = dask.bag.from_sequence([1], npartitions=1)
    for k in range(52):
        Checkpointer(store, verbose=False).checkpoint(
            f"c{k:02d}", bag, scheduler="sync"
        )
    html = store._repr_html_()
    assert len(list(parsed(html).one("tbody").all("tr"))) == 50
    assert "there are more" in html


def test_a_notebook_shows_an_empty_root_and_a_root_that_is_not_set(store, tmp_path):
    assert "no checkpoints" in store._repr_html_()
    html = Checkpointer()._repr_html_()
    assert "Checkpointer(None" in html
    assert "RootNotSetError: " in html


def test_a_notebook_shows_why_a_root_cannot_be_reached():
    store = CheckpointStore(
        "s3://bucket/x",
        storage_options={
            "key": "k",
            "secret": "hush",
            "endpoint_url": "http://127.0.0.1:1",
            "config_kwargs": {"retries": {"max_attempts": 1}},
        },
    )
    html = store._repr_html_()
    assert "CheckpointStore(&#x27;s3://bucket/x&#x27;)" in html
    assert "127.0.0.1:1" in html
    assert "hush" not in html
    parsed(html)


# ---- the command ----


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def folder(local):
    checkpointer = Checkpointer(local, verbose=False)
    checkpointer.checkpoint("first", make_bag(), scheduler="sync")
    return local.root


def test_the_command_writes_the_page(folder, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    ended = run("report", folder, "-o", path)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"{path}: 1 checkpoint\n"
    document = parsed(path.read_text(encoding="utf-8"))
    assert str(folder) in document.one("p", "root").text
    assert document.one("article").one("h3").text == "first"
    assert [p.name for p in tmp_path.iterdir() if p != folder] == ["report.html"]


def test_the_command_prints_the_page(folder):
    ended = run("report", folder, "-o", "-")
    assert ended.exit_code == 0
    assert ended.stdout.startswith("<!DOCTYPE html>")
    assert ended.stderr == ""


def test_a_report_that_cannot_be_made_leaves_the_old_one(folder, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    ended = run("report", tmp_path / "missing", "-o", path)
    assert ended.exit_code == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "does not exist" in ended.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.glob("*.html")) == [path]


@pytest.mark.parametrize("where", ["missing/report.html", "."])
def test_a_place_that_cannot_be_written_to_is_refused_at_once(folder, where, tmp_path):
    ended = run("report", folder, "-o", tmp_path / where)
    assert ended.exit_code == 2
    assert "Error: Invalid value for" in ended.stderr


def test_the_page_says_no_password_of_the_root(tmp_path):
    url = "memory://user:hush@host/x"
    store = CheckpointStore(url)
    Checkpointer(store, verbose=False).checkpoint("x", make_bag(), scheduler="sync")
    html = page(gather(store))
    assert "memory://user:***@host/x" in html
    assert "hush" not in html
    store.clear_all()


# ---- as a browser shows it ----

in_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

FITS = """
const cut = [...document.querySelectorAll('.node')].filter((node) =>
  [...node.querySelectorAll('text')].some((text) => {
    const box = node.querySelector('rect.box').getBBox(), own = text.getBBox();
    return own.x + own.width > box.x + box.width - 2 || own.y + own.height > box.height;
  })).map((node) => node.textContent);
const wide = [...document.querySelectorAll(
  'h1, h2, h3, p, dd, dt, li, figcaption, .attention *, .card *')]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5
    && !e.closest('.graph') && !e.closest('.wide')).map((e) => e.outerHTML);
const spilt = [...document.querySelectorAll(
  '.totals div, .card, figure, figcaption dl')]
  .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML);
return {width: innerWidth, needed: document.documentElement.scrollWidth, cut, wide,
  spilt};
"""


@in_chromium
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("width", [400, 1280])
def test_a_page_is_no_wider_than_the_window_and_nothing_is_cut(sample, width, tmp_path):
    html = page(getattr(report_samples, sample)())
    seen = seen_by_chromium(html, tmp_path, FITS, width)
    assert seen == {"width": width, "needed": width, "cut": [], "wide": [], "spilt": []}


@in_chromium
def test_whatever_names_hold_no_script_of_theirs_runs(tmp_path):
    script = """
    return {alerts: window.alerts ?? 0,
      cards: document.querySelectorAll('article').length};
    """
    html = page(evil_report())
    html = html.replace("<body>", "<body><script>alert = () => alerts = 1</script>")
    seen = seen_by_chromium(html, tmp_path, script, 400)
    assert seen == {"alerts": 0, "cards": len(evil_report().entries)}


@in_chromium
def test_a_press_on_a_heading_sorts_the_table(tmp_path):
    script = """
    const press = (name) => [...document.querySelectorAll('.overview th button')]
      .find((b) => b.textContent === name).click();
    const column = () => [...document.querySelectorAll('.overview tbody th')]
      .map((cell) => cell.textContent);
    const found = [column()];
    for (const name of ['bytes', 'bytes', 'name', 'state']) {press(name);
      found.push(column())}
    found.push([...document.querySelectorAll('.overview th[aria-sort]')]
      .map((th) => th.textContent + th.getAttribute('aria-sort')));
    return found;
    """
    report = report_samples.pipeline()
    seen = seen_by_chromium(page(report), tmp_path, script, 1280)
    by_bytes = sorted(report.entries, key=lambda entry: entry.status.bytes)
    names = [entry.name for entry in report.entries]
    assert seen[0] == seen[3] == names
    assert seen[1] == [entry.name for entry in reversed(by_bytes)]
    assert seen[2] == [entry.name for entry in by_bytes]
    assert seen[4][0] in {entry.name for entry in report.by_state["damaged"]}
    assert seen[5] == ["stateascending"]


@in_chromium
def test_a_dark_scheme_has_dark_paper_and_light_ink(tmp_path):
    script = """
    const style = getComputedStyle(document.body);
    return [style.backgroundColor, style.color].map((c) =>
      Math.max(...c.match(/\\d+/g).slice(0, 3).map(Number)));
    """
    html = page(report_samples.small())
    paper, ink = seen_by_chromium(html, tmp_path, script, 400, dark=True)
    assert (paper < 60, ink > 200) == (True, True)
    paper, ink = seen_by_chromium(html, tmp_path, script, 400)
    assert (paper > 200, ink < 60) == (True, True)
