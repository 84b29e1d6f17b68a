# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.route_updates}: links, certificates and revocations reach the routes in time."""

from __future__ import annotations

from mesh.network_doubles import TestNode, TestWorld
from mesh.records import sign

from gmesh.routing.database import OfferOutcome


def test_field_t6_revocation_in_one_turn(world: TestWorld) -> None:
    """Applying the CRL drops record, paths and what waits to be sent, before control returns."""
    nodes = world.line("a", "b", "c", "d")
    world.run(5)
    a, _b, c, _ = nodes
    now = world.clock.seconds()
    a.trust.offer(world.issuer.revoke(c.enrolled), world.wall())
    assert a.engine.store.get((c.handle, 0)) is None
    assert a.directory.find_handle(c.handle) is None and a.directory.revoked(c.handle)
    assert a.engine.path(c.handle, now) is None and a.engine.path(nodes[3].handle, now) is None
    data = sign(c, c.engine.sequence + 1)
    assert a.engine.offer(data, now, world.wall()).outcome is OfferOutcome.REVOKED


def test_duplicate_link_costs_no_record(world: TestWorld) -> None:
    """When a second link to a node replaces the first, nothing is re-signed; when none comes, it is."""
    a, b = world.line("a", "b")
    world.run(40)
    before = a.engine.sequence
    world.cut(a, b, "duplicate")
    world.connect(a, b)
    world.run(5)
    assert a.engine.sequence == before
    world.cut(a, b, "duplicate")
    world.run(1.1)
    assert a.engine.sequence > before


def test_suspect_link_is_dearer(world: TestWorld) -> None:
    """While a PONG is missing the link costs four times as much, for everybody."""
    a, b, c = world.line("a", "b", "c")
    world.run(40)
    link = b.links["c"]
    link.suspect = True
    b.neighbours.changed(link.neighbour)
    world.run(1)
    costs = {path[-1]: cost for _, path, cost in a.engine.table(world.clock.seconds())}
    assert costs[c.handle] == 96 + 4 * 96
    link.suspect = False
    b.neighbours.changed(link.neighbour)
    world.run(2)
    assert a.engine.table(world.clock.seconds())[0][2] in (96, 192)


def test_round_trip_reaches_the_cost(world: TestWorld) -> None:
    """The round trip that a link measures becomes part of its cost."""
    a, b = world.line("a", "b")
    a.links["b"].rtt = 0.120
    world.run(10)
    assert b.engine.table(world.clock.seconds())[0][2] == 246


def test_drain(world: TestWorld) -> None:
    """Before a shutdown others route around us within half a second."""
    a, b, c, d = (world.add(name) for name in "abcd")
    for one, other in ((a, b), (b, d), (a, c), (c, d)):
        world.connect(one, other)
    world.run(5)
    first = a.engine.path(d.handle, world.clock.seconds())
    assert first is not None
    relay = b if first[1] == b.handle else c
    done = relay.updates.drain()
    world.run(0.6)
    assert done.called
    path = a.engine.path(d.handle, world.clock.seconds())
    assert path is not None and path[1] not in (relay.handle,)


def test_renewed_certificate_is_named(world: TestWorld) -> None:
    """After a renewal records name the new serial, and everybody fetches the new certificate."""
    a, _b, c = world.line("a", "b", "c")
    world.run(5)
    renewed = world.issuer.renew(a.enrolled)
    a.certify(renewed.certificate)
    a.directory.add(renewed.certificate)
    a.updates.renewed()
    a.control.announce_certificate(renewed.certificate)
    world.run(5)
    peer = c.directory.find_name("a")
    assert peer is not None and peer.serial == renewed.certificate.body.serial
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.serial == peer.serial


def test_expired_certificate_ends_its_records(world: TestWorld) -> None:
    """A node that does not renew is out of database and directory after leeway."""
    a, b = world.line("a", "b")
    late = TestNode(world, world.issuer.enrol("late", "relay", lifetime=100))
    world.nodes["late"] = late
    world.connect(b, late)
    world.run(5)
    assert a.directory.find_name("late") is not None
    world.run(410)
    assert a.directory.find_name("late") is None
    assert a.engine.store.get((late.handle, 0)) is None
