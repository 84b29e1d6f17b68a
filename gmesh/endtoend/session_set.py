# SPDX-License-Identifier: MIT
"""
All sessions with one peer: which one seals, which ones still open, and when the next must begin.

Make before break, agreed by the handshake and the first frames, without further messages:

 - the end that finishes a handshake it began seals with it at once and retires what was there before;
 - the end that answered one uses it only when a frame on it arrives, since message 1 can be replayed;
 - retired keys only open, until a frame on newer keys was heard and L{RECEIVE_GRACE
   <gmesh.endtoend.limits.RECEIVE_GRACE>} has passed;
 - when both begin at once, the smaller handle ignores the other's attempt and the larger drops its own.

So no order of events lets each end hold on to keys that the other has retired.
Tests: C{tests/endtoend/test_sessions.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gmesh.endtoend import limits
from gmesh.endtoend.deadline_timer import DeadlineTimer
from gmesh.endtoend.session import Initiation, SealedSession
from gmesh.mesh.peer_identity import Peer

__all__ = ["HandshakeAttempt", "SessionSet", "SessionTable"]


@dataclass(slots=True)
class HandshakeAttempt:
    """
    A handshake of ours under way, over all its retries.

    @ivar initiation: the newest message 1 and what can read its answer.
    @ivar began: when the first one was made.
    @ivar sent: when the newest one was.
    @ivar retry: when to make another.
    @ivar path: the path it was sent by, if there was one.
    """

    initiation: Initiation
    began: float
    sent: float
    retry: float
    path: tuple[bytes, ...] | None = None

    @property
    def patience(self) -> float:
        """How long the newest message 1 may go unanswered, seconds."""
        return limits.FIRST_TIMEOUT if self.sent == self.began else limits.REKEY_TIMEOUT


@dataclass(slots=True)
class _Retired:
    session: SealedSession
    until: float


class SessionSet:
    """
    The keys shared with one peer and the paths to it. Pure: it is given what happens and when.

    @ivar peer: the newest identity the peer proved or the directory knows.
    @ivar timer: to be set for each L{deadline}.
    @ivar current: the session that seals, or None.
    @ivar answered: a session we answered and have not heard on, or None.
    @ivar reply: message 2 of C{answered}, while there was no path to send it.
    @ivar attempt: our own handshake under way, or None.
    @ivar pending: plaintexts queued for a session.
    @ivar wanted: True if something above waits for a session.
    @ivar used: when a frame last went or came.
    @ivar heard_by: the path by which a frame last came.
    @ivar back: its reverse, if all on it were members when it was first heard; answers go by it.
    @ivar sent_by: the path by which one last went.
    @ivar given_up: True once the peer was given up: nothing begins any more.
    """

    __slots__ = (
        "_pending_bytes",
        "_retired",
        "answered",
        "attempt",
        "back",
        "current",
        "given_up",
        "heard_by",
        "own",
        "peer",
        "pending",
        "reply",
        "sent_by",
        "timer",
        "used",
        "wanted",
    )

    def __init__(self, own: bytes, peer: Peer, now: float, timer: DeadlineTimer) -> None:
        self.own = own
        self.peer = peer
        self.timer = timer
        self.current: SealedSession | None = None
        self.answered: SealedSession | None = None
        self.reply: bytes | None = None
        self.attempt: HandshakeAttempt | None = None
        self.pending: deque[bytes] = deque()
        self.wanted = False
        self.used = now
        self.heard_by: tuple[bytes, ...] | None = None
        self.back: tuple[bytes, ...] | None = None
        self.sent_by: tuple[bytes, ...] | None = None
        self.given_up = False
        self._retired: list[_Retired] = []
        self._pending_bytes = 0

    def sessions(self) -> Iterator[SealedSession]:
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

    def replied(self, remote_index: int, number: int) -> bool:
        """True if a message 2 of ours went to this session index, in the handshake of this number."""
        return any(
            session.remote_index == remote_index and session.number == number for session in self.sessions()
        )

    @property
    def idle(self) -> bool:
        """True if forgetting it would interrupt no handshake."""
        return self.attempt is None and not self.pending and not self.wanted

    @property
    def in_use(self) -> bool:
        """True if anything is to be sent, or there are sessions; strangers' frames begin handshakes too."""
        return bool(self.pending) or self.wanted or any(self.sessions())

    def sealer(self, now: float) -> SealedSession | None:
        """The session to send on, if there is one."""
        session = self.current
        return session if session is not None and session.usable(now) else None

    def should_begin(self, now: float) -> bool:
        """True if this end should begin a handshake now, given that it talks with the peer."""
        if self.attempt is not None or self.given_up:
            return False
        if self.answered is not None and now - self.answered.born < limits.REKEY_TIMEOUT:
            return False  # its first frame is on the way
        session = self.sealer(now)
        return session is None or session.due(now)

    def yields(self, now: float) -> bool:
        """
        True if the peer's handshake may be answered, and not ignored in favour of our own under way.

        An own attempt unanswered for long yields whichever handle is smaller: perhaps the peer cannot
        read it.
        """
        return (
            self.attempt is None or self.own > self.peer.handle or now - self.attempt.sent > limits.TIE_TIME
        )

    def answering(self, session: SealedSession) -> list[SealedSession]:
        """We answered the peer's handshake. @return: sessions to wipe."""
        gone = [] if self.answered is None else [self.answered]
        self.answered = session
        self.peer = session.peer
        self.abandon()
        return gone

    def finished(self, session: SealedSession, now: float) -> list[SealedSession]:
        """Our own handshake was answered. @return: sessions to wipe."""
        self.attempt = None
        gone = self._retire(self.answered, now) + self._retire(self.current, now)
        self.answered = None
        self.current = session
        return gone

    def heard(self, session: SealedSession, now: float) -> list[SealedSession]:
        """The first frame on C{session} was opened. @return: sessions to wipe."""
        session.heard = True
        gone: list[SealedSession] = []
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
        """Queue C{plaintext} for a session. @return: how many older ones had to go."""
        self.pending.append(plaintext)
        self._pending_bytes += len(plaintext)
        dropped = 0
        while len(self.pending) > limits.MAX_PENDING_FRAMES or self._pending_bytes > limits.MAX_PENDING_BYTES:
            self._pending_bytes -= len(self.pending.popleft())
            dropped += 1
        return dropped

    def release(self) -> list[bytes]:
        """Take out what is queued."""
        waiting = list(self.pending)
        self.pending.clear()
        self._pending_bytes = 0
        return waiting

    def lose_way(self) -> None:
        """Members changed, or the way back leads nowhere: the next frame of the peer shows one."""
        self.heard_by = self.back = None

    def clear(self) -> list[SealedSession]:
        """Let go of every session. @return: sessions to wipe."""
        gone = list(self.sessions())
        self.current = self.answered = self.reply = None
        self._retired.clear()
        return gone

    def expire(self, now: float) -> list[SealedSession]:
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
            times += [self.attempt.retry, self.attempt.began + limits.REKEY_ATTEMPT_TIME]
        elif (self.pending or self.wanted) and self.answered is not None:
            times.append(self.answered.born + limits.REKEY_TIMEOUT)
        return min(times)

    def _retire(self, session: SealedSession | None, now: float) -> list[SealedSession]:
        if session is None:
            return []
        self._retired.append(_Retired(session, _ends(session)))
        if len(self._retired) > limits.MAX_RETIRED:
            return [self._retired.pop(0).session]
        return []


def _ends(session: SealedSession) -> float:
    return session.born + limits.REJECT_AFTER_TIME + limits.RECEIVE_GRACE


class SessionTable:
    """
    Sessions and own handshakes by the local index that is in the header of each frame to them.

    @ivar session: gives the session with this local index and the set it belongs to, or None.
    @param entropy: as C{os.urandom}, for indexes.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._sessions: dict[int, tuple[SessionSet, SealedSession]] = {}
        self.session = self._sessions.get  # asked for every frame
        self._attempts: dict[int, SessionSet] = {}

    def __len__(self) -> int:
        return len(self._sessions) + len(self._attempts)

    def attempt(self, index: int) -> SessionSet | None:
        """The set whose own handshake has this local index."""
        return self._attempts.get(index)

    def new_index(self) -> int:
        """A local index that nobody can guess and nothing else has."""
        while True:
            index = int.from_bytes(self._entropy(4), "big")
            if index and index not in self._sessions and index not in self._attempts:
                return index

    def add_session(self, keys: SessionSet, session: SealedSession) -> None:
        """Let frames find C{session}."""
        self._sessions[session.local_index] = (keys, session)

    def set_attempt(self, keys: SessionSet, attempt: HandshakeAttempt) -> None:
        """Let the answer find our handshake."""
        self.drop_attempt(keys)
        keys.attempt = attempt
        self._attempts[attempt.initiation.local_index] = keys

    def drop_attempt(self, keys: SessionSet) -> None:
        """Give up our handshake under way, if any."""
        if keys.attempt is not None:
            self._attempts.pop(keys.attempt.initiation.local_index, None)
            keys.abandon()

    def close_attempt(self, index: int) -> None:
        """An answer to it was read, good or bad: no other will be."""
        self._attempts.pop(index, None)

    def wipe(self, sessions: Sequence[SealedSession]) -> None:
        """Forget the keys of sessions that left their set."""
        for session in sessions:
            session.wipe()
            self._sessions.pop(session.local_index, None)
