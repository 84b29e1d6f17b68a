# SPDX-License-Identifier: MIT
"""
The minimum version that policy allows: links to older nodes are closed, on both sides, at once.

Tests: C{tests/node/test_policy_changes.py}.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.logger import Logger

from gmesh.interfaces import ILink
from gmesh.mesh.counters import Counters
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CloseReason

__all__ = ["MinimumVersion", "parse_version"]

_VERSION = re.compile(r"(?:gmesh/)?([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})")


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of C{1.4.2}, C{gmesh/1.4.2}, C{1.4.2.dev3}, without trailing zeros; none of other text."""
    match = _VERSION.match(text)
    numbers = [int(part) for part in match[1].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class MinimumVersion(NeighbourObserver):
    """
    Ends links to nodes that the policy calls too old.

    @param own: what this node runs, as its HELLO says.
    """

    log = Logger()

    def __init__(
        self,
        trust: TrustState,
        neighbours: Neighbours,
        own: str,
        counters: Counters,
        now: Callable[[], float],
    ) -> None:
        self._trust = trust
        self._neighbours = neighbours
        self._own = own
        self._counters = counters
        self._now = now
        self._lines = SpacedLog()

    def too_old(self, software: str) -> bool:
        """Whether the policy in force bars this version."""
        policy = self._trust.policy
        least = policy.body.min_version if policy is not None else None
        return least is not None and parse_version(software) < parse_version(least)

    def link_up(self, neighbour: Neighbour) -> None:
        """Judge a new neighbour by its HELLO."""
        self._judge(neighbour.link)

    def trust_changed(self, kind: str) -> None:
        """Judge this node and every neighbour by the new policy."""
        if kind != "policy":
            return
        if self.too_old(self._own):
            self.log.error(
                "this node runs {own}, the policy wants newer: upgrade it, others refuse it", own=self._own
            )
        for neighbour in self._neighbours:
            self._judge(neighbour.link)

    def _judge(self, link: ILink) -> None:
        software = getattr(link.hello, "software", "")
        if self.too_old(software):
            self._counters.count("peer-version")
            self._lines.write(
                self.log.warn,
                self._now(),
                "peer-version",
                link.peer.node_key,
                "{name} runs {software}, too old for the policy",
                name=link.peer.name,
                software=software,
            )
            link.close(CloseReason.VERSION)
