# SPDX-License-Identifier: MIT
"""
Sealed sessions with every peer: frames and handshakes in and out.

Everything that could cost something before trust is bounded first, and nothing a stranger
sends hurts the link it came over: a bad frame is counted and forgotten.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.endtoend import limits
from gmesh.endtoend.exchange import Attempt, Exchange
from gmesh.endtoend.flood import FloodGate
from gmesh.endtoend.session import Handshaker, Session
from gmesh.endtoend.table import ExchangeTable
from gmesh.errors import GmeshError
from gmesh.interfaces import ILink, IRouteEngine
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

__all__ = ["SendFrame", "SessionUser", "Sessions"]

SendFrame = Callable[[tuple[bytes, ...], bytes, bytes], bool]
"""C{send_frame(path, frame, flow)}: hand a whole frame to the first link of the path; False if it was dropped."""


class SessionUser(Protocol):
    """What sessions are for: told of every change, in the turn it happens."""

    def opened(self, peer: Peer, plaintext: bytes) -> None:
        """One sealed frame of C{peer}."""

    def ready(self, handle: bytes) -> None:
        """There is a new session to send on."""

    def bounced(self, handle: bytes, counter: int, reason: str) -> None:
        """A relay says that it did not pass on the frame with this counter: a hint."""

    def gone(self, handle: bytes, reason: str) -> None:
        """
        The peer was given up: C{timed-out}, C{idle}, C{evicted}, C{stopped}, or why it is not
        believed any more: C{revoked}, C{expired} ...
        """


class Sessions:
    """
    Sealed sessions with every peer of this node.

    @ivar counters: how often what happened, by slug.
    @ivar user: the one above, set before L{start}.
    @param find_handle: the directory, by routing handle.
    @param next_number: a handshake number above all this node ever used.
    @param rng: for jitter.
    @param entropy: as C{os.urandom}, for session indexes.
    """

    log = Logger()

    def __init__(
        self,
        *,
        handshaker: Handshaker,
        trust: TrustState,
        find_handle: Callable[[bytes], Peer | None],
        routes: IRouteEngine,
        send_frame: SendFrame,
        next_number: Callable[[], int],
        clock: IReactorTime,
        wall: Callable[[], float],
        rng: random.Random,
        entropy: Callable[[int], bytes],
        max_sessions: int = limits.MAX_SESSIONS,
    ) -> None:
        self.user: SessionUser | None = None
        self._handshaker = handshaker
        self._trust = trust
        self._find_handle = find_handle
        self._routes = routes
        self._send_frame = send_frame
        self._next_number = next_number
        self._clock = clock
        self._rng = rng
        self._greatest: dict[bytes, int] = {}
        self._flood = FloodGate()
        self._table = ExchangeTable(
            own=lambda: handshaker.own.handle,
            trust=trust,
            find_handle=find_handle,
            clock=clock,
            wall=wall,
            entropy=entropy,
            due=self._due,
            gone=self._gone,
            max_sessions=max_sessions,
        )
        self.counters: Counter[str] = self._table.counters

    def start(self) -> None:
        """Listen to what is believed."""
        self._trust.observers.append(self._table.trust_changed)

    def stop(self) -> None:
        """Wipe everything."""
        if self._table.trust_changed in self._trust.observers:
            self._trust.observers.remove(self._table.trust_changed)
        for exchange in self._table:
            self._table.kill(exchange, "stopped")

    def __len__(self) -> int:
        return len(self._table)

    @property
    def established(self) -> int:
        """Peers with keys to seal with."""
        now = self._clock.seconds()
        return sum(1 for exchange in self._table if exchange.sealer(now) is not None)

    def ready(self, peer: Peer) -> bool:
        """
        True if L{send} would seal now; if not, a handshake is under way and the user will be told.

        @raise SendRefused: C{busy}, if there are too many peers.
        """
        now = self._clock.seconds()
        exchange = self._table.get_or_make(peer, now)
        if exchange.sealer(now) is not None:
            return True
        exchange.used = now
        exchange.wanted = True
        self._begin_if_due(exchange, now)
        self._table.arm(exchange, now)
        return False

    def hold(self, peer: Peer, plaintext: bytes) -> None:
        """
        Send C{plaintext} when the handshake is done, unless too much comes after it or it fails.

        @raise SendRefused: C{busy}, if there are too many peers.
        """
        now = self._clock.seconds()
        exchange = self._table.get_or_make(peer, now)
        dropped = exchange.hold(plaintext)
        if dropped:
            self.counters["pending-dropped"] += dropped
        exchange.used = now
        self._begin_if_due(exchange, now)
        self._table.arm(exchange, now)

    def send(self, peer: Peer, plaintext: bytes) -> int | None:
        """
        Seal and send now.

        @return: the counter of the frame, or None if there is no session, no path, or no room in the link's queue.
        """
        exchange = self._table.get(peer.handle)
        now = self._clock.seconds()
        session = exchange.sealer(now) if exchange is not None else None
        if exchange is None or session is None:
            return None
        return self._seal(exchange, session, plaintext, now)

    def frame_for_us(
        self, kind: int, header: PathHeader, body: bytes | memoryview, ingress_link: ILink
    ) -> None:
        """
        One E2E frame whose destination is this node.

        @param body: the payload behind the path header.
        """
        if kind == Kind.E2E_DATA:
            self._data(header, body)
        elif kind == Kind.E2E_INIT:
            self._init(header, body, ingress_link)
        elif kind == Kind.E2E_RESP:
            self._response(header, body)
        else:
            self.counters["unknown-kind"] += 1

    def undeliverable(self, header: PathHeader, reason: str) -> None:
        """
        A relay did not pass on a frame of ours; routing has already heard why.

        @param header: its receiver index and counter are those of that frame.
        """
        now = self._clock.seconds()
        index, counter = header.receiver_index, header.counter
        self.counters["bounced"] += 1
        for exchange in self._table:
            attempt = exchange.attempt
            if index == 0 and attempt is not None and attempt.initiation.number == counter:
                attempt.retry = min(attempt.retry, max(now, attempt.sent + limits.HANDSHAKE_HURRY))
                self._table.arm(exchange, now)
            elif index and any(s.remote_index == index and counter < s.sent for s in exchange.sessions()):
                if self.user is not None:
                    self.user.bounced(exchange.peer.handle, counter, reason)

    def _data(self, header: PathHeader, body: bytes | memoryview) -> None:
        now = self._clock.seconds()
        found = self._table.session(header.receiver_index)
        if found is None or header.source != found[1].peer.handle:
            self.counters["no-session"] += 1
            self._revive(header.source, now)
            return
        exchange, session = found
        try:
            plaintext = session.open(header, body)
        except GmeshError as error:
            self.counters[error.reason] += 1
            return
        exchange.used = now
        if not session.heard:
            self._first_heard(exchange, session, now)
        elif session is exchange.current and session.due(now):
            self._begin_if_due(exchange, now)
        if plaintext and self.user is not None:
            self.user.opened(session.peer, plaintext)

    def _first_heard(self, exchange: Exchange, session: Session, now: float) -> None:
        confirmed = session is exchange.answered
        if confirmed:
            self._table.drop_attempt(exchange)
        self._table.wipe(exchange.heard(session, now))
        self._table.arm(exchange, now)
        if confirmed:
            self._up(exchange, session, now)

    def _revive(self, source: bytes, now: float) -> None:
        """Somebody seals with keys we no longer have, as after a restart: offer new ones, rarely."""
        exchange = self._table.get(source)
        peer = self._find_handle(source)
        if peer is None or self._table.full or (exchange is not None and any(exchange.sessions())):
            return
        if not self._trust.revoked(peer.serial, peer.node_id) and self._flood.admits(b"revive", source, now):
            self.ready(peer)

    def _init(self, header: PathHeader, body: bytes | memoryview, ingress_link: ILink) -> None:
        """Everything cheap is asked before a key is exchanged."""
        now = self._clock.seconds()
        source = header.source
        known = self._find_handle(source)
        exchange = self._table.get(source)
        if header.counter <= self._greatest.get(source, -1):
            self.counters["replayed-handshake"] += 1
        elif known is not None and self._trust.revoked(known.serial, known.node_id):
            self.counters["revoked"] += 1
        elif exchange is not None and not exchange.yields(now):
            self.counters["handshake-tie"] += 1
        elif not self._flood.admits(ingress_link.peer.handle, source, now):
            self.counters["handshake-flood"] += 1
        else:
            self._answer(header, body, now)

    def _answer(self, header: PathHeader, body: bytes | memoryview, now: float) -> None:
        try:
            session, message = self._handshaker.answer(header, body, self._table.new_index(), now)
            exchange = self._table.get_or_make(session.peer, now)
        except GmeshError as error:
            self.counters[error.reason] += 1
            return
        self._remember(header.source, header.counter)
        exchange.used = now
        self._table.drop_attempt(exchange)
        self._table.wipe(exchange.answering(session))
        self._table.add_session(exchange, session)
        self._table.arm(exchange, now)
        self.counters["answered"] += 1
        path = self._path(header.source, now) or self._way_back(header.path)
        if path is not None:
            self._post(Kind.E2E_RESP, PathHeader(path, session.remote_index, header.counter), message)

    def _remember(self, source: bytes, number: int) -> None:
        self._greatest.pop(source, None)
        self._greatest[source] = number
        if len(self._greatest) > limits.MAX_SOURCES:
            del self._greatest[next(iter(self._greatest))]

    def _response(self, header: PathHeader, body: bytes | memoryview) -> None:
        exchange = self._table.attempt(header.receiver_index)
        attempt = exchange.attempt if exchange is not None else None
        if exchange is None or attempt is None or header.source != exchange.peer.handle:
            self.counters["no-handshake"] += 1
            return
        now = self._clock.seconds()
        self._table.close_attempt(header.receiver_index)
        try:
            session = attempt.initiation.finish(body, now)
        except GmeshError as error:
            self.counters[error.reason] += 1
            return
        exchange.used = now
        self._table.add_session(exchange, session)
        self._table.wipe(exchange.finished(session, now))
        self._table.arm(exchange, now)
        self._up(exchange, session, now)
        if session.sent == 0:
            self._seal(exchange, session, b"", now)  # tells the peer that we hold the keys

    def _up(self, exchange: Exchange, session: Session, now: float) -> None:
        self.counters["established"] += 1
        exchange.wanted = False
        for plaintext in exchange.release():
            self._seal(exchange, session, plaintext, now)
        if self.user is not None:
            self.user.ready(exchange.peer.handle)

    def _seal(self, exchange: Exchange, session: Session, plaintext: bytes, now: float) -> int | None:
        exchange.used = now
        if session.due(now):
            self._begin_if_due(exchange, now)
        path = self._path(session.peer.handle, now)
        if path is None:
            self.counters["no-route"] += 1
            return None
        counter, frame, flow = session.seal(plaintext, path)
        if not self._send_frame(path, frame, flow):
            self.counters["queue-full"] += 1
            return None
        return counter

    def _due(self, exchange: Exchange, now: float) -> None:
        attempt = exchange.attempt
        if attempt is not None:
            if now >= attempt.retry:
                self._begin(exchange, attempt.began, now)
        elif exchange.pending or exchange.wanted:
            self._begin_if_due(exchange, now)

    def _begin_if_due(self, exchange: Exchange, now: float) -> None:
        if exchange.should_begin(now):
            self._begin(exchange, now, now)

    def _begin(self, exchange: Exchange, began: float, now: float) -> None:
        """Make message 1, anew for each retry, and send it if there is a path."""
        handle = exchange.peer.handle
        exchange.peer = self._find_handle(handle) or exchange.peer
        try:
            initiation = self._handshaker.begin(exchange.peer, self._table.new_index(), self._next_number())
        except GmeshError as error:
            self._table.drop_attempt(exchange)
            exchange.wanted = False
            self.counters[error.reason] += 1
            self.log.warn("No session with {name}: {detail}", name=exchange.peer.name, detail=error.detail)
            return
        retry = now + limits.HANDSHAKE_RETRY + self._rng.uniform(0, limits.HANDSHAKE_JITTER)
        self._table.set_attempt(exchange, Attempt(initiation, began, now, retry))
        self._table.arm(exchange, now)
        self.counters["began"] += 1
        path = self._path(handle, now)
        if path is not None:
            self._post(Kind.E2E_INIT, PathHeader(path, 0, initiation.number), initiation.message)

    def _post(self, kind: Kind, header: PathHeader, message: bytes) -> None:
        flow = header.source + header.destination
        if not self._send_frame(header.path, pack_path_frame(kind, header, message), flow):
            self.counters["queue-full"] += 1

    def _path(self, handle: bytes, now: float) -> tuple[bytes, ...] | None:
        path: tuple[bytes, ...] | None = self._routes.path(handle, now)
        return path

    def _way_back(self, path: Sequence[bytes]) -> tuple[bytes, ...] | None:
        """The way a handshake came, if all on it are members: its source may know links that we do not know yet."""
        for handle in path[1:-1]:
            member = self._find_handle(handle)
            if member is None or self._trust.revoked(member.serial, member.node_id):
                return None
        return tuple(reversed(path))

    def _gone(self, handle: bytes, reason: str) -> None:
        if self.user is not None:
            self.user.gone(handle, reason)
