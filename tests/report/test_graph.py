"""Where the boxes of a graph stand: whatever the graph, they can be told apart."""

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agatha_ckpt._report.graph import Sizes, components, draw

SIZES = Sizes()


@st.composite
def graphs(draw_value, most=30, circles=False):
    count = draw_value(st.integers(1, most))
    nodes = [f"n{i:02d}" for i in draw_value(st.permutations(range(count)))]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    edges = set()
    for a, b in draw_value(st.lists(pairs, max_size=2 * count)):
        if circles or a < b:
            edges.add((nodes[a], nodes[b]))
    return nodes, sorted(edges)


FAN = ["root", *(f"n{i:03d}" for i in range(100))]
FAN_EDGES = [("root", name) for name in FAN[1:]]
CHAIN = [f"n{i:03d}" for i in range(300)]
CHAIN_EDGES = list(itertools.pairwise(CHAIN))


def crosses(line, box):
    """Whether a piece of a line enters a box; a curve stays between its ends."""
    (x, y) = box
    for (x1, y1), (x2, y2) in itertools.pairwise(line):
        beside = max(y1, y2) > y and min(y1, y2) < y + SIZES.height
        if beside and max(x1, x2) > x and min(x1, x2) < x + SIZES.width:
            return True
    return False


@settings(deadline=None)
@given(graphs())
@example((FAN, FAN_EDGES))
@example((CHAIN, CHAIN_EDGES))
def test_no_two_boxes_overlap_and_no_line_crosses_a_box(graph):
    drawing = draw(*graph)
    boxes = sorted(drawing.boxes.items(), key=lambda item: item[1])
    assert sorted(drawing.boxes) == sorted(graph[0])
    for k, (_, (x1, y1)) in enumerate(boxes):
        for _, (x2, y2) in boxes[k + 1 :]:
            apart = x1 + SIZES.width <= x2 or abs(y1 - y2) >= SIZES.height
            assert apart
    for line in drawing.lines.values():
        assert not any(crosses(line, box) for _, box in boxes)


@settings(deadline=None)
@given(graphs())
@example((FAN, FAN_EDGES))
def test_lines_go_down_from_each_parent_to_each_child(graph):
    nodes, edges = graph
    drawing = draw(nodes, edges)
    assert sorted(drawing.lines) == edges
    for (parent, child), line in drawing.lines.items():
        (x1, y1), (x2, y2) = drawing.boxes[parent], drawing.boxes[child]
        assert line[0] == (round(x1 + SIZES.width / 2, 1), y1 + SIZES.height)
        assert line[-1][1] == y2
        assert x2 < line[-1][0] < x2 + SIZES.width
        heights = [y for _, y in line]
        assert heights == sorted(set(heights))


@settings(deadline=None)
@given(graphs())
@example((FAN, FAN_EDGES))
@example((CHAIN, CHAIN_EDGES))
def test_all_lies_within_the_drawing(graph):
    drawing = draw(*graph)
    places = [
        *drawing.boxes.values(),
        *(p for ln in drawing.lines.values() for p in ln),
    ]
    assert min(x for x, _ in places) >= 0
    assert min(y for _, y in places) >= 0
    for x, y in drawing.boxes.values():
        assert x + SIZES.width <= drawing.width + 0.2  # rounded to tenths
        assert y + SIZES.height <= drawing.height


@settings(deadline=None)
@given(graphs(circles=True), st.randoms())
def test_the_order_in_which_a_graph_is_given_does_not_matter(graph, random):
    nodes, edges = graph
    before = draw(nodes, edges)
    random.shuffle(nodes)
    random.shuffle(edges)
    after = draw(iter(nodes), iter(edges))
    assert after == before
    assert list(after.boxes) == list(before.boxes)


@settings(deadline=None)
@given(graphs(circles=True))
@example((["a"], [("a", "a")]))
@example((["a", "b"], [("a", "b"), ("b", "a")]))
def test_a_circle_is_drawn_without_the_edge_that_closes_it(graph):
    nodes, edges = graph
    drawing = draw(nodes, edges)
    assert sorted(drawing.boxes) == sorted(nodes)
    assert set(drawing.lines) <= set(edges)
    closing = {(a, b) for a, b in edges if a != b} - set(drawing.lines)
    for parent, child in closing:  # it would have gone up
        assert drawing.boxes[parent][1] > drawing.boxes[child][1]


def test_many_children_stand_in_a_block_no_wider_than_a_page():
    drawing = draw(FAN, FAN_EDGES)
    rows = [y for _, y in drawing.boxes.values()]
    assert max(map(rows.count, rows)) == SIZES.per_row[0]
    assert drawing.width < (SIZES.per_row[0] + 1) * (SIZES.width + SIZES.beside)


def test_many_chains_that_join_stand_side_by_side():
    chains = [[f"{k:02d}-{step}" for step in range(6)] for k in range(20)]
    edges = [pair for chain in chains for pair in itertools.pairwise(chain)]
    edges += [(chain[-1], "join") for chain in chains]
    drawing = draw([*itertools.chain(*chains), "join"], edges)
    assert len({y for _, y in drawing.boxes.values()}) == 7
    assert all(
        ln[0][0] == ln[-1][0] for (_, c), ln in drawing.lines.items() if "-" in c
    )


def test_lines_from_one_parent_share_their_way():
    lines = draw(FAN, FAN_EDGES).lines.values()
    pieces = {pair for ln in lines for pair in itertools.pairwise(ln)}
    rows = 100 // SIZES.per_row[0]
    assert len(pieces) == 100 + 2 * rows  # one each, and one lane of all


def test_a_chain_is_straight():
    drawing = draw(CHAIN, CHAIN_EDGES)
    assert drawing.width == SIZES.width
    assert {x for x, _ in drawing.boxes.values()} == {0}


def test_a_parent_stands_above_the_middle_of_its_children():
    drawing = draw("abcd", [("a", "b"), ("a", "c"), ("a", "d")])
    (a, _), (c, _) = drawing.boxes["a"], drawing.boxes["c"]
    assert a == c
    assert drawing.boxes["b"][0] < c < drawing.boxes["d"][0]


def test_what_joins_late_stands_above_what_it_joins():
    drawing = draw("abcdz", [("a", "b"), ("b", "c"), ("c", "d"), ("z", "d")])
    assert drawing.boxes["z"][1] == drawing.boxes["c"][1]


def test_lines_to_one_child_end_beside_each_other_in_order():
    parents = list("abcde")
    drawing = draw([*parents, "z"], [(parent, "z") for parent in parents])
    starts = {p: drawing.lines[p, "z"][0][0] for p in parents}
    ends = {p: drawing.lines[p, "z"][-1][0] for p in parents}
    assert sorted(parents, key=starts.get) == sorted(parents, key=ends.get)
    assert len(set(ends.values())) == len(parents)


def test_lines_that_need_not_cross_do_not():
    drawing = draw(["a", "b", "x", "y"], [("a", "y"), ("b", "x")])
    places = drawing.boxes
    assert (places["a"][0] < places["b"][0]) == (places["y"][0] < places["x"][0])


def test_components_come_largest_first():
    groups = components("fedcba", [("a", "b"), ("c", "d"), ("d", "e")])
    assert groups == [["c", "d", "e"], ["a", "b"], ["f"]]


def test_nothing_is_drawn_as_nothing():
    drawing = draw([], [])
    assert (drawing.width, drawing.height, drawing.boxes) == (0, 0, {})
