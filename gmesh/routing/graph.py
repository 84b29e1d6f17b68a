# SPDX-License-Identifier: MIT
"""
The graph that the database describes: an edge only where both ends list each other, at the dearer cost.

Kept up edge by edge as claims change, so that one record costs its own degree, not a rebuild.
Tests: C{tests/routing/test_paths.py}.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LinkGraph"]


class LinkGraph:
    """
    Directed claims in, two-sided edges out.

    @ivar adjacency: node -> neighbour -> cost, symmetric.
    @ivar transit: nodes that may be interior hops.
    """

    def __init__(self) -> None:
        self.adjacency: dict[bytes, dict[bytes, int]] = {}
        self.transit: set[bytes] = set()
        self.edges = 0
        self._claims: dict[bytes, dict[bytes, int]] = {}

    def claim(self, node: bytes, links: Mapping[bytes, int], transit: bool) -> bool:
        """
        What C{node} says of itself now, in place of what it said before.

        @return: True if the graph changed.
        """
        changed = transit != (node in self.transit)
        if transit:
            self.transit.add(node)
        else:
            self.transit.discard(node)
        before = self._claims.get(node, {})
        if links:
            self._claims[node] = dict(links)
        else:
            self._claims.pop(node, None)
        for neighbour in before.keys() | links.keys():
            if before.get(neighbour) != links.get(neighbour):
                changed |= self._settle(node, neighbour)
        return changed

    def adopt(self, other: LinkGraph) -> None:
        """Begin with what another graph says; rows are replaced when they change, so both may share them."""
        self.adjacency = dict(other.adjacency)
        self.transit = set(other.transit)
        self.edges = other.edges
        self._claims = dict(other._claims)

    def claims(self, node: bytes) -> Mapping[bytes, int]:
        """What C{node} says of its links."""
        return self._claims.get(node, {})

    def _settle(self, one: bytes, other: bytes) -> bool:
        here = self._claims.get(one, {}).get(other)
        there = self._claims.get(other, {}).get(one)
        before = self.adjacency.get(one, {}).get(other)
        after = None if here is None or there is None else max(here, there)
        if before == after:
            return False
        for node, neighbour in ((one, other), (other, one)):
            row = dict(self.adjacency.get(node, {}))
            if after is None:
                del row[neighbour]
            else:
                row[neighbour] = after
            if row:
                self.adjacency[node] = row
            else:
                del self.adjacency[node]
        self.edges += (after is not None) - (before is not None)
        return True
