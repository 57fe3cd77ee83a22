"""Where the boxes and lines of a graph are drawn."""

from itertools import chain, pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from agatha_ckpt._report.graph import (
    BOX_HEIGHT,
    BOX_WIDTH,
    draw,
    lineage_graph,
)
from tests.report import samples

FAN = (["root", *(f"n{i:03d}" for i in range(100))], [])
FAN[1].extend(("root", name) for name in FAN[0][1:])
CHAIN = ([f"n{i:04d}" for i in range(3000)], [])  # deeper than Python recurses
CHAIN[1].extend(pairwise(CHAIN[0]))


@st.composite
def graphs(draw_value):
    names = [f"n{i:02d}" for i in draw_value(st.permutations(range(12)))]
    indexes = st.integers(0, len(names) - 1)
    pairs = draw_value(st.lists(st.tuples(indexes, indexes), max_size=24))
    acyclic = draw_value(st.booleans())
    edges = {(names[a], names[b]) for a, b in pairs if a < b or not acyclic}
    return names, sorted(edges)


def overlaps(a, b):
    return abs(a[0] - b[0]) < BOX_WIDTH and abs(a[1] - b[1]) < BOX_HEIGHT


def crosses(line, box):
    """Whether a piece of a line enters a box; a curve stays between its ends."""
    x, y = box
    return any(
        max(y1, y2) > y
        and min(y1, y2) < y + BOX_HEIGHT
        and max(x1, x2) > x
        and min(x1, x2) < x + BOX_WIDTH
        for (x1, y1), (x2, y2) in pairwise(line)
    )


@given(graphs())
@example(FAN)
@example((["a"], [("a", "a")]))
@example((["a", "b"], [("a", "b"), ("b", "a")]))
def test_boxes_and_lines_are_apart_and_lines_lead_down(graph):
    names, edges = graph
    drawings = draw(names, edges)
    assert sorted(chain(*(d.boxes for d in drawings))) == sorted(names)
    drawn = {edge for drawing in drawings for edge in drawing.lines}
    assert drawn <= set(edges)
    if all(names.index(a) < names.index(b) for a, b in edges):
        assert drawn == set(edges)
    for drawing in drawings:
        boxes = list(drawing.boxes.values())
        for k, box in enumerate(boxes):
            assert 0 <= box[0] <= drawing.width - BOX_WIDTH
            assert 0 <= box[1] <= drawing.height - BOX_HEIGHT
            assert not any(overlaps(box, other) for other in boxes[k + 1 :])
        for (parent, child), line in drawing.lines.items():
            (x1, y1), (x2, y2) = drawing.boxes[parent], drawing.boxes[child]
            assert line[0] == (x1 + BOX_WIDTH / 2, y1 + BOX_HEIGHT)
            assert line[-1] == (x2 + BOX_WIDTH / 2, y2)
            heights = [y for _, y in line]
            assert heights == sorted(set(heights))
            assert not any(crosses(line, box) for box in boxes)


@given(graphs(), st.randoms())
def test_the_given_order_does_not_matter(graph, random):
    before = draw(*graph)
    names, edges = map(list, graph)
    random.shuffle(names)
    random.shuffle(edges)
    assert draw(iter(names), iter(edges)) == before


def test_a_chain_is_straight():
    (drawing,) = draw(*CHAIN)
    assert drawing.width == BOX_WIDTH
    assert list(drawing.boxes) == CHAIN[0]


def test_chains_that_join_are_straight_and_side_by_side():
    chains = [[f"{k:02d}-{step}" for step in range(6)] for k in range(20)]
    edges = [*chain(*map(pairwise, chains)), *((c[-1], "join") for c in chains)]
    (drawing,) = draw([*chain(*chains), "join"], edges)
    places = [[drawing.boxes[name] for name in c] for c in chains]
    assert len({y for _, y in drawing.boxes.values()}) == 7
    assert all(len({x for x, _ in chain}) == 1 for chain in places)


def test_many_children_form_a_block():
    (drawing,) = draw(*FAN)
    rows = [y for _, y in drawing.boxes.values()]
    assert max(map(rows.count, rows)) == 5
    assert drawing.width < 6 * BOX_WIDTH
    pieces = {piece for line in drawing.lines.values() for piece in pairwise(line)}
    assert len(pieces) == 100 + 2 * 19  # lines from one parent share a lane


def test_a_parent_is_above_the_middle_of_its_children():
    (drawing,) = draw("abcd", [("a", "b"), ("a", "c"), ("a", "d")])
    (a, _), (b, _), (c, _), (d, _) = (drawing.boxes[name] for name in "abcd")
    assert a == c == (b + d) / 2


def test_a_parent_that_joins_late_is_right_above_its_child():
    (drawing,) = draw("abcdz", [("a", "b"), ("b", "c"), ("c", "d"), ("z", "d")])
    assert drawing.boxes["z"][1] == drawing.boxes["c"][1]


def test_parts_come_largest_first():
    drawings = draw("fedcba", [("a", "b"), ("c", "d"), ("d", "e")])
    assert [sorted(d.boxes) for d in drawings] == [["c", "d", "e"], ["a", "b"], ["f"]]
    assert draw([], []) == []


def test_a_line_shows_what_made_its_child_stale():
    graph = lineage_graph(samples.pipeline())
    assert graph.edges["predications", "graph_edges"] == "broken"
    assert graph.edges["word_counts", "ngrams_frequent"] == "broken"
    assert graph.edges["graph_edges", "edges_tsv"] == "behind"
    assert graph.edges["lemmas", "graph_edges"] == ""
    assert [n for n, entry in graph.nodes.items() if not entry] == ["word_counts"]
