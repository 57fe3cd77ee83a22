"""The graph of parents and children as SVG: boxes with a name and a state, and lines.

Each state has a sign and a kind of outline of its own beside its colour.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from agatha_ckpt._html import anchor, fitted, shown
from agatha_ckpt._human import count, size
from agatha_ckpt._report.graph import Drawing, Edge, Point, Sizes, components, draw
from agatha_ckpt._report.summary import Entry, Report

_BOX = Sizes()
_NAME_LETTERS, _WHAT_LETTERS = 17, 25  # that a box has room for
_MARGIN = 2  # for outlines
_TIP = 6
# In how far a line says something of the child: how it is drawn, and in what order,
# the last on top.
_KINDS = ("", "behind", "broken")

# Drawn once, shown by <use>. 16 units wide and high.
_SIGNS = {
    "done": '<path d="M2.5 8.5l3.7 3.7L13.5 4.4" fill="none" stroke="currentColor" '
    'stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/>',
    "partial": '<circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" '
    'stroke-width="1.7"/><path d="M8 1.8a6.2 6.2 0 0 1 0 12.4z" fill="currentColor"/>',
    "stale": '<circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" '
    'stroke-width="1.7"/><path d="M8 4.3V8.3L10.8 10" fill="none" '
    'stroke="currentColor" stroke-width="1.7" stroke-linecap="round" '
    'stroke-linejoin="round"/>',
    "unsupported": '<path d="M8 14V3M3.5 7L8 2.4L12.5 7" fill="none" '
    'stroke="currentColor" stroke-width="2.2" stroke-linecap="round" '
    'stroke-linejoin="round"/>',
    "damaged": '<path d="M3 3l10 10M13 3L3 13" fill="none" stroke="currentColor" '
    'stroke-width="2.6" stroke-linecap="round"/>',
    "unreadable": '<path d="M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5" '
    'fill="none" stroke="currentColor" stroke-width="1.7" stroke-linejoin="round"/>',
    "gone": '<circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" '
    'stroke-width="1.7" stroke-dasharray="2.4 2.47"/>',
    "skew": '<path d="M2.5 14V9.5M8 14V2M13.5 14V9.5" fill="none" '
    'stroke="currentColor" stroke-width="3"/>',
}


def signs() -> str:
    """Return the signs of the states, to be placed once before `sign` is used."""
    symbols = "".join(
        f'<symbol id="sign-{name}" viewBox="0 0 16 16">{drawn}</symbol>'
        for name, drawn in _SIGNS.items()
    )
    return f'<svg class="signs" aria-hidden="true">{symbols}</svg>'


def sign(name: str) -> str:
    """Return the sign of a state; words beside it say the same."""
    return f'<svg class="icon" aria-hidden="true"><use href="#sign-{name}"/></svg>'


def state_text(entry: Entry) -> str:
    """Return the state in words, and of a partial how much of it there is."""
    status = entry.status
    if entry.state == "partial":
        return f"partial {count(status.partitions)}/{count(status.expected)}"
    return entry.state


def state_mark(entry: Entry) -> str:
    """Return the state in words, with its sign and in its colour."""
    text = shown(state_text(entry))
    return f'<span class="state {entry.state}">{sign(entry.state)}{text}</span>'


@dataclass(frozen=True)
class Family:
    """The graph of a report: what is in it, and how its lines are drawn.

    Attributes
    ----------
    nodes : dict of str to Entry
        Entries by name; None for a parent that is gone.
    edges : dict of (parent, child) to str
        ``"broken"`` where the parent has other records now, or is not there;
        ``"behind"`` where the parent is stale; else empty.
    """

    nodes: Mapping[str, Entry | None]
    edges: Mapping[Edge, str]


def family(report: Report) -> Family:
    """Return the graph of all checkpoints, and of the parents that are gone."""
    nodes: dict[str, Entry | None] = {entry.name: entry for entry in report.entries}
    edges: dict[Edge, str] = {}
    stale = {entry.name for entry in report.entries if entry.kin.stale}
    for entry in report.entries:
        for parent in entry.kin.parents:
            above = parent.now or parent.name
            nodes.setdefault(above, None)
            kind = "behind" if above in stale else ""
            kind = "broken" if parent.problem else kind
            edge = (above, entry.name)
            edges[edge] = max(edges.get(edge, ""), kind, key=_KINDS.index)
    return Family(nodes, edges)


def diagrams(graph: Family) -> tuple[list[str], list[str]]:
    """Return an SVG for each group of relatives, and one for each that has none."""
    groups = components(graph.nodes, graph.edges)
    joined = [_group(graph, group) for group in groups if len(group) > 1]
    alone = [_single(graph, group[0]) for group in groups if len(group) == 1]
    return joined, alone


def _group(graph: Family, names: list[str]) -> str:
    members = set(names)
    edges = {edge: k for edge, k in graph.edges.items() if edge[1] in members}
    drawing = draw(names, edges)
    boxes = "".join(
        _box(name, graph.nodes[name], place)
        # As one reads, which is the order in which keys and screen readers go.
        for name, place in sorted(drawing.boxes.items(), key=lambda b: b[1][::-1])
    )
    title = f"{count(len(names), 'checkpoint')}, parents above their children"
    pairs = [f"{parent} to {child}" for parent, child in sorted(edges)]
    desc = f"Lines go from parent to child: {', '.join(pairs[:40])}"
    desc += f", and {len(pairs) - 40} more." if len(pairs) > 40 else "."
    return _svg(
        drawing.width, drawing.height, title, desc, _lines(drawing, edges) + boxes
    )


def _single(graph: Family, name: str) -> str:
    box = _box(name, graph.nodes[name], (0, 0))
    return _svg(_BOX.width, _BOX.height, name, "No parents or children.", box)


def _svg(width: float, height: float, title: str, desc: str, content: str) -> str:
    width, height = width + 2 * _MARGIN, height + 2 * _MARGIN
    view = f"{-_MARGIN} {-_MARGIN} {width:g} {height:g}"
    return (
        f'<svg width="{width:g}" height="{height:g}" viewBox="{view}" role="group">'
        f"<title>{shown(title)}</title><desc>{shown(desc)}</desc>{content}</svg>"
    )


def _box(name: str, entry: Entry | None, place: Point) -> str:
    state = entry.state if entry else "gone"
    what, said, marks = "gone", f"{name}: gone", ""
    if entry:
        what = state_text(entry)
        if entry.state != "partial":  # whose figures take the room
            what += f" · {size(entry.status.bytes)}"
        reasons = [*entry.problems, *entry.kin.stale]
        said = ": ".join([name, state_text(entry), *reasons[:1]])
        if entry.state == "partial":
            marks += _kept(entry)
        if entry.is_skewed:
            marks += (
                f'<use class="skew" href="#sign-skew" x="{_BOX.width - 21:g}" y="26" '
                'width="12" height="12"/>'
            )
            said += "; partitions are skewed"
    inside = (
        f"<title>{shown(said)}</title>"
        f'<rect class="box" width="{_BOX.width:g}" height="{_BOX.height:g}" rx="8"/>'
        f'<use class="mark" href="#sign-{state}" x="10" y="10" width="14" height="14"/>'
        f'<text x="32" y="21">{shown(fitted(name, _NAME_LETTERS))}</text>'
        f'<text class="what" x="32" y="36">{shown(fitted(what, _WHAT_LETTERS))}</text>'
        f"{marks}"
    )
    x, y = place
    moved = f'transform="translate({x:g} {y:g})"'
    if entry is None:
        return f'<g class="node gone" {moved}>{inside}</g>'
    href = shown("#" + anchor(name))
    return f'<a class="node {state}" href="{href}" {moved}>{inside}</a>'


def _kept(entry: Entry) -> str:
    """Return how much of a partial there is, as a line along the lower side."""
    expected = entry.status.expected or 0
    part = min(entry.status.partitions / expected, 1.0) if expected else 0.0
    width = part * (_BOX.width - 20)
    return (
        f'<rect class="kept" x="10" y="{_BOX.height - 5:g}" width="{width:.1f}" '
        'height="2" rx="1"/>'
    )


def _lines(drawing: Drawing, edges: Mapping[Edge, str]) -> str:
    """Return the lines, each piece that several share drawn once, and their tips."""
    kinds: dict[tuple[Point, Point], str] = {}
    tips: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for edge, points in drawing.lines.items():
        kind = edges[edge]
        for piece in pairwise(points):
            # The way that a stale child shares with one that is not says neither.
            kinds[piece] = min(kinds.get(piece, kind), kind, key=_KINDS.index)
        x, y = points[-1]
        tips[kind].append(f"M{x:g} {y:g}l-4 {-_TIP}h8z")
    ends = {points[-1] for points in drawing.lines.values()}
    paths: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for piece, kind in kinds.items():
        paths[kind].append(_piece(*piece, short=piece[1] in ends))
    return "".join(_paths("edge", paths) + _paths("tip", tips))


def _paths(name: str, parts: Mapping[str, Iterable[str]]) -> list[str]:
    return [
        f'<path class="{f"{name} {kind}".strip()}" d="{"".join(drawn)}"/>'
        for kind, drawn in parts.items()
        if drawn
    ]


def _piece(start: Point, end: Point, short: bool) -> str:
    (x1, y1), (x2, y2) = start, end
    y2 -= _TIP - 1 if short else 0
    if x1 == x2:
        return f"M{x1:g} {y1:g}V{y2:g}"
    middle = (y1 + y2) / 2
    return f"M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"
