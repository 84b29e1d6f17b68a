# SPDX-License-Identifier: MIT
"""Who a certificate describes, what we present, and what fits; the refusals are in test_noise."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh.linkworld import World
from zope.interface.verify import verifyObject

from gmesh.errors import FrameRefused, PeerRefused
from gmesh.interfaces import ILink, IPeerVerifier
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.wire.handshake import HandshakePayload
from gmesh.wire.suites import Suite


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def node(world):
    return world.node("anna", "anchor", "service:log")


def test_a_peer_is_what_its_certificate_says(world, node):
    """Identifiers are hashes of its key, roles say whether it may relay."""
    peer = peer_of(node.certificate)
    digest = hashlib.sha256(node.enrolled.node_key.public).digest()
    assert (peer.node_id, peer.handle) == (digest[:16].hex(), digest[:8])
    assert (peer.name, peer.roles) == ("anna", ("anchor", "service:log"))
    assert peer.relay and not peer_of(world.issuer.enrol("bob", "client").certificate).relay
    assert peer.noise_key == node.enrolled.noise_key.public
    assert peer.not_after == node.certificate.body.not_after


def test_renewed_means_same_keys_and_a_higher_serial(world, node):
    """A new Noise key or an older serial renews nothing."""
    old, new = peer_of(node.certificate), peer_of(world.issuer.renew(node.enrolled).certificate)
    other = world.issuer.enrol("other", "relay")
    rekeyed = peer_of(world.issuer.certify(node.enrolled.node_key, other.noise_key, "anna", ["relay"]))
    assert old.renewed_by(new) and not new.renewed_by(old) and not old.renewed_by(old)
    assert not old.renewed_by(rekeyed) and not old.renewed_by(peer_of(other.certificate))


def test_the_payload_carries_the_certificate_and_what_the_peer_lacks(node):
    """Nothing to one that holds as much; our genesis to one that holds less."""
    assert verifyObject(IPeerVerifier, node.verifier)
    same = HandshakePayload.decode(node.verifier.payload(1))
    assert same == HandshakePayload(1, node.certificate.encode(), ())
    less = HandshakePayload.decode(node.verifier.payload(0))
    assert less.genesis_documents == (node.trust.genesis.encode(),)


def test_what_does_not_fit_is_left_out(node, monkeypatch):
    """Four documents and 16 KiB at most; the peer asks for the rest elsewhere."""

    class Large:
        def __init__(self, size):
            self.size = size

        def encode(self):
            return bytes(self.size)

    for sizes, sent in (([100] * 6, 4), ([6000] * 4, 2), ([17_000], 0)):
        monkeypatch.setattr(
            node.trust, "genesis_after", lambda version, sizes=sizes: [Large(size) for size in sizes]
        )
        payload = HandshakePayload.decode(node.verifier.payload(0))
        assert [len(document) for document in payload.genesis_documents] == sizes[:sent]


def test_suites_keep_the_order_of_the_genesis(node):
    """The first is proposed."""
    assert node.verifier.suites() == (Suite.CHACHAPOLY_BLAKE2S, Suite.AESGCM_SHA256)


def test_a_link_provides_its_interface():
    """What routing and control may touch."""
    world = World()
    one, two = world.pair()
    assert verifyObject(ILink, one.link(two))
    world.finish()


@given(st.binary(max_size=400))
def test_any_payload_is_judged_or_refused(data):
    """Random bytes, and random certificates in a good frame, raise the documented errors only."""
    node = KEPT.setdefault("node", World().node("anna"))
    for payload in (
        data,
        HandshakePayload(1, data or b"x").encode(),
        HandshakePayload(1, b"x", (data or b"x",)).encode(),
    ):
        with pytest.raises((PeerRefused, FrameRefused)):
            node.verifier.verify(payload, bytes(32))


KEPT = {}


def test_a_good_payload_gives_the_peer(world, node):
    """With the key the handshake used."""
    bob = world.node("bob")
    payload = bob.verifier.payload(1)
    assert isinstance(node.verifier.verify(payload, bob.enrolled.noise_key.public), Peer)
