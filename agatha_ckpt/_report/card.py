"""What a report says of one checkpoint."""

from collections.abc import Callable, Iterable
from datetime import datetime

from agatha_ckpt._html import anchor, apart, link, shown
from agatha_ckpt._human import count, size, times, took
from agatha_ckpt._report.charts import filled, profile
from agatha_ckpt._report.diagram import sign, state_mark
from agatha_ckpt._report.skew import Spread
from agatha_ckpt._report.summary import Entry
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.status import State

_MOST_PROBLEMS = 8


def card(entry: Entry, now: datetime) -> str:
    """Return all that a report says of one checkpoint, with its plots."""
    status = entry.status
    manifest = status.manifest
    text = cells(status, now)
    facts = [f"{text['format']} format"] if status.format else []
    if status.state != State.UNREADABLE:
        facts += [count(status.partitions, "partition")]
    if status.records is not None:
        facts += [count(status.records, "record")]
    if status.state != State.UNREADABLE:
        facts += [text["bytes"]]
    if entry.seconds:
        facts += [f"{took(sum(entry.seconds.values))} of work"]
    if status.version is not None:
        facts += [f"version <bdi>{shown(status.version)}</bdi>"]
    if status.changed:
        time = (
            f'<time datetime="{shown(status.changed)}">{shown(text["age"])} ago</time>'
        )
        facts += [f"{'done' if manifest else 'changed'} {time}"]
    parts = [
        f'<article class="card {entry.state}" id="{shown(anchor(entry.name))}">'
        f"<header><h3>{apart(entry.name)}</h3>{state_mark(entry)}</header>"
        f'<p class="facts">{" · ".join(facts)}</p>',
        _wrong(entry),
        _kin(entry),
    ]
    if entry.state == "partial" and status.expected:
        part = min(100.0, 100 * status.partitions / status.expected)
        parts.append(
            f'<div class="bar" role="img" aria-label="{part:.0f}% of the partitions '
            f'are stored"><div style="width:{part:.1f}%"></div></div>'
        )
    plots = _figure(entry.bytes, "Bytes", size) + _figure(
        entry.seconds, "Seconds", took
    )
    if plots:
        parts.append(f'<div class="plots">{plots}</div>')
    return "".join(parts) + "</article>\n"


def _wrong(entry: Entry) -> str:
    reasons = [*entry.problems, *entry.kin.stale]
    if not reasons:
        return ""
    items = [f"<li>{shown(reason)}</li>" for reason in reasons[:_MOST_PROBLEMS]]
    if len(reasons) > _MOST_PROBLEMS:
        items.append(f"<li>and {len(reasons) - _MOST_PROBLEMS:,} more</li>")
    return f'<ul class="wrong">{"".join(items)}</ul>'


def _kin(entry: Entry) -> str:
    parents = []
    for parent in entry.kin.parents:
        if parent.now == parent.name:
            parents.append(link(parent.name))
        elif parent.now:
            parents.append(f"{link(parent.now)} (then {apart(parent.name)})")
        elif parent.problem == "is gone":
            parents.append(f"{apart(parent.name)} (gone)")
        else:
            parents.append(f"{link(parent.name)} ({parent.problem})")
    children = list(map(link, entry.kin.children))
    lines = _listed("Built from", parents) + _listed("Parent of", children)
    return f'<p class="kin">{lines}</p>' if lines else ""


def _listed(what: str, links: Iterable[str]) -> str:
    joined = ", ".join(links)
    return f'<span class="soft">{what}</span> {joined}<br>' if joined else ""


def _figure(spread: Spread | None, what: str, written: Callable[[float], str]) -> str:
    if spread is None:
        return ""
    last = len(spread.values) - 1
    if not last:
        return (
            f"<figure><figcaption><b>{what}</b> of the only partition: "
            f"{written(spread.largest)}</figcaption></figure>"
        )
    skewed = ' class="skewed"' if spread.is_skewed else ""
    return (
        f"<figure><figcaption><b>{what}</b> by partition"
        f"<dl><dt>median</dt><dd>{written(spread.median)}</dd><dd></dd>"
        f"<dt>largest</dt><dd{skewed}>{written(spread.largest)}</dd>"
        f"<dd>{factor_text(spread)}</dd>"
        f"<dt>in</dt><dd>partition {spread.where}</dd></dl></figcaption>"
        f"{profile(spread, what, written)}"
        f'<div class="axis" style="width:{100 * filled(spread):.0f}%" '
        'aria-hidden="true">'
        f"<span>0</span><span>{last:,}</span></div></figure>"
    )


def factor_text(spread: Spread) -> str:
    """Return how skewed a spread is, flagged where that is much."""
    text = "over 0" if spread.factor is None else times(spread.factor)
    if spread.is_skewed:
        return f'<span class="skewed">{sign("skew")} {text}</span>'
    return text
