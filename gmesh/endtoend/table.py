# SPDX-License-Identifier: MIT
"""
Every exchange of this node: found by handle or by index, bounded, timed, and cut when it must be.

A revocation or an expiry takes the sessions, handshakes and waiting data of the peer with it
in the same reactor turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.exchange import Attempt, Exchange
from gmesh.endtoend.session import Session
from gmesh.errors import PeerRefused, SendRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.state import TrustState

__all__ = ["ExchangeTable"]


class ExchangeTable:
    """
    One L{Exchange} a peer, and whatever belongs to it.

    @ivar counters: how often what happened, by slug.
    @ivar session: gives the exchange and the session with this local index, or None.
    @param own: this node's routing handle.
    @param find_handle: the directory, by routing handle.
    @param due: called with an exchange when its deadline has come and something may be begun.
    @param farewell: called with an exchange and the reason just before its keys are wiped.
    @param gone: called with the handle and the reason when a peer was given up.
    """

    def __init__(
        self,
        *,
        own: Callable[[], bytes],
        trust: TrustState,
        find_handle: Callable[[bytes], Peer | None],
        clock: IReactorTime,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes],
        due: Callable[[Exchange, float], None],
        farewell: Callable[[Exchange, str], None],
        gone: Callable[[bytes, str], None],
        max_sessions: int,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._own = own
        self._trust = trust
        self._find_handle = find_handle
        self._clock = clock
        self._wall = wall
        self._entropy = entropy
        self._due = due
        self._farewell = farewell
        self._gone = gone
        self._max_sessions = max_sessions
        self._exchanges: dict[bytes, Exchange] = {}
        self._timers: dict[bytes, IDelayedCall] = {}
        self._sessions: dict[int, tuple[Exchange, Session]] = {}
        self.session = self._sessions.get  # asked for every frame
        self._attempts: dict[int, Exchange] = {}

    def __len__(self) -> int:
        return len(self._exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(list(self._exchanges.values()))

    def get(self, handle: bytes) -> Exchange | None:
        """The exchange with this node, if there is one."""
        return self._exchanges.get(handle)

    def get_or_make(self, peer: Peer, now: float) -> Exchange:
        """
        The exchange with C{peer}; the least recently used idle one makes room for it if it must.

        @raise SendRefused: C{busy}, if none is idle.
        """
        exchange = self._exchanges.get(peer.handle)
        if exchange is None:
            if len(self._exchanges) >= self._max_sessions:
                self._evict()
            exchange = self._exchanges[peer.handle] = Exchange(self._own(), peer, now)
            self.arm(exchange, now)
        return exchange

    @property
    def full(self) -> bool:
        """True if one more would push another out."""
        return len(self._exchanges) >= self._max_sessions

    def attempt(self, index: int) -> Exchange | None:
        """The exchange whose own handshake has this local index."""
        return self._attempts.get(index)

    def new_index(self) -> int:
        """A local index that nobody can guess and nothing else has."""
        while True:
            index = int.from_bytes(self._entropy(4), "big")
            if index and index not in self._sessions and index not in self._attempts:
                return index

    def add_session(self, exchange: Exchange, session: Session) -> None:
        """Let frames find C{session}."""
        self._sessions[session.local_index] = (exchange, session)

    def set_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        """Let the answer find our handshake."""
        self.drop_attempt(exchange)
        exchange.attempt = attempt
        self._attempts[attempt.initiation.local_index] = exchange

    def drop_attempt(self, exchange: Exchange) -> None:
        """Give up our handshake under way, if any."""
        if exchange.attempt is not None:
            self._attempts.pop(exchange.attempt.initiation.local_index, None)
            exchange.abandon()

    def close_attempt(self, index: int) -> None:
        """An answer to it was read, good or bad: no other will be."""
        self._attempts.pop(index, None)

    def wipe(self, sessions: Sequence[Session]) -> None:
        """Forget the keys of sessions that left their exchange."""
        for session in sessions:
            session.wipe()
            self._sessions.pop(session.local_index, None)

    def kill(self, exchange: Exchange, reason: str) -> None:
        """Forget a peer: sessions, handshake, waiting data, timer."""
        handle = exchange.peer.handle
        del self._exchanges[handle]
        timer = self._timers.pop(handle, None)
        if timer is not None and timer.active():
            timer.cancel()
        self.drop_attempt(exchange)
        self._farewell(exchange, reason)
        self.wipe(list(exchange.sessions()))
        exchange.release()
        self.counters[f"gone-{reason}"] += 1
        self._gone(handle, reason)

    def judge(self, exchange: Exchange) -> bool:
        """Still believe the peer, if need be by a newer certificate for the same keys; else cut it off."""
        wall = self._wall()
        newer = self._find_handle(exchange.peer.handle)
        reason = "revoked"
        for peer in (exchange.peer, newer):
            if peer is None or peer.noise_key != exchange.peer.noise_key:
                continue
            try:
                self._trust.judge_certificate(peer.certificate, wall)
            except PeerRefused as refusal:
                reason = refusal.reason
                continue
            exchange.adopt(peer)
            return True
        self.kill(exchange, reason)
        return False

    def trust_changed(self, kind: str) -> None:
        """Judge every peer again when a document changed by which they are believed."""
        if kind in ("crl", "genesis"):
            for exchange in self:
                exchange.follows = None
                if self._exchanges.get(exchange.peer.handle) is exchange:
                    self.judge(exchange)

    def arm(self, exchange: Exchange, now: float) -> None:
        """Look at the exchange again when its next deadline comes, not later."""
        expiry = now + exchange.peer.not_after + CERTIFICATE_LEEWAY + 1 - self._wall()
        delay = max(limits.TIMER_GRAIN, min(exchange.deadline(), expiry) - now)
        handle = exchange.peer.handle
        timer = self._timers.get(handle)
        if timer is None or not timer.active():
            self._timers[handle] = self._clock.callLater(delay, self._tick, handle)
        elif timer.getTime() > now + delay:
            timer.reset(delay)

    def _tick(self, handle: bytes) -> None:
        exchange = self._exchanges[handle]
        now = self._clock.seconds()
        self.wipe(exchange.expire(now))
        if self._wall() > exchange.peer.not_after + CERTIFICATE_LEEWAY and not self.judge(exchange):
            return
        if exchange.attempt is not None and now - exchange.attempt.began >= limits.HANDSHAKE_GIVE_UP:
            self.kill(exchange, "timed-out")
        elif exchange.attempt is None and now - exchange.used >= limits.FORGET_IDLE:
            self.kill(exchange, "idle")
        else:
            self._due(exchange, now)
            self.arm(exchange, now)

    def _evict(self) -> None:
        idle = [exchange for exchange in self._exchanges.values() if exchange.idle]
        if not idle:
            raise SendRefused("busy", f"sessions with {len(self)} nodes are being set up; try again later")
        self.kill(min(idle, key=lambda exchange: exchange.used), "evicted")
