# SPDX-License-Identifier: MIT
"""Tests of C{routing.graph}, C{spf} and C{paths}, with networkx as the oracle."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from gmesh.routing.graph import LinkGraph
from gmesh.routing.limits import DETOUR_BURST, DETOUR_RATE, MAX_DETOURS
from gmesh.routing.paths import PathChoice
from gmesh.routing.spf import shortest_paths, walk

Claims = dict[int, tuple[dict[int, int], bool]]


def handle(number: int) -> bytes:
    """A handle that sorts like its number."""
    return number.to_bytes(8, "big")


def graph_of(claims: Claims) -> LinkGraph:
    """The graph after these claims."""
    graph = LinkGraph()
    for node, (links, transit) in claims.items():
        graph.claim(handle(node), {handle(peer): cost for peer, cost in links.items()}, transit)
    return graph


def line(count: int, cost: int = 1) -> Claims:
    """0 - 1 - ... - count-1."""
    return {n: ({m: cost for m in (n - 1, n + 1) if 0 <= m < count}, True) for n in range(count)}


def oracle(claims: Claims, source: int) -> nx.DiGraph:
    """The two-sided relay-only graph as seen from C{source}, built the slow way."""
    graph = nx.DiGraph()
    graph.add_nodes_from(claims)
    for node, (links, transit) in claims.items():
        for peer, cost in links.items():
            back = claims.get(peer, ({}, False))[0].get(node)
            if back is not None and (transit or node == source):
                graph.add_edge(node, peer, weight=max(cost, back))
    return graph


claims_strategy = st.dictionaries(
    st.integers(0, 9),
    st.tuples(st.dictionaries(st.integers(0, 9), st.integers(1, 5), max_size=6), st.booleans()),
    max_size=10,
).map(lambda found: {n: ({m: c for m, c in links.items() if m != n}, t) for n, (links, t) in found.items()})


@given(claims_strategy, st.integers(0, 9))
def test_field_r5_costs_equal_dijkstra(claims: Claims, source: int) -> None:
    """Cost and reach of every node equal networkx on the two-sided, dearer-end, relay-only graph."""
    claims.setdefault(source, ({}, True))
    graph = graph_of(claims)
    tree = shortest_paths(graph.adjacency, handle(source), graph.transit)
    costs = nx.single_source_dijkstra_path_length(oracle(claims, source), source)
    assert {node: cost for node, (cost, _, _) in tree.items()} == {handle(n): c for n, c in costs.items()}
    for node in tree:
        path = walk(tree, node)
        assert path is not None and path[0] == handle(source) and path[-1] == node
        assert sum(graph.adjacency[a][b] for a, b in pairwise(path)) == tree[node][0]
        assert len(path) - 1 == tree[node][1]
        assert all(hop in graph.transit for hop in path[1:-1])


@given(claims_strategy, st.integers(0, 9))
def test_fewest_hops_equal_bfs(claims: Claims, source: int) -> None:
    """The fewest-hops tree has the hop counts of networkx."""
    claims.setdefault(source, ({}, True))
    graph = graph_of(claims)
    tree = shortest_paths(graph.adjacency, handle(source), graph.transit, fewest_hops=True)
    hops = nx.single_source_shortest_path_length(oracle(claims, source), source)
    assert {node: count for node, (count, _, _) in tree.items()} == {handle(n): c for n, c in hops.items()}


@given(claims_strategy, st.integers(0, 9), st.sets(st.integers(0, 9), max_size=4))
def test_avoided_nodes(claims: Claims, source: int, avoid: set[int]) -> None:
    """With nodes to avoid the costs are those of the graph without them."""
    claims.setdefault(source, ({}, True))
    avoid.discard(source)
    graph = graph_of(claims)
    tree = shortest_paths(graph.adjacency, handle(source), graph.transit, avoid={handle(n) for n in avoid})
    rest = oracle(claims, source)
    rest.remove_nodes_from(avoid)
    costs = nx.single_source_dijkstra_path_length(rest, source)
    assert {node: cost for node, (cost, _, _) in tree.items()} == {handle(n): c for n, c in costs.items()}


@given(claims_strategy, st.integers(0, 9), st.randoms(use_true_random=False))
def test_field_r5_ties_do_not_depend_on_order(claims: Claims, source: int, random: object) -> None:
    """However the claims came in, the tree is the same to the last parent."""
    items = list(claims.items())
    random.shuffle(items)  # type: ignore[attr-defined]  # a random.Random
    one, other = graph_of(claims), graph_of(dict(items))
    trees = [shortest_paths(graph.adjacency, handle(source), graph.transit) for graph in (one, other)]
    assert trees[0] == trees[1]


@given(st.lists(st.tuples(st.integers(0, 5), claims_strategy), max_size=6))
def test_graph_kept_in_step_equals_rebuilt(steps: list[tuple[int, Claims]]) -> None:
    """After any series of claims and retractions adjacency and edge count equal those built afresh."""
    graph, current = LinkGraph(), {}
    for gone, claims in steps:
        for node, value in {**claims, gone: ({}, False)}.items():
            current[node] = value
            graph.claim(handle(node), {handle(m): c for m, c in value[0].items()}, value[1])
    fresh = graph_of(current)
    assert graph.adjacency == fresh.adjacency and graph.transit == fresh.transit
    assert graph.edges == fresh.edges == sum(map(len, graph.adjacency.values())) // 2


def test_lone_liar_gains_nothing() -> None:
    """A node that claims cost 1 to everybody changes no path: the dearer end counts."""
    honest = line(5, cost=100)
    honest[9] = ({0: 100, 4: 100}, True)
    honest[0][0][9] = 300
    honest[4][0][9] = 300
    lying = dict(honest)
    lying[9] = (dict.fromkeys(range(5), 1), True)
    trees = [
        shortest_paths(graph.adjacency, handle(0), graph.transit) for graph in map(graph_of, (honest, lying))
    ]
    assert trees[0] == trees[1]


def choice_on(claims: Claims, max_hops: int = 32) -> tuple[LinkGraph, PathChoice]:
    """A path choice of node 0."""
    graph = graph_of(claims)
    return graph, PathChoice(graph, handle(0), max_hops, 0.0)


def test_hop_limit_falls_back_to_fewest_hops() -> None:
    """When the cheapest path is too long, the one with the fewest hops is taken; beyond that none."""
    claims = line(6)
    claims[0][0][5] = 50
    claims[5][0][0] = 50
    assert choice_on(claims, 5)[1].path(handle(5), 0.0) == tuple(map(handle, range(6)))
    assert choice_on(claims, 4)[1].path(handle(5), 0.0) == (handle(0), handle(5))
    assert choice_on(line(6), 4)[1].path(handle(5), 0.0) is None


def test_spf_is_spaced_and_cached() -> None:
    """Changes are joined: 10 ms after the first, then no sooner than 100 ms after the last run."""
    graph, choice = choice_on(line(3))
    assert choice.path(handle(2), 0.0) == (handle(0), handle(1), handle(2))
    graph.claim(handle(2), {}, True)
    choice.changed(1.0)
    assert choice.path(handle(2), 1.009) is not None
    assert choice.path(handle(2), 1.010) is None
    assert choice.runs == 2
    graph.claim(handle(2), {handle(1): 1}, True)
    choice.changed(1.02)
    assert choice.path(handle(2), 1.109) is None
    assert choice.path(handle(2), 1.111) is not None
    for _ in range(100):
        choice.path(handle(2), 2.0)
    assert choice.runs == 3


def test_lost_own_link_is_never_used() -> None:
    """A path over a link of ours that fell is replaced in the same instant."""
    claims = line(3)
    claims[0][0][2] = 9
    claims[2][0][0] = 9
    graph, choice = choice_on(claims)
    assert choice.path(handle(1), 0.0) == (handle(0), handle(1))
    graph.claim(handle(0), {handle(2): 9}, True)
    assert choice.path(handle(1), 0.001) == (handle(0), handle(2), handle(1))
    choice.changed(0.002, urgent=True)
    assert choice.path(handle(1), 0.002) == (handle(0), handle(2), handle(1))
    assert choice.runs == 2


def test_detours_are_limited_and_cached() -> None:
    """A search around nodes is done at most 20 times a second; an answer holds for one second."""
    claims = line(30)
    _, choice = choice_on(claims)
    for _ in range(100):
        assert choice.detour(handle(1), 0.0, frozenset([handle(9)]), 32) == (handle(0), handle(1))
    for number in range(2, DETOUR_BURST + 1):
        assert choice.detour(handle(number), 0.0, frozenset([handle(29)]), 32) is not None
    assert choice.detour(handle(25), 0.0, frozenset([handle(29)]), 32) is None
    assert choice.detour(handle(25), 0.051, frozenset([handle(29)]), 32) is not None
    assert choice.detour(handle(3), 5.0, frozenset([handle(2)]), 32) is None
    assert choice.detour(handle(3), 5.0, frozenset(), 2) is None


def test_detours_remembered_are_bounded() -> None:
    """Frames that name ever other nodes to avoid fill a bounded table."""
    _, choice = choice_on(line(3))
    for number in range(MAX_DETOURS + 50):
        choice.detour(handle(2), number / DETOUR_RATE, frozenset([handle(100 + number)]), 32)
    assert len(choice._detours) == MAX_DETOURS


def test_penalty_for_loss() -> None:
    """Relays of a path that loses, while another does not, are dearer for ten minutes, then as before."""
    claims: Claims = {
        0: ({1: 10, 2: 15}, True),
        1: ({0: 10, 3: 10}, True),
        2: ({0: 15, 3: 15}, True),
        3: ({1: 10, 2: 15}, True),
    }
    _, choice = choice_on(claims)
    best = choice.path(handle(3), 0.0)
    assert best == (handle(0), handle(1), handle(3))
    other = (handle(0), handle(2), handle(3))
    choice.unanswered(best, 1.0, False)
    assert choice.path(handle(3), 1.0) == other
    choice.answered(other, 2.0, 2.1, False)
    for now in (21.2, 21.3, 620.0):
        assert choice.path(handle(3), now) == other
    choice.path(handle(3), 621.4)
    assert choice.path(handle(3), 621.5) == best


def test_generation_moves_with_each_run() -> None:
    """Callers that cache paths see when to ask again."""
    graph, choice = choice_on(line(3))
    choice.path(handle(2), 0.0)
    before = choice.generation
    choice.path(handle(1), 0.5)
    assert choice.generation == before
    graph.claim(handle(2), {}, True)
    choice.changed(1.0)
    choice.path(handle(1), 2.0)
    assert choice.generation > before
