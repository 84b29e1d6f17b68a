# SPDX-License-Identifier: MIT
"""
The graph that the database describes: an edge only where both ends list each other, at the dearer cost.

Kept up edge by edge as claims change, so that one record costs its own degree, not a rebuild.
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
            row = self.adjacency.setdefault(node, {})
            if after is None:
                del row[neighbour]
                if not row:
                    del self.adjacency[node]
            else:
                row[neighbour] = after
        self.edges += (after is not None) - (before is not None)
        return True
