# SPDX-License-Identifier: MIT
"""
Stubs for what costs CPU and decides no route: signatures of records, and a directory of certificates for all.

Tests: C{tests/routing/test_simulated_topologies.py}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gmesh.mesh.members import member_of
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.routing.limits import MAX_NODES
from gmesh.routing.store import Member
from gmesh.trust.documents import Certificate, Document
from gmesh.trust.keys import key_id
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CertificateKey

__all__ = ["SharedDirectory", "StubSigner", "stub_verify"]


class StubSigner:
    """Signs with a hash of the public key: nobody in a simulation forges by mistake, and it is cheap."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.key_id = key_id(public)

    def sign(self, data: bytes) -> bytes:
        """The stub signature."""
        return hashlib.sha512(b"stub" + self.public + data).digest()


def stub_verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether L{StubSigner} made it."""
    return signature == StubSigner(public).sign(data)


class SharedDirectory:
    """What a node asks of L{gmesh.mesh.members.MemberDirectory}, over one directory for all."""

    def __init__(self, directory: dict[tuple[bytes, int], Peer], trust: TrustState) -> None:
        self.max_nodes = MAX_NODES
        self._directory = directory
        self.trust = trust
        self._revoked: set[bytes] = set()

    def member(self, handle: bytes, serial: int) -> Member | None:
        """As the real one."""
        peer = self._directory.get((handle, serial))
        return None if peer is None or handle in self._revoked else member_of(peer)

    def revoked(self, handle: bytes) -> bool:
        """As the real one."""
        return handle in self._revoked

    def find_handle(self, handle: bytes) -> Peer | None:
        """As the real one."""
        found = [peer for (each, _), peer in self._directory.items() if each == handle]
        return None if handle in self._revoked else max(found, key=lambda peer: peer.serial, default=None)

    def add(self, document: Document[Certificate]) -> Peer:
        """Everybody's certificate is here already."""
        return peer_of(document)

    def lacks(self, key: CertificateKey, number: int) -> bool:
        """As the real one."""
        return self.member(key.handle, key.serial) is None

    def answer(self, wanted: Iterable[CertificateKey]) -> list[bytes]:
        """Nobody has to ask."""
        return []

    def sweep(self) -> list[bytes]:
        """Ask the revocation set about everybody."""
        before = set(self._revoked)
        for (handle, serial), peer in self._directory.items():
            if handle not in before and self.trust.revoked(serial, peer.node_id):
                self._revoked.add(handle)
        return sorted(self._revoked - before)

    def genesis_changed(self) -> None:
        """Nothing waits for it."""

    def expire(self) -> None:
        """Certificates outlive the simulation."""
