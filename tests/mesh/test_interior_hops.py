# SPDX-License-Identifier: MIT
"""Who may pass on what others send, and who pays for what a header says of its source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mesh.network_doubles import TestNode, TestWorld

from gmesh.endtoend.limits import INIT_LINK_RATE, INIT_SOURCE_BURST, INIT_SOURCE_RATE
from gmesh.mesh.limits import (
    HANDSHAKES_EACH,
    HANDSHAKES_PAIR,
    HEADER_BURST,
    MAX_OWN_VERDICTS,
    TRANSIT_BURST,
    TRANSIT_HEADER_BURST,
)
from gmesh.mesh.peer_identity import peer_of
from gmesh.token_bucket import ClaimGate, Rate
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

DATA, INIT = Kind.E2E_DATA, Kind.E2E_INIT
VICTIM = b"victim.."


@pytest.fixture
def world() -> Iterator[TestWorld]:
    """A world that leaves nothing behind."""
    made = TestWorld()
    yield made
    made.stop()


@pytest.fixture
def star(world: TestWorld) -> dict[str, TestNode]:
    """The relay C{b}, and linked to it the client C{m} and the relays C{r}, C{s} and C{c}."""
    nodes = {name: world.add(name, "client" if name == "m" else "relay") for name in "bmrsc"}
    for name in "mrsc":
        world.connect(nodes["b"], nodes[name])
    return nodes


def frame(path: tuple[bytes, ...], hop: int, kind: int = DATA, body: bytes = b"x") -> bytes:
    """A frame on its way."""
    return pack_path_frame(kind, PathHeader(path, 7, 1, hop), body)


def passed(node: TestNode, to: TestNode) -> int:
    """How many data frames have left C{node} by one link."""
    return sum(kind in (DATA, INIT) for kind, _ in node.links[to.name].sent)


def swallow(node: TestNode, to: TestNode) -> list[int]:
    """From now on what C{node} sends by one link goes nowhere, and its size is noted."""
    taken: list[int] = []

    def take(head: bytes, flow: bytes, rest: bytes | memoryview = b"") -> bool:
        taken.append(len(head) + len(rest))
        return True

    link: Any = node.links[to.name]
    link.send_data = take
    return taken


def stranger(number: int) -> bytes:
    """A handle that is made up."""
    return b"made" + number.to_bytes(4, "big")


def test_c3_a_client_is_no_interior_hop(star: dict[str, TestNode]) -> None:
    """What a client hands on for somebody else is dropped by the next hop and counted; the link stays."""
    b, m, c = star["b"], star["m"], star["c"]
    for path, hop in (
        ((VICTIM, m.handle, b.handle, c.handle), 2),
        ((VICTIM, b"another.", m.handle, b.handle, c.handle), 3),
    ):
        b.links["m"].receive(INIT, frame(path, hop, INIT))
    assert b.counters["forward-through-client"] == 2
    assert passed(b, c) == 0 and b.refusals == []
    b.links["m"].receive(INIT, frame((m.handle, b.handle, c.handle), 1, INIT))
    assert passed(b, c) == 1


def test_c3_a_client_is_no_last_hop_either(star: dict[str, TestNode]) -> None:
    """The destination refuses it as well; what the client says in its own name arrives."""
    b, m = star["b"], star["m"]
    b.links["m"].receive(INIT, frame((VICTIM, m.handle, b.handle), 2, INIT))
    assert b.counters["forward-through-client"] == 1 and b.delivered == []
    b.links["m"].receive(INIT, frame((m.handle, b.handle), 1, INIT))
    assert [header.source for _, header, _ in b.delivered] == [m.handle]


@pytest.mark.parametrize("role", ["relay", "anchor"])
def test_c3_relays_and_anchors_pass_on(world: TestWorld, role: str) -> None:
    """The certificate of the neighbour decides, by either role."""
    one, two = world.add("one", role), world.add("two", "client")
    world.connect(one, two)
    two.links["one"].receive(DATA, frame((VICTIM, one.handle, two.handle), 2))
    assert len(two.delivered) == 1


def test_c3_a_renewed_certificate_without_the_role(world: TestWorld) -> None:
    """A header that was obeyed is judged anew when the neighbour goes on as a client."""
    one, two = world.add("one"), world.add("two")
    world.connect(one, two)
    other = frame((VICTIM, one.handle, two.handle), 2)
    link = two.links["one"]
    link.receive(DATA, other)
    keys = one.enrolled
    link.peer = peer_of(world.issuer.certify(keys.node_key, keys.noise_key, "one", ("client",)))
    two.neighbours.changed(link.neighbour)
    link.receive(DATA, other)
    assert two.counters["forward-through-client"] == 1 and len(two.delivered) == 1


def test_c3_transit_rules_are_asked_at_every_hop(star: dict[str, TestNode]) -> None:
    """A source that may not use us may not do so behind another relay."""
    b, r, c = star["b"], star["r"], star["c"]
    b.forwarding._may_transit = lambda source: source != VICTIM
    b.links["r"].receive(DATA, frame((VICTIM, r.handle, b.handle, c.handle), 2))
    assert b.counters["forward-transit-denied"] == 1 and passed(b, c) == 0


def test_c3_headers_are_counted_by_ingress_at_every_hop(star: dict[str, TestNode]) -> None:
    """A relay that makes up sources is judged so often; the same source over another relay passes."""
    b, r, s, c = star["b"], star["r"], star["s"], star["c"]
    for number in range(TRANSIT_HEADER_BURST + 100):
        b.links["r"].receive(DATA, frame((stranger(number), r.handle, b.handle, stranger(number + 1)), 2))
    assert b.counters["forward-header-rate"] == 100
    b.links["r"].receive(DATA, frame((VICTIM, r.handle, b.handle, c.handle), 2))
    assert b.counters["forward-header-rate"] == 101 and passed(b, c) == 0
    b.links["s"].receive(DATA, frame((VICTIM, s.handle, b.handle, c.handle), 2))
    b.links["r"].receive(DATA, frame((r.handle, b.handle, c.handle), 1))
    assert b.counters["forward-header-rate"] == 101 and passed(b, c) == 2


def test_c3_what_was_judged_is_not_new(star: dict[str, TestNode]) -> None:
    """Links that come and go have every header judged again, which costs its neighbour nothing."""
    b, m, c, s = star["b"], star["m"], star["c"], star["s"]
    flows = [frame((m.handle, b.handle, c.handle, stranger(number), s.handle), 1) for number in range(500)]
    rounds, taken = 2 * HEADER_BURST // len(flows), swallow(b, c)
    for _ in range(rounds):
        b.forwarding.forget_verdicts()
        for each in flows:
            b.links["m"].receive(DATA, each)
    assert "forward-header-rate" not in b.counters
    assert len(taken) == rounds * len(flows)


def test_c3_only_what_was_obeyed_is_free(star: dict[str, TestNode]) -> None:
    """A header that is refused after links changed pays each time that it comes."""
    b, m, c, s = star["b"], star["m"], star["c"], star["s"]
    other = frame((m.handle, b.handle, c.handle, VICTIM, s.handle), 1)
    b.links["m"].receive(DATA, other)
    b.forwarding._may_transit = lambda source: False
    b.forwarding.forget_verdicts()
    for _ in range(HEADER_BURST + 100):
        b.links["m"].receive(DATA, other)
    assert b.counters["forward-transit-denied"] == HEADER_BURST
    assert b.counters["forward-header-rate"] == 100


def test_c3_what_a_client_has_remembered_is_bounded(star: dict[str, TestNode]) -> None:
    """More headers than a client may have remembered, again and again, are new each time."""
    b, m, c, s = star["b"], star["m"], star["c"], star["s"]
    swallow(b, c)
    for number in range(HEADER_BURST + MAX_OWN_VERDICTS):
        path = (m.handle, b.handle, c.handle, stranger(number % (MAX_OWN_VERDICTS + 1)), s.handle)
        b.links["m"].receive(DATA, frame(path, 1))
    assert b.counters["forward-header-rate"] > 0


def test_c3_bytes_are_counted_by_ingress_at_every_hop(star: dict[str, TestNode]) -> None:
    """A relay has so many bytes carried for others, times the hops to come; another relay still its own."""
    b, r, s, c = star["b"], star["r"], star["s"], star["c"]
    taken = swallow(b, c)
    rest = (c.handle, *map(stranger, range(27)), star["m"].handle)
    long = frame((VICTIM, r.handle, b.handle, *rest), 2, DATA, bytes(16_000))
    for _ in range(TRANSIT_BURST // len(long) // len(rest) + 200):
        b.links["r"].receive(DATA, long)
    assert 0.99 * TRANSIT_BURST < sum(taken) * len(rest) <= TRANSIT_BURST
    assert b.counters["forward-source-rate"] >= 200
    taken.clear()
    b.links["s"].receive(DATA, frame((VICTIM, s.handle, b.handle, *rest), 2, DATA, bytes(16_000)))
    assert len(taken) == 1


def test_c3_handshakes_are_counted_by_ingress_at_every_hop(
    world: TestWorld, star: dict[str, TestNode]
) -> None:
    """A relay leaves others half of what a destination looks at over one link, whatever sources it claims."""
    b, r, s, c = star["b"], star["r"], star["s"], star["c"]
    assert HANDSHAKES_EACH.rate <= INIT_LINK_RATE / 2
    for number in range(40):
        b.links["r"].receive(INIT, frame((stranger(number), r.handle, b.handle, c.handle), 2, INIT))
    assert passed(b, c) == HANDSHAKES_EACH.burst
    assert b.counters["forward-handshake-rate"] == 40 - HANDSHAKES_EACH.burst
    b.links["s"].receive(INIT, frame((VICTIM, s.handle, b.handle, c.handle), 2, INIT))
    b.links["r"].receive(INIT, frame((VICTIM, r.handle, b.handle, s.handle), 2, INIT))
    b.links["r"].receive(DATA, frame((VICTIM, r.handle, b.handle, c.handle), 2))
    assert b.counters["forward-handshake-rate"] == 40 - HANDSHAKES_EACH.burst
    world.run(1)
    b.links["r"].receive(INIT, frame((VICTIM, r.handle, b.handle, c.handle), 2, INIT))
    assert b.counters["forward-handshake-rate"] == 40 - HANDSHAKES_EACH.burst


def test_c3_a_source_in_its_own_name_leaves_others_behind_the_same_relay_theirs(
    world: TestWorld, star: dict[str, TestNode]
) -> None:
    """Who begins handshakes in a loop takes nothing of what the relay may have passed on for others."""
    b, r, c, busy = star["b"], star["r"], star["c"], stranger(0)
    assert HANDSHAKES_PAIR.rate >= 2 * INIT_SOURCE_RATE and HANDSHAKES_PAIR.burst >= 2 * INIT_SOURCE_BURST
    for tenth in range(100):
        for _ in range(4):
            b.links["r"].receive(INIT, frame((busy, r.handle, b.handle, c.handle), 2, INIT))
        if not tenth % 10:
            other = stranger(1 + tenth)
            before = passed(b, c)
            b.links["r"].receive(INIT, frame((other, r.handle, b.handle, c.handle), 2, INIT))
            assert passed(b, c) == before + 1
        world.run(0.1)
    assert passed(b, c) - 10 <= HANDSHAKES_PAIR.burst + 10 * HANDSHAKES_PAIR.rate
    b.links["r"].receive(INIT, frame((busy, r.handle, b.handle, star["s"].handle), 2, INIT))
    assert passed(b, star["s"]) == 1


def test_c3_who_claims_a_source_elsewhere_takes_nothing_of_it_here(star: dict[str, TestNode]) -> None:
    """A relay behind an honest one uses up what is in the name of a source, but not by its own way."""
    b, r, c = star["b"], star["r"], star["c"]
    for _ in range(20):
        b.links["r"].receive(INIT, frame((VICTIM, stranger(0), r.handle, b.handle, c.handle), 3, INIT))
    assert passed(b, c) == HANDSHAKES_PAIR.burst
    b.links["r"].receive(INIT, frame((VICTIM, r.handle, b.handle, c.handle), 2, INIT))
    assert passed(b, c) == HANDSHAKES_PAIR.burst + 1


def test_c3_handshakes_along_a_lost_link_are_counted_too(world: TestWorld, star: dict[str, TestNode]) -> None:
    """A path whose next link is gone is no way around what a relay may have passed on."""
    b, r, s, c = star["b"], star["r"], star["s"], star["c"]
    world.run(2)
    for number in range(40):
        path = (stranger(number), r.handle, b.handle, stranger(0), c.handle)
        b.links["r"].receive(INIT, frame(path, 2, INIT))
    assert passed(b, c) == HANDSHAKES_EACH.burst == b.counters["spliced"]
    b.links["s"].receive(INIT, frame((VICTIM, s.handle, b.handle, c.handle), 2, INIT))
    assert passed(b, c) == HANDSHAKES_EACH.burst + 1


def test_c3_names_that_are_made_up_are_bounded() -> None:
    """A gate remembers no more names than it has let in lately, and none that has spent its share is lost."""
    gate = ClaimGate(Rate(10.0, 10), Rate(0.5, 2), 0.0)
    assert [gate.admits(b"known", 0.0) for _ in range(3)] == [True, True, False]
    for number in range(3000):
        now = number / 1000
        gate.admits(stranger(number), now)
        assert len(gate) <= 2 * (10 + 10 * 2 / 0.5)
    assert not gate.admits(b"known", 1.9) and not gate.full(3.0)
    assert gate.full(60.0)


def test_c3_a_name_that_has_spent_its_share_takes_nothing_of_others() -> None:
    """Claims beyond what one name may have do not use up what all names have together."""
    gate = ClaimGate(Rate(10.0, 10), Rate(0.5, 2), 0.0)
    for _ in range(1000):
        gate.admits(b"known", 0.0)
    assert [gate.admits(stranger(number), 0.0) for number in range(9)] == [True] * 8 + [False]
