# SPDX-License-Identifier: MIT
"""Authorization: what is refused before a message leaves, and what before a receiver sees it."""

from __future__ import annotations

import pytest
from endtoend.rig import Fabric, deny

from gmesh.endtoend import limits


@pytest.mark.parametrize(
    ("node", "service", "size", "timeout", "reason"),
    [
        ("carol", "log", 1, 10, "unknown-node"),
        ("bob", "Log", 1, 10, "bad-service"),
        ("bob", "x" * 33, 1, 10, "bad-service"),
        ("bob", "log", limits.MAX_DATAGRAM + 1, 10, "too-large"),
        ("bob", "log", 1, 0, "bad-timeout"),
        ("bob", "log", 1, limits.MAX_TIMEOUT + 1, "bad-timeout"),
    ],
)
def test_refused_at_the_call(fabric, outcomes, node, service, size, timeout, reason):
    """What can be refused before anything is sent is refused at the call."""
    outcomes.watch(fabric.alice.datagrams.send(node, service, bytes(size), timeout=timeout))
    assert outcomes == [reason]
    assert fabric.seen == []


def test_no_route(fabric, outcomes):
    """Without a path the call is refused; the reason of routing is told when it is the distance."""
    fabric.alice.unreachable.add(fabric.bob.handle)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.alice.explain = lambda handle, now: ("too-far", "too far: 40 hops, limit 32")
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["no-route", "too-far"]


def test_denied_at_the_source(fabric, outcomes):
    """A policy held by the source refuses the call."""
    fabric.alice.trust.offer(fabric.network.policy(2, rules=deny("log")), fabric.wall())
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["denied"]
    assert fabric.seen == []


def test_denied_at_the_destination(fabric, outcomes):
    """A policy held only by the destination keeps the receiver from seeing the message."""
    got = fabric.bob.serve()
    fabric.bob.trust.offer(
        fabric.network.policy(2, rules=deny("log", sources=("node:alice",))), fabric.wall()
    )
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"x"))
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", bytes(30_000)))
    fabric.run(1)
    assert outcomes == ["denied", "denied"]
    assert got == []


def test_policy_decides_by_role(outcomes):
    """Rules see the roles of the certificate, at both ends."""
    fabric = Fabric("alice", "bob")
    fabric.add("sensor", 9, roles=("client", "service:meter"))
    got = fabric.bob.serve()
    fabric.offer(fabric.network.policy(2, rules=deny("log", sources=("role:service:meter",))))
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"a"))
    outcomes.watch(fabric.sensor.datagrams.send("bob", "log", b"s"))
    fabric.run(1)
    assert got == [b"a"]
    assert outcomes[0] == "denied"
    fabric.stop()


def test_no_policy_denies(outcomes):
    """Without a policy nothing is allowed but what is gmesh's own."""
    fabric = Fabric("alice", "bob")
    fabric.alice.trust.policy = None
    fabric.alice.datagrams.authorization.trust_changed("policy")
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    outcomes.watch(fabric.alice.echo.ping("bob"))
    fabric.run(1)
    assert outcomes[0] == "denied"
    assert isinstance(outcomes[1], float)
    fabric.stop()


def test_stale(fabric, outcomes):
    """A node that lost touch with the authority sends nothing but to the authority, and accepts nothing."""
    fabric.bob.serve()
    requests = fabric.bob.serve("_authority", reserved=True)
    fabric.alice.lapsed = True
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    outcomes.watch(fabric.alice.datagrams.send("bob", "_authority", b"request"))
    fabric.run(1)
    fabric.alice.lapsed, fabric.bob.lapsed = False, True
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.run(1)
    assert outcomes[0] == "stale"
    assert requests == [b"request"]
    assert outcomes[2] == "denied"


def test_revoked_at_the_call(fabric, outcomes):
    """A revoked node cannot be sent to."""
    fabric.alice.trust.offer(
        fabric.network.crl(1, revoked=[(2, fabric.bob.peer.not_after, 0)]), fabric.wall()
    )
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["revoked"]


def test_expired_at_the_call(fabric, outcomes):
    """A node whose certificate has ended cannot be sent to."""
    fabric.clock.advance(86_400 + 400)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["expired"]
