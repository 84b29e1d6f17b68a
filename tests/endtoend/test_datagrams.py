# SPDX-License-Identifier: MIT
"""Datagrams: delivered once, to whom they should be, or refused with a reason."""

from __future__ import annotations

import pytest
from endtoend.rig import DELAY, Fabric, deny
from twisted.internet.defer import Deferred

from gmesh.endtoend import limits
from gmesh.errors import ConfigurationError, SendRefused


def test_field_t2_delivers_with_identity(fabric, outcomes):
    """A message reaches its receiver with the certified name, id and roles of its sender."""
    messages = []
    fabric.bob.datagrams.register("log", messages.append)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"hello"))
    fabric.run(1)
    assert [(m.source_name, m.source_id, m.roles, m.service, m.data) for m in messages] == [
        ("alice", fabric.alice.peer.node_id, ("client",), "log", b"hello")
    ]
    assert outcomes[0].rtt == pytest.approx(2 * DELAY, abs=0.001)


def test_field_t1_relay_sees_no_payload(fabric, outcomes):
    """Neither the data nor the name of the service is in any byte that a relay holds."""
    canary = b"CANARY-7f3a" * 20
    got = fabric.bob.serve("secret-service")
    outcomes.watch(fabric.alice.datagrams.send("bob", "secret-service", canary))
    fabric.alice.datagrams.post("bob", "secret-service", canary)
    fabric.run(1)
    assert got == [canary, canary]
    everything = b"".join(fabric.seen)
    assert b"CANARY" not in everything
    assert b"secret-service" not in everything


def test_without_acknowledgement(fabric, outcomes):
    """Without an acknowledgement the Deferred fires at once, and nothing is repeated."""
    got = fabric.bob.serve()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"one", acknowledge=False))
    assert outcomes[0].rtt is None
    fabric.run(1)
    assert got == [b"one"]


def test_to_itself(fabric, outcomes):
    """A node reaches its own services without any frame."""
    got = fabric.alice.serve()
    outcomes.watch(fabric.alice.datagrams.send("alice", "log", b"me"))
    outcomes.watch(fabric.alice.datagrams.send("alice", "nobody", b"me"))
    assert got == [b"me"]
    assert outcomes[0].rtt == 0.0
    assert outcomes[1] == "no-such-service"
    assert fabric.seen == []


@pytest.mark.parametrize("size", [0, 1, limits.FRAGMENT_SIZE, limits.FRAGMENT_SIZE + 1, limits.MAX_DATAGRAM])
def test_field_t11_sizes(fabric, outcomes, size):
    """Every size up to the limit arrives whole, cut by the source and joined by the destination only."""
    got = fabric.bob.serve()
    data = bytes(index % 251 for index in range(size))
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", data))
    fabric.run(2)
    fabric.alice.datagrams.post("bob", "log", data)
    fabric.run(1)
    assert got == [data, data]
    assert all(len(frame) <= 16 * 1024 + 200 for frame in fabric.seen)


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


def test_no_such_service(fabric, outcomes):
    """A service without a receiver answers so, at once."""
    outcomes.watch(fabric.alice.datagrams.send("bob", "nobody", b""))
    fabric.run(0.2)
    assert outcomes == ["no-such-service"]


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
    fabric.alice.datagrams.trust_changed("policy")
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


def test_times_out(fabric, outcomes):
    """A node that never answers costs the time that was allowed, not more."""
    fabric.bob.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"", timeout=7))
    fabric.run(6.9)
    assert outcomes == []
    fabric.run(0.2)
    assert outcomes == ["timed-out"]


def test_cancel(fabric, outcomes):
    """Cancelling stops repeating."""
    fabric.bob.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"")).cancel()
    assert outcomes == ["cancelled"]


def test_stop_fails_what_is_under_way(fabric, outcomes):
    """Stopping fails every message with a reason and leaves no timer."""
    fabric.bob.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    fabric.alice.stop()
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["stopped", "stopped"]


def test_outbox_is_bounded(fabric, outcomes):
    """What waits for one peer is bounded; one more is refused at the call."""
    fabric.bob.stop()
    for _ in range(limits.MAX_RELIABLE_MESSAGES):
        fabric.alice.datagrams.send("bob", "log", b"").addErrback(lambda failure: None)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b""))
    assert outcomes == ["busy"]


def test_slow_receiver_gets_messages_in_order(fabric, outcomes):
    """A receiver that takes one at a time gets the next when it is done; more wait in a bounded queue."""
    got, busy = [], []

    def receiver(message):
        got.append(message.data)
        busy.append(Deferred())
        return busy[-1]

    fabric.bob.datagrams.register("log", receiver, concurrent=1)
    for index in range(3):
        outcomes.watch(fabric.alice.datagrams.send("bob", "log", bytes([index])))
    fabric.run(5)
    assert got == [b"\0"]
    assert len(outcomes) == 1
    busy[0].callback(None)
    fabric.run(0.1)
    assert got == [b"\0", b"\1"]
    assert len(outcomes) == 2


def test_full_service_queue_is_retried_then_refused(fabric, outcomes):
    """A full queue refuses for now; the message is repeated until its time is over, then it is busy."""
    registration = fabric.bob.datagrams.register("log", lambda message: Deferred(), concurrent=1)
    for _ in range(1 + limits.SERVICE_QUEUE_MESSAGES):
        fabric.alice.datagrams.post("bob", "log", b"")
        fabric.run(0.05)
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"late", timeout=3))
    fabric.run(2)
    assert outcomes == []
    fabric.run(2)
    assert outcomes == ["busy"]
    outcomes.watch(fabric.alice.datagrams.send("bob", "log", b"again", timeout=10))
    fabric.run(1)
    registration.unregister()
    got = fabric.bob.serve()
    fabric.run(5)
    assert got == [b"again"]


def test_service_queue_is_bounded_in_bytes(fabric):
    """What waits for one receiver has at most so many bytes; the rest is counted, other services go on."""
    fabric.bob.datagrams.register("log", lambda message: Deferred(), concurrent=1)
    other = fabric.bob.serve("other")
    size = 16_000
    for _ in range(2 * limits.SERVICE_QUEUE_BYTES // size):
        fabric.alice.datagrams.post("bob", "log", bytes(size))
        fabric.run(0.01)
    place = fabric.bob.datagrams.services._places["log"]
    assert limits.SERVICE_QUEUE_BYTES - size < place.bytes <= limits.SERVICE_QUEUE_BYTES
    refused = 2 * limits.SERVICE_QUEUE_BYTES // size - len(place.queue) - 1
    assert fabric.bob.sessions.counters["inbound-busy"] == refused > 0
    fabric.alice.datagrams.post("bob", "other", b"here")
    fabric.run(0.1)
    assert other == [b"here"]


def test_failing_receiver(fabric, outcomes, flush_logged_errors):
    """A receiver that fails refuses its message and is logged; one that refuses is not."""

    def failing(message):
        raise ZeroDivisionError

    def refusing(message):
        raise SendRefused("refused")

    fabric.bob.datagrams.register("bad", failing)
    fabric.bob.datagrams.register("picky", refusing)
    outcomes.watch(fabric.alice.datagrams.send("bob", "bad", b""))
    outcomes.watch(fabric.alice.datagrams.send("bob", "picky", b""))
    fabric.run(1)
    assert outcomes == ["refused", "refused"]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_registration_rules(fabric):
    """One receiver a service; names of gmesh itself only for gmesh; bad names refused."""
    registration = fabric.bob.datagrams.register("log", lambda message: None)
    for service, reason in [("log", "service-taken"), ("_echo", "reserved-service"), ("A", "bad-service")]:
        with pytest.raises(ConfigurationError) as caught:
            fabric.bob.datagrams.register(service, lambda message: None)
        assert caught.value.reason == reason
    registration.unregister()
    registration.unregister()
    fabric.bob.datagrams.register("log", lambda message: None)
    assert fabric.bob.datagrams.services.names == ["_echo", "log"]
