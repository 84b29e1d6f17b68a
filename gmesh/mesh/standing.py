# SPDX-License-Identifier: MIT
"""
What is remembered of a neighbour by its node key, longer than its link lasts: a new link is no new start.

Tests: C{tests/mesh/test_neighbours.py}, C{tests/mesh/test_gossip_pulls.py}.
"""

from __future__ import annotations

from gmesh.mesh.limits import FAILURE_BURST, FAILURE_RATE, MAX_STANDINGS, PULL_PAUSE, PULL_PAUSE_MOST
from gmesh.token_bucket import TokenBucket

__all__ = ["Standing", "Standings"]


class Standing:
    """
    How far one node is to be relied on.

    @ivar failures: what it passed on that did not verify.
    @ivar let_down: how often a document pulled from it did not come in time, less what did.
    @ivar delivered: how many documents that were pulled from it came in time.
    @ivar asked: when a document was last pulled from it.
    @ivar paused_until: when it may be asked for a large document again.
    """

    __slots__ = ("asked", "delivered", "failures", "let_down", "paused_until")

    def __init__(self, now: float) -> None:
        self.failures = TokenBucket(FAILURE_RATE, FAILURE_BURST, now)
        self.let_down = 0
        self.delivered = 0
        self.asked = self.paused_until = float("-inf")

    def kept(self) -> None:
        """A document came from it: half of what it did before is forgiven."""
        self.delivered += 1
        self.let_down //= 2

    def broke(self, now: float) -> None:
        """What it announced did not come in time, or was no document: it waits, each time twice as long."""
        self.paused_until = now + min(PULL_PAUSE * 2.0 ** min(self.let_down, 32), PULL_PAUSE_MOST)
        self.let_down += 1


class Standings:
    """Those of all nodes that were neighbours lately; where they are too many, the oldest begins anew."""

    def __init__(self) -> None:
        self._known: dict[bytes, Standing] = {}

    def of(self, node_key: bytes, now: float) -> Standing:
        """What is known of a node that has a link now."""
        standing = self._known.pop(node_key, None)
        if standing is None:
            standing = Standing(now)
        self._known[node_key] = standing
        while len(self._known) > MAX_STANDINGS:
            del self._known[next(iter(self._known))]
        return standing
