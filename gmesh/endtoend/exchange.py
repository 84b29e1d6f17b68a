# SPDX-License-Identifier: MIT
"""
All sessions with one peer: which one seals, which ones still open, and when the next must begin.

Make before break, agreed without a word more than the handshake itself:

 - who finishes a handshake it began seals with it at once and retires what was there before;
 - who answered one uses it only when a frame on it arrives, since message 1 can be replayed;
 - retired keys only open, until a frame on newer keys was heard and L{RECEIVE_GRACE} has passed;
 - when both begin at once, the smaller handle ignores the other's attempt and the larger drops its own.

So no order of events lets each end hold on to keys that the other has retired.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gmesh.endtoend import limits
from gmesh.endtoend.session import Initiation, Session
from gmesh.mesh.peer_identity import Peer

__all__ = ["Attempt", "Exchange"]


@dataclass(slots=True)
class Attempt:
    """
    A handshake of ours under way, over all its retries.

    @ivar initiation: the newest message 1 and what can read its answer.
    @ivar began: when the first one was made.
    @ivar sent: when the newest one was.
    @ivar retry: when to make another.
    """

    initiation: Initiation
    began: float
    sent: float
    retry: float


@dataclass(slots=True)
class _Retired:
    session: Session
    until: float


class Exchange:
    """
    What this end shares with one peer. Pure: told what happens and when.

    @ivar peer: the newest identity the peer proved or the directory knows.
    @ivar current: the session that seals, or None.
    @ivar answered: a session we answered and have not heard on, or None.
    @ivar reply: message 2 of C{answered}, while there was no way to send it.
    @ivar attempt: our own handshake under way, or None.
    @ivar pending: plaintexts that wait for a session.
    @ivar wanted: True if somebody above waits for a session.
    @ivar used: when a frame last went or came.
    @ivar heard_by: the path by which a frame last came.
    @ivar sent_by: the path by which one last went.
    @ivar follows: the path to take instead of that of routing, or None.
    """

    __slots__ = (
        "_pending_bytes",
        "_retired",
        "answered",
        "attempt",
        "current",
        "follows",
        "heard_by",
        "own",
        "peer",
        "pending",
        "reply",
        "sent_by",
        "used",
        "wanted",
    )

    def __init__(self, own: bytes, peer: Peer, now: float) -> None:
        self.own = own
        self.peer = peer
        self.current: Session | None = None
        self.answered: Session | None = None
        self.reply: bytes | None = None
        self.attempt: Attempt | None = None
        self.pending: deque[bytes] = deque()
        self.wanted = False
        self.used = now
        self.heard_by: tuple[bytes, ...] | None = None
        self.sent_by: tuple[bytes, ...] | None = None
        self.follows: tuple[bytes, ...] | None = None
        self._retired: list[_Retired] = []
        self._pending_bytes = 0

    def sessions(self) -> Iterator[Session]:
        """Every session there is."""
        if self.current is not None:
            yield self.current
        if self.answered is not None:
            yield self.answered
        for retired in self._retired:
            yield retired.session

    def sent(self, remote_index: int, counter: int) -> bool:
        """True if a frame of ours went to this session index with this counter."""
        return any(
            session.remote_index == remote_index and counter < session.sent for session in self.sessions()
        )

    @property
    def idle(self) -> bool:
        """True if forgetting it would interrupt no handshake."""
        return self.attempt is None and not self.pending and not self.wanted

    def sealer(self, now: float) -> Session | None:
        """The session to send on, if there is one."""
        session = self.current
        return session if session is not None and session.usable(now) else None

    def should_begin(self, now: float) -> bool:
        """True if this end should begin a handshake now, given that the peer is being talked with."""
        if self.attempt is not None:
            return False
        if self.answered is not None and now - self.answered.born < limits.HANDSHAKE_RETRY:
            return False  # its first frame is on the way
        session = self.sealer(now)
        return session is None or session.due(now)

    def yields(self, now: float) -> bool:
        """
        True if the peer's handshake may be answered, and not ignored in favour of our own under way.

        An own attempt unanswered for long gives way whoever is smaller: perhaps the peer cannot read it.
        """
        return (
            self.attempt is None or self.own > self.peer.handle or now - self.attempt.sent > limits.TIE_TIME
        )

    def answering(self, session: Session) -> list[Session]:
        """We answered the peer's handshake. @return: sessions to wipe."""
        gone = [] if self.answered is None else [self.answered]
        self.answered = session
        self.peer = session.peer
        self.abandon()
        return gone

    def finished(self, session: Session, now: float) -> list[Session]:
        """Our own handshake was answered. @return: sessions to wipe."""
        self.attempt = None
        gone = self._retire(self.answered, now) + self._retire(self.current, now)
        self.answered = None
        self.current = session
        return gone

    def heard(self, session: Session, now: float) -> list[Session]:
        """The first frame on C{session} was opened. @return: sessions to wipe."""
        session.heard = True
        gone: list[Session] = []
        if session is self.answered:
            gone = self._retire(self.current, now)
            self.current, self.answered = session, None
            self.abandon()
        if session is self.current:
            for retired in self._retired:
                retired.until = min(retired.until, now + limits.RECEIVE_GRACE)
        return gone

    def adopt(self, peer: Peer) -> None:
        """The same node with the same keys under a newer certificate."""
        self.peer = peer
        for session in self.sessions():
            if session.peer.noise_key == peer.noise_key:
                session.peer = peer

    def abandon(self) -> None:
        """Give up the own handshake under way, if any."""
        if self.attempt is not None:
            self.attempt.initiation.wipe()
            self.attempt = None

    def hold(self, plaintext: bytes) -> int:
        """Let C{plaintext} wait for a session. @return: how many older ones had to go."""
        self.pending.append(plaintext)
        self._pending_bytes += len(plaintext)
        dropped = 0
        while len(self.pending) > limits.MAX_PENDING_FRAMES or self._pending_bytes > limits.MAX_PENDING_BYTES:
            self._pending_bytes -= len(self.pending.popleft())
            dropped += 1
        return dropped

    def release(self) -> list[bytes]:
        """Take out what waits."""
        waiting = list(self.pending)
        self.pending.clear()
        self._pending_bytes = 0
        return waiting

    def expire(self, now: float) -> list[Session]:
        """Drop what is too old. @return: sessions to wipe."""
        gone = [retired.session for retired in self._retired if retired.until <= now]
        self._retired = [retired for retired in self._retired if retired.until > now]
        if self.current is not None and _ends(self.current) <= now:
            gone.append(self.current)
            self.current = None
        if self.answered is not None and _ends(self.answered) <= now:
            gone.append(self.answered)
            self.answered = None
        return gone

    def deadline(self) -> float:
        """When something of the above must be looked at again."""
        times = [self.used + limits.FORGET_IDLE]
        times += [retired.until for retired in self._retired]
        if self.current is not None:
            times.append(_ends(self.current))
        if self.answered is not None:
            times.append(_ends(self.answered))
        if self.attempt is not None:
            times += [self.attempt.retry, self.attempt.began + limits.HANDSHAKE_GIVE_UP]
        elif (self.pending or self.wanted) and self.answered is not None:
            times.append(self.answered.born + limits.HANDSHAKE_RETRY)
        return min(times)

    def _retire(self, session: Session | None, now: float) -> list[Session]:
        if session is None:
            return []
        self._retired.append(_Retired(session, _ends(session)))
        if len(self._retired) > limits.MAX_RETIRED:
            return [self._retired.pop(0).session]
        return []


def _ends(session: Session) -> float:
    return session.born + limits.REFUSE_AFTER + limits.RECEIVE_GRACE
