# SPDX-License-Identifier: MIT
"""
Paths over the graph at a time: a shortest-path tree kept for a while, detours for what it misses.

The tree is computed again at most so often after changes.  What must not wait does not: a node
that left the graph or an own link that fell invalidates what was computed at once.
"""

from __future__ import annotations

from itertools import pairwise

from gmesh.routing.blame import PathBlame
from gmesh.routing.graph import LinkGraph
from gmesh.routing.limits import (
    DETOUR_BURST,
    DETOUR_CACHE,
    DETOUR_RATE,
    MAX_DETOURS,
    SPF_DELAY,
    SPF_RUNTIME_FACTOR,
    SPF_SECONDS_PER_EDGE,
    SPF_SPACING,
    SPF_SPACING_MAX,
)
from gmesh.routing.spf import Tree, shortest_paths, walk
from gmesh.token_bucket import TokenBucket

__all__ = ["PathChoice"]

Path = tuple[bytes, ...]


class PathChoice:
    """
    The cheapest allowed path from one node, and the next best that still fits the hop limit.

    @ivar generation: changes whenever answers may differ from earlier ones.
    @ivar blame: which relays are avoided.
    """

    def __init__(self, graph: LinkGraph, source: bytes, max_hops: int, now: float) -> None:
        self.max_hops = max_hops
        self.generation = 0
        self.runs = 0
        self._graph = graph
        self._source = source
        self._tree: Tree | None = None
        self._short: Tree | None = None
        self._paths: dict[bytes, Path | None] = {}
        self._detours: dict[tuple[bytes, frozenset[bytes], int], tuple[float, Path | None]] = {}
        self._budget = TokenBucket(DETOUR_RATE, DETOUR_BURST, now)
        self.blame = PathBlame()
        self._dirty: float | None = None
        self._urgent = False
        self._last = float("-inf")

    def changed(self, now: float, *, urgent: bool = False) -> None:
        """The graph changed; C{urgent} when the current tree may use what is gone from our side."""
        if self.blame:
            self.blame.links_changed(lambda path: self.cost(path) is not None)
        if self._dirty is None:
            self._dirty = now
        if urgent:
            self._urgent = True
            self._detours.clear()

    def invalidate(self, now: float) -> None:
        """Nothing computed so far may be used again."""
        self._tree = None
        self._detours.clear()
        self.changed(now)

    def unanswered(self, path: Path, now: float, handshake: bool) -> None:
        """What went along C{path} was not answered in time."""
        self.blame.unanswered(path, now, handshake)
        self.changed(now, urgent=True)

    def answered(self, path: Path, sent: float, now: float, handshake: bool) -> None:
        """What went along C{path} at C{sent} was answered."""
        if self.blame and self.blame.answered(path, sent, handshake):
            self.changed(now, urgent=True)

    def new_keys(self, destination: bytes, now: float) -> None:
        """There are new keys with a node: it may have lost the old ones."""
        if self.blame and self.blame.new_keys(destination):
            self.changed(now, urgent=True)

    def tree(self, now: float) -> Tree:
        """The shortest-path tree as of now, or as of the last time it was due."""
        if now >= self.blame.due and self.blame.settle(now):
            self.changed(now)
        if self._tree is None or self._due(now):
            self._tree = shortest_paths(
                self._graph.adjacency, self._source, self._graph.transit, penalties=self.blame.factors()
            )
            self._short = None
            self._paths.clear()
            self._dirty = None
            self._urgent = False
            self._last = now
            self.generation += 1
            self.runs += 1
        return self._tree

    def _due(self, now: float) -> bool:
        if self._dirty is None:
            return False
        runtime = 2 * self._graph.edges * SPF_SECONDS_PER_EDGE
        spacing = min(max(SPF_SPACING, SPF_RUNTIME_FACTOR * runtime), SPF_SPACING_MAX)
        if now >= max(self._dirty + SPF_DELAY, self._last + spacing):
            return True
        return self._urgent and self._budget.take(now)

    def short_tree(self, now: float) -> Tree:
        """The fewest-hops tree of the same moment."""
        self.tree(now)
        if self._short is None:
            self._short = shortest_paths(
                self._graph.adjacency, self._source, self._graph.transit, fewest_hops=True
            )
        return self._short

    def path(self, destination: bytes, now: float) -> Path | None:
        """Cheapest within the hop limit, else fewest hops within it; never over a lost own link."""
        tree = self._tree
        if tree is None or self._dirty is not None or now >= self.blame.due:
            tree = self.tree(now)
        try:
            path = self._paths[destination]
        except KeyError:
            path = self._within(walk(tree, destination), self.max_hops)
            if path is None and destination in tree:
                path = self._within(walk(self.short_tree(now), destination), self.max_hops)
            self._paths[destination] = path
        if path is not None and len(path) > 1 and path[1] not in self._graph.adjacency.get(self._source, {}):
            return self.detour(destination, now, frozenset(), self.max_hops)
        return path

    def cost(self, path: Path) -> int | None:
        """What a path costs on the graph as it is now; None if it is broken."""
        rows = self._graph.adjacency
        costs = [rows.get(one, {}).get(other) for one, other in pairwise(path)]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def detour(self, destination: bytes, now: float, avoid: frozenset[bytes], limit: int) -> Path | None:
        """A path around C{avoid} of at most C{limit} hops, on the graph as it is now; rate-limited."""
        key = (destination, avoid, limit)
        cached = self._detours.get(key)
        if cached is not None and now < cached[0]:
            return cached[1]
        if destination in avoid or not self._budget.take(now):
            return None
        path = self._search(destination, avoid, limit, False) or self._search(destination, avoid, limit, True)
        if len(self._detours) >= MAX_DETOURS:
            del self._detours[next(iter(self._detours))]
        self._detours[key] = (now + DETOUR_CACHE, path)
        return path

    def alternatives(self, destination: bytes, now: float, most: int) -> list[Path]:
        """The best path, then the best without the relays of those before it; for people, so unlimited."""
        found: list[Path] = []
        path = self.path(destination, now)
        while path is not None and len(found) < most:
            found.append(path)
            if len(path) <= 2:
                break
            relays = frozenset(handle for each in found for handle in each[1:-1])
            path = self._search(destination, relays, self.max_hops, False)
        return found

    def _search(self, destination: bytes, avoid: frozenset[bytes], limit: int, fewest: bool) -> Path | None:
        tree = shortest_paths(
            self._graph.adjacency,
            self._source,
            self._graph.transit,
            avoid=avoid,
            target=destination,
            fewest_hops=fewest,
            penalties=None if fewest else self.blame.factors(),
        )
        return self._within(walk(tree, destination), limit)

    @staticmethod
    def _within(path: Path | None, limit: int) -> Path | None:
        return path if path is not None and len(path) - 1 <= limit else None
