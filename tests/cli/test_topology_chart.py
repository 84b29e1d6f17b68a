# SPDX-License-Identifier: MIT
"""The picture of a whole mesh: everybody in it, nothing on top of another, the same each time."""

from __future__ import annotations

import networkx
from hypothesis import given
from hypothesis import strategies as st

from gmesh.cli.topology_chart import MAX_PICTURED, Canvas, chart

LINE = [("a", "b"), ("b", "c")]


def test_a_line() -> None:
    """a - b - c lie in a row, joined."""
    drawn = chart("a", LINE, 60, 9, False)
    [line] = drawn.lines
    assert line.split() == ["a", line.split()[1], "b", line.split()[3], "c"]
    assert set(line.split()[1] + line.split()[3]) == {"."}
    assert drawn.left_out == []


def test_braille() -> None:
    """Where it can be shown the lines are of braille dots."""
    [line] = chart("a", LINE, 60, 9, True).lines
    assert all(0x2800 < ord(dot) < 0x2900 for dot in line.split()[1])


def test_alone() -> None:
    """A node without links is a picture too; one that hangs on nothing is not in it."""
    drawn = chart("a", [("x", "y")], 40, 5, True)
    assert [label.name for label in drawn.labels] == ["a"]


def test_a_line_on_the_canvas() -> None:
    """A slope passes through the cells between its ends."""
    canvas = Canvas(3, 3, False)
    canvas.line(0.5, 0.5, 2.5, 2.5)
    assert canvas.lines() == [".", " .", "  ."]


NAMES = st.sampled_from([f"node-{number:02}" for number in range(40)])


@given(
    st.lists(st.tuples(NAMES, NAMES), max_size=80), st.integers(20, 160), st.integers(5, 50), st.booleans()
)
def test_any_mesh(links: list[tuple[str, str]], width: int, height: int, fine: bool) -> None:
    """Whoever is connected stands where the label says or is left out; nothing overlaps or sticks out."""
    middle = links[0][0] if links else "node-00"
    drawn = chart(middle, links, width, height, fine)
    graph = networkx.Graph()
    graph.add_edges_from(links)
    graph.add_node(middle)
    labelled = [label.name for label in drawn.labels]
    assert sorted([*labelled, *drawn.left_out]) == sorted(networkx.node_connected_component(graph, middle))
    assert len(drawn.lines) <= height and all(len(line) <= width for line in drawn.lines)
    taken = set()
    for label in drawn.labels:
        assert (
            drawn.lines[label.row][label.column : label.column + label.length] == label.name[: label.length]
        )
        cells = {(label.row, label.column + index) for index in range(label.length)}
        assert not cells & taken
        taken |= cells
    assert drawn == chart(middle, [(two, one) for one, two in reversed(links)], width, height, fine)


def test_many() -> None:
    """Beyond what a picture holds, the farthest are left out and named."""
    links = [("middle", f"n{number:03}") for number in range(MAX_PICTURED + 40)]
    drawn = chart("middle", links, 200, 60, True)
    assert len(drawn.labels) <= MAX_PICTURED
    assert len(drawn.labels) + len(drawn.left_out) == MAX_PICTURED + 41


def test_long_names() -> None:
    """They are cut, so that they leave room for each other."""
    drawn = chart("a", [("a", "x" * 60)], 60, 5, True)
    assert f" {'x' * 14}.. " in drawn.lines[0] + " "
