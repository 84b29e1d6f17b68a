# SPDX-License-Identifier: MIT
"""
Who is connected: one link to each node, chosen alike at both ends, and cut when trust ends.

Of two links to the same node the one with the newer boot of that node stays, unless two hosts run with
its keys (L{gmesh.mesh.twins}); else, if the same
end dialled both, the later dialled; else the one dialled by the smaller node key.  Both ends see
what this rests on (boot ids, the dialler's clock, the session hash), so both keep the same one.

This is the only registry of neighbours: flooding, gossip, forwarding, routes and commands are given it, and
keep what they need for a neighbour in its L{Neighbour}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.errors import PeerRefused
from gmesh.interfaces import ILink, INeighbourLink
from gmesh.mesh.counters import Counters
from gmesh.mesh.fetcher import Asked
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.mesh.standing import Standings
from gmesh.mesh.twins import Twins
from gmesh.routing.store import Key
from gmesh.trust.documents import Certificate, Document
from gmesh.wire.messages import CertificateKey, CloseReason

__all__ = ["Neighbours", "close_reason"]


def close_reason(error: PeerRefused) -> CloseReason:
    """The reason that a refused peer gets in CLOSE."""
    reasons = {
        "revoked": CloseReason.REVOKED,
        "expired": CloseReason.EXPIRED,
        "full": CloseReason.FULL,
    }
    return reasons.get(error.reason, CloseReason.UNSPECIFIED)


class Neighbours:
    """
    All sessions of this node with judged peers, and of these the one link to each neighbour.

    @param node_key: our own public key, for the ties.
    @param judge: the checks of a certificate: L{gmesh.mesh.peer_identity.PeerVerifier.judge}.
    @param max_links: how many neighbours this node may have now.
    @ivar by_handle: the neighbours, in the order in which they came up.
    @ivar links: the same, their links alone: forwarding looks here for every path.
    @ivar records: which node records were asked of which neighbour.
    @ivar certificates: which certificates were.
    @ivar twins: which nodes run on two hosts.
    """

    log = Logger()

    def __init__(
        self,
        node_key: bytes,
        judge: Callable[[Document[Certificate]], Peer],
        max_links: Callable[[], int],
        clock: IReactorTime,
        counters: Counters,
        records: Asked[Key],
        certificates: Asked[CertificateKey],
    ) -> None:
        self._node_key = node_key
        self._judge = judge
        self._max_links = max_links
        self._clock = clock
        self._counters = counters
        self.records = records
        self.certificates = certificates
        self._standings = Standings()
        self._lines = SpacedLog()
        self.twins = Twins(clock, counters)
        self._sessions: dict[INeighbourLink, None] = {}
        self._observers: tuple[NeighbourObserver, ...] = ()
        self._followers: list[Callable[[Neighbour, bool], object]] = []
        self.by_handle: dict[bytes, Neighbour] = {}
        self.links: dict[bytes, ILink] = {}

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(tuple(self.by_handle.values()))

    def __len__(self) -> int:
        return len(self.by_handle)

    def __contains__(self, neighbour: Neighbour) -> bool:
        return self.by_handle.get(neighbour.handle) is neighbour

    def by_name(self, name: str) -> ILink | None:
        """The link to the neighbour called C{name}."""
        return next((link for link in self.links.values() if link.peer.name == name), None)

    @property
    def sessions(self) -> int:
        """Connections to judged peers, links or not yet."""
        return len(self._sessions)

    def observe(self, *observers: NeighbourObserver) -> None:
        """
        Have these act on every link, in this order when it comes up, in the opposite one when it goes down.

        Given once, by the composer of the node, before there are links.
        """
        self._observers = observers

    def follow(self, follower: Callable[[Neighbour, bool], object]) -> None:
        """Report links to C{follower}, up or not, after the observers have acted; in no particular order."""
        self._followers.append(follower)

    # called by sessions

    def enter(self, session: INeighbourLink) -> None:
        """A peer was judged: from now on a change of trust reaches it."""
        self._sessions[session] = None

    def leave(self, session: INeighbourLink) -> None:
        """Its connection is gone."""
        self._sessions.pop(session, None)

    def admit(self, session: INeighbourLink) -> Neighbour | CloseReason:
        """
        Both HELLOs were read.

        A link that is replaced gives way here; one that stays has to show that it lives.

        @return: the neighbour, if this is its link from now on, else why it is not.
        """
        handle = session.peer.handle
        old = self.links.get(handle)
        if old is None or old.peer.node_key == session.peer.node_key:
            held = None if old is None else INeighbourLink(old)
            if not self.twins.admits(session, held):
                if held is not None:
                    held.probe()
                return CloseReason.TWIN
        if old is None:
            if len(self.links) >= self._max_links():
                return CloseReason.FULL
        elif old.peer.node_key != session.peer.node_key:
            self._lines.write(
                self.log.error,
                self._clock.seconds(),
                "same-handle",
                handle,
                "{name} and {other} have the same routing handle: the later one is refused",
                name=old.peer.name,
                other=session.peer.name,
            )
            return CloseReason.UNSPECIFIED
        else:
            held = INeighbourLink(old)
            if not self._prefers(session, held):
                held.probe()
                return CloseReason.DUPLICATE
            held.give_way(session)
        return self.add(session)

    def add(self, link: ILink) -> Neighbour:
        """This is the link to its node from now on, to which none is held; L{up} follows."""
        standing = self._standings.of(link.peer.node_key, self._clock.seconds())
        neighbour = Neighbour(link, self._clock, self._counters, self.records, self.certificates, standing)
        self.by_handle[neighbour.handle] = neighbour
        self.links[neighbour.handle] = link
        return neighbour

    def rivalled(self, session: INeighbourLink) -> bool:
        """Whether another session with the same node has been judged and may yet take over."""
        return any(
            each is not session and each.peer.node_key == session.peer.node_key for each in self._sessions
        )

    def up(self, neighbour: Neighbour) -> None:
        """Its receivers are built: the observers act, unless one of them ends the link."""
        for observer in self._observers:
            if neighbour in self:
                neighbour.observers.append(observer)
                observer.link_up(neighbour)
        if neighbour in self:
            self._report(neighbour, True)

    def down(self, neighbour: Neighbour, reason: str) -> None:
        """Its link is gone: observers that know of it act, even if one of them fails. May be repeated."""
        if neighbour not in self:
            return
        del self.by_handle[neighbour.handle], self.links[neighbour.handle]
        while neighbour.observers:
            try:
                neighbour.observers.pop().link_down(neighbour, reason)
            except Exception:
                self.log.failure("An observer failed while a link went down")
        neighbour.stop()
        self._report(neighbour, False)

    def changed(self, neighbour: Neighbour) -> None:
        """Its link is suspect, or no longer, or has another certificate."""
        for observer in tuple(neighbour.observers):
            observer.link_changed(neighbour)

    def _report(self, neighbour: Neighbour, up: bool) -> None:
        for follower in tuple(self._followers):
            follower(neighbour, up)

    # called when what this host believes changes

    def sweep(self) -> None:
        """Judge every peer again; cut in this turn those that are no longer members, linked or not yet."""
        for session in list(self._sessions):
            try:
                self._judge(session.peer.certificate)
            except PeerRefused as error:
                self.log.warn(
                    "Cut {name}: {reason}: {detail}",
                    name=session.peer.name,
                    reason=error.reason,
                    detail=error.detail,
                )
                session.cut(close_reason(error))
                self.purge(session.peer.handle)

    def purge(self, handle: bytes) -> None:
        """Drop what every link has queued from or to a node, be it a neighbour or not."""
        for session in self._sessions:
            session.purge(handle)

    def refresh(self, certificate: Document[Certificate]) -> bool:
        """
        A certificate came by gossip: if it renews that of a neighbour under the same keys, go on under it.

        @return: True if it did.
        @raise PeerRefused: if it is not to be believed.
        """
        peer = self._judge(certificate)
        renewed = False
        for session in list(self._sessions):
            if session.peer.renewed_by(peer):
                session.renew(peer)
                renewed = True
        return renewed

    def close(self, reason: CloseReason) -> None:
        """Close every session: this node stops."""
        for session in list(self._sessions):
            session.close(reason)

    def _prefers(self, new: INeighbourLink, old: INeighbourLink) -> bool:
        if new.hello.boot_id != old.hello.boot_id:
            return True
        if new.initiator == old.initiator:
            return _dialled(new) > _dialled(old)
        return bool(new.initiator == (self._node_key < new.peer.node_key))


def _dialled(session: INeighbourLink) -> tuple[int, bytes]:
    hello = session.own_hello if session.initiator else session.hello
    return hello.wall_ms, session.handshake_hash
