# SPDX-License-Identifier: MIT
"""
Who is connected: one link for each node, decided alike at both ends, and cut when trust ends.

Of two links to the same node the one with the newer boot of that node stays; else, if the same
end dialled both, the later dialled; else the one dialled by the smaller node key.  Both ends see
what this rests on (boot ids, the dialler's clock, the session hash), so both keep the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Shape

from twisted.logger import Logger

from gmesh.errors import PeerRefused
from gmesh.interfaces import ILink
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.documents import Certificate, Document
from gmesh.wire.messages import CloseReason, Hello

__all__ = ["Peers", "PeersListener", "Session"]


class PeersListener(Shape):
    """What wants to know which neighbours there are: routing, flooding, the local API."""

    def link_up(self, link: ILink) -> None:
        """A link exists for routing; its receivers have been told."""

    def link_down(self, link: ILink, reason: str) -> None:
        """It is gone; called exactly once after L{link_up}."""

    def link_changed(self, link: ILink) -> None:
        """It is suspect, or no longer, or its certificate was renewed."""


class Session(Shape):
    """A connection to a judged peer: L{gmesh.mesh.link.MeshProtocol}."""

    initiator: bool
    own_hello: Hello

    @property
    def peer(self) -> Peer:
        """Whom the certificate describes."""

    @property
    def hello(self) -> Hello:
        """What the peer sent first."""

    @property
    def handshake_hash(self) -> bytes:
        """Equal at both ends."""

    def close(self, reason: CloseReason) -> None:
        """Drain, then disconnect."""

    def give_way(self, heir: Session) -> None:
        """Drain both ways, handing what arrives to C{heir}, the link from now on; then disconnect."""

    def inherit(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """A frame came late, by a session that gave way to this one."""

    def cut(self, reason: CloseReason) -> None:
        """Disconnect now."""

    def probe(self) -> None:
        """Show life within one PONG's time or die."""

    def renew(self, peer: Peer) -> None:
        """Go on under a newer certificate."""

    def purge(self, handle: bytes) -> None:
        """Drop what is queued from or to a node."""


def close_reason(error: PeerRefused) -> CloseReason:
    """What a refused peer is told."""
    return {"revoked": CloseReason.REVOKED, "expired": CloseReason.EXPIRED}.get(
        error.reason, CloseReason.UNSPECIFIED
    )


class Peers:
    """
    All sessions of this node with judged peers, and the one link for each.

    @param node_key: our own public key, for the ties.
    @param judge: the checks of a certificate: L{gmesh.mesh.peer_identity.PeerVerifier.judge}.
    @param max_links: how many neighbours this node may have now.
    @ivar links: the link of each neighbour by its handle.
    """

    log = Logger()

    def __init__(
        self,
        node_key: bytes,
        judge: Callable[[Document[Certificate]], Peer],
        max_links: Callable[[], int],
    ) -> None:
        self._node_key = node_key
        self._judge = judge
        self._max_links = max_links
        self._sessions: dict[Session, None] = {}
        self._listeners: list[PeersListener] = []
        self.links: dict[bytes, Session] = {}

    def add_listener(self, listener: PeersListener) -> None:
        """Tell C{listener} of every link from now on."""
        self._listeners.append(listener)

    def by_name(self, name: str) -> Session | None:
        """The link to the neighbour called C{name}."""
        return next((link for link in self.links.values() if link.peer.name == name), None)

    @property
    def sessions(self) -> int:
        """Connections to judged peers, links or not yet."""
        return len(self._sessions)

    # called by sessions

    def enter(self, session: Session) -> None:
        """A peer was judged: from now on a change of trust reaches it."""
        self._sessions[session] = None

    def leave(self, session: Session) -> None:
        """Its connection is gone."""
        self._sessions.pop(session, None)

    def admit(self, session: Session) -> CloseReason | None:
        """
        Both HELLOs were read. @return: None if this is now the link to its node, else why not.

        A link that is replaced gives way here; one that stays has to show that it lives.
        """
        handle = session.peer.handle
        old = self.links.get(handle)
        if old is None:
            if len(self.links) >= self._max_links():
                return CloseReason.FULL
        elif old.peer.node_key != session.peer.node_key:
            self.log.error(
                "{name} and {other} have the same routing handle: the later one is refused",
                name=old.peer.name,
                other=session.peer.name,
            )
            return CloseReason.UNSPECIFIED
        elif not self._prefers(session, old):
            old.probe()
            return CloseReason.DUPLICATE
        else:
            old.give_way(session)
        self.links[handle] = session
        return None

    def rivalled(self, session: Session) -> bool:
        """Whether another session with the same node has been judged and may yet take over."""
        return any(
            each is not session and each.peer.node_key == session.peer.node_key for each in self._sessions
        )

    def up(self, session: Session) -> None:
        """Its receivers were told: now tell the others."""
        for listener in self._listeners:
            listener.link_up(session)  # type: ignore[arg-type]  # MeshProtocol provides ILink

    def down(self, session: Session, reason: str) -> None:
        """A session that was admitted is a link no longer."""
        if self.links.get(session.peer.handle) is session:
            del self.links[session.peer.handle]
        for listener in self._listeners:
            listener.link_down(session, reason)  # type: ignore[arg-type]  # MeshProtocol provides ILink

    def changed(self, session: Session) -> None:
        """It is suspect, or no longer, or has another certificate."""
        for listener in self._listeners:
            listener.link_changed(session)  # type: ignore[arg-type]  # MeshProtocol provides ILink

    # called when what this host believes changes

    def sweep(self) -> None:
        """Judge everybody again and cut, in this turn, whoever is a member no longer, linked or not yet."""
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
        """Drop what every link has queued from or to a node."""
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

    def _prefers(self, new: Session, old: Session) -> bool:
        if new.hello.boot_id != old.hello.boot_id:
            return True
        if new.initiator == old.initiator:
            return _dialled(new) > _dialled(old)
        return new.initiator == (self._node_key < new.peer.node_key)


def _dialled(session: Session) -> tuple[int, bytes]:
    hello = session.own_hello if session.initiator else session.hello
    return hello.wall_ms, session.handshake_hash
