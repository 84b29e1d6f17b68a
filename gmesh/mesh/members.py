# SPDX-License-Identifier: MIT
"""
The certificates this node believes: the directory of members by name, handle and key, and of former members.

Every certificate is judged by L{gmesh.trust.state.TrustState} when it comes and again when
what is believed changes; one that ended is as good as none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.mesh.limits import MAX_DEPARTED, MAX_SERIALS, MAX_UNJUDGED
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.routing.limits import MAX_NODES
from gmesh.routing.store import Member
from gmesh.trust.documents import Certificate, Document, parse_document
from gmesh.trust.keys import handle_of_id
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CertificateKey

__all__ = ["Departed", "FormerMembers", "MemberDirectory", "member_of"]


@dataclass(frozen=True, slots=True)
class _Held:
    peer: Peer
    member: Member


class MemberDirectory:
    """
    Certificates by handle and serial, newest first.

    @param wall: Unix seconds.
    @param certified: called with each L{Peer} whose certificate is new here.
    @param departed: nodes that left before, by name; those that leave are added to it.
    @ivar trust: what decides who is a member.
    @ivar max_nodes: how many nodes may be in the directory.
    @ivar former: nodes that left it.
    """

    def __init__(
        self,
        trust: TrustState,
        wall: Callable[[], float],
        max_nodes: int = MAX_NODES,
        certified: Callable[[Peer], object] = lambda peer: None,
        departed: dict[str, Departed] | None = None,
    ) -> None:
        self.max_nodes = max_nodes
        self._certified = certified
        self.former = FormerMembers(trust, departed)
        self.trust = trust
        self._wall = wall
        self._nodes: dict[bytes, dict[int, _Held]] = {}
        self._names: dict[str, set[bytes]] = {}
        self._unjudged: dict[str, Document[Certificate]] = {}
        self._revoked: frozenset[bytes] = frozenset()
        self._revoked_handles: dict[bytes, None] = {}
        self._revoked_names: dict[str, tuple[str, int]] = {}
        self._first_end = inf
        self.sweep()

    def __len__(self) -> int:
        return sum(map(len, self._nodes.values()))

    # -- asking

    def find_handle(self, handle: bytes) -> Peer | None:
        """The node with this routing handle under its newest valid certificate."""
        held = self._nodes.get(handle)
        if not held:
            return None
        peer = held[max(held)].peer
        return peer if self._holds(peer) else None

    def find_name(self, name: str) -> Peer | None:
        """The node of this name; of several, the one certified last."""
        peers = [
            peer for handle in self._names.get(name, ()) if (peer := self.find_handle(handle)) is not None
        ]
        return max((peer for peer in peers if peer.name == name), key=lambda peer: peer.serial, default=None)

    def was_revoked(self, name: str) -> bool:
        """Whether the last node known by this name was revoked."""
        return name in self._revoked_names

    def member(self, handle: bytes, serial: int) -> Member | None:
        """What routing needs of one certificate, if it is held and valid."""
        held = self._nodes.get(handle, {}).get(serial)
        return held.member if held is not None and self._holds(held.peer) else None

    def lacks(self, key: CertificateKey, _: int) -> bool:
        """Whether this certificate is worth asking for."""
        return self.member(key.handle, key.serial) is None

    @property
    def revoked_nodes(self) -> dict[str, tuple[str, int]]:
        """Name -> node_id and newest serial of every node that was known here and is revoked."""
        return dict(self._revoked_names)

    def remember(self, revoked: Mapping[str, tuple[str, int]]) -> None:
        """Restore after a restart which nodes were revoked: what L{revoked_nodes} gave, if it still holds."""
        self.trust.remember_revoked(dict(revoked.values()))
        for name, (node_id, serial) in revoked.items():
            if self.trust.revoked(serial, node_id):
                self._revoked_names[name] = (node_id, serial)
                self._revoked_handles[handle_of_id(node_id)] = None
        self._index_revoked()

    def revoked(self, handle: bytes) -> bool:
        """Whether a node that was known by this handle, or its key, is revoked."""
        return handle in self._revoked

    def answer(self, wanted: Iterable[CertificateKey]) -> list[bytes]:
        """The file forms of those of these certificates that are held."""
        found = (self._nodes.get(key.handle, {}).get(key.serial) for key in wanted)
        return [held.peer.certificate.encode() for held in found if held is not None]

    def peers(self) -> list[Peer]:
        """Every member under its newest valid certificate, by handle."""
        found = (self.find_handle(handle) for handle in sorted(self._nodes))
        return [peer for peer in found if peer is not None]

    def _holds(self, peer: Peer) -> bool:
        return self._wall() <= peer.not_after + CERTIFICATE_LEEWAY

    # -- taking in

    def add_encoded(self, data: bytes) -> Peer:
        """
        Judge a certificate in file form.

        @raise DocumentRefused: if it is malformed.
        @raise PeerRefused: as L{add}.
        """
        return self.add(parse_document(data, Certificate))

    def add(self, document: Document[Certificate]) -> Peer:
        """
        Judge a certificate and keep it.

        @raise PeerRefused: as L{TrustState.judge_certificate}; C{handle-collision} for another key
            with a handle that is taken, C{full}.  One of C{unknown-key} is judged again after the
            genesis changed.
        """
        try:
            self.trust.judge_certificate(document, self._wall())
        except PeerRefused as error:
            if error.reason == "unknown-key" and len(self._unjudged) < MAX_UNJUDGED:
                self._unjudged[document.digest] = document
            raise
        peer = peer_of(document)
        held = self._nodes.get(peer.handle)
        if held is None:
            if len(self._nodes) >= self.max_nodes:
                raise PeerRefused("full", f"certificates of {self.max_nodes} nodes are held: raise max_nodes")
            held = self._nodes[peer.handle] = {}
        elif any(other.peer.node_key != peer.node_key for other in held.values()):
            raise PeerRefused(
                "handle-collision",
                f"{peer.name} has the routing handle of another node: enrol it with a new key",
            )
        known = held.get(peer.serial)
        if known is not None:
            return known.peer
        held[peer.serial] = _Held(peer, member_of(peer))
        self._first_end = min(self._first_end, peer.not_after + CERTIFICATE_LEEWAY)
        self._names.setdefault(peer.name, set()).add(peer.handle)
        self._revoked_names.pop(peer.name, None)
        self.former.back(peer.name)
        if peer.handle in self._revoked_handles:
            del self._revoked_handles[peer.handle]
            self._index_revoked()
        while len(held) > MAX_SERIALS:
            self._drop(peer.handle, min(held))
        if peer.serial in held:
            self._certified(peer)
        return peer

    # -- letting go

    def sweep(self) -> list[bytes]:
        """
        Judge everything again, after what is believed changed.

        @return: the handles of nodes no certificate of which is believed any longer.
        """
        gone = []
        for handle, held in list(self._nodes.items()):
            revoked = False
            for serial, entry in sorted(held.items()):
                try:
                    self.trust.judge_certificate(entry.peer.certificate, self._wall())
                except PeerRefused as error:
                    revoked = revoked or error.reason == "revoked"
                    if error.reason == "revoked":
                        self._revoked_names[entry.peer.name] = (entry.peer.node_id, serial)
                    self._drop(handle, serial)
            if handle not in self._nodes:
                gone.append(handle)
                if revoked:
                    self._revoked_handles[handle] = None
        while len(self._revoked_handles) > self.max_nodes:
            del self._revoked_handles[next(iter(self._revoked_handles))]
        while len(self._revoked_names) > self.max_nodes:
            del self._revoked_names[next(iter(self._revoked_names))]
        self._index_revoked()
        self.former.crl_changed(self._wall())
        return gone

    def genesis_changed(self) -> None:
        """Judge again what no authority key known before had signed."""
        waiting, self._unjudged = self._unjudged, {}
        for document in waiting.values():
            try:
                self.add(document)
            except (PeerRefused, DocumentRefused):
                continue

    def expire(self) -> None:
        """Drop what has ended; costs nothing while nothing has."""
        if self._wall() <= self._first_end:
            return
        for handle, held in list(self._nodes.items()):
            for serial, entry in list(held.items()):
                if not self._holds(entry.peer):
                    self._drop(handle, serial)
        ends = (entry.peer.not_after for held in self._nodes.values() for entry in held.values())
        self._first_end = min(ends, default=inf) + CERTIFICATE_LEEWAY

    def _drop(self, handle: bytes, serial: int) -> None:
        held = self._nodes[handle]
        entry = held.pop(serial)
        name = entry.peer.name
        if not any(other.peer.name == name for other in held.values()):
            self._names[name].discard(handle)
            if not self._names[name]:
                del self._names[name]
        if not held:
            del self._nodes[handle]
            self.former.gone(entry.peer, self._wall())

    def _index_revoked(self) -> None:
        keys = self.trust.crl.body.revoked_keys if self.trust.crl is not None else ()
        named = {handle_of_id(key_id) for key_id, _ in keys}
        self._revoked = frozenset(self._revoked_handles) | named


@dataclass(frozen=True, slots=True)
class Departed:
    """
    A node as its last certificate described it; times in Unix seconds.

    @ivar node_id: 32 hex characters.
    @ivar known_at: when this host knew that it is not a member any more.
    @ivar crl_number: of the CRL by which it was revoked; 0 for one whose certificate ended.
    """

    node_id: str
    serial: int
    roles: tuple[str, ...]
    issued_at: int
    not_before: int
    not_after: int
    known_at: int
    crl_number: int = 0


class FormerMembers:
    """
    By name, nodes that were members until their certificate was revoked or ended.

    Nothing is decided by it: who may be believed is for L{gmesh.trust.state.TrustState} alone.

    @ivar nodes: the last to go at the end; outlives a restart where its owner keeps it.
    """

    def __init__(self, trust: TrustState, nodes: dict[str, Departed] | None = None) -> None:
        self.nodes = {} if nodes is None else nodes
        self._trust = trust

    def gone(self, peer: Peer, now: float) -> None:
        """No certificate of this node is believed any more."""
        body = peer.certificate.body
        revoked = self._trust.revoked(peer.serial, peer.node_id)
        self.back(peer.name)
        self.nodes[peer.name] = Departed(
            node_id=peer.node_id,
            serial=peer.serial,
            roles=peer.roles,
            issued_at=body.issued_at,
            not_before=body.not_before,
            not_after=body.not_after,
            known_at=int(now),
            crl_number=self._number() if revoked else 0,
        )
        while len(self.nodes) > MAX_DEPARTED:
            del self.nodes[next(iter(self.nodes))]

    def back(self, name: str) -> None:
        """The node of this name is a member again."""
        self.nodes.pop(name, None)

    def ended(self, name: str, now: float) -> bool:
        """Whether the node of this name is missing because its certificate came to its end."""
        node = self.nodes.get(name)
        return node is not None and now > node.not_after

    def crl_changed(self, now: float) -> None:
        """Some whose certificate had ended may be revoked now."""
        for name, node in self.nodes.items():
            if not node.crl_number and self._trust.revoked(node.serial, node.node_id):
                self.nodes[name] = replace(node, crl_number=self._number(), known_at=int(now))

    def _number(self) -> int:
        return self._trust.crl.body.number if self._trust.crl is not None else 0


def member_of(peer: Peer) -> Member:
    """What routing needs of a certificate."""
    return Member(
        node_id=peer.node_id,
        name=peer.name,
        node_key=peer.node_key,
        roles=frozenset(peer.roles),
        serial=peer.serial,
        not_after=peer.not_after,
    )
