"""The graph of parents and children, and where its boxes and lines are drawn.

A layered drawing: each box is in the row of the longest path to it, and no line
crosses a box. Lines that pass through a row do so in a lane, one for each parent.
The result is the same for the same graph in whatever order it is given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from agatha_ckpt._report.lineage import sort_topologically
from agatha_ckpt._report.summary import Entry, Report

BOX_WIDTH, BOX_HEIGHT = 176, 46
_LANE_WIDTH = 2
_GAP = 14  # between two items of a row
_ROW_STEP = BOX_HEIGHT + 40
_LEAVES_PER_ROW = 5  # which fit into a page
_TIP = 6  # length of an arrowhead
# How a line is drawn: "broken" where the parent has other records now or is not
# there, "behind" where the parent is stale. The last is drawn on top.
_KINDS = ("", "behind", "broken")

Edge = tuple[str, str]  # parent, child
Point = tuple[float, float]
_Item = tuple[str, int]  # name and row: a box in its own row, a lane in others


@dataclass(frozen=True)
class LineageGraph:
    """The checkpoints of a report, and the parents that are gone.

    Attributes
    ----------
    nodes : mapping of str to Entry
        By name; None for a parent that is gone.
    edges : mapping of Edge to str
        How each line is drawn, one of `_KINDS`.
    """

    nodes: Mapping[str, Entry | None]
    edges: Mapping[Edge, str]


@dataclass(frozen=True)
class Drawing:
    """A connected part of a graph, placed.

    Attributes
    ----------
    width, height : float
    boxes : mapping of str to Point
        Left upper corner of each box, in reading order.
    lines : mapping of Edge to points
        From the lower side of the parent to the upper side of the child. Every
        second piece is between two rows; the others are vertical, in a lane. An edge
        that closes a cycle is left out.
    """

    width: float
    height: float
    boxes: Mapping[str, Point]
    lines: Mapping[Edge, tuple[Point, ...]]


def lineage_graph(report: Report) -> LineageGraph:
    """Return the graph of all checkpoints, and of the parents that are gone."""
    nodes: dict[str, Entry | None] = {entry.name: entry for entry in report.entries}
    edges: dict[Edge, str] = {}
    for entry in report.entries:
        for parent in entry.lineage.parents:
            above = nodes.setdefault(parent.current, None)
            kind = "behind" if above and above.lineage.stale else ""
            kind = "broken" if parent.problem else kind
            edge = (parent.current, entry.name)
            edges[edge] = max(edges.get(edge, ""), kind, key=_KINDS.index)
    return LineageGraph(nodes, edges)


def draw(nodes: Iterable[str], edges: Iterable[Edge]) -> list[Drawing]:
    """Return a drawing of each connected part of a graph, the largest part first."""
    beside: dict[str, set[str]] = {node: set() for node in sorted(nodes)}
    parents: dict[str, list[str]] = {node: [] for node in beside}
    for parent, child in sorted(set(edges)):
        if parent != child:
            beside[parent].add(child)
            beside[child].add(parent)
            parents[child].append(parent)
    parts: list[list[str]] = []
    seen: set[str] = set()
    for node in beside:
        if node not in seen:
            parts.append([])
        waiting = [node]
        while waiting:  # depth first: relatives are near each other
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                parts[-1].append(name)
                waiting += sorted(beside[name], reverse=True)
    parts.sort(key=lambda part: (-len(part), part[0]))
    return [_draw_part({name: parents[name] for name in part}) for part in parts]


def _draw_part(parents: Mapping[str, list[str]]) -> Drawing:
    order = {name: k for k, name in enumerate(sort_topologically(parents))}
    parents = {
        child: [parent for parent in above if order[parent] < order[child]]
        for child, above in parents.items()
    }
    children: dict[str, list[str]] = {name: [] for name in order}
    for child, above in parents.items():
        for parent in above:
            children[parent].append(child)
    row_of = _assign_rows(order, parents, children)
    x_of = _place(_arrange(row_of, parents, children), row_of)
    boxes = {
        name: (x_of[name, row] - BOX_WIDTH / 2, row * _ROW_STEP)
        for name, row in sorted(row_of.items(), key=lambda n: (n[1], x_of[n]))
    }
    lines = {}
    for child, above in sorted(parents.items()):
        for parent in above:
            first, last = row_of[parent], row_of[child]
            points = [(x_of[parent, first], first * _ROW_STEP + BOX_HEIGHT)]
            for row in range(first + 1, last):
                x, y = x_of[parent, row], row * _ROW_STEP
                points += [(x, y), (x, y + BOX_HEIGHT)]
            lines[parent, child] = (*points, (x_of[child, last], last * _ROW_STEP))
    width = max(x for x, _ in boxes.values()) + BOX_WIDTH
    height = max(y for _, y in boxes.values()) + BOX_HEIGHT
    return Drawing(width, height, boxes, lines)


def _assign_rows(
    order: Iterable[str],
    parents: Mapping[str, list[str]],
    children: Mapping[str, list[str]],
) -> dict[str, int]:
    """Return the row of each box: the longest path to it.

    A box without parents is right above the first of its children. Many children
    without children of their own take several rows.
    """
    row_of: dict[str, int] = {}
    for name in order:
        row_of[name] = max((row_of[p] + 1 for p in parents[name]), default=0)
    for name, below in children.items():
        if below and not parents[name]:
            row_of[name] = min(row_of[child] for child in below) - 1
        leaves = [c for c in below if not children[c] and parents[c] == [name]]
        for k, leaf in enumerate(leaves):
            row_of[leaf] += k // _LEAVES_PER_ROW
    return row_of


def _arrange(
    row_of: Mapping[str, int],
    parents: Mapping[str, list[str]],
    children: Mapping[str, list[str]],
) -> dict[_Item | None, list[_Item]]:
    """Return the items as a tree: below each item the ones that are placed under it.

    A box is placed under the parent with the fewest children, the middle one of
    several; the items below None are the roots of the tree.
    """
    below: dict[_Item | None, list[_Item]] = {None: []}
    for name in parents:
        first = row_of[name]
        last = max((row_of[child] for child in children[name]), default=first + 1)
        for row in range(first, last):
            is_lane_below = row + 1 < last
            below[name, row] = [(name, row + 1)] if is_lane_below else []
    for name, above in parents.items():
        fewest = [(len(children[p]), not parents[p]) for p in above]
        best = [p for p, key in zip(above, fewest, strict=True) if key == min(fewest)]
        hook = (best[(len(best) - 1) // 2], row_of[name] - 1) if best else None
        below[hook].append((name, row_of[name]))
    return below


def _place(
    below: Mapping[_Item | None, list[_Item]], row_of: Mapping[str, int]
) -> dict[_Item, float]:
    """Return the middle of each item: above the middle of the items under it.

    A lane with several items under it is to the left of them.
    """
    x_of: dict[_Item, float] = {}
    free = [0.0] * (max(row_of.values()) + 1)  # from where on each row is free
    stack = [(item, 0.0, False) for item in reversed(below[None])]
    while stack:
        item, start, is_open = stack.pop()
        name, row = item
        is_lane, under = row > row_of[name], below[item]
        width = _LANE_WIDTH if is_lane else BOX_WIDTH
        if not is_open:
            start = max(start, free[row])
            stack.append((item, start, True))
            for each in reversed(under):
                inset = 0.0
                if each[1] > row_of[each[0]]:
                    inset = (width - _LANE_WIDTH) / 2 if len(under) == 1 else 0.0
                elif is_lane and len(under) > 1:
                    inset = _LANE_WIDTH + _GAP
                stack.append((each, start + inset, False))
        else:
            x_of[item] = start + width / 2
            if under and not (is_lane and len(under) > 1):
                middle = (x_of[under[0]] + x_of[under[-1]]) / 2
                x_of[item] = max(x_of[item], middle)
            free[row] = x_of[item] + width / 2 + _GAP
    return x_of


def edge_paths(drawing: Drawing, kinds: Mapping[Edge, str]) -> list[tuple[str, str]]:
    """Return the class and the path of all lines, and of all arrowheads, by kind.

    A piece that several lines share is drawn once.
    """
    kind_of: dict[tuple[Point, Point], str] = {}
    tips: dict[Point, str] = {}
    for edge, points in drawing.lines.items():
        kind = kinds[edge]
        for piece in pairwise(points):
            # A piece shared with a line of a child that is not stale is not marked.
            kind_of[piece] = min(kind_of.get(piece, kind), kind, key=_KINDS.index)
        tips[points[-1]] = max(tips.get(points[-1], ""), kind, key=_KINDS.index)
    paths: dict[str, str] = {}
    for part, drawn in (
        ("edge", {_line(*piece, tips): kind for piece, kind in kind_of.items()}),
        ("tip", {f"M{x} {y}l-4 {-_TIP}h8z": k for (x, y), k in tips.items()}),
    ):
        for kind in _KINDS:
            paths[f"{part} {kind}"] = "".join(d for d, k in drawn.items() if k == kind)
    return [(kind.strip(), path) for kind, path in paths.items() if path]


def _line(start: Point, end: Point, tips: Mapping[Point, str]) -> str:
    (x1, y1), (x2, y2) = start, end
    y2 -= _TIP - 1 if end in tips else 0
    if x1 == x2:
        return f"M{x1} {y1}V{y2}"
    middle = (y1 + y2) / 2
    return f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"
