# SPDX-License-Identifier: MIT
"""
The identity of the other end of a handshake, and whether we may talk to it.

The five checks are made in one place for dial and accept alike: signature chain, validity,
network and revocation by L{gmesh.trust.state.TrustState}, then the key binding here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from zope.interface import implementer

from gmesh.errors import DocumentRefused, FrameRefused, PeerRefused
from gmesh.interfaces import IPeerVerifier
from gmesh.mesh.limits import CERTIFICATES_READ
from gmesh.trust.documents import Certificate, Document, Genesis, parse_document
from gmesh.trust.keys import decode_noise_public, handle, key_id
from gmesh.trust.state import TrustState
from gmesh.wire.handshake import HandshakePayload
from gmesh.wire.limits import MAX_HANDSHAKE_DOCUMENT_BYTES, MAX_HANDSHAKE_DOCUMENTS
from gmesh.wire.suites import Suite

__all__ = ["Peer", "PeerVerifier", "allowed_suites", "peer_of"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A member as its certificate describes it; the certificate was judged when this was made."""

    node_id: str
    handle: bytes
    name: str
    roles: tuple[str, ...]
    serial: int
    node_key: bytes
    noise_key: bytes
    not_after: int
    certificate: Document[Certificate]

    @property
    def relay(self) -> bool:
        """May be an interior hop of a path."""
        return "relay" in self.roles or "anchor" in self.roles

    def renewed_by(self, other: Peer) -> bool:
        """True if C{other} is the same node with the same keys under a newer certificate."""
        return (
            other.serial > self.serial
            and other.node_key == self.node_key
            and other.noise_key == self.noise_key
        )


def peer_of(certificate: Document[Certificate]) -> Peer:
    """The member a certificate describes, which the caller has judged and with it the node key."""
    body = certificate.body
    node_key = body.node_public
    return Peer(
        node_id=key_id(node_key),
        handle=handle(node_key),
        name=body.name,
        roles=tuple(body.roles),
        serial=body.serial,
        node_key=node_key,
        noise_key=decode_noise_public(body.noise_key),
        not_after=body.not_after,
        certificate=certificate,
    )


def _read(data: bytes) -> Document[Certificate]:
    try:
        return parse_document(data, Certificate)
    except DocumentRefused as error:
        raise PeerRefused(
            "bad-certificate", f"the peer's certificate is malformed: {error.detail}"
        ) from error


def allowed_suites(genesis: Genesis) -> tuple[Suite, ...]:
    """The suites of a genesis in its order, without those this version does not know."""
    suites = []
    for name in genesis.suites:
        try:
            suites.append(Suite.parse(name))
        except FrameRefused:
            continue
    return tuple(suites)


@implementer(IPeerVerifier)
class PeerVerifier:
    """
    Judges peers by what this host believes now.

    @param own_certificate: the certificate this node presents, asked for at every handshake.
    @param wall: Unix seconds.
    """

    def __init__(
        self,
        trust: TrustState,
        own_certificate: Callable[[], Document[Certificate]],
        wall: Callable[[], float],
    ) -> None:
        self._trust = trust
        self._own_certificate = own_certificate
        self._wall = wall
        self._read: OrderedDict[bytes, Peer] = OrderedDict()
        self._suites: tuple[Genesis | None, tuple[Suite, ...]] = (None, ())
        self._own: tuple[Document[Certificate] | None, bytes] = (None, b"")

    def genesis_version(self) -> int:
        """The version of the genesis we hold."""
        return self._trust.genesis.body.version

    def suites(self) -> tuple[Suite, ...]:
        """The cipher suites the current genesis allows, in its order."""
        genesis = self._trust.genesis.body
        if self._suites[0] is not genesis:
            self._suites = (genesis, allowed_suites(genesis))
        return self._suites[1]

    def payload(self, peer_genesis_version: int) -> bytes:
        """Our certificate, and the genesis documents that come after the peer's, as many as fit."""
        documents: list[bytes] = []
        room = MAX_HANDSHAKE_DOCUMENT_BYTES
        for document in self._trust.genesis_after(peer_genesis_version):
            encoded = document.encode()
            room -= len(encoded)
            if room < 0 or len(documents) == MAX_HANDSHAKE_DOCUMENTS:
                break
            documents.append(encoded)
        own = self._own_certificate()
        if self._own[0] is not own:
            self._own = (own, own.encode())
        return HandshakePayload(self.genesis_version(), self._own[1], tuple(documents)).encode()

    def verify(self, payload: bytes, remote_static: bytes | None) -> Peer:
        """Apply the genesis documents carried, then make all five checks, then refuse ourselves."""
        return self._verify(payload, remote_static, self._judge_bytes)

    def verify_ended(self, payload: bytes, remote_static: bytes | None) -> Peer:
        """The same for a certificate that has ended, as far as it takes to renew it."""
        return self._verify(payload, remote_static, lambda data: self.judge_ended(_read(data)))

    def _verify(self, payload: bytes, remote_static: bytes | None, judge: Callable[[bytes], Peer]) -> Peer:
        carried = HandshakePayload.decode(payload)
        self._apply(carried.genesis_documents)
        peer = judge(carried.certificate)
        if peer.noise_key != remote_static:
            raise PeerRefused(
                "key-mismatch",
                f"the certificate of {peer.name} names another Noise key than the handshake used",
            )
        if peer.certificate.body.node_key == self._own_certificate().body.node_key:
            raise PeerRefused("self", "the address leads back to this node")
        return peer

    def _judge_bytes(self, data: bytes) -> Peer:
        """L{judge}; what a certificate says is remembered, whether to believe it is judged each time."""
        key = sha256(data).digest()
        known = self._read.get(key)
        if known is not None:
            self._trust.judge_certificate(known.certificate, int(self._wall()))
            self._read.move_to_end(key)
            return known
        peer = self._read[key] = self.judge(_read(data))
        if len(self._read) > CERTIFICATES_READ:
            self._read.popitem(last=False)
        return peer

    def judge(self, certificate: Document[Certificate]) -> Peer:
        """
        All checks but the key binding: for certificates that come by gossip, and again after a change.

        @raise PeerRefused: with the reason of the first check that failed.
        """
        self._trust.judge_certificate(certificate, int(self._wall()))
        return peer_of(certificate)

    def judge_ended(self, certificate: Document[Certificate]) -> Peer:
        """
        Whether a certificate that has ended may be renewed: L{TrustState.judge_ended}.

        @raise PeerRefused: with the reason of the first check that failed.
        """
        self._trust.judge_ended(certificate, int(self._wall()))
        return peer_of(certificate)

    def _apply(self, documents: tuple[bytes, ...]) -> None:
        for encoded in documents:
            try:
                document = parse_document(encoded, Genesis)
                if document.body.version > self.genesis_version():
                    self._trust.offer(document, int(self._wall()))
            except DocumentRefused as error:
                raise PeerRefused(
                    "bad-genesis", f"the peer sent a genesis we refuse: {error.detail}"
                ) from error
