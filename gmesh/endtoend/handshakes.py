# SPDX-License-Identifier: MIT
"""Handshakes with every peer: begun, repeated, answered, finished; cheap refusals before dear ones."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.logger import Logger

from gmesh.endtoend import limits
from gmesh.endtoend.exchange import Attempt, Exchange
from gmesh.endtoend.flood import FloodGate
from gmesh.endtoend.outlet import Outlet
from gmesh.endtoend.session import Handshaker, Session
from gmesh.endtoend.table import ExchangeTable
from gmesh.endtoend.ways import Ways
from gmesh.errors import GmeshError
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader

__all__ = ["Handshakes"]


class Handshakes:
    """
    Drives the handshakes of a table.

    @param behind: called with the number of a CRL that a peer holds and this node does not.
    @param up: called with an exchange, its new session and the time when our own handshake is finished.
    """

    log = Logger()

    def __init__(
        self,
        *,
        table: ExchangeTable,
        outlet: Outlet,
        ways: Ways,
        handshaker: Handshaker,
        trust: TrustState,
        find_handle: Callable[[bytes], Peer | None],
        next_number: Callable[[], int],
        rng: random.Random,
        up: Callable[[Exchange, Session, float], None],
        behind: Callable[[int], None],
    ) -> None:
        self._table = table
        self._outlet = outlet
        self._ways = ways
        self._handshaker = handshaker
        self._trust = trust
        self._find_handle = find_handle
        self._next_number = next_number
        self._rng = rng
        self._up = up
        self._behind = behind
        self._counters = table.counters
        self._greatest: dict[bytes, int] = {}
        self._flood = FloodGate()
        self._offers = FloodGate()

    def begin_if_due(self, exchange: Exchange, now: float) -> None:
        """The peer is being talked with: see that there are good keys."""
        if exchange.should_begin(now):
            self._begin(exchange, now, now)

    def due(self, exchange: Exchange, now: float) -> None:
        """Repeat what was not answered; begin what was put off."""
        attempt = exchange.attempt
        if attempt is None:
            if exchange.pending or exchange.wanted:
                self.begin_if_due(exchange, now)
        elif now >= attempt.retry:
            if now - attempt.sent >= limits.HANDSHAKE_RETRY:
                self._ways.blame(exchange, now)
            self._begin(exchange, attempt.began, now)

    def bounced(self, number: int, now: float) -> None:
        """A relay did not pass on our message 1 with this number: repeat it soon."""
        for exchange in self._table:
            attempt = exchange.attempt
            if attempt is not None and attempt.initiation.number == number:
                attempt.retry = min(attempt.retry, max(now, attempt.sent + limits.HANDSHAKE_HURRY))
                self._table.arm(exchange, now)

    def offer(self, source: bytes, link: bytes, now: float) -> None:
        """
        Somebody seals with keys we no longer have, as after a restart: begin anew, but rarely.

        @param link: handle of the neighbour that says so.
        """
        exchange = self._table.get(source)
        peer = self._find_handle(source)
        if peer is None or self._table.full or (exchange is not None and any(exchange.sessions())):
            return
        if not self._trust.revoked(peer.serial, peer.node_id) and self._offers.admits(link, source, now):
            self.begin_if_due(self._table.get_or_make(peer, now), now)

    def first_message(self, header: PathHeader, body: bytes | memoryview, link: bytes, now: float) -> None:
        """
        An E2E_INIT for us: everything cheap is asked before a key is exchanged.

        @param link: handle of the neighbour it came from.
        """
        source = header.source
        known = self._find_handle(source)
        exchange = self._table.get(source)
        if header.counter <= self._greatest.get(source, -1):
            self._counters["replayed-handshake"] += 1
        elif known is not None and self._trust.revoked(known.serial, known.node_id):
            self._counters["revoked"] += 1
        elif exchange is not None and not exchange.yields(now):
            self._counters["handshake-tie"] += 1
        elif not self._flood.admits(link, source, now):
            self._counters["handshake-flood"] += 1
        else:
            self._answer(header, body, now)

    def second_message(self, header: PathHeader, body: bytes | memoryview, now: float) -> None:
        """An E2E_RESP for us."""
        exchange = self._table.attempt(header.receiver_index)
        attempt = exchange.attempt if exchange is not None else None
        if exchange is None or attempt is None or header.source != exchange.peer.handle:
            self._counters["no-handshake"] += 1
            return
        self._table.close_attempt(header.receiver_index)
        try:
            session = attempt.initiation.finish(body, now)
        except GmeshError as error:
            self._counters[error.reason] += 1
            return
        exchange.used = now
        self._table.add_session(exchange, session)
        self._table.wipe(exchange.finished(session, now))
        self._table.arm(exchange, now)
        self._compare(session)
        self._up(exchange, session, now)

    def _answer(self, header: PathHeader, body: bytes | memoryview, now: float) -> None:
        try:
            session, message = self._handshaker.answer(header, body, self._table.new_index(), now)
            exchange = self._table.get_or_make(session.peer, now)
        except GmeshError as error:
            self._counters[error.reason] += 1
            return
        self._remember(header.source, header.counter)
        self._compare(session)
        exchange.used = now
        self._table.drop_attempt(exchange)
        self._table.wipe(exchange.answering(session))
        exchange.reply = None
        self._table.add_session(exchange, session)
        self._table.arm(exchange, now)
        self._counters["answered"] += 1
        path = self._ways.answer(exchange, header.path, now)
        if path is None:
            exchange.reply = message
        else:
            self._reply(path, session, message)

    def way_found(self, handle: bytes, now: float) -> None:
        """There is a path to a node again: send what waits for one."""
        exchange, path = self._table.get(handle), self._outlet.path(handle, now)
        if exchange is None or path is None:
            return
        session, message, attempt = exchange.answered, exchange.reply, exchange.attempt
        exchange.reply = None
        if session is not None and message is not None:
            self._reply(path, session, message)
        elif attempt is not None and attempt.retry <= now + limits.HANDSHAKE_HURRY:
            self._begin(exchange, attempt.began, now)

    def _reply(self, path: tuple[bytes, ...], session: Session, message: bytes) -> None:
        self._outlet.post(Kind.E2E_RESP, PathHeader(path, session.remote_index, session.number), message)

    def _begin(self, exchange: Exchange, began: float, now: float) -> None:
        """Make message 1, anew for each retry, and send it if there is a path."""
        handle = exchange.peer.handle
        exchange.peer = self._find_handle(handle) or exchange.peer
        try:
            initiation = self._handshaker.begin(exchange.peer, self._table.new_index(), self._next_number())
        except GmeshError as error:
            self._table.drop_attempt(exchange)
            exchange.wanted = False
            self._counters[error.reason] += 1
            self.log.warn("No session with {name}: {detail}", name=exchange.peer.name, detail=error.detail)
            return
        retry = now + limits.HANDSHAKE_RETRY + self._rng.uniform(0, limits.HANDSHAKE_JITTER)
        attempt = Attempt(initiation, began, now, retry)
        self._table.set_attempt(exchange, attempt)
        self._counters["began"] += 1
        path = self._outlet.path(handle, now)
        if path is None or not self._outlet.post(
            Kind.E2E_INIT, PathHeader(path, 0, initiation.number), initiation.message
        ):
            attempt.retry = now + limits.HANDSHAKE_HURRY
        self._table.arm(exchange, now)

    def _compare(self, session: Session) -> None:
        """A peer that knows of more revocations than we do: ask for them."""
        crl = self._trust.crl
        if session.peer_crl > (0 if crl is None else crl.body.number):
            self._behind(session.peer_crl)

    def _remember(self, source: bytes, number: int) -> None:
        self._greatest.pop(source, None)
        self._greatest[source] = number
        if len(self._greatest) > limits.MAX_SOURCES:
            del self._greatest[next(iter(self._greatest))]
