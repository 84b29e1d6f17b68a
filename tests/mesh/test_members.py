# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.members}: who is known, under which certificate, and until when."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.mesh.limits import MAX_UNJUDGED
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer
from gmesh.testing.issuer import DAY, Enrolled, Issuer
from gmesh.trust.documents import AuthorityKey, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CertificateKey


class Setting:
    """A directory, an authority and a wall clock to turn."""

    def __init__(self, **others: Any) -> None:
        self.now = 1_760_000_000.0
        self.issuer = Issuer(lambda: self.now, Random(1))
        self.trust = TrustState(self.issuer.network_id, self.issuer.genesis_chain)
        for document in self.issuer.documents:
            self.trust.offer(document, self.now)
        self.seen: list[Peer] = []
        self.directory = MemberDirectory(self.trust, lambda: self.now, certified=self.seen.append, **others)

    def add(self, node: Enrolled) -> Peer:
        """Put a certificate into the directory."""
        return self.directory.add(node.certificate)


def test_directory() -> None:
    """A node is found by handle, name and serial; what is not known is not found."""
    s = Setting()
    node = s.issuer.enrol("a", "relay")
    peer = s.add(node)
    assert s.directory.find_handle(node.handle) == s.directory.find_name("a") == peer
    member = s.directory.member(node.handle, peer.serial)
    assert member is not None and member.relays and member.node_key == node.node_key.public
    assert s.directory.find_name("b") is None and s.directory.find_handle(b"x" * 8) is None
    assert s.directory.member(node.handle, 99) is None
    assert s.directory.answer([CertificateKey(node.handle, peer.serial), CertificateKey(node.handle, 9)]) == [
        node.certificate.encode()
    ]


def test_each_is_told_once() -> None:
    """A certificate is told of when it is new, not again."""
    s = Setting()
    node = s.issuer.enrol("a", "relay")
    s.add(node)
    s.directory.add_encoded(node.certificate.encode())
    assert [peer.name for peer in s.seen] == ["a"]


def test_newest_counts_and_two_are_kept() -> None:
    """After renewals the newest is found by handle; the one before it still serves records that name it."""
    s = Setting()
    first = s.issuer.enrol("a", "relay")
    second = s.issuer.renew(first)
    third = s.issuer.renew(second)
    for node in (second, first, third):
        s.add(node)
    peer = s.directory.find_handle(first.handle)
    assert peer is not None and peer.serial == third.certificate.body.serial
    assert s.directory.member(first.handle, second.certificate.body.serial) is not None
    assert s.directory.member(first.handle, first.certificate.body.serial) is None
    assert len(s.directory) == 2


def test_ended_is_as_good_as_none() -> None:
    """Five minutes after its end a certificate is not found, and expire forgets it."""
    s = Setting()
    node = s.issuer.enrol("a", "relay")
    s.add(node)
    s.now += DAY + 300
    assert s.directory.find_name("a") is not None
    s.now += 1
    assert s.directory.find_name("a") is None and s.directory.member(node.handle, 1) is None
    s.directory.expire()
    assert len(s.directory) == 0 and s.directory.peers() == []


def test_revocation() -> None:
    """After a CRL the node is gone and known as revoked; admitted again it is back."""
    s = Setting()
    node, other = s.issuer.enrol("a", "relay"), s.issuer.enrol("b", "relay")
    s.add(node)
    s.add(other)
    s.trust.offer(s.issuer.revoke(node), s.now)
    assert s.directory.sweep() == [node.handle]
    assert s.directory.revoked(node.handle) and not s.directory.revoked(other.handle)
    with pytest.raises(PeerRefused) as refused:
        s.add(node)
    assert refused.value.reason == "revoked"
    s.add(s.issuer.renew(node))
    assert not s.directory.revoked(node.handle) and s.directory.find_name("a") is not None


def test_c2_one_entry_cuts_every_certificate_of_a_node() -> None:
    """Those that are held and those that come later, by a CRL as long as for one; new ones are believed."""
    s = Setting()
    one, many = s.issuer.enrol("one", "relay"), s.issuer.enrol("many", "relay")
    shortest = len(s.issuer.revoke(one).encode())
    crls = [s.issuer.crl]
    held = [many, *(s.issuer.renew(many) for _ in range(200))]
    for node in held[:-1:20]:
        s.add(node)
    crls.append(s.issuer.revoke(many))
    entry = crls[1].body.revoked_nodes
    assert len(entry) == 2 and len(crls[1].encode()) < shortest + 80
    s.trust.offer(crls[1], s.now)
    assert s.directory.sweep() == [many.handle] and s.directory.revoked(many.handle)
    for node in held:
        with pytest.raises(PeerRefused, match="is revoked"):
            s.add(node)
    s.add(s.issuer.renew(many))
    assert not s.directory.revoked(many.handle) and s.directory.find_name("many") is not None


def test_revoked_key_is_known_without_a_certificate() -> None:
    """A compromised key's handle is revoked even where its certificate was never seen."""
    s = Setting()
    node = s.issuer.enrol("a", "relay")
    s.trust.offer(s.issuer.revoke(node, key=True), s.now)
    s.directory.sweep()
    assert s.directory.revoked(node.handle)


def test_the_revoked_are_remembered_up_to_a_number() -> None:
    """Of more revoked nodes than there may be nodes, those revoked last are known by handle and by name."""
    s = Setting(max_nodes=2)
    nodes = [s.issuer.enrol(f"n{number}", "relay") for number in range(5)]
    for node in nodes:
        s.add(node)
        s.trust.offer(s.issuer.revoke(node), s.now)
        s.directory.sweep()
    assert [s.directory.revoked(node.handle) for node in nodes] == [False, False, False, True, True]
    assert sorted(s.directory.revoked_nodes) == ["n3", "n4"]


def test_handle_collision() -> None:
    """Another key with the handle of a known node is refused."""
    s = Setting()
    node, other = s.issuer.enrol("a", "relay"), s.issuer.enrol("b", "relay")
    peer = s.add(node)
    held = s.directory._nodes.pop(node.handle)
    s.directory._nodes[other.handle] = {
        serial: replace(entry, peer=replace(peer, handle=other.handle)) for serial, entry in held.items()
    }
    with pytest.raises(PeerRefused) as refused:
        s.add(other)
    assert refused.value.reason == "handle-collision"


def test_full() -> None:
    """More nodes than allowed are refused; known ones may renew."""
    s = Setting(max_nodes=1)
    node = s.issuer.enrol("a", "relay")
    s.add(node)
    with pytest.raises(PeerRefused) as refused:
        s.add(s.issuer.enrol("b", "relay"))
    assert refused.value.reason == "full"
    s.add(s.issuer.renew(node))


def test_unknown_signer_is_judged_again_with_a_newer_genesis() -> None:
    """A certificate by an authority key not known yet is taken once the genesis lists that key."""
    s = Setting()
    issuer = s.issuer
    old, new = issuer.authority, issuer.new_key()
    issuer.authority = new
    node = issuer.enrol("a", "relay")
    with pytest.raises(PeerRefused) as refused:
        s.add(node)
    assert refused.value.reason == "unknown-key"
    for number in range(MAX_UNJUDGED + 5):
        with pytest.raises(PeerRefused):
            s.add(issuer.enrol(f"n{number}", "client"))
    assert len(s.directory._unjudged) == MAX_UNJUDGED
    s.trust.offer(next_genesis(issuer, old.public, new.public), s.now)
    s.directory.sweep()
    s.directory.genesis_changed()
    assert s.directory.find_name("a") is not None


def next_genesis(issuer: Issuer, *keys: bytes) -> Any:
    """Version 2 with these authority keys."""
    body = issuer.genesis.body
    until = body.authority[0].valid_to
    return sign_document(
        msgspec.structs.replace(
            body,
            version=2,
            network_id=issuer.network_id,
            previous=issuer.genesis.digest,
            authority=tuple(
                AuthorityKey(key=b64url_encode(key), valid_from=body.issued_at, valid_to=until)
                for key in keys
            ),
        ),
        [issuer.root],
    )


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """What is no certificate is refused with one error."""
    with pytest.raises((DocumentRefused, PeerRefused)):
        FUZZ.directory.add_encoded(data)


FUZZ = Setting()
