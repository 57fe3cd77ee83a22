"""Where the boxes of a graph of parents and children stand.

A layered drawing, from above to below: each box stands lower than its parents, no two
overlap, and no line crosses a box. Pure functions, the same result for the same graph
in whatever order it is given.

Two things differ from the textbook. A row takes a bounded number of boxes, so that a
parent of a hundred children gives a block of rows and not a line that no screen
shows. And the lines from one parent run together down to the rows of its children,
in one lane, so that those hundred lines stay legible.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[str, str]
Point = tuple[float, float]
# Of a row: a box has the name and None, a lane the parent's name and its row.
_Item = tuple[str, int | None]

_SWEEPS = 8
_LANE_WIDTH = 2.0
_LANE_GAP = 7.0  # between two lanes
_MOST_APART = 16.0  # the ends of two lines at a box
_LANE_STIFFNESS = 4.0  # a lane bends less readily than a box moves


@dataclass(frozen=True)
class Sizes:
    """Lengths of a drawing, in units of its own.

    Attributes
    ----------
    width, height : float
        Of a box.
    beside, below : float
        Room between two boxes of a row, and between two rows.
    per_row : tuple of int
        Most boxes in a row: that of these which gives the smallest drawing. Many
        children of one parent are best seen as a block, many chains side by side.
    """

    width: float = 176
    height: float = 46
    beside: float = 14
    below: float = 40
    per_row: tuple[int, ...] = (6, 12, 24)


@dataclass(frozen=True)
class Drawing:
    """A graph, placed.

    Attributes
    ----------
    width, height : float
        The smallest that hold all boxes and lines, which begin at 0.
    boxes : dict of str to (x, y)
        Left and upper end of each box.
    lines : dict of (parent, child) to points
        From the lower side of the parent to the upper side of the child. Every
        second piece lies between two rows; the others run straight down through one.
        Edges that close a circle are left out.
    """

    width: float
    height: float
    boxes: dict[str, Point]
    lines: dict[Edge, tuple[Point, ...]]


def components(nodes: Iterable[str], edges: Iterable[Edge]) -> list[list[str]]:
    """Return the nodes in groups that are connected, the largest group first."""
    beside: dict[str, set[str]] = {node: set() for node in sorted(nodes)}
    for a, b in edges:
        beside[a].add(b)
        beside[b].add(a)
    groups, seen = [], set[str]()
    for node in beside:
        if node in seen:
            continue
        group, waiting = {node}, [node]
        while waiting:
            new = beside[waiting.pop()] - group
            group |= new
            waiting += new
        seen |= group
        groups.append(sorted(group))
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def draw(
    nodes: Iterable[str], edges: Iterable[Edge], sizes: Sizes | None = None
) -> Drawing:
    """Place a graph.

    Parameters
    ----------
    nodes : iterable of str
    edges : iterable of (parent, child)
        Both are nodes.
    sizes : Sizes, optional
    """
    sizes = sizes or Sizes()
    parents = _without_circles(sorted(set(nodes)), edges)
    children: dict[str, list[str]] = {node: [] for node in parents}
    for child, above in parents.items():
        for parent in above:
            children[parent].append(child)
    drawings = []
    for per_row in sizes.per_row:
        row_of = _rows(parents, children, per_row)
        rows, links = _with_lanes(row_of, children)
        rows = _ordered(rows, links)
        x_of = _columns(rows, links, sizes)
        drawings.append(_drawing(rows, x_of, row_of, parents, sizes))
    return min(drawings, key=lambda drawing: drawing.width * drawing.height)


def _without_circles(nodes: list[str], edges: Iterable[Edge]) -> dict[str, list[str]]:
    """Return the parents of each node, in an order in which parents come first."""
    above: dict[str, list[str]] = {node: [] for node in nodes}
    for parent, child in sorted(set(edges)):
        if parent != child:
            above[child].append(parent)
    done: dict[str, list[str]] = {}
    for node in nodes:
        # Depth first, without recursion: what is open when it is met again closes a
        # circle, and that edge is left out.
        stack, is_open = [node], set[str]()
        while stack:
            top = stack[-1]
            if top in done:
                stack.pop()
                continue
            is_open.add(top)
            waiting = [p for p in above[top] if p not in done and p not in is_open]
            if waiting:
                stack.append(waiting[0])
                continue
            done[top] = [p for p in above[top] if p in done]
            stack.pop()
    return done


def _rows(
    parents: Mapping[str, list[str]], children: Mapping[str, list[str]], per_row: int
) -> dict[str, int]:
    """Return the row of each node: the longest path to it, or lower where it is full.

    What much is built from comes first, so that it is not pushed down.
    """
    depth: dict[str, int] = {}
    for node, above in parents.items():
        depth[node] = max((depth[p] + 1 for p in above), default=0)
    beneath: dict[str, int] = {}
    for node in reversed(list(parents)):
        beneath[node] = max((beneath[c] + 1 for c in children[node]), default=0)
    row_of: dict[str, int] = {}
    filled: dict[int, int] = {}
    for node in sorted(
        parents, key=lambda n: (depth[n], -beneath[n], sorted(parents[n]), n)
    ):
        row = max((row_of[p] + 1 for p in parents[node]), default=0)
        while filled.get(row, 0) >= per_row:
            row += 1
        row_of[node] = row
        filled[row] = filled.get(row, 0) + 1
    # What has no parents stands right above what was built from it.
    for node in sorted(parents):
        if not parents[node] and children[node]:
            for row in range(min(row_of[c] for c in children[node]) - 1, -1, -1):
                if row <= row_of[node]:
                    break
                if filled.get(row, 0) < per_row:
                    filled[row_of[node]] -= 1
                    filled[row] = filled.get(row, 0) + 1
                    row_of[node] = row
                    break
    used = sorted(set(row_of.values()))
    return {node: used.index(row) for node, row in row_of.items()}


def _with_lanes(
    row_of: Mapping[str, int], children: Mapping[str, list[str]]
) -> tuple[list[list[_Item]], dict[_Item, list[_Item]]]:
    """Return the items of each row, and of each item what hangs on it a row below."""
    rows: list[list[_Item]] = [[] for _ in range(max(row_of.values(), default=-1) + 1)]
    links: dict[_Item, list[_Item]] = {}
    for node in sorted(row_of):
        rows[row_of[node]].append((node, None))
    for node, row in sorted(row_of.items()):
        last = max((row_of[c] for c in children[node]), default=row)
        for lane_row in range(row + 1, last):
            row_items = rows[lane_row]
            # In the middle, with brothers and sisters on both sides.
            row_items.insert(len(row_items) // 2, (node, lane_row))
            links.setdefault(_hook(node, row, lane_row), []).append((node, lane_row))
        for child in children[node]:
            hook = _hook(node, row, row_of[child])
            links.setdefault(hook, []).append((child, None))
    return rows, links


def _hook(parent: str, row: int, below: int) -> _Item:
    """Return on what in the row above *below* a line from *parent* hangs."""
    return (parent, None if below == row + 1 else below - 1)


def _ordered(
    rows: list[list[_Item]], links: Mapping[_Item, list[_Item]]
) -> list[list[_Item]]:
    """Return the rows, each in an order that lets few lines cross."""
    above = _turned(links)
    best, fewest = rows, _crossings(rows, links)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        rows = [list(row) for row in rows]
        down = sweep % 2 == 0
        beside = above if down else links
        order = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for i in order:
            fixed = {item: k for k, item in enumerate(rows[i - 1 if down else i + 1])}
            middle = {
                item: _mean([fixed[other] for other in beside.get(item, ())], k)
                for k, item in enumerate(rows[i])
            }
            rows[i].sort(key=middle.__getitem__)  # stable: ties stay as they are
        crossings = _crossings(rows, links)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _turned(links: Mapping[_Item, list[_Item]]) -> dict[_Item, list[_Item]]:
    turned: dict[_Item, list[_Item]] = {}
    for item, below in links.items():
        for other in below:
            turned.setdefault(other, []).append(item)
    return turned


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(rows: list[list[_Item]], links: Mapping[_Item, list[_Item]]) -> int:
    found = 0
    for upper, lower in pairwise(rows):
        position = {item: k for k, item in enumerate(lower)}
        seen: list[int] = []
        for item in upper:
            ends = sorted(position[other] for other in links.get(item, ()))
            found += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return found


def _columns(
    rows: list[list[_Item]], links: Mapping[_Item, list[_Item]], sizes: Sizes
) -> dict[_Item, float]:
    """Return the middle of each item: as near to its neighbours as the rows allow."""
    above = _turned(links)
    widest = max((_offsets(row, sizes)[-1] for row in rows), default=0.0)
    x_of: dict[_Item, float] = {}
    for row in rows:
        x_of.update(
            zip(row, _spread([0.0] * len(row), row, widest, sizes), strict=True)
        )
    for sweep in range(_SWEEPS + 1):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted = []
            for item in row:
                beside = above.get(item, []) if down else links.get(item, [])
                if sweep == _SWEEPS:
                    beside = above.get(item, []) + links.get(item, [])
                wanted.append(_mean([x_of[other] for other in beside], x_of[item]))
            x_of.update(zip(row, _spread(wanted, row, widest, sizes), strict=True))
    return x_of


def _offsets(row: list[_Item], sizes: Sizes) -> list[float]:
    """Return how far right of the first each item of a row stands at least."""
    offsets = [0.0]
    for left, right in pairwise(row):
        both_lanes = left[1] is not None and right[1] is not None
        gap = _LANE_GAP if both_lanes else sizes.beside
        width = (_width(left, sizes) + _width(right, sizes)) / 2
        offsets.append(offsets[-1] + width + gap)
    return offsets


def _spread(
    wanted: list[float], row: list[_Item], widest: float, sizes: Sizes
) -> list[float]:
    """Return places nearest to those *wanted* that keep order and distance.

    That is isotonic regression, once the distances are taken off: neighbours that
    want to be in each other's place form a block, which stands at its mean. No row
    reaches beyond the one that has to be the *widest*.
    """
    offsets = _offsets(row, sizes)
    blocks: list[tuple[float, float, int]] = []  # place, weight, number of items
    for want, item, offset in zip(wanted, row, offsets, strict=True):
        place, weight, count = want - offset, _weight(item), 1
        while blocks and blocks[-1][0] > place:
            before, heavy, many = blocks.pop()
            place = (before * heavy + place * weight) / (heavy + weight)
            weight, count = weight + heavy, count + many
        blocks.append((place, weight, count))
    first, last = -widest / 2, widest / 2 - offsets[-1]
    places = [min(max(p, first), last) for p, _, count in blocks for _ in range(count)]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]


def _width(item: _Item, sizes: Sizes) -> float:
    return sizes.width if item[1] is None else _LANE_WIDTH


def _weight(item: _Item) -> float:
    return 1.0 if item[1] is None else _LANE_STIFFNESS


def _drawing(
    rows: list[list[_Item]],
    x_of: Mapping[_Item, float],
    row_of: Mapping[str, int],
    parents: Mapping[str, list[str]],
    sizes: Sizes,
) -> Drawing:
    left = min((x - _width(i, sizes) / 2 for i, x in x_of.items()), default=0.0)
    right = max((x + _width(i, sizes) / 2 for i, x in x_of.items()), default=0.0)
    step = sizes.height + sizes.below

    def middle(item: _Item) -> float:
        return round(x_of[item] - left, 1)

    boxes = {
        node: (round(middle((node, None)) - sizes.width / 2, 1), row * step)
        for node, row in sorted(row_of.items())
    }
    lines = {}
    for child, above in sorted(parents.items()):
        ways = {parent: _way(parent, child, row_of, middle, sizes) for parent in above}
        # Lines end beside each other, in the order in which they come.
        ends = sorted(above, key=lambda parent: (ways[parent][-1][0], parent))
        apart = min(_MOST_APART, sizes.width / 2 / len(ends)) if ends else 0.0
        for k, parent in enumerate(ends):
            x = middle((child, None)) + (k - (len(ends) - 1) / 2) * apart
            end = (round(x, 1), row_of[child] * step)
            lines[parent, child] = (*ways[parent], end)
    height = max(0.0, len(rows) * step - sizes.below)
    return Drawing(round(right - left, 1), height, boxes, lines)


def _way(
    parent: str,
    child: str,
    row_of: Mapping[str, int],
    middle: Callable[[_Item], float],
    sizes: Sizes,
) -> list[Point]:
    """Return the points of a line, up to the row above that of the child."""
    step = sizes.height + sizes.below
    points = [(middle((parent, None)), row_of[parent] * step + sizes.height)]
    for row in range(row_of[parent] + 1, row_of[child]):
        x = middle((parent, row))
        points += [(x, row * step), (x, row * step + sizes.height)]
    return points
