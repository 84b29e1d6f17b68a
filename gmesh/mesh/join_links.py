# SPDX-License-Identifier: MIT
"""
Connections by which a host without a certificate joins: requests to the authority and nothing else.

Such a host dials, proves a key of its own making and no more, and says so by an empty payload of message 3.
An anchor whose operator allows it says RENEWAL and passes its questions on, one at a time and few in all, for
half a minute; so many connections at once, and fewer from one address.  Whoever it is stays a stranger:
nothing here is a neighbour, and its address earns nothing with
L{HandshakeGate<gmesh.mesh.handshake_gate>}.
Tests: C{tests/node/test_join_relay.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import FrameRefused, PeerRefused
from gmesh.interfaces import ISecureTransport
from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import (
    JOIN_LINK_SECONDS,
    JOIN_LINKS,
    JOIN_LINKS_PER_ADDRESS,
    JOIN_QUESTION,
    JOIN_QUESTIONS,
)
from gmesh.mesh.renewal_links import AuthorityLink
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.wire.messages import CloseReason

__all__ = ["Joins"]


class Joins:
    """
    All such connections of one node.

    @ivar serve: passes a question from an address on and returns the answer; without it nobody is let in.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counters) -> None:
        self.serve: Callable[[str, bytes], Coroutine[Any, Any, bytes]] | None = None
        self._clock = clock
        self._counters = counters
        self._lines = SpacedLog()
        self._links: dict[AuthorityLink, str] = {}
        self._groups: Counter[str] = Counter()
        self._questions: Counter[AuthorityLink] = Counter()

    def __len__(self) -> int:
        return len(self._links)

    def accept(self, transport: ISecureTransport, group: str) -> AuthorityLink:
        """
        The connection of a host that has no certificate.

        @param group: the address it comes from.
        @raise PeerRefused: C{no-certificate} where nobody joins; C{full} where as many do as may.
        """
        if self.serve is None:
            raise PeerRefused("no-certificate", "the peer has no certificate, and nobody joins by this node")
        if len(self._links) >= JOIN_LINKS or self._groups[group] >= JOIN_LINKS_PER_ADDRESS:
            raise PeerRefused("full", "as many hosts join by this node as may at once")
        text = "a host at {group} asks to join by this node"
        self._lines.write(self.log.info, self._clock.seconds(), "join-link", None, text, group=group)
        self._counters.count("join-link")
        link = AuthorityLink(
            self._clock,
            transport,
            JOIN_LINK_SECONDS,
            lambda data: self._asked(link, data),
            lambda: self._gone(link),
            True,
        )
        self._links[link] = group
        self._groups[group] += 1
        return link

    def _asked(self, link: AuthorityLink, data: bytes) -> None:
        self._questions[link] += 1
        few = self._questions[link] <= JOIN_QUESTIONS
        if self.serve is None or link.waiting or len(data) > JOIN_QUESTION or not few:
            raise FrameRefused("too-many-questions")
        link.answer(self.serve(self._links[link], data))

    def _gone(self, link: AuthorityLink) -> None:
        group = self._links.pop(link)
        del self._questions[link]
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]

    def close(self) -> None:
        """Let nobody in any more: this node stops, or is told so."""
        self.serve = None
        for link in list(self._links):
            link.end(CloseReason.SHUTDOWN)
