# SPDX-License-Identifier: MIT
"""
Sealed sessions with every peer: what arrives for this node, and what it means for the peer's association.

Everything that could cost something before trust is bounded first, and nothing a stranger
sends hurts the link it came over: a bad frame is counted and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.association import Association, Associations
from gmesh.endtoend.handshakes import HandshakeLimiter
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.session import SealedSession
from gmesh.endtoend.session_set import SessionSet
from gmesh.errors import GmeshError
from gmesh.interfaces import ILink
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Close, Inner
from gmesh.wire.paths import PathHeader

__all__ = ["Sessions"]

CLOSE_SIZE = FRAME_HEADER + 1
_DATA = int(Kind.E2E_DATA)  # a member of an Enum is looked up by a function in Python 3.11


class Sessions:
    """
    Takes the end-to-end frames of every peer of this node.

    @param directory: the members that are known here.
    @param behind: called with the number of a CRL that a peer holds and this node does not.
    @ivar running: whether frames are for this node now.
    @ivar turn: the end of what is read now.
    @ivar counters: how often what happened, by slug.
    """

    def __init__(
        self,
        associations: Associations,
        sealer: Sealer,
        directory: MemberDirectory,
        clock: IReactorTime,
        behind: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.associations = associations
        self.running = False
        self.counters = sealer.counters
        self._sealer = sealer
        self._trust = sealer.handshaker.trust
        self._table = sealer.table
        self._session = sealer.table.session
        self.turn = sealer.turn
        self._handshakes = sealer.handshakes
        self._paths = sealer.paths
        self._directory = directory
        self._clock = clock
        self._behind = behind
        self._greatest: dict[bytes, int] = {}
        self._members = HandshakeLimiter.of_members()
        self._limiter = HandshakeLimiter()
        self._offers = HandshakeLimiter()

    def start(self) -> None:
        """Frames are for this node from now on."""
        self.running = True

    def stop(self) -> None:
        """Wipe everything; frames that still come are not for us."""
        self.running = False
        for association in self.associations:
            self.associations.give_up(association, "stopped")

    def trust_changed(self, kind: str) -> None:
        """A document changed by which peers are believed: cut those that no longer are, in this turn."""
        if kind in ("crl", "genesis"):
            self.associations.judge_all()

    def __len__(self) -> int:
        return len(self.associations)

    @property
    def established(self) -> int:
        """Peers with keys to seal with."""
        now = self._clock.seconds()
        return sum(1 for association in self.associations if association.keys.sealer(now) is not None)

    def ready(self, association: Association) -> bool:
        """True if frames can be sealed now; if not, a handshake is under way: L{Association.waiting}."""
        return self._sealer.ready(association.keys)

    # frames

    def frame_for_us(
        self, kind: int, header: PathHeader, body: bytes | memoryview, ingress_link: ILink
    ) -> None:
        """
        One end-to-end frame whose destination is this node; nothing in it costs the link it came by.

        @param body: the payload behind the path header.
        """
        now = self._clock.seconds()
        if kind != _DATA or not self.running:
            self._other(kind, header, body, ingress_link, now)
            return
        path = header[0]
        found = self._session(header[1])
        if found is None or path[0] != found[0].peer.handle:
            self.counters["no-session"] += 1
            self._offer(path[0], ingress_link.peer.handle, now)
            return
        keys, session = found
        try:
            plaintext = session.open(header, body)
        except GmeshError as error:
            self.counters[error.reason] += 1
            return
        if len(plaintext) == CLOSE_SIZE and plaintext[2] == Inner.CLOSE:
            self._closed(keys, session, plaintext[FRAME_HEADER:])
            return
        keys.used = now
        if path is not keys.heard_by and path != keys.heard_by and header.counter == session.newest:
            self._paths.heard(keys, path)  # a frame that was overtaken says nothing of now
        if not session.heard:
            self._first_heard(keys, session, now)
        elif now >= session.due_at and session is keys.current:
            self._handshakes.begin_if_due(keys, now)
        if plaintext:
            association = self.associations.get(path[0])
            if association is not None:
                association.receiver.opened(session, plaintext)

    def sent(self, header: PathHeader, destination: bytes) -> bool:
        """
        Whether a frame to this destination may be ours.

        @param header: its receiver index and counter are those of the frame.
        """
        association = self.associations.get(destination)
        if association is None:
            return False
        keys, index, counter = association.keys, header.receiver_index, header.counter
        if index == 0:
            return keys.attempt is not None and keys.attempt.initiation.number == counter
        return keys.sent(index, counter) or keys.replied(index, counter)

    def undeliverable(self, header: PathHeader, destination: bytes, reason: str) -> None:
        """
        A relay did not pass on a frame of ours; routing has already heard why. A hint, from anybody.

        @param header: its receiver index and counter are those of that frame.
        @param destination: of that frame.
        """
        index, counter = header.receiver_index, header.counter
        self.counters["bounced"] += 1
        association = self.associations.get(destination)
        if association is None:
            return
        keys = association.keys
        if index == 0:
            self._handshakes.bounced(keys, counter, self._clock.seconds())
        elif keys.sent(index, counter):
            if reason == "unreachable":
                keys.lose_way()
            association.bounced(counter)

    def path_found(self, handle: bytes) -> None:
        """Routing knows a path that it did not know when it was asked."""
        association = self.associations.get(handle)
        if association is not None:
            self._handshakes.path_found(association.keys, self._clock.seconds())

    def _other(
        self, kind: int, header: PathHeader, body: bytes | memoryview, ingress_link: ILink, now: float
    ) -> None:
        if not self.running:
            self.counters["stopped"] += 1
        elif kind == Kind.E2E_INIT:
            self._first_message(header, body, ingress_link.peer.handle, now)
        elif kind == Kind.E2E_RESP:
            self._second_message(header, body, now)
        else:
            self.counters["unknown-kind"] += 1

    def _first_heard(self, keys: SessionSet, session: SealedSession, now: float) -> None:
        """The first frame on new keys: the peer has them, and those we answered are in use from now on."""
        confirmed = session is keys.answered
        if confirmed:
            self._table.drop_attempt(keys)
        self._table.wipe(keys.heard(session, now))
        self._handshakes.arm(keys, now)
        if confirmed:
            self._established(keys, now - session.began)

    def _established(self, keys: SessionSet, trip: float) -> None:
        """@param trip: seconds that the handshake took, there and back."""
        self._sealer.established(keys)
        association = self.associations.get(keys.peer.handle)
        if association is not None:
            association.batch.least(trip)
            association.ready()

    def _closed(self, keys: SessionSet, session: SealedSession, body: bytes) -> None:
        """The peer has wiped this session; others with it live on."""
        try:
            self.counters[f"closed-{Close.decode(body).reason.slug}"] += 1
        except GmeshError:
            self.counters["inner-malformed"] += 1
            return
        association = self.associations.get(keys.peer.handle)
        if association is not None and session in (keys.current, keys.answered):
            self.associations.closed(association)

    # handshakes of others: cheap refusals before expensive ones

    def _first_message(self, header: PathHeader, body: bytes | memoryview, link: bytes, now: float) -> None:
        """
        An E2E_INIT for us: everything cheap is asked before a key is exchanged.

        @param link: handle of the neighbour it came from.
        """
        source = header.source
        known = self._directory.find_handle(source)
        association = self.associations.get(source)
        if header.counter <= self._greatest.get(source, -1):
            self.counters["replayed-handshake"] += 1
        elif known is not None and self._trust.revoked(known.serial, known.node_id):
            self.counters["revoked"] += 1
        elif association is not None and not association.keys.yields(now):
            self.counters["handshake-tie"] += 1
        elif not self._admits(known, header, body, link, now):
            self.counters["handshake-flood"] += 1
        else:
            self._answer(header, body, now)

    def _admits(
        self, known: Peer | None, header: PathHeader, body: bytes | memoryview, link: bytes, now: float
    ) -> bool:
        """
        May an E2E_INIT cost a handshake?  The member that has made it pays for it, else who brought it.

        What a member has made is looked at once, whatever becomes of it: a copy takes nothing of its share.
        """
        source = header.source
        if known is None or not self._handshakes.proves(known, header, body, now):
            return self._limiter.admits(link, source, now)
        self._remember(source, header.counter)
        return self._members.admits(source, source, now)

    def _answer(self, header: PathHeader, body: bytes | memoryview, now: float) -> None:
        try:
            session, message = self._handshakes.read_first(header, body, now)
            association = self.associations.associate(session.peer)
        except GmeshError as error:
            self.counters[error.reason] += 1
            return
        self._remember(header.source, header.counter)
        self._compare(session)
        self._handshakes.answer(association.keys, session, message, header.path, now)

    def _second_message(self, header: PathHeader, body: bytes | memoryview, now: float) -> None:
        """An E2E_RESP for us."""
        keys = self._handshakes.finish(header, body, now)
        session = keys.current if keys is not None else None
        if keys is None or session is None:
            return
        self._compare(session)
        self._established(keys, now - session.began)
        if session.sent == 0:
            self._sealer.send(keys, b"")  # shows the peer that we hold the keys

    def _offer(self, source: bytes, link: bytes, now: float) -> None:
        """
        Somebody seals with keys we no longer have, as after a restart: begin again, but rarely.

        @param link: handle of the neighbour the frame came from.
        """
        association = self.associations.get(source)
        peer = self._directory.find_handle(source)
        if peer is None or self.associations.full:
            return
        if association is not None and (
            any(association.keys.sessions()) or not association.keys.should_begin(now)
        ):
            return
        if not self._trust.revoked(peer.serial, peer.node_id) and self._offers.admits(link, source, now):
            self._handshakes.begin_if_due(self.associations.associate(peer).keys, now)

    def _compare(self, session: SealedSession) -> None:
        """A peer that knows of more revocations than we do: ask for them."""
        crl = self._trust.crl
        if session.peer_crl > (0 if crl is None else crl.body.number):
            self._behind(session.peer_crl)

    def _remember(self, source: bytes, number: int) -> None:
        self._greatest.pop(source, None)
        self._greatest[source] = number
        if len(self._greatest) > limits.MAX_SOURCES:
            del self._greatest[next(iter(self._greatest))]
