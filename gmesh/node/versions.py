# SPDX-License-Identifier: MIT
"""
The least version that policy allows: links to older nodes are closed, on both sides, at once.

Tests: C{tests/node/test_policy_changes.py}.
"""

from __future__ import annotations

import re

from twisted.logger import Logger

from gmesh.interfaces import ILink
from gmesh.mesh.counters import Counters
from gmesh.mesh.peers import Peers
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CloseReason

__all__ = ["VersionGate", "parse_version"]

_VERSION = re.compile(r"(?:gmesh/)?([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})")


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of C{1.4.2}, C{gmesh/1.4.2}, C{1.4.2.dev3}, without trailing zeros; none of other text."""
    match = _VERSION.match(text)
    numbers = [int(part) for part in match[1].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class VersionGate:
    """
    A listener of L{Peers}.

    @param own: what this node runs, as its HELLO says.
    """

    log = Logger()

    def __init__(self, trust: TrustState, peers: Peers, own: str, counters: Counters) -> None:
        self._trust = trust
        self._peers = peers
        self._own = own
        self._counters = counters

    def too_old(self, software: str) -> bool:
        """Whether the policy in force bars this version."""
        policy = self._trust.policy
        least = policy.body.min_version if policy is not None else None
        return least is not None and parse_version(software) < parse_version(least)

    def link_up(self, link: ILink) -> None:
        """Judge a new neighbour by its HELLO."""
        self._judge(link)

    def link_down(self, link: ILink, reason: str) -> None:
        """Nothing."""

    def link_changed(self, link: ILink) -> None:
        """Nothing."""

    def trust_changed(self, kind: str) -> None:
        """Judge this node and every neighbour by the new policy."""
        if kind != "policy":
            return
        if self.too_old(self._own):
            self.log.error(
                "this node runs {own}, the policy wants newer: upgrade it, others refuse it", own=self._own
            )
        for link in list(self._peers.links.values()):
            self._judge(link)  # type: ignore[arg-type]  # MeshProtocol provides ILink

    def _judge(self, link: ILink) -> None:
        software = getattr(link.hello, "software", "")
        if self.too_old(software):
            self._counters.count("peer-version")
            self.log.warn(
                "{name} runs {software}, too old for the policy", name=link.peer.name, software=software
            )
            link.close(CloseReason.VERSION)
