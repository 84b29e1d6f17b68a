# SPDX-License-Identifier: MIT
"""Sealed frames that arrive: their session found, opened once, and what a first frame on new keys means."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend.exchange import Exchange
from gmesh.endtoend.handshakes import Handshakes
from gmesh.endtoend.session import Session
from gmesh.endtoend.table import ExchangeTable
from gmesh.endtoend.ways import Ways
from gmesh.errors import GmeshError
from gmesh.interfaces import ILink
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Close, Inner
from gmesh.wire.paths import PathHeader

__all__ = ["CLOSE_SIZE", "Opener"]

CLOSE_SIZE = FRAME_HEADER + 1
_DATA = int(Kind.E2E_DATA)  # a member of an Enum is looked up by a function in Python 3.11


class Opener:
    """
    The receiving half of L{gmesh.endtoend.sessions.Sessions}.

    @param up: called with an exchange, its session and the time when the peer was heard on keys we answered.
    @ivar opened: takes the sender and the plaintext of every good frame.
    @ivar running: whether frames are for this node now.
    """

    def __init__(
        self,
        table: ExchangeTable,
        handshakes: Handshakes,
        ways: Ways,
        clock: IReactorTime,
        up: Callable[[Exchange, Session, float], None],
    ) -> None:
        self.opened: Callable[[Peer, bytes], None] = lambda peer, plaintext: None
        self.running = False
        self._clock = clock
        self._table = table
        self._session = table.session
        self._handshakes = handshakes
        self._ways = ways
        self._up = up
        self._counters = table.counters

    def frame(self, kind: int, header: PathHeader, body: bytes | memoryview, ingress_link: ILink) -> None:
        """One E2E frame for us; nothing in it costs the link it came by."""
        now = self._clock.seconds()
        if kind != _DATA or not self.running:
            self._other(kind, header, body, ingress_link, now)
            return
        path = header[0]
        found = self._session(header[1])
        if found is None or path[0] != found[1].peer.handle:
            self._counters["no-session"] += 1
            self._handshakes.offer(path[0], ingress_link.peer.handle, now)
            return
        exchange, session = found
        try:
            plaintext = session.open(header, body)
        except GmeshError as error:
            self._counters[error.reason] += 1
            return
        if len(plaintext) == CLOSE_SIZE and plaintext[2] == Inner.CLOSE:
            self._closed(exchange, session, plaintext[FRAME_HEADER:])
            return
        exchange.used = now
        if path is not exchange.heard_by and path != exchange.heard_by:
            self._ways.heard(exchange, path, now)
        if not session.heard:
            self._first_heard(exchange, session, now)
        elif now >= session.due_at and session is exchange.current:
            self._handshakes.begin_if_due(exchange, now)
        if plaintext:
            self.opened(session.peer, plaintext)

    def _other(
        self, kind: int, header: PathHeader, body: bytes | memoryview, ingress_link: ILink, now: float
    ) -> None:
        if not self.running:
            self._counters["stopped"] += 1
        elif kind == Kind.E2E_INIT:
            self._handshakes.first_message(header, body, ingress_link.peer.handle, now)
        elif kind == Kind.E2E_RESP:
            self._handshakes.second_message(header, body, now)
        else:
            self._counters["unknown-kind"] += 1

    def _first_heard(self, exchange: Exchange, session: Session, now: float) -> None:
        confirmed = session is exchange.answered
        if confirmed:
            self._table.drop_attempt(exchange)
        self._table.wipe(exchange.heard(session, now))
        self._table.arm(exchange, now)
        if confirmed:
            self._up(exchange, session, now)

    def _closed(self, exchange: Exchange, session: Session, body: bytes) -> None:
        """The peer has wiped this session; others with it live on."""
        try:
            self._counters[f"closed-{Close.decode(body).reason.slug}"] += 1
        except GmeshError:
            self._counters["inner-malformed"] += 1
            return
        if session in (exchange.current, exchange.answered):
            self._table.kill(exchange, "closed")
