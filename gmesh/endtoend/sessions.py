# SPDX-License-Identifier: MIT
"""
Sealed sessions with every peer: frames in and out.

Everything that could cost something before trust is bounded first, and nothing a stranger
sends hurts the link it came over: a bad frame is counted and forgotten.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.exchange import Exchange
from gmesh.endtoend.handshakes import Handshakes
from gmesh.endtoend.outlet import Outlet, Penalise, SendFrame
from gmesh.endtoend.session import Handshaker, Session
from gmesh.endtoend.session_user import PathFollower, SessionUser
from gmesh.endtoend.table import ExchangeTable
from gmesh.errors import GmeshError
from gmesh.interfaces import ILink, IRouteEngine
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Close, CloseReason, Inner
from gmesh.wire.paths import PathHeader

__all__ = ["Sessions"]


_FAREWELLS = {
    "stopped": CloseReason.SHUTDOWN,
    "revoked": CloseReason.REVOKED,
    "expired": CloseReason.EXPIRED,
}
_CLOSE_SIZE = FRAME_HEADER + 1


class Sessions:
    """
    Sealed sessions with every peer of this node.

    @ivar counters: how often what happened, by slug.
    @ivar user: the one above, set before L{start}.
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
        send_frame: SendFrame,
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
        self.user: SessionUser | None = None
        self._running = False
        self._trust = trust
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
        self._outlet = Outlet(routes, send_frame, penalise, self.counters)
        self._handshakes = Handshakes(
            table=self._table,
            outlet=self._outlet,
            handshaker=handshaker,
            trust=trust,
            find_handle=find_handle,
            next_number=next_number,
            rng=rng,
            up=self._finished,
            behind=behind,
        )

    def start(self) -> None:
        """Listen to what is believed, and to frames."""
        self._running = True
        self._trust.observers.append(self._table.trust_changed)

    def stop(self) -> None:
        """Wipe everything; frames that still come are not for us."""
        self._running = False
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

    def send(self, peer: Peer, plaintext: bytes, sender: PathFollower | None = None) -> int | None:
        """
        Seal and send now.

        @param sender: told before, when the path is another one than it knows.
        @return: the counter of the frame; None if there is no session, no path, or no room at the link.
        """
        exchange = self._table.get(peer.handle)
        now = self._clock.seconds()
        session = exchange.sealer(now) if exchange is not None else None
        if exchange is None or session is None:
            return None
        return self._seal(exchange, session, plaintext, now, sender)

    def blame(self, peer: Peer) -> None:
        """What goes to C{peer} is not answered: try another path."""
        self._outlet.blame(peer.handle, self._clock.seconds())

    def frame_for_us(
        self, kind: int, header: PathHeader, body: bytes | memoryview, ingress_link: ILink
    ) -> None:
        """
        One E2E frame whose destination is this node.

        @param body: the payload behind the path header.
        """
        now = self._clock.seconds()
        if not self._running:
            self.counters["stopped"] += 1
        elif kind == Kind.E2E_DATA:
            self._data(header, body, now)
        elif kind == Kind.E2E_INIT:
            self._handshakes.first_message(header, body, ingress_link.peer.handle, now)
        elif kind == Kind.E2E_RESP:
            self._handshakes.second_message(header, body, now)
        else:
            self.counters["unknown-kind"] += 1

    def undeliverable(self, header: PathHeader, reason: str) -> None:
        """
        A relay did not pass on a frame of ours; routing has already heard why.

        @param header: its receiver index and counter are those of that frame.
        """
        index, counter = header.receiver_index, header.counter
        self.counters["bounced"] += 1
        if index == 0:
            self._handshakes.bounced(counter, self._clock.seconds())
        elif self.user is not None:
            for exchange in self._table:
                if exchange.sent(index, counter):
                    self.user.bounced(exchange.peer.handle, counter, reason)

    def _ask(self, exchange: Exchange, now: float) -> None:
        exchange.used = now
        self._handshakes.begin_if_due(exchange, now)
        self._table.arm(exchange, now)

    def _data(self, header: PathHeader, body: bytes | memoryview, now: float) -> None:
        found = self._table.session(header.receiver_index)
        if found is None or header.source != found[1].peer.handle:
            self.counters["no-session"] += 1
            self._handshakes.offer(header.source, now)
            return
        exchange, session = found
        try:
            plaintext = session.open(header, body)
        except GmeshError as error:
            self.counters[error.reason] += 1
            return
        if len(plaintext) == _CLOSE_SIZE and plaintext[2] == Inner.CLOSE:
            self._closed(exchange, session, plaintext[FRAME_HEADER:])
            return
        exchange.used = now
        exchange.heard_by = header.path
        if not session.heard:
            self._first_heard(exchange, session, now)
        elif session is exchange.current and session.due(now):
            self._handshakes.begin_if_due(exchange, now)
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

    def _finished(self, exchange: Exchange, session: Session, now: float) -> None:
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

    def _seal(
        self,
        exchange: Exchange,
        session: Session,
        plaintext: bytes,
        now: float,
        sender: PathFollower | None = None,
    ) -> int | None:
        exchange.used = now
        if session.due(now):
            self._handshakes.begin_if_due(exchange, now)
        path = self._path(exchange, now)
        if path is None:
            self.counters["no-route"] += 1
            return None
        exchange.sent_by = path
        if sender is not None and path is not sender.path:
            sender.follow(path, self._link_to(path[1]))
        counter, frame, flow = session.seal(plaintext, path)
        return counter if self._outlet.send(path, frame, flow) else None

    def _path(self, exchange: Exchange, now: float) -> tuple[bytes, ...] | None:
        """The path to a peer; while routing knows none, the way it is heard by."""
        path = self._outlet.path(exchange.peer.handle, now)
        if path is None and exchange.heard_by is not None:
            return self._handshakes.way_back(exchange.heard_by)
        return path

    def _farewell(self, exchange: Exchange, reason: str) -> None:
        """Tell the peer, if that needs no waiting, by the last path: routing knows none to a revoked node."""
        close, now = _FAREWELLS.get(reason), self._clock.seconds()
        session, path = exchange.sealer(now), exchange.sent_by or self._path(exchange, now)
        if close is not None and session is not None and path is not None:
            _, frame, flow = session.seal(pack_frame(Inner.CLOSE, Close(close).encode()), path)
            self._outlet.send(path, frame, flow)

    def _closed(self, exchange: Exchange, session: Session, body: bytes) -> None:
        """The peer has wiped this session; others with it live on."""
        try:
            self.counters[f"closed-{Close.decode(body).reason.slug}"] += 1
        except GmeshError:
            self.counters["inner-malformed"] += 1
            return
        if session in (exchange.current, exchange.answered):
            self._table.kill(exchange, "closed")

    def _gone(self, handle: bytes, reason: str) -> None:
        if self.user is not None:
            self.user.gone(handle, reason)
