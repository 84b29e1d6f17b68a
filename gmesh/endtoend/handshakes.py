# SPDX-License-Identifier: MIT
"""
Handshakes with one peer: begun, repeated, answered, finished; and how many strangers may ask for.

Tests: C{tests/endtoend/test_sessions.py}, C{tests/endtoend/test_hostile_relay.py}.
"""

from __future__ import annotations

import random

from twisted.logger import Logger

from gmesh.endtoend import limits
from gmesh.endtoend.path_selector import PathSelector
from gmesh.endtoend.session import Handshaker, SealedSession
from gmesh.endtoend.session_set import HandshakeAttempt, SessionSet, SessionTable
from gmesh.errors import GmeshError
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.token_bucket import ClaimGate, Rate
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader

__all__ = ["HandshakeLimiter", "Handshakes"]

_LINK = Rate(limits.INIT_LINK_RATE, limits.INIT_LINK_BURST)
_SOURCE = Rate(limits.INIT_SOURCE_RATE, limits.INIT_SOURCE_BURST)
_MEMBER = Rate(limits.INIT_MEMBER_RATE, limits.INIT_MEMBER_BURST)


class HandshakeLimiter:
    """
    How many handshakes are looked at, before any keys are exchanged for them.

    For each ingress link there is a gate: so many handshakes, and fewer from each source claimed over it.
    No neighbour can use up what a node is allowed over another link, nor have that forgotten.

    @param every: for one link.
    @param each: for one source claimed over it.
    """

    def __init__(self, every: Rate = _LINK, each: Rate = _SOURCE) -> None:
        self._every = every
        self._each = each
        self._gates: dict[bytes, ClaimGate] = {}

    @classmethod
    def of_members(cls) -> HandshakeLimiter:
        """One for members that have shown who they are: each pays for itself, by whatever link it comes."""
        return cls(_MEMBER, _MEMBER)

    def __len__(self) -> int:
        return len(self._gates)

    def admits(self, link: bytes, source: bytes, now: float) -> bool:
        """May a handshake that came over C{link}, from C{source} as it claims, be looked at?"""
        gate = self._gates.get(link)
        if gate is None:
            if len(self._gates) >= limits.MAX_LIMITED_LINKS:
                self._prune(now)
            gate = self._gates[link] = ClaimGate(self._every, self._each, now)
        return gate.admits(source, now)

    def _prune(self, now: float) -> None:
        self._gates = {link: gate for link, gate in self._gates.items() if not gate.full(now)}
        if len(self._gates) >= limits.MAX_LIMITED_LINKS:
            del self._gates[next(iter(self._gates))]


class Handshakes:
    """
    Drives the handshakes of a session set.

    @param directory: the members that are known here.
    @param rng: for jitter.
    """

    log = Logger()

    def __init__(
        self,
        handshaker: Handshaker,
        table: SessionTable,
        paths: PathSelector,
        directory: MemberDirectory,
        rng: random.Random,
    ) -> None:
        self._handshaker = handshaker
        self._table = table
        self._paths = paths
        self._directory = directory
        self._rng = rng
        self._counters = paths.counters
        self._lines = SpacedLog()

    def arm(self, keys: SessionSet, now: float) -> None:
        """Look at C{keys} again when its next deadline comes, or the peer's certificate ends."""
        if keys.given_up:
            return
        expiry = now + keys.peer.not_after + CERTIFICATE_LEEWAY + 1 - self._handshaker.wall()
        keys.timer.by(min(keys.deadline(), expiry), now)

    def begin_if_due(self, keys: SessionSet, now: float) -> None:
        """This end talks with the peer: see that there are good keys."""
        if keys.should_begin(now):
            self._begin(keys, now, now)

    def proves(self, peer: Peer, header: PathHeader, body: bytes | memoryview, now: float) -> bool:
        """As L{Handshaker.proves}."""
        return self._handshaker.proves(peer, header, body, now)

    def due(self, keys: SessionSet, now: float) -> None:
        """Repeat what was not answered, if that is still of use; begin what was put off."""
        attempt = keys.attempt
        if attempt is None:
            if keys.pending or keys.wanted:
                self.begin_if_due(keys, now)
        elif now >= attempt.retry:
            self._blame_if_overdue(keys, now)
            if keys.in_use:
                self._begin(keys, attempt.began, now)
            else:
                self._table.drop_attempt(keys)

    def bounced(self, keys: SessionSet, number: int, now: float) -> None:
        """A relay did not pass on a message 1 with this number: if it is ours to the peer, repeat it soon."""
        attempt = keys.attempt
        if attempt is not None and attempt.initiation.number == number:
            self._repeat_soon(keys, attempt, now)

    def read_first(
        self, header: PathHeader, body: bytes | memoryview, now: float
    ) -> tuple[SealedSession, bytes]:
        """
        Message 1 of a peer.

        @return: the session and message 2, for L{answer}.
        @raise GmeshError: if it is not authentic, or its sender is not believed.
        """
        return self._handshaker.answer(header, body, self._table.new_index(), now)

    def answer(
        self, keys: SessionSet, session: SealedSession, message: bytes, path: tuple[bytes, ...], now: float
    ) -> None:
        """Send message 2 by the path that message 1 came, or as soon as there is one."""
        keys.used = now
        self._paths.new_keys(keys, now)
        self._blame_if_overdue(keys, now)
        self._table.drop_attempt(keys)
        self._table.wipe(keys.answering(session))
        keys.reply = None
        self._table.add_session(keys, session)
        self.arm(keys, now)
        self._counters["answered"] += 1
        self._paths.heard(keys, path)
        back = keys.back or self._paths.route(keys.peer.handle, now)
        if back is None:
            keys.reply = message
        else:
            self._reply(back, session, message)

    def finish(self, header: PathHeader, body: bytes | memoryview, now: float) -> SessionSet | None:
        """Message 2 of a peer. @return: the set with its new current session; None if it is refused."""
        index = header.receiver_index
        keys = self._table.attempt(index)
        attempt = keys.attempt if keys is not None else None
        if keys is None or attempt is None or header.source != keys.peer.handle:
            self._counters["no-handshake"] += 1
            return None
        self._table.close_attempt(index)
        try:
            session = attempt.initiation.finish(body, now)
        except GmeshError as error:  # a relay changed it: nobody else knows the index
            self._counters[error.reason] += 1
            self._paths.blame(attempt.path, now, handshake=True)
            self._repeat_soon(keys, attempt, now)
            return None
        keys.used = now
        session.began = attempt.sent
        self._paths.answered(attempt.path, attempt.sent, now, handshake=True)
        self._paths.new_keys(keys, now)
        self._table.add_session(keys, session)
        self._table.wipe(keys.finished(session, now))
        self.arm(keys, now)
        return keys

    def path_found(self, keys: SessionSet, now: float) -> None:
        """There is a path to the peer again: send what waits for one."""
        path = self._paths.route(keys.peer.handle, now)
        if path is None:
            return
        session, message, attempt = keys.answered, keys.reply, keys.attempt
        keys.reply = None
        if session is not None and message is not None:
            self._reply(path, session, message)
        elif attempt is not None and attempt.retry <= now + limits.HANDSHAKE_SPACING:
            self._begin(keys, attempt.began, now)

    def _repeat_soon(self, keys: SessionSet, attempt: HandshakeAttempt, now: float) -> None:
        attempt.retry = min(attempt.retry, max(now, attempt.sent + limits.HANDSHAKE_SPACING))
        self.arm(keys, now)

    def _blame_if_overdue(self, keys: SessionSet, now: float) -> None:
        """Message 1 is not answered in time: its path is to blame."""
        attempt = keys.attempt
        if attempt is not None and now - attempt.sent >= attempt.patience:
            self._paths.blame(attempt.path, now, handshake=True)

    def _reply(self, path: tuple[bytes, ...], session: SealedSession, message: bytes) -> None:
        self._paths.post(Kind.E2E_RESP, PathHeader(path, session.remote_index, session.number), message)

    def _begin(self, keys: SessionSet, began: float, now: float) -> None:
        """Make message 1, a new one for each retry, and send it if there is a path."""
        handle = keys.peer.handle
        keys.peer = self._directory.find_handle(handle) or keys.peer
        try:
            initiation = self._handshaker.begin(keys.peer, self._table.new_index())
        except GmeshError as error:
            self._table.drop_attempt(keys)
            keys.wanted = False
            self._counters[error.reason] += 1
            self._lines.write(
                self.log.warn,
                now,
                "no-session",
                keys.peer.node_key,
                "No session with {name}: {detail}",
                name=keys.peer.name,
                detail=error.detail,
            )
            return
        attempt = HandshakeAttempt(initiation, began, now, now)
        attempt.retry += attempt.patience + self._rng.uniform(0, limits.REKEY_JITTER)
        self._table.set_attempt(keys, attempt)
        self._counters["began"] += 1
        attempt.path = path = self._paths.route(handle, now)
        if path is None or not self._paths.post(
            Kind.E2E_INIT, PathHeader(path, 0, initiation.number), initiation.message
        ):
            attempt.retry = now + limits.HANDSHAKE_SPACING
        self.arm(keys, now)
