# SPDX-License-Identifier: MIT
"""
Shortest paths from one node: Dijkstra to a parent map, ties broken so that every run gives the same.

Among equal costs fewer hops win, then the smaller parent handle; nothing depends on the order
of dictionaries.
Tests: C{tests/routing/test_paths.py}.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from heapq import heappop, heappush

__all__ = ["Reached", "Tree", "shortest_paths", "walk"]

Reached = tuple[int, int, bytes]
Tree = dict[bytes, Reached]


def shortest_paths(
    adjacency: Mapping[bytes, Mapping[bytes, int]],
    source: bytes,
    transit: Container[bytes],
    *,
    avoid: Collection[bytes] = (),
    target: bytes | None = None,
    fewest_hops: bool = False,
    penalties: Mapping[bytes, int] | None = None,
) -> Tree:
    """
    Every node that can be reached, with how.

    @param transit: the nodes that may be interior hops; the source always sends.
    @param avoid: nodes not to visit.
    @param target: stop when it is reached.
    @param fewest_hops: hops first, then cost; otherwise cost first, then hops.
    @param penalties: factors on the cost of edges that leave a node.
    @return: node -> (primary, secondary, parent), the source included with itself as parent.
    """
    best: Tree = {source: (0, 0, source)}
    done: set[bytes] = set(avoid)
    done.discard(source)
    heap = [(0, 0, source)]
    while heap:
        first, second, node = heappop(heap)
        if node in done:
            continue
        done.add(node)
        if node == target:
            break
        if node != source and node not in transit:
            continue
        factor = penalties.get(node, 1) if penalties else 1
        for neighbour, cost in adjacency.get(node, {}).items():
            if neighbour in done:
                continue
            cost *= factor
            primary, secondary = (1, cost) if fewest_hops else (cost, 1)
            candidate = (first + primary, second + secondary, node)
            held = best.get(neighbour)
            if held is None or candidate < held:
                best[neighbour] = candidate
                if held is None or candidate[:2] < held[:2]:
                    heappush(heap, (candidate[0], candidate[1], neighbour))
    return best


def walk(tree: Tree, destination: bytes) -> tuple[bytes, ...] | None:
    """The path from the tree's source to C{destination}, both included."""
    if destination not in tree:
        return None
    path = [destination]
    while tree[path[-1]][2] != path[-1]:
        path.append(tree[path[-1]][2])
    return tuple(reversed(path))
