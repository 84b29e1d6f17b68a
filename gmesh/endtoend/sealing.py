# SPDX-License-Identifier: MIT
"""
Frames to one peer: sealed under the keys there are, sent by its path; keys asked for if there are none.

Tests: C{tests/endtoend/test_sessions.py}, C{tests/endtoend/test_batching.py}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend.handshakes import Handshakes
from gmesh.endtoend.path_selector import FirstLink, Path, PathSelector
from gmesh.endtoend.session import Handshaker, SealedSession
from gmesh.endtoend.session_set import SessionSet, SessionTable
from gmesh.endtoend.turn_end import TurnEnd
from gmesh.interfaces import ILink
from gmesh.mesh.members import MemberDirectory
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Close, CloseReason, Feature, Inner

__all__ = ["Pieces", "Sealer"]

Pieces = Sequence[bytes | memoryview]
"""A plaintext, once joined."""

_FAREWELLS = {
    "stopped": CloseReason.SHUTDOWN,
    "revoked": CloseReason.REVOKED,
    "expired": CloseReason.EXPIRED,
}


class Sealer:
    """
    Sends to session sets.

    @param rng: for jitter.
    @param entropy: as C{os.urandom}, for session indexes.
    @ivar handshaker: this node.
    @ivar turn: the end of what is read now, for all that sends.
    @ivar table: every session by its index.
    @ivar counters: how often what happened, by slug, for the whole end-to-end layer.
    """

    def __init__(
        self,
        handshaker: Handshaker,
        paths: PathSelector,
        directory: MemberDirectory,
        clock: IReactorTime,
        rng: random.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.handshaker = handshaker
        self.paths = paths
        self.table = SessionTable(entropy)
        self.handshakes = Handshakes(handshaker, self.table, paths, directory, rng)
        self.counters = paths.counters
        self.turn = TurnEnd()
        self._clock = clock

    @property
    def own(self) -> bytes:
        """The routing handle of this node."""
        return self.handshaker.own.handle

    def routed(self, keys: SessionSet) -> bool:
        """True if routing knows a path."""
        return self.paths.route(keys.peer.handle, self._clock.seconds()) is not None

    def ready(self, keys: SessionSet) -> bool:
        """
        True if L{send} would seal now, False if a handshake is under way.

        True also for a peer that was given up: nothing is to be waited for.
        """
        now = self._clock.seconds()
        if keys.sealer(now) is not None or keys.given_up:
            return True
        keys.wanted = True
        self._ask(keys, now)
        return False

    def link(self, keys: SessionSet) -> ILink | None:
        """The link by which frames leave now, if there is one."""
        path = self.paths.path(keys, self._clock.seconds())
        return None if path is None else self.paths.link_to(path[1])

    def tells_outcomes(self, keys: SessionSet) -> bool:
        """True if both ends say, by the keys of now, that they tell what becomes of messages."""
        session = keys.sealer(self._clock.seconds())
        both = 0 if session is None else session.features & self.handshaker.features
        return bool(both & Feature.OUTCOMES)

    def hold(self, keys: SessionSet, plaintext: bytes) -> None:
        """Send C{plaintext} when the handshake is done, unless too much comes after it or it fails."""
        now = self._clock.seconds()
        dropped = keys.hold(plaintext)
        if dropped:
            self.counters["pending-dropped"] += dropped
        self._ask(keys, now)

    def send(self, keys: SessionSet, plaintext: bytes) -> int | None:
        """
        Seal and send now.

        @return: the counter of the frame; None if there is no session, no path, or no room at the link.
        """
        now = self._clock.seconds()
        session = keys.sealer(now)
        if session is None:
            return None
        path = self._path(keys, session, now)
        if path is None:
            return None
        counter = session.sent
        head, ciphertext = session.seal(plaintext, path)
        return counter if self.paths.send(path, head, session.flow, ciphertext) else None

    def answer(self, keys: SessionSet, plaintext: bytes, path: Path) -> bool:
        """Seal and send now what answers the peer, back by C{path}. @return: False if it is lost."""
        keys.used = now = self._clock.seconds()
        session = keys.sealer(now)
        if session is None:
            return False
        head, ciphertext = session.seal(plaintext, path)
        return self.paths.send(path, head, session.flow, ciphertext)

    def send_all(
        self, keys: SessionSet, plaintexts: Sequence[Pieces], first_link: FirstLink
    ) -> Sequence[Pieces]:
        """
        Seal and send now, each as a frame, in order: what is alike for them is looked up once.

        @param plaintexts: each in pieces, joined only here: what was copied just now is sealed faster.
        @param first_link: changed before, when the path is another one than it knows.
        @return: those that did not leave, for the reasons of L{send}.
        """
        session = self.follow(keys, first_link)
        path = first_link.path
        if session is None or path is None:
            return plaintexts
        seal, flow, send = session.seal, session.flow, self.paths.sender(path)
        unsent = []
        for pieces in plaintexts:
            if session.wiped:
                break  # the peer was given up, and with it all that was to leave
            head, ciphertext = seal(b"".join(pieces), path)
            if not send(head, flow, ciphertext):
                self.counters["queue-full"] += 1
                unsent.append(pieces)
        return unsent

    def follow(self, keys: SessionSet, first_link: FirstLink) -> SealedSession | None:
        """
        Let C{first_link} be that of the path for what is sealed next.

        @return: the session to seal it with; None if there is none, or no path.
        """
        now = self._clock.seconds()
        session = keys.sealer(now)
        path = None if session is None else self._path(keys, session, now)
        if session is None or path is None:
            return None
        if path is not first_link.path:
            first_link.follow(path, self.paths.link_to(path[1]))
        return session

    def blame(self, keys: SessionSet, path: tuple[bytes, ...] | None, sent: float) -> None:
        """
        What went to the peer by C{path} is not answered: try another.

        @param sent: when it went: what was sealed with keys before those of now proves nothing.
        """
        now = self._clock.seconds()
        session = keys.sealer(now)
        if session is None or session.born <= sent:
            self.paths.blame(path, now)

    def established(self, keys: SessionSet) -> None:
        """There is a new session: send what was queued for it."""
        self.counters["established"] += 1
        keys.wanted = False
        for plaintext in keys.release():
            self.send(keys, plaintext)

    def close(self, keys: SessionSet, reason: str) -> None:
        """
        Forget sessions, handshake and queued frames.

        The peer is informed first, if that needs no waiting, by the last path: routing knows none to a
        revoked node.
        """
        self.table.drop_attempt(keys)
        close, now = _FAREWELLS.get(reason), self._clock.seconds()
        session, path = keys.sealer(now), keys.sent_by or self.paths.path(keys, now)
        if close is not None and session is not None and path is not None:
            head, ciphertext = session.seal(pack_frame(Inner.CLOSE, Close(close).encode()), path)
            self.paths.send(path, head, session.flow, ciphertext)
        self.table.wipe(keys.clear())
        keys.release()
        keys.wanted = False

    def _ask(self, keys: SessionSet, now: float) -> None:
        keys.used = now
        self.handshakes.begin_if_due(keys, now)
        self.handshakes.arm(keys, now)

    def _path(self, keys: SessionSet, session: SealedSession, now: float) -> tuple[bytes, ...] | None:
        """The path for what is sealed next, if there is one."""
        keys.used = now
        if session.due(now):
            self.handshakes.begin_if_due(keys, now)
        path = self.paths.path(keys, now)
        if path is None:
            self.counters["no-route"] += 1
            return None
        keys.sent_by = path
        return path
