# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.gossip}: what is too large to push is pulled in pieces."""

from __future__ import annotations

from mesh.gossip import MANY, offer, sent
from mesh.network_doubles import TestWorld

from gmesh.mesh.limits import (
    ASSEMBLY_STALL,
    DOCUMENT_WINDOW,
    HOUSEKEEPING_INTERVAL,
)
from gmesh.wire.frames import Kind
from gmesh.wire.limits import MAX_DOCUMENT_CHUNK
from gmesh.wire.messages import DocumentPush


def test_field_r8_large_document_is_pulled_in_pieces(world: TestWorld) -> None:
    """A policy above 8 KiB is announced, pulled piece by piece, verified whole and announced further."""
    nodes = world.line("a", "b", "c")
    policy = world.issuer.publish_policy(*MANY)
    pieces = -(-len(policy.encode()) // MAX_DOCUMENT_CHUNK)
    assert pieces > 2
    offer(nodes[0], policy)
    world.run(1)
    assert all(node.trust.policy == policy for node in nodes)
    assert sent(nodes[1].links["a"], Kind.POLICY_REQ) == pieces
    assert sent(nodes[0].links["b"], Kind.POLICY) == pieces + 1


def test_large_document_takes_few_round_trips(world: TestWorld) -> None:
    """Pieces are asked for a few ahead: eight of them take two round trips, not eight."""
    a, b = world.add("a"), world.add("b")
    world.connect(a, b, delay=0.1)
    world.run(1)
    offer(a, world.issuer.publish_policy(*MANY, *MANY))
    start = world.clock.seconds()
    pieces = -(-len(world.issuer.policy.encode()) // MAX_DOCUMENT_CHUNK)
    assert DOCUMENT_WINDOW < pieces <= 2 * DOCUMENT_WINDOW
    while b.trust.policy != world.issuer.policy:
        world.run(0.01)
    assert world.clock.seconds() - start <= 0.1 + 2 * 0.2 + 0.02


def test_large_document_from_another_when_one_stalls(world: TestWorld) -> None:
    """A neighbour that stops in the middle is given up after ten seconds and another is asked."""
    a, b, c = world.add("a"), world.add("b"), world.add("c")
    world.connect(a, c)
    world.connect(b, c)
    policy = world.issuer.publish_policy(*MANY)
    a.withholds = lambda kind, frame: kind == Kind.POLICY and len(frame) > 100
    offer(a, policy)
    world.run(0.1)
    offer(b, policy)
    world.run(ASSEMBLY_STALL + HOUSEKEEPING_INTERVAL + 1)
    assert c.trust.policy == policy
    assert c.counters["document-stalled"] == 1


def test_sender_gone_in_the_middle(world: TestWorld) -> None:
    """When the link falls during a transfer another neighbour is asked at once."""
    a, b, c = world.add("a"), world.add("b"), world.add("c")
    world.connect(a, c)
    world.connect(b, c)
    policy = world.issuer.publish_policy(*MANY)
    a.withholds = lambda kind, frame: kind == Kind.POLICY and len(frame) > 100
    offer(a, policy)
    world.run(0.1)
    offer(b, policy)
    world.run(0.1)
    world.cut(a, c)
    world.run(0.2)
    assert c.trust.policy == policy


def test_wrong_digest_costs_the_link(world: TestWorld) -> None:
    """Pieces that do not make the announced document end the link."""
    a, b = world.line("a", "b")
    whole = bytes(MAX_DOCUMENT_CHUNK + 10)
    link = b.links["a"]
    link.receive(Kind.CRL, b"\0\0\0" + DocumentPush(50, b"d" * 32, len(whole), 0, b"").encode())
    for offset in (0, MAX_DOCUMENT_CHUNK):
        link.receive(Kind.CRL, b"\0\0\0" + DocumentPush.of(50, whole, offset, b"d" * 32).encode())
    assert b.refusals == ["malformed"] and not a.links["b"].up


def test_too_large_is_not_begun(world: TestWorld) -> None:
    """An announcement beyond the limit of its type is counted and not asked for."""
    _, b = world.line("a", "b")
    link = b.links["a"]
    link.receive(Kind.STATUS, b"\0\0\0" + DocumentPush(10**6, b"d" * 32, 10**6, 0, b"").encode())
    assert b.counters["document-too-large"] == 1
    assert sent(link, Kind.STATUS_REQ) == 0


def test_pieces_nobody_asked_for(world: TestWorld) -> None:
    """A piece from the middle without an announcement is ignored."""
    _, b = world.line("a", "b")
    whole = bytes(3 * MAX_DOCUMENT_CHUNK)
    frame = DocumentPush.of(50, whole, MAX_DOCUMENT_CHUNK).encode()
    b.links["a"].receive(Kind.CRL, b"\0\0\0" + frame)
    assert b.refusals == [] and sent(b.links["a"], Kind.CRL_REQ) == 0
