"""A report as one page of HTML that needs nothing else."""

import base64
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from agatha_ckpt._html import link, shown
from agatha_ckpt._human import count, seconds_since, size, times, took
from agatha_ckpt._report.card import card, factor_text
from agatha_ckpt._report.charts import strip
from agatha_ckpt._report.diagram import diagrams, family, sign, signs, state_mark
from agatha_ckpt._report.skew import (
    SKEW_FACTOR,
    SKEW_LEAST_BYTES,
    SKEW_LEAST_SECONDS,
    Spread,
)
from agatha_ckpt._report.summary import STATES, Entry, Report
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.status import State

_AT_ONCE = 4  # of each kind of what needs attention
_MEANINGS = {
    "done": "complete, and of its parents as they are now",
    "partial": "a run did not end; the next one keeps the whole partitions",
    "stale": "its parent was made again with other records, or is gone, or is stale",
    "unsupported": "in another version of the format",
    "unreadable": "this account has no permission to read it",
    "damaged": "its done marker, or a partition file, is not what was saved",
}
_COLUMNS = (  # heading, and whether it holds figures
    ("name", False),
    ("state", False),
    ("format", False),
    ("partitions", True),
    ("records", True),
    ("bytes", True),
    ("age", True),
    ("byte skew", True),
    ("time skew", True),
    ("version", False),
)


def page(report: Report) -> str:
    """Return a report as a page: the same for the same report, no network needed."""
    style, script = _packaged("report.css"), _packaged("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing is fetched, and no other script runs, whatever a name may hold.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    content = "".join(
        [
            _header(report),
            _attention(report),
            _graph(report),
            _overview(report),
            _details(report),
            _footer(report),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Checkpoints under {shown(report.root)}</title>\n"
        f"<style>\n{style}</style>\n</head>\n<body>\n{signs()}\n{content}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _packaged(filename: str) -> str:
    return Path(__file__).with_name(filename).read_text(encoding="utf-8")


def _section(title: str, content: str) -> str:
    identity = title.lower().replace(" ", "-")
    return (
        f'\n<section aria-labelledby="{identity}">\n<h2 id="{identity}">{title}</h2>\n'
        f"{content}\n</section>\n"
    )


# ---- above all ----


def _header(report: Report) -> str:
    made = report.made
    states = [
        (f'<span class="state {state}">{sign(state)}</span>{state}', len(entries))
        for state, entries in reversed([*report.by_state.items()])
        if entries or state not in ("unsupported", State.UNREADABLE)
    ]
    skewed = sum(entry.is_skewed for entry in report.entries)
    states.append((f'<span class="skewed">{sign("skew")}</span>skewed', skewed))
    totals = [
        ("checkpoints", count(len(report.entries))),
        ("partitions", count(report.partitions)),
        ("records", count(report.records)),
        ("bytes", size(report.bytes)),
    ]
    return (
        "<header>\n<h1>Checkpoints</h1>\n"
        f'<p class="root">{shown(report.root)}</p>\n'
        f'<p class="soft">Looked at <time datetime="{made.isoformat()}">'
        f"{made:%Y-%m-%d %H:%M:%S %Z}</time> "
        f"by agatha_ckpt {shown(report.library)}</p>\n"
        f"{_tiles(totals)}{_tiles((what, count(n)) for what, n in states)}</header>\n"
    )


def _tiles(figures: Iterable[tuple[str, str]]) -> str:
    tiles = "".join(f"<div><dt>{what}</dt><dd>{n}</dd></div>" for what, n in figures)
    return f'<dl class="totals">{tiles}</dl>\n'


# ---- what to look at ----


def _attention(report: Report) -> str:
    groups = [
        # What is stale by its own parent comes before what is stale by that.
        [_item(state_mark(e), e, _reasons(e)) for e in sorted(entries, key=_is_behind)]
        for state, entries in report.by_state.items()
        if state != "done"
    ]
    flag = f'<span class="skewed">{sign("skew")} skewed</span>'
    skewed = [entry for entry in report.entries if entry.is_skewed]
    groups.append([_item(flag, entry, _skew_reasons(entry)) for entry in skewed])
    content = "".join(map(_group, filter(None, groups)))
    return _section("Needs attention", content or "<p>Nothing does.</p>")


def _group(items: list[str]) -> str:
    # One more is not worth a press.
    some = len(items) if len(items) <= _AT_ONCE + 1 else _AT_ONCE
    content = f'<ul class="attention">{"".join(items[:some])}</ul>'
    if items[some:]:
        content += (
            f'<details class="more"><summary>and {len(items) - some:,} more</summary>'
            f'<ul class="attention">{"".join(items[some:])}</ul></details>'
        )
    return content


def _is_behind(entry: Entry) -> bool:
    return not any(parent.problem for parent in entry.kin.parents)


def _reasons(entry: Entry) -> list[str]:
    reasons = [*entry.problems, *entry.kin.stale]
    if entry.state == "partial":
        expected = count(entry.status.expected, "partition")
        reasons.append(f"{count(entry.status.partitions)} of {expected} stored")
    return reasons


def _item(flag: str, entry: Entry, reasons: list[str]) -> str:
    why = shown("; ".join(reasons[:2]))
    if len(reasons) > 2:
        why += f"; and {len(reasons) - 2:,} more"
    return (
        f'<li><span>{flag}</span>{link(entry.name)}<span class="why">{why}</span></li>'
    )


def _skew_reasons(entry: Entry) -> list[str]:
    reasons = []
    for spread, written, verb in (
        (entry.bytes, size, "has"),
        (entry.seconds, took, "took"),
    ):
        if spread and spread.is_skewed:
            factor = f", {times(spread.factor)} the median" if spread.factor else ""
            reasons.append(
                f"partition {spread.where} {verb} {written(spread.largest)}{factor}"
            )
    return reasons


# ---- the graph ----


def _graph(report: Report) -> str:
    if not report.entries:
        return ""
    graph = family(report)
    joined, alone = diagrams(graph)
    content = f'<div class="legend">{_legend(set(graph.nodes.values()))}</div>'
    boxes = "".join(
        f'<div class="graph" tabindex="0" role="region" '
        f'aria-label="Graph {k} of {len(joined)}">{svg}</div>'
        for k, svg in enumerate(joined, 1)
    )
    if boxes:
        content += f'<div class="graphs">{boxes}</div>'
    if alone:
        if joined:
            content += '<h3 class="between">Without parents or children here</h3>'
        items = "".join(f"<li>{svg}</li>" for svg in alone)
        content += f'<ul class="alone">{items}</ul>'
    return _section("Parents and children", content)


def _legend(entries: set[Entry | None]) -> str:
    there = {entry.state for entry in entries if entry}
    words = [
        f'<span class="state {state}" title="{_MEANINGS[state]}">'
        f"{sign(state)}{state}</span>"
        for state in reversed(STATES)
        if state in there
    ]
    if None in entries:
        words.append(
            f'<span class="state gone">{sign("gone")}parent that is gone</span>'
        )
    if any(entry and entry.is_skewed for entry in entries):
        words.append(f'<span class="skewed">{sign("skew")} skewed</span>')
    if "stale" in there:
        for kind, meaning in (
            ("broken", "from a parent that was made again, or is not there"),
            ("behind", "from a parent that is stale"),
        ):
            words.append(
                '<span class="soft"><svg class="sample" viewBox="0 0 32 11" '
                f'aria-hidden="true"><path class="edge {kind}" d="M0 5.5H32"/></svg>'
                f"{meaning}</span>"
            )
    return "".join(words)


# ---- the table ----


def _overview(report: Report) -> str:
    if not report.entries:
        return _section("All checkpoints", "<p>There are none under this root.</p>")
    headings = ""
    for name, figures in _COLUMNS:
        sort = ' aria-sort="ascending"' if name == "name" else ""
        side = _side(
            figures,
        )
        headings += f'<th scope="col"{side}{sort}>{name}</th>'
    rows = "".join(_row(report, entry) for entry in report.entries)
    return _section(
        "All checkpoints",
        '<div class="wide" tabindex="0" role="region" '
        'aria-labelledby="all-checkpoints">'
        f'<table class="overview"><thead><tr>{headings}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>",
    )


def _side(figures: bool, more: str = "") -> str:
    return f' class="figure{more}"' if figures else ""


def _row(report: Report, entry: Entry) -> str:
    status, text = entry.status, cells(entry.status, report.made)
    keys: dict[str, float] = {
        "state": STATES.index(entry.state),
        "partitions": status.partitions,
        "records": -1 if status.records is None else status.records,
        "bytes": status.bytes,
        "age": seconds_since(status.changed, report.made) or -1,
        "byte skew": _factor(entry.bytes),
        "time skew": _factor(entry.seconds),
    }
    content = {name: shown(value) for name, value in text.items()}
    content["state"] = state_mark(entry)
    content["version"] = f"<bdi>{content['version']}</bdi>"
    content["byte skew"] = _skew_cell(entry.bytes, "Bytes", size)
    content["time skew"] = _skew_cell(entry.seconds, "Seconds", took)
    row = f'<th scope="row">{link(entry.name)}</th>'
    for name, figures in _COLUMNS[1:]:
        key = f' data-key="{keys[name]:g}"' if name in keys else ""
        side = ' class="version"' if name == "version" else _side(figures)
        row += f"<td{side}{key}>{content[name]}</td>"
    return f"<tr>{row}</tr>\n"


def _factor(spread: Spread | None) -> float:
    if spread is None:
        return -1
    return float("inf") if spread.factor is None else spread.factor


def _skew_cell(
    spread: Spread | None, what: str, written: Callable[[float], str]
) -> str:
    if spread is None:
        return '<span class="soft">not known</span>'
    return (
        f'<div class="skew-cell">{strip(spread, what, written)}'
        f"{factor_text(spread)}</div>"
    )


# ---- each checkpoint, and what all means ----


def _details(report: Report) -> str:
    if not report.entries:
        return ""
    cards = "".join(card(entry, report.made) for entry in report.entries)
    return _section("Each checkpoint", f'<div class="cards">{cards}</div>')


def _footer(report: Report) -> str:
    states = "".join(
        f"<li><b>{state}</b>: {_MEANINGS[state]}</li>" for state in reversed(STATES)
    )
    return (
        '<footer class="soft">\n'
        f"<ul>{states}<li><b>skewed</b>: the largest partition is more than "
        f"{SKEW_FACTOR:g} times the median, and above {size(SKEW_LEAST_BYTES)} or "
        f"{SKEW_LEAST_SECONDS:g} s</li></ul>\n"
        "<p>Columns stand for partitions in order of their number: the line across "
        "them is the median, a dashed one the limit of skew. Where there are more than "
        "64, a column stands for neighbours: dark up to their median, pale up to their "
        "largest.</p>\n"
        "<p>Markers, names and sizes of the files were looked at, not their content: "
        "<code>agatha-ckpt verify</code> reads that.</p>\n</footer>"
    )
