# SPDX-License-Identifier: MIT
"""Whole nodes with real Noise while the world misbehaves: cuts, silence, slowness, clocks, deaths, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gmesh.endtoend.services import Message
from gmesh.errors import RequestRefused, SendRefused
from gmesh.mesh.limits import CONTROL_QUEUE_BYTES, DATA_QUEUE_BYTES, LAN, TARGET_DEGREE, WAN, KeepaliveProfile
from gmesh.node.api.views import LocalNode
from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire
from gmesh.trust.documents import Rule
from gmesh.wire.frames import Kind

Make = Callable[..., MemoryMesh]
RING = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def ring() -> Iterator[Make]:
    """A function that makes six relays in a ring, all routed."""
    made: list[MemoryMesh] = []

    def make(seed: int = 0, **options: Any) -> MemoryMesh:
        mesh = MemoryMesh(seed, **options)
        made.append(mesh)
        for index, name in enumerate(RING):
            mesh.add(name, "relay", peers=[RING[index - 1]] if index else [])
        mesh.redial("a", "f")
        mesh.start()
        mesh.run_until(lambda: all(node.reaches(*RING) for node in mesh))
        mesh.run_until(lambda: all(len(node.link_names) == 2 for node in mesh))
        mesh.run(10)
        return mesh

    yield make
    for mesh in made:
        mesh.heal()
        mesh.stop()
        assert mesh.clock.getDelayedCalls() == []
        assert mesh.network.open_connections() == []


def inbox(mesh: MemoryMesh, name: str) -> list[bytes]:
    """What a node received on the service log."""
    received: list[bytes] = []

    def take(message: Message) -> None:
        received.append(message.data)

    mesh[name].runtime.datagrams.register("log", take)
    return received


def send(mesh: MemoryMesh, source: str, target: str, data: bytes, **options: Any) -> Any:
    """Send and let time pass until that is decided."""
    return mesh.result(mesh[source].runtime.datagrams.send(target, "log", data, **options))


@pytest.mark.parametrize(("profile", "bound"), [(WAN, 16.0), (LAN, 4.0)])
@pytest.mark.parametrize("both", [True, False])
def test_a_silent_link_is_routed_around(
    ring: Make, profile: KeepaliveProfile, bound: float, both: bool
) -> None:
    """Dead both ways or half-open: routes leave it within the stated time, and the link ends."""
    mesh = ring(profile=profile)
    assert mesh["a"].path("c") == ["a", "b", "c"]
    mesh.silence("b", "c", both)
    assert mesh.run_until(lambda: mesh["a"].path("c") == ["a", "f", "e", "d", "c"]) <= bound
    mesh.run_until(lambda: "c" not in mesh["b"].link_names, within=bound)


def test_messages_pass_while_links_fall(ring: Make) -> None:
    """Each acknowledged message arrives exactly once, whichever link is cut just then."""
    mesh = ring(seed=3)
    received = inbox(mesh, "d")
    random = Random(3)
    acknowledged = []
    for number in range(30):
        mesh.run_until(lambda: mesh["a"].reaches("d"), within=120)
        one = random.randrange(6)
        sent = mesh["a"].runtime.datagrams.send("d", "log", b"%d" % number, timeout=20.0)
        mesh.run(random.uniform(0, 0.006))
        mesh.cut(RING[one], RING[(one + 1) % 6])
        try:
            mesh.result(sent)
            acknowledged.append(b"%d" % number)
        except SendRefused:
            pass
        mesh.run(random.uniform(0, 4))
    assert len(set(received)) == len(received)
    assert set(acknowledged) <= set(received)
    assert len(acknowledged) >= 25


def test_a_partition_ends_and_heals(ring: Make) -> None:
    """Neither half reaches the other; healed, sessions go on where they were."""
    mesh = ring()
    received = inbox(mesh, "d")
    send(mesh, "a", "d", b"before")
    mesh.partition(("a", "b", "f"), ("c", "d", "e"))
    mesh.run(2)
    assert mesh["a"].path("d") is None and mesh["a"].reaches("b", "f")
    with pytest.raises(SendRefused):
        send(mesh, "a", "d", b"lost", timeout=5.0)
    mesh.heal()
    mesh.run_until(lambda: mesh["a"].reaches("d") and mesh["d"].reaches("a"), within=120)
    send(mesh, "a", "d", b"after", timeout=30.0)
    assert received[0] == b"before" and received[-1] == b"after"
    assert len({node.runtime.engine.store.digest() for node in mesh}) >= 1
    mesh.run(15)
    assert len({node.runtime.engine.store.digest() for node in mesh}) == 1


@pytest.mark.parametrize("silently", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_a_relay_dies_and_returns(ring: Make, silently: bool, keep: bool) -> None:
    """With or without its memory, noticed at once or not: traffic goes round it, and it comes back."""
    mesh = ring()
    received = inbox(mesh, "c")
    send(mesh, "a", "c", b"one")
    mesh["b"].kill(silently)
    mesh.run_until(lambda: mesh["a"].path("c") == ["a", "f", "e", "d", "c"], within=17)
    send(mesh, "a", "c", b"two", timeout=30.0)
    mesh["b"].restart(keep)
    mesh.run_until(lambda: mesh["a"].path("c") == ["a", "b", "c"], within=120)
    send(mesh, "a", "c", b"three", timeout=30.0)
    assert received == [b"one", b"two", b"three"]


@pytest.mark.parametrize("skew", [-299.0, 299.0])
def test_a_clock_within_the_leeway_changes_nothing(ring: Make, skew: float) -> None:
    """A step of the wall clock of up to five minutes moves no timer, and records go on being believed."""
    mesh = ring()
    received = inbox(mesh, "d")
    mesh["b"].skew = skew
    mesh.cut("b", "c")
    mesh.run(90)
    assert mesh["a"].path("c") == ["a", "b", "c"]
    send(mesh, "a", "d", b"x")
    assert received == [b"x"]


def test_a_slow_consumer_costs_its_own_link_only(ring: Make) -> None:
    """Queues stay within their caps and control goes on while one link carries next to nothing."""
    mesh = ring(wire=Wire(capacity=32 * 1024))
    received = inbox(mesh, "c")
    other = inbox(mesh, "f")
    mesh.slow("a", "b", 2_000)
    pending = [mesh["a"].runtime.datagrams.send("c", "log", bytes(8_000), timeout=20.0) for _ in range(40)]
    for deferred in pending:
        deferred.addErrback(lambda failure: failure.trap(SendRefused) and None)
    for _ in range(20):
        mesh.run(1)
        for link in mesh["a"].runtime.links():
            assert link.backlog <= DATA_QUEUE_BYTES and link.control_backlog <= CONTROL_QUEUE_BYTES
    started = mesh.now()
    send(mesh, "a", "f", b"beside")
    assert mesh.now() - started < 1 and other == [b"beside"]
    assert all(pending_one.called for pending_one in pending)
    assert len(received) <= 40
    mesh.slow("a", "b", None)


def test_a_replayed_first_message_opens_no_second_session(ring: Make) -> None:
    """IK's first message again and again: the destination refuses each and keeps the session it has."""
    mesh = ring()
    received = inbox(mesh, "c")
    link = mesh["b"].link("c")
    pass_on, seen = link.send_data, []

    def note(frame: bytes, flow: bytes, rest: bytes | memoryview = b"") -> bool:
        if frame[2] == Kind.E2E_INIT:
            seen.append((b"".join((frame, rest)), flow))
        return bool(pass_on(frame, flow, rest))

    link.send_data = note
    mesh["b"].runtime.forwarding.forget_verdicts()
    send(mesh, "a", "c", b"one")
    assert seen
    mesh.run(6)
    before = dict(mesh["c"].runtime.counters())
    for _ in range(50):
        pass_on(*seen[0])
    mesh.run(10)
    after = mesh["c"].runtime.counters()
    refused = sum(after.values()) - sum(before.values())
    assert refused >= 50
    send(mesh, "a", "c", b"two")
    assert received == [b"one", b"two"]


def test_trace_shows_the_verdict_of_the_policy(ring: Make) -> None:
    """Beside the round trip of each hop stands which rule lets this node reach it, or denies it."""
    mesh = ring()
    deny = Rule(effect="deny", sources=("node:a",), to=("node:c",), services=("log",))
    allow = Rule(effect="allow", sources=("*",), to=("*",), services=("*",))
    mesh.issuer.publish_policy(deny, allow)
    mesh.publish("a")
    mesh.run(1)
    nothing: Any = None
    local = LocalNode(mesh["a"].runtime, nothing, nothing, nothing)
    traced = mesh.result(Deferred.fromCoroutine(local.trace("c", "log")))
    assert traced["path"] == ["a", "b", "c"]
    assert [hop["policy"] for hop in traced["hops"]] == ["allowed: rule 1", "denied: rule 0"]
    assert all(hop["rtt_ms"] > 0 for hop in traced["hops"])
    ways = [row["path"] for row in local.alternatives("c")]
    assert ways == [["a", "b", "c"], ["a", "f", "e", "d", "c"]]
    own = mesh.result(Deferred.fromCoroutine(local.trace("c", "_echo")))
    assert {hop["policy"] for hop in own["hops"]} == {"allowed: no policy cuts it"}


def test_trace_and_routes_say_why_not(ring: Make) -> None:
    """A name nobody has, a service that cannot be, a node out of reach: refused with the reason."""
    mesh = ring()
    nothing: Any = None
    local = LocalNode(mesh["a"].runtime, nothing, nothing, nothing)
    with pytest.raises(RequestRefused, match="not a service name"):
        mesh.result(Deferred.fromCoroutine(local.trace("c", "no such")))
    with pytest.raises(RequestRefused, match="no node called 'nobody'") as refused:
        local.alternatives("nobody")
    assert refused.value.reason == "unknown-node"
    assert local.alternatives("a") == [{"name": "a", "path": ["a"], "cost": 0}]
    mesh.partition({"c"}, set(mesh.nodes) - {"c"})
    mesh.run(5)
    with pytest.raises(RequestRefused, match="no chain of links") as refused:
        local.alternatives("c")
    assert refused.value.reason == "no-route"


def test_a_run_with_traffic_repeats(ring: Make) -> None:
    """Invariant 9, real Noise included: equal seeds and deeds have equal traces, another seed has another."""
    traces = []
    for seed in (4, 4, 5):
        mesh = ring(seed)
        inbox(mesh, "c")
        send(mesh, "a", "c", b"x")
        mesh.cut("a", "b")
        mesh.run(5)
        traces.append(mesh.trace)
    assert traces[0] == traces[1] != traces[2]


def test_a_node_reaches_its_degree_by_anchors_it_learns_of() -> None:
    """It knows one relay; the anchors behind are in no genesis, only in records: it links to some."""
    mesh = MemoryMesh(seed=2)
    mesh.add("r", "relay")
    for index in range(5):
        mesh.add(f"anchor{index}", "anchor", peers=["r"])
    mesh.add("x", "client", peers=["r"])
    mesh.start()
    mesh.run_until(lambda: len(mesh["x"].link_names) >= TARGET_DEGREE, within=60)
    mesh.run(60)
    assert len(mesh["x"].link_names) == TARGET_DEGREE
    lost = next(name for name in mesh["x"].link_names if name != "r")
    mesh[lost].kill()
    mesh.run_until(lambda: len(mesh["x"].link_names) == TARGET_DEGREE, within=60)
    mesh.stop()


def test_a_linked_anchor_is_not_dialled_by_the_address_of_its_record() -> None:
    """Its link would be made anew only because the genesis spells its address in another way."""
    mesh = MemoryMesh(seed=2)
    mesh.add("anchor", "anchor")
    mesh.add("x", "client")
    mesh["x"].dial([f"tcp:{mesh['anchor'].address}"])
    mesh.start()
    mesh.run_until(lambda: mesh["x"].reaches("anchor"), within=60)
    mesh.run(60)
    assert len(mesh.network.connections) == 1
    mesh.stop()
