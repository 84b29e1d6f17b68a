# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.gossip}: how genesis, CRL, policy and status go from neighbour to neighbour."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import networkx as nx
from mesh.gossip import MANY, numbers, offer, push, sent
from mesh.network_doubles import TestWorld
from mesh.test_members import next_genesis

from gmesh.mesh.limits import (
    STATUS_ASK_INTERVAL,
    WANTED_INTERVAL,
)
from gmesh.trust.documents import sign_document
from gmesh.wire.frames import Kind
from gmesh.wire.limits import MAX_DOCUMENT_CHUNK
from gmesh.wire.messages import CloseReason, DocumentPush, DocumentRequest


def test_one_informed_node_is_enough(world: TestWorld) -> None:
    """CRL, policy and status reach everybody within the delays of the links, each once over each link."""
    nodes = world.line("a", "b", "c", "d")
    crl = world.issuer.revoke(world.issuer.enrol("gone", "client"))
    policy = world.issuer.publish_policy()
    for document in (crl, policy, world.issuer.status):
        offer(nodes[0], document)
    world.run(0.016)
    assert len({numbers(node) for node in nodes}) == 1
    for kind in (Kind.CRL, Kind.POLICY, Kind.STATUS):
        assert world.frames[kind] == 3


def test_spread_in_a_graph(world: TestWorld) -> None:
    """In a random graph everybody has it after the diameter, over each link at most twice."""
    graph = nx.barabasi_albert_graph(12, 3, seed=4)
    nodes = [world.add(f"n{number}") for number in graph]
    for one, other in graph.edges:
        world.connect(nodes[one], nodes[other])
    crl = world.issuer.revoke(world.issuer.enrol("gone", "client"))
    offer(nodes[5], crl)
    world.run(0.005 * nx.diameter(graph) + 0.001)
    assert all(node.trust.crl is not None and node.trust.crl.body.number == crl.body.number for node in nodes)
    world.run(1)
    assert world.frames[Kind.CRL] <= 2 * graph.number_of_edges()


def test_new_node_is_given_everything(world: TestWorld) -> None:
    """On connect who has nothing is given all, and who has all is given nothing."""
    old = world.add("old")
    new = world.add("new", documents=False)
    here, there = world.connect(old, new)
    world.run(0.1)
    assert numbers(new) == numbers(old)
    assert [sent(there, kind) for kind in (Kind.CRL, Kind.POLICY, Kind.STATUS, Kind.GENESIS)] == [0] * 4
    assert sent(here, Kind.CRL) == 1


def test_healed_partition(world: TestWorld) -> None:
    """What one side learned during a partition reaches the other when a link comes back."""
    a, b = world.add("a"), world.add("b")
    offer(a, world.issuer.publish_policy())
    offer(b, world.issuer.revoke(world.issuer.enrol("gone", "client")))
    world.connect(a, b)
    world.run(0.1)
    assert numbers(a)[:3] == numbers(b)[:3]


def test_stale_push_is_answered_with_the_newer(world: TestWorld) -> None:
    """Who pushes an old document is sent the newer one; it changes nothing here."""
    a, _b = world.line("a", "b")
    old = world.issuer.policy
    offer(a, world.issuer.publish_policy())
    world.run(0.1)
    a.links["b"].sent.clear()
    a.links["b"].receive(Kind.POLICY, push(old.body.version, old.encode()))
    assert sent(a.links["b"], Kind.POLICY) == 1
    assert a.counters["policy-rollback"] == 1 or numbers(a)[2] == 2


def test_forged_document_is_not_passed_on(world: TestWorld) -> None:
    """A document without a good signature is refused, counted against the link and goes no further."""
    a, b, c = world.line("a", "b", "c")
    body = world.issuer.publish_policy().body
    forged = sign_document(body, [world.issuer.new_key()])
    before = numbers(b)
    b.links["a"].receive(Kind.POLICY, push(body.version, forged.encode()))
    b.links["a"].receive(Kind.CRL, push(99, b"{}"))
    world.run(1)
    assert numbers(b) == before
    assert sent(b.links["c"], Kind.POLICY) == 0
    assert b.counters["policy-unknown-key"] == 1 and b.counters["crl-refused"] == 1
    assert b.links["a"].up and a.links["b"].up and c.links["b"].up


def test_endless_forgeries_cost_the_link(world: TestWorld) -> None:
    """More than fifty refused documents within a minute end the link."""
    _, b = world.line("a", "b")
    for number in range(60):
        if b.links["a"].up:
            b.links["a"].receive(Kind.CRL, push(100 + number, b"{}"))
    assert b.links["a"].closed == [CloseReason.PROTOCOL]


def test_requests(world: TestWorld) -> None:
    """A request is answered when something fits, anew when the old is over, else not at all."""
    a, b = world.line("a", "b")
    offer(a, world.issuer.publish_policy(*MANY))
    world.run(1)
    link = a.links["b"]

    def ask(kind: Kind, request: DocumentRequest) -> list[DocumentPush]:
        link.sent.clear()
        link.receive(kind, b"\0\0\0" + request.encode())
        return [DocumentPush.decode(frame[3:]) for _, frame in link.sent]

    (piece,) = ask(Kind.POLICY_REQ, DocumentRequest(2, offset=MAX_DOCUMENT_CHUNK))
    assert piece.number == 2 and piece.offset == MAX_DOCUMENT_CHUNK
    assert ask(Kind.POLICY_REQ, DocumentRequest(3)) == []
    (announced,) = ask(Kind.POLICY_REQ, DocumentRequest(0, b"o" * 32, MAX_DOCUMENT_CHUNK))
    assert announced.announcement and announced.digest == piece.digest
    assert ask(Kind.POLICY_REQ, DocumentRequest(2, offset=100 * MAX_DOCUMENT_CHUNK)) == []
    assert ask(Kind.GENESIS_REQ, DocumentRequest(1))[0].whole
    assert ask(Kind.GENESIS_REQ, DocumentRequest(2)) == []
    assert b.links["a"].up


def test_resigned_status_is_not_pushed(world: TestWorld) -> None:
    """A status that names nothing new travels by heartbeat, until a neighbour's own is past half its life."""
    a, b, c = world.line("a", "b", "c")
    world.run(1700)
    before = world.frames.get(Kind.STATUS, 0)
    offer(a, world.issuer.publish_status())
    world.run(50)
    assert world.frames.get(Kind.STATUS, 0) == before
    world.run(60 + 2 * STATUS_ASK_INTERVAL)
    assert numbers(b)[3] == numbers(a)[3]
    world.run(4 * STATUS_ASK_INTERVAL)
    assert numbers(c)[3] == numbers(a)[3]


def test_status_says_what_is_missing(world: TestWorld) -> None:
    """A node that gets a status with higher numbers asks the same neighbour for those documents."""
    a, b = world.add("a"), world.add("b")
    world.connect(a, b)
    crl = world.issuer.revoke(world.issuer.enrol("gone", "client"))
    a.withholds = lambda kind, frame: kind == Kind.CRL and sent(a.links["b"], Kind.CRL) < 2
    offer(a, crl)
    world.run(0.1)
    assert numbers(b)[1] < crl.body.number
    offer(a, world.issuer.status)
    world.run(0.1)
    assert numbers(b)[1] == crl.body.number


def test_genesis_reaches_a_sleeper_and_unlocks_the_rest(world: TestWorld) -> None:
    """A CRL by an authority key of the next genesis is judged again once that genesis came."""
    _, b, c = world.line("a", "b", "c")
    issuer = world.issuer
    old, issuer.authority = issuer.authority, issuer.new_key()
    genesis = next_genesis(issuer, old.public, issuer.authority.public)
    crl = issuer.revoke(issuer.enrol("gone", "client"))
    b.links["a"].receive(Kind.CRL, push(crl.body.number, crl.encode()))
    assert b.counters["crl-unknown-key"] == 1
    b.links["a"].receive(Kind.GENESIS, push(2, genesis.encode()))
    assert numbers(b)[:2] == (2, crl.body.number)
    world.run(0.1)
    assert numbers(c)[:2] == (2, crl.body.number)


def test_all_missing_genesis_versions_are_sent(world: TestWorld) -> None:
    """A node that slept through two rotations gets both, in order, with one link."""
    issuer = world.issuer
    a = world.add("a")
    second = next_genesis(issuer, issuer.authority.public)
    offer(a, second)
    issuer.genesis = second
    third = next_genesis_after(issuer)
    offer(a, third)
    b = world.add("b")
    world.connect(a, b)
    world.run(0.1)
    assert numbers(b)[0] == 3
    assert b.trust.genesis_chain == a.trust.genesis_chain


def next_genesis_after(issuer: Any) -> Any:
    """Version 3."""
    body = msgspec.structs.replace(issuer.genesis.body, version=3, previous=issuer.genesis.digest)
    return sign_document(body, [issuer.root])


def test_revocation_reaches_everybody_and_cuts(world: TestWorld) -> None:
    """Once the CRL is spread nobody has a path over the revoked relay and its frames are refused."""
    random = Random(5)
    graph = nx.connected_watts_strogatz_graph(8, 4, 0.3, seed=5)
    nodes = [world.add(f"n{number}") for number in graph]
    for one, other in graph.edges:
        world.connect(nodes[one], nodes[other], random.uniform(0.002, 0.02))
    world.run(5)
    victim = nodes[3]
    offer(nodes[0], world.issuer.revoke(victim.enrolled))
    world.run(0.2)
    for node in nodes:
        if node is victim:
            continue
        assert node.directory.revoked(victim.handle)
        for other in nodes:
            path = node.engine.path(other.handle, world.clock.seconds())
            assert path is None or victim.handle not in path


def test_what_a_far_node_holds_is_asked_for_rarely(world: TestWorld) -> None:
    """The word of a far node makes us ask a neighbour, once in a while: what is claimed may be a lie."""
    a, _b = world.line("a", "b")
    world.run(5)
    link = a.links["b"]
    before = sent(link, Kind.CRL_REQ)
    assert a.trust.crl is not None
    a.documents.wanted("crl", a.trust.crl.body.number)
    assert sent(link, Kind.CRL_REQ) == before
    for claim in range(100):
        a.documents.wanted("crl", 2**50 + claim)
    assert sent(link, Kind.CRL_REQ) == before + 1
    world.run(WANTED_INTERVAL)
    a.documents.wanted("crl", 2**50)
    assert sent(link, Kind.CRL_REQ) == before + 2
