# SPDX-License-Identifier: MIT
"""
Sealed sessions with every peer: frames in and out.

Everything that could cost something before trust is bounded first, and nothing a stranger
sends hurts the link it came over: a bad frame is counted and forgotten.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.exchange import Exchange
from gmesh.endtoend.handshakes import Handshakes
from gmesh.endtoend.opener import Opener
from gmesh.endtoend.outlet import Outlet, Penalise, SenderAlong
from gmesh.endtoend.session import Handshaker, Session
from gmesh.endtoend.session_user import PathFollower, SessionUser
from gmesh.endtoend.table import ExchangeTable
from gmesh.endtoend.ways import Ways
from gmesh.interfaces import ILink, IRouteEngine
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Close, CloseReason, Inner
from gmesh.wire.paths import PathHeader

__all__ = ["Sessions"]

_FAREWELLS = {
    "stopped": CloseReason.SHUTDOWN,
    "revoked": CloseReason.REVOKED,
    "expired": CloseReason.EXPIRED,
}


class Sessions:
    """
    Sealed sessions with every peer of this node.

    @ivar counters: how often what happened, by slug.
    @ivar frame_for_us: takes each E2E frame whose destination is this node: its kind, header, payload
        behind the path header, and the link it came by.
    @ivar trust_changed: cuts whoever is not believed any more, as L{ExchangeTable.trust_changed}.
    @param find_handle: the directory, by routing handle.
    @param next_number: a handshake number above all this node ever used.
    @param rng: for jitter.
    @param entropy: as C{os.urandom}, for session indexes.
    @param behind: told the number of a CRL that a peer holds and this node does not.
    @param link_to: the link to a neighbour, by its routing handle.
    """

    def __init__(
        self,
        *,
        handshaker: Handshaker,
        trust: TrustState,
        find_handle: Callable[[bytes], Peer | None],
        routes: IRouteEngine,
        sender: SenderAlong,
        next_number: Callable[[], int],
        clock: IReactorTime,
        wall: Callable[[], float],
        rng: random.Random,
        entropy: Callable[[int], bytes],
        penalise: Penalise | None = None,
        link_to: Callable[[bytes], ILink | None] = lambda handle: None,
        behind: Callable[[int], None] = lambda number: None,
        max_sessions: int = limits.MAX_SESSIONS,
    ) -> None:
        self._user: SessionUser | None = None
        self._clock = clock
        self._handshaker = handshaker
        self._link_to = link_to
        self._table = ExchangeTable(
            own=lambda: handshaker.own.handle,
            trust=trust,
            find_handle=find_handle,
            clock=clock,
            wall=wall,
            entropy=entropy,
            due=lambda exchange, now: self._handshakes.due(exchange, now),
            farewell=self._farewell,
            gone=self._gone,
            max_sessions=max_sessions,
        )
        self.counters: Counter[str] = self._table.counters
        self._outlet = Outlet(routes, sender, penalise, self.counters)
        self._ways = Ways(self._outlet, trust, find_handle, link_to, self.counters)
        self._handshakes = Handshakes(
            table=self._table,
            outlet=self._outlet,
            ways=self._ways,
            handshaker=handshaker,
            trust=trust,
            find_handle=find_handle,
            next_number=next_number,
            rng=rng,
            up=self._finished,
            behind=behind,
        )
        self._opener = Opener(self._table, self._handshakes, self._ways, clock, self._up)
        self.frame_for_us = self._opener.frame
        self.trust_changed = self._table.trust_changed

    def serve(self, user: SessionUser) -> None:
        """Tell C{user} of everything, from before L{start} on."""
        self._user = user
        self._opener.opened = user.opened

    def start(self) -> None:
        """Listen to frames."""
        self._opener.running = True

    def stop(self) -> None:
        """Wipe everything; frames that still come are not for us."""
        self._opener.running = False
        for exchange in self._table:
            self._table.kill(exchange, "stopped")

    def __len__(self) -> int:
        return len(self._table)

    @property
    def established(self) -> int:
        """Peers with keys to seal with."""
        now = self._clock.seconds()
        return sum(1 for exchange in self._table if exchange.sealer(now) is not None)

    @property
    def own(self) -> bytes:
        """The routing handle of this node."""
        return self._handshaker.own.handle

    def routed(self, peer: Peer) -> bool:
        """True if routing knows a path."""
        return self._outlet.path(peer.handle, self._clock.seconds()) is not None

    def ready(self, peer: Peer) -> bool:
        """
        True if L{send} would seal now; if not, a handshake is under way and the user will be told.

        @raise SendRefused: C{busy}, if there are too many peers.
        """
        now = self._clock.seconds()
        exchange = self._table.get_or_make(peer, now)
        if exchange.sealer(now) is not None:
            return True
        exchange.wanted = True
        self._ask(exchange, now)
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
        self._ask(exchange, now)

    def send(self, peer: Peer, plaintext: bytes) -> int | None:
        """
        Seal and send now.

        @return: the counter of the frame; None if there is no session, no path, or no room at the link.
        """
        exchange = self._table.get(peer.handle)
        now = self._clock.seconds()
        session = exchange.sealer(now) if exchange is not None else None
        if exchange is None or session is None:
            return None
        return self._seal(exchange, session, plaintext, now)

    def send_all(
        self, peer: Peer, plaintexts: Sequence[Sequence[bytes]], sender: PathFollower
    ) -> Sequence[Sequence[bytes]]:
        """
        Seal and send now, each as a frame, in order: what is alike for them is looked up once.

        @param plaintexts: each in pieces, joined only here: what was copied just now is sealed faster.
        @param sender: told before, when the path is another one than it knows.
        @return: those that did not leave, for the reasons of L{send}.
        """
        exchange = self._table.get(peer.handle)
        now = self._clock.seconds()
        session = exchange.sealer(now) if exchange is not None else None
        path = None
        if exchange is not None and session is not None:
            path = self._way(exchange, session, now, sender)
        if session is None or path is None:
            return plaintexts
        seal, flow, send = session.seal, session.flow, self._outlet.sender(path)
        unsent = []
        for pieces in plaintexts:
            if session.wiped:
                break  # the peer was given up, and with it all that was to leave
            head, ciphertext = seal(b"".join(pieces), path)
            if not send(head, flow, ciphertext):
                self.counters["queue-full"] += 1
                unsent.append(pieces)
        return unsent

    def blame(self, peer: Peer) -> None:
        """What goes to C{peer} is not answered: try another path."""
        exchange = self._table.get(peer.handle)
        if exchange is not None:
            self._ways.blame(exchange, self._clock.seconds())

    def way_found(self, handle: bytes) -> None:
        """Routing knows a path that it did not know when it was asked."""
        self._handshakes.way_found(handle, self._clock.seconds())

    def undeliverable(self, header: PathHeader, reason: str) -> None:
        """
        A relay did not pass on a frame of ours; routing has already heard why.

        @param header: its receiver index and counter are those of that frame.
        """
        index, counter = header.receiver_index, header.counter
        self.counters["bounced"] += 1
        if index == 0:
            self._handshakes.bounced(counter, self._clock.seconds())
        elif self._user is not None:
            for exchange in self._table:
                if exchange.sent(index, counter):
                    if reason == "unreachable":
                        exchange.follows = None
                    self._user.bounced(exchange.peer.handle, counter, reason)

    def _ask(self, exchange: Exchange, now: float) -> None:
        exchange.used = now
        self._handshakes.begin_if_due(exchange, now)
        self._table.arm(exchange, now)

    def _finished(self, exchange: Exchange, session: Session, now: float) -> None:
        self._up(exchange, session, now)
        if session.sent == 0:
            self._seal(exchange, session, b"", now)  # tells the peer that we hold the keys

    def _up(self, exchange: Exchange, session: Session, now: float) -> None:
        self.counters["established"] += 1
        exchange.wanted = False
        for plaintext in exchange.release():
            self._seal(exchange, session, plaintext, now)
        if self._user is not None:
            self._user.ready(exchange.peer.handle)

    def _seal(self, exchange: Exchange, session: Session, plaintext: bytes, now: float) -> int | None:
        path = self._way(exchange, session, now)
        if path is None:
            return None
        counter = session.sent
        head, ciphertext = session.seal(plaintext, path)
        return counter if self._outlet.send(path, head, session.flow, ciphertext) else None

    def _way(
        self, exchange: Exchange, session: Session, now: float, sender: PathFollower | None = None
    ) -> tuple[bytes, ...] | None:
        """The path for what is sealed next, if there is one; C{sender} is told when it is another."""
        exchange.used = now
        if session.due(now):
            self._handshakes.begin_if_due(exchange, now)
        path = self._ways.path(exchange, now)
        if path is None:
            self.counters["no-route"] += 1
            return None
        exchange.sent_by = path
        if sender is not None and path is not sender.path:
            sender.follow(path, self._link_to(path[1]))
        return path

    def _farewell(self, exchange: Exchange, reason: str) -> None:
        """Tell the peer, if that needs no waiting, by the last path: routing knows none to a revoked node."""
        close, now = _FAREWELLS.get(reason), self._clock.seconds()
        session, path = exchange.sealer(now), exchange.sent_by or self._ways.path(exchange, now)
        if close is not None and session is not None and path is not None:
            head, ciphertext = session.seal(pack_frame(Inner.CLOSE, Close(close).encode()), path)
            self._outlet.send(path, head, session.flow, ciphertext)

    def _gone(self, handle: bytes, reason: str) -> None:
        if self._user is not None:
            self._user.gone(handle, reason)
